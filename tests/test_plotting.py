"""Figures are written whole, with what made them, and only where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from oodlab import data, grids, plotting, presets, workspace


@pytest.fixture
def record() -> dict[str, object]:
    return {
        "preset": presets.nae.EIGHT_GAUSSIANS.at("smoke"),
        "seeds": [3, 4],
        "data": [data.from_arrays(torch.zeros(5, 2), name="eight_gaussians", origin="synthetic").info],
        "seconds": 1.26,
        "numbers": {"auroc": 0.5},
    }


def test_a_figure_and_its_numbers_lie_side_by_side(record, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OODLAB_PROGRESS", str(tmp_path / "events.jsonl"))
    headline = {"name": "AUROC", "value": 0.5, "unit": "", "reported": None}
    saved = plotting.save_figure(plotting.figure(3, 2), "nae/test", part="more", headline=headline, **record)
    assert saved.png == workspace.runs_folder() / "figures/nae/test-more.png"
    assert saved._repr_png_().startswith(b"\x89PNG")
    written = json.loads(saved.json.read_text())
    assert written["numbers"] == {"auroc": 0.5} and written["seeds"] == [3, 4] and written["seconds"] == 1.3
    assert written["profile"] == "smoke" and written["preset_hash"] == record["preset"].hash
    assert torch.__version__.startswith(written["versions"]["torch"])
    assert all(text in written["caption"] for text in ("profile smoke", "seeds 3, 4", "eight_gaussians", "8 updates"))
    event = json.loads((tmp_path / "events.jsonl").read_text())
    assert event == {"event": "figure", "png": str(saved.png), "json": str(saved.json), "headline": headline}


def test_stand_in_data_never_replace_a_committed_figure(record, tmp_path: Path, monkeypatch) -> None:
    committed = tmp_path / "figures"
    monkeypatch.setattr(workspace, "reference_figures", lambda: committed)
    monkeypatch.setenv("OODLAB_FIGURES", str(committed))
    fig = plotting.figure(3, 2)
    assert plotting.save_figure(fig, "nae/test", **record).png == committed / "nae/test.png"
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    instead = data.load(data.choose("places365", "photo_patches"), "test")
    saved = plotting.save_figure(plotting.figure(3, 2), "nae/test", **{**record, "data": [instead.info]})
    assert committed not in saved.png.parents
    written = json.loads(saved.json.read_text())
    assert (
        written["stand_in"] and "stand-in for places365" in written["caption"] and "photo_patches" in written["data"][0]
    )


def test_numbers_that_are_not_finite_are_refused(record) -> None:
    with pytest.raises(ValueError):
        plotting.save_figure(plotting.figure(3, 2), "nae/test", **{**record, "numbers": {"nll": float("nan")}})


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    workspace.write_json(file, {"old": 1})
    with pytest.raises(ValueError):
        workspace.write_json(file, {"new": float("inf")})
    with pytest.raises(RuntimeError), workspace.atomic_file(file) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert json.loads(file.read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_table_reads_as_text_and_as_html() -> None:
    table = plotting.Table([{"name": "a<b", "value": 0.12345}, {"name": "c", "value": None}])
    assert str(table).splitlines() == ["name  value", "a<b   0.123", "c     –"]
    assert "a&lt;b" in table._repr_html_() and table._repr_html_().count("<tr>") == 3


def test_every_density_panel_shares_one_scale() -> None:
    truth = grids.normalise(data.eight_gaussians_log_prob, points=21)
    flat = grids.normalise(lambda x: 0 * x[:, 0], points=21)
    rows = [[("a", flat), ("b", truth)], [("c", flat), ("d", truth)]]
    fig = plotting.learned_densities(truth, rows, {"a": [3.0, 3.1], "b": [2.9]}, 2.83)
    limits = {ax.images[0].get_clim() for ax in fig.axes if ax.images}
    assert limits == {(0, 0.15)}
    fig = plotting.negatives_by_sampler(
        truth, [("a", flat, torch.zeros(3, 2)), ("b", truth, torch.ones(3, 2))], [[0, 0]]
    )
    assert {ax.images[0].get_clim() for ax in fig.axes if ax.images} == {(0, 0.15)}


def test_the_gallery_shows_every_figure_and_links_notebooks_that_exist(record) -> None:
    headline = {"name": "AUROC", "value": 0.5, "unit": "", "reported": None}
    plotting.save_figure(plotting.figure(3, 2), "nae/eight_gaussians", headline=headline, **record)
    plotting.save_figure(plotting.figure(3, 2), "nae/eight_gaussians", part="two", **record)
    plotting.save_figure(plotting.figure(3, 2), "nae/gone", **record)
    own = plotting.Gallery(workspace.runs_folder() / "figures")
    page = own._repr_html_()
    assert page.count("<img") == 3 and page.count("href='nae/eight_gaussians.ipynb'") == 2 and "AUROC: 0.5" in page
    assert page.index("eight_gaussians</a>") < page.index("eight_gaussians-two</a>") < page.index("nae/gone")
    (own.folder / "nae/gone.png").unlink()
    assert own._repr_html_().count("<img") == 2
    (own.folder / "nae/eight_gaussians-two.json").write_text("{")
    assert own._repr_html_().count("<img") == 1 and "is damaged" in own._repr_html_()
    assert plotting.gallery()[-1].folder == own.folder
    assert "make figures" in plotting.Gallery(Path("nothing"))._repr_html_()


def test_a_density_is_drawn_where_it_is() -> None:
    """Pixels are centred on grid points: the outer ones reach half a spacing beyond the axis."""
    truth = grids.normalise(data.eight_gaussians_log_prob, points=41)
    ax = plotting.figure(2, 2).subplots()
    plotting.draw_density(ax, truth)
    left, right, bottom, top = ax.images[0].get_extent()
    spacing = float(truth.axis[1] - truth.axis[0])
    assert (right - left) / 41 == pytest.approx(spacing) and left + spacing / 2 == pytest.approx(-6)
    assert (bottom, top) == (left, right)
