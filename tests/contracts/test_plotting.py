"""Figures are written whole, with the record of their data and code, and only into the folder they belong to."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from drawings import made_rows, named

from oodlab import data, grids, plotting, workspace
from oodlab.studies.nae.eight_gaussians.figure import learned_densities, negatives_by_sampler


def test_a_figure_and_its_record_are_written_side_by_side(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OODLAB_PROGRESS", str(tmp_path / "events.jsonl"))
    rows = made_rows({"seed": 3}, {"seed": 4})
    saved = plotting.save_figure(plotting.figure(3, 2), named("nae/test"), rows, part="more", note="Orange: wrong.")
    assert saved.png == workspace.runs_folder() / "figures/nae/test-more.png"
    assert saved._repr_png_().startswith(b"\x89PNG")
    written = json.loads(saved.json.read_text())
    assert len(written["rows"]) == 3 and written["seeds"] == [3, 4] and written["profile"] == "smoke"
    assert torch.__version__.startswith(written["versions"]["torch"])
    shown = ("profile smoke", "seeds 3, 4", "digits → wine", "5 test items", "Orange: wrong.")
    assert all(text in written["caption"] for text in shown)
    event = json.loads((tmp_path / "events.jsonl").read_text())
    headline = {"name": "AUROC of log p, flow, digits → wine", "value": 0.5, "unit": "", "reported": 0.75}
    assert event == {"event": "figure", "png": str(saved.png), "json": str(saved.json), "headline": headline}
    assert written["headline"] == headline


def test_figures_of_stand_in_data_never_replace_a_committed_figure(tmp_path: Path, monkeypatch) -> None:
    committed = tmp_path / "figures"
    monkeypatch.setattr(workspace, "reference_figures", lambda: committed)
    monkeypatch.setenv("OODLAB_FIGURES", str(committed))
    fig = plotting.figure(3, 2)
    assert plotting.save_figure(fig, named("nae/test"), made_rows()).png == committed / "nae/test.png"
    instead = made_rows(in_set="photo_patches for places365", stand_in_for="places365")
    saved = plotting.save_figure(plotting.figure(3, 2), named("nae/test"), instead)
    assert committed not in saved.png.parents
    written = json.loads(saved.json.read_text())
    assert written["stand_in"] and "photo_patches for places365" in written["caption"]


def test_a_failed_write_of_a_figure_leaves_the_old_file(tmp_path: Path) -> None:
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
    fig = learned_densities(truth, rows, {"a": [3.0, 3.1], "b": [2.9]}, 2.83)
    limits = {ax.images[0].get_clim() for ax in fig.axes if ax.images}
    assert limits == {(0, 0.15)}
    fig = negatives_by_sampler(truth, [("a", flat, torch.zeros(3, 2)), ("b", truth, torch.ones(3, 2))], [[0, 0]])
    assert {ax.images[0].get_clim() for ax in fig.axes if ax.images} == {(0, 0.15)}


def test_the_gallery_shows_every_figure_and_links_notebooks_that_exist() -> None:
    for name, part in (("nae/eight_gaussians", ""), ("nae/eight_gaussians", "two"), ("nae/gone", "")):
        plotting.save_figure(plotting.figure(3, 2), named(name), made_rows(), part=part)
    own = plotting.Gallery(workspace.runs_folder() / "figures")
    page = own._repr_html_()
    assert (
        page.count("<img") == 3
        and page.count("href='nae/eight_gaussians.ipynb'") == 2
        and "AUROC of log p, flow, digits → wine: 0.5" in page
    )
    assert page.index("eight_gaussians</a>") < page.index("eight_gaussians-two</a>") < page.index("nae/gone")
    (own.folder / "nae/gone.png").unlink()
    assert own._repr_html_().count("<img") == 2
    (own.folder / "nae/eight_gaussians-two.json").write_text("{")
    assert own._repr_html_().count("<img") == 1 and "is damaged" in own._repr_html_()
    assert plotting.gallery()[-1].folder == own.folder
    assert "make figures" in plotting.Gallery(Path("nothing"))._repr_html_()


def test_draw_density_centres_every_pixel_on_its_grid_point() -> None:
    """The outer pixels reach half a spacing beyond the axis of the grid."""
    truth = grids.normalise(data.eight_gaussians_log_prob, points=41)
    ax = plotting.figure(2, 2).subplots()
    plotting.draw_density(ax, truth)
    left, right, bottom, top = ax.images[0].get_extent()
    spacing = float(truth.axis[1] - truth.axis[0])
    assert (right - left) / 41 == pytest.approx(spacing) and left + spacing / 2 == pytest.approx(-6)
    assert (bottom, top) == (left, right)


# ------------------------------------------------------------------------------------- kinds that studies draw


def rows_of_courses(outsides: tuple[str, ...], seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """Rows of two kinds of methods in two ways, of a control, of an AUROC and of a measure, at three steps."""
    rows = []
    for method in ("ReLU, vanilla", "ReLU, penalised", "batch norm, vanilla", "batch norm, penalised", "control"):
        for out_set, seed, step, score in itertools.product(outsides, seeds, (0, 5, 10), ("mass", "bits")):
            of_the_control = method == "control"
            if of_the_control and (step or seed):
                continue
            value = 0.9 if of_the_control else 0.5 + 0.03 * step + 0.1 * seed
            printed = 0.97 if (method, step, score) == ("ReLU, vanilla", 10, "mass") else np.nan
            row = {"method": method, "in_set": "inside", "out_set": out_set, "seed": seed, "step": step}
            rows.append({**row, "score": score, "auroc": value, "in_mean": -3 * value, "printed": printed})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("outsides", [("a",), ("a", "b"), ("a", "b", "c", "d")], ids=len)
def test_courses_draw_means_over_seeds_and_a_legend_that_fits(outsides: tuple[str, ...]) -> None:
    fig = plotting.courses(rows_of_courses(outsides), ["mass"], {"bits": "bits per dimension"}, control="control")
    axes = np.array(fig.axes).reshape(2, len(outsides))
    lines = [line for line in axes[0, -1].lines if len(line.get_xdata()) == 3]
    assert len(lines) == 4 and len({(line.get_color(), line.get_linestyle()) for line in lines}) == 4
    assert len({line.get_color() for line in lines}) == 2, "a colour by kind"
    assert all(np.allclose(line.get_ydata(), [0.55, 0.7, 0.85]) for line in lines), "the mean of two seeds"
    ends = [line for line in axes[0, -1].lines if line.get_marker() == "."]
    assert all(np.allclose(line.get_ydata(), [0.8, 0.9]) for line in ends), "each seed at the end"
    below = [line for line in axes[1, 0].lines if len(line.get_xdata()) == 3]
    assert all(np.allclose(line.get_ydata(), [1.65, 2.1, 2.55]) for line in below), "a measure has its sign turned"
    (printed,) = [line for line in axes[0, 0].lines if line.get_marker() == "D"]
    assert (printed.get_xdata(), printed.get_ydata()) == (10, 0.97)
    assert any(np.allclose(line.get_ydata(), 0.9) for line in axes[0, 0].lines if len(line.get_xdata()) == 2)
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()][-2:] == ["control", "paper, at its end"]
    plotting.to_png(fig)
    inside, whole = legend.get_window_extent(), fig.bbox
    assert whole.x0 <= inside.x0 and inside.x1 <= whole.x1 and inside.y1 <= whole.y1


def test_courses_leave_the_panel_of_a_score_without_rows_empty_and_keep_the_layout() -> None:
    rows = rows_of_courses(("a",))
    rows = rows[~((rows["method"] == "ReLU, vanilla") & (rows["score"] == "bits"))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plotting.to_png(plotting.courses(rows, ["mass", "bits"], {}))


def test_histograms_on_one_axis_have_area_one() -> None:
    draws = np.random.default_rng(0)
    sets = {"inside": draws.lognormal(size=300), "out": draws.lognormal(2.0, size=300)}
    fig = plotting.histograms({"first": sets, "second": sets}, columns=2, label="mass", log_scale=True)
    first, second = fig.axes
    assert first.get_xlim() == second.get_xlim() and first.get_xscale() == "log"
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["inside", "out"]
    assert [ax.get_title() for ax in fig.axes] == ["first", "second"] and second.get_xlabel() == "mass"
    for steps in first.collections:  # the outline of a filled step, over log10 of the values
        outline = steps.get_paths()[0].vertices
        x, y = np.log10(outline[:, 0]), outline[:, 1]
        area = abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2
        assert area == pytest.approx(1, rel=1e-6)
