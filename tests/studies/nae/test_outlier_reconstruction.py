"""The study nae/outlier_reconstruction: inputs, figures, drawing by hand and panel, on the embedded digits."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import conv28
from matplotlib.image import imread

from oodlab import data, metrics, plotting, training
from oodlab.studies.nae.images import image_method, unit_pixels
from oodlab.studies.nae.ood_detection.setting import STUDY as OOD_DETECTION
from oodlab.studies.nae.outlier_reconstruction import setting
from oodlab.studies.nae.outlier_reconstruction.drawing import HALVES, Judge, erased, merged, seen
from oodlab.studies.nae.outlier_reconstruction.examples import SHIRT, SHOWN, examples
from oodlab.studies.nae.outlier_reconstruction.figure import error_distributions
from oodlab.studies.nae.outlier_reconstruction.panel import OutlierPanel, outlier_reconstruction_panel
from oodlab.studies.nae.outlier_reconstruction.setting import (
    CLAIMS,
    OF_TABLE_4,
    STUDY,
    fewer_missed,
    gain,
    outcomes,
    printed,
    spoilt,
)
from oodlab.study import decide
from oodlab.widgets.canvas import SIDE, Canvas


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have no files of any set on this machine."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))


def smoke(method: str = "AE") -> training.Recipe:
    """Return a training at profile smoke, on embedded digits."""
    return image_method(method, "smoke", "printed").recipes(STUDY.at("smoke", dataset="embedded").played[0])["model"]


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (n, SIDE, SIDE), dtype=np.uint8)


# ---------------------------------------------------------------------------------------- the setting


@pytest.mark.parametrize("source", ["printed", "released"])
@pytest.mark.parametrize("profile", ["quick", "long", "full"])
def test_outlier_reconstruction_uses_the_trainings_of_ood_detection(profile: str, source: str) -> None:
    own, other = (
        {place: recipe.key for place, recipe in study.at(profile, source=source, dataset="mnist").recipes.items()}
        for study in (STUDY, OOD_DETECTION)
    )
    assert own.items() <= other.items() and {method for _, method, _ in own} == {"AE", "NAE-OMI"}


def test_outliers_are_made_from_test_images_before_the_images_are_shrunk(embedded: None) -> None:
    inputs = STUDY.at("smoke").played[0].load(n=50)
    test = data.load("digits", "test", n=50, seed=0)
    small = (1, 14, 14)
    stored = {"half_digits": data.half_digits(test.x), "chimera_digits": data.chimera_digits(test.x, test.y)}
    assert set(inputs.outside) == {"blank", "constant_gray", "photo_patches", *stored}
    assert torch.equal(inputs.test.x, data.as_shape(test.x, small))
    for name, x in stored.items():
        assert torch.equal(inputs.outside[name].x, data.as_shape(x, small)), name
    assert inputs.outside["blank"].x.shape == (1, *small) and not inputs.outside["blank"].x.any()
    detection = OOD_DETECTION.at("smoke", dataset="mnist").played[0].load(n=50).outside
    for name in ("constant_gray", "half_digits", "chimera_digits"):
        assert torch.equal(inputs.outside[name].x, detection[name].x), "one way to make them in both studies"


def test_rows_are_named_as_the_paper_prints_them() -> None:
    row = {"in_set": "mnist", "out_set": "half_digits", "score": "NAE-OMI", "last": True}
    numbers = [
        metrics.find_reported("nae", in_set="mnist", **printed({**row, "out_set": name, "score": score}))[0].value
        for name in OF_TABLE_4
        for score in ("AE", "NAE-OMI")
    ]
    assert numbers == [0.523, 0.999, 0.761, 0.992, 0.885, 0.995, 0.934, 1]
    assert printed({**row, "last": False}) is None
    assert not metrics.find_reported("nae", in_set="mnist", **printed({**row, "out_set": "blank"}))


def made_rows(*given: tuple) -> pd.DataFrame:
    """Return rows of (out_set, score, step, auroc, rejected, median of known, median of outliers)."""
    names = ["out_set", "score", "step", "auroc", "tnr_at_95tpr", "in_q50", "out_q50"]
    return pd.DataFrame(given, columns=names).assign(seed=0, in_set="mnist", n_out=9, profile="quick")


ROWS = made_rows(
    ("half_digits", "AE", 9, 0.6, 0.4, -0.1, -0.1),
    ("half_digits", "NAE-OMI", 0, 0.1, 0.0, -9.0, -9.0),
    ("half_digits", "NAE-OMI", 5, 0.9, 0.7, -0.2, -0.4),
    ("blank", "AE", 9, 1.0, 1.0, -0.1, -0.2),
    ("blank", "NAE-OMI", 5, 1.0, 0.0, -0.2, -0.3),
)


def test_the_claims_compare_the_outliers_missed_by_the_final_ae_and_nae() -> None:
    table = outcomes(ROWS).reset_index(["seed", "in_set"], drop=True)
    assert table["missed"].to_dict() == {
        ("half_digits", "AE"): pytest.approx(0.6),
        ("half_digits", "NAE-OMI"): pytest.approx(0.3),
        ("blank", "AE"): 0,
        ("blank", "NAE-OMI"): 1,
    }
    assert fewer_missed(ROWS, out_sets=("half_digits", "blank")).tolist() == pytest.approx([0.3]), (
        "where the plain one misses none, nothing is to be seen"
    )
    assert gain(ROWS).tolist() == pytest.approx([0.3]), "the blank image is not in table 4"
    spoilt_by_set = spoilt(ROWS).droplevel(["seed", "in_set"])
    assert spoilt_by_set.to_dict() == {
        "half_digits": pytest.approx(np.log(4 / 2)),
        "blank": pytest.approx(np.log(1.5 / 2)),
    }
    assert [decide(claim, ROWS).word for claim in CLAIMS] == ["Partly"] * 3


# --------------------------------------------------------------------------------------- images of the figure


def test_examples_are_the_first_images_with_a_frame_where_the_decision_is_wrong(
    embedded: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    classes = np.arange(30) % 10
    for name in ("omniglot", "fashion_mnist", "mnist"):
        (tmp_path / name).mkdir()
        stored = np.stack([np.full((28, 28), i, np.uint8) for i in range(30)])
        for split in ("train", "test"):
            np.savez(tmp_path / name / f"{split}.npz", x=stored, y=classes)
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path))
    inputs = STUDY.at("smoke").played[0].load()
    sets = {"mnist": inputs.test, **inputs.outside}
    errors = {"AE": {name: np.arange(len(split)) / 10 for name, split in sets.items()}}
    torch.manual_seed(0)
    model = smoke().model()
    shown = examples(inputs, {"AE": model}, errors, {"AE": 0.3})
    levels = (255 * shown.images["fashion_mnist"][:, 0, 0]).round().astype(int).tolist()
    assert levels == [SHIRT, SHIRT + 10] and next(iter(shown.images)) == "mnist"
    assert {name: len(x) for name, x in shown.images.items()} == dict.fromkeys(sets, SHOWN) | {"blank": 1}
    assert shown.wrong["AE"]["omniglot"] == [True, True], "accepted"
    assert shown.wrong["AE"]["fashion_mnist"] == [False, False], "errors 0.6 and 1.6 are above the limit"
    assert shown.wrong["AE"]["mnist"] == [False, False]
    x = unit_pixels(sets["omniglot"].x[:SHOWN])
    with torch.no_grad():
        made = model.decode(model.encode(x))[:, 0].numpy()
    assert np.allclose(shown.reconstructions["AE"]["omniglot"], made)


# ------------------------------------------------------------------------------------------ the figures


def test_examples_of_sets_of_different_sizes_are_drawn_side_by_side() -> None:
    columns = {"one_set": np.full((1, 3, 3), 0.1), "b": np.full((2, 3, 3), 0.2)}
    rows = {"AE": {name: images + 0.3 for name, images in columns.items()}}
    fig = plotting.beside_reconstructions(columns, rows, {"AE": {"one_set": [True], "b": [False, True]}})
    cell = {}
    for ax in fig.axes:
        place = ax.get_subplotspec()
        cell[place.rowspan.start, place.colspan.start] = ax
    assert sorted(cell) == [(i, j) for i in (0, 1) for j in (0, 2, 3)]  # column 1 is the gap
    shown = {key: float(ax.images[0].get_array()[0, 0]) for key, ax in cell.items()}
    assert shown == pytest.approx({(0, 0): 0.1, (0, 2): 0.2, (0, 3): 0.2, (1, 0): 0.4, (1, 2): 0.5, (1, 3): 0.5})
    assert [cell[0, j].get_title() for j in (0, 2)] == ["one\nset", "b"]
    assert [key for key, ax in cell.items() if ax.spines["top"].get_linewidth() > 1] == [(1, 0), (1, 3)]
    assert [text.get_text()[:5] for text in fig.legends[0].get_texts()] == ["wrong"], "what a frame is"
    assert {key: ax.get_ylabel() for key, ax in cell.items() if ax.get_ylabel()} == {(0, 0): "input", (1, 0): "AE"}


def test_a_curve_of_errors_has_the_accepted_share_at_the_limit() -> None:
    rng = np.random.default_rng(0)
    errors = {
        name: {"known": rng.exponential(1.0, 200), "out": rng.exponential(3.0, 70), "one": np.array([2.0])}
        for name in ("AE", "NAE")
    }
    errors["NAE"]["out"][:7] = 0.0  # exact reconstructions have no place on the axis, but in the share
    limits = {name: -metrics.threshold_at_tpr(-sets["known"]) for name, sets in errors.items()}
    fig = error_distributions(errors, limits, known="known")
    colours = []
    for ax, (name, sets) in zip(fig.axes, errors.items(), strict=True):
        *curves, limit = ax.lines
        assert (ax.get_title(), ax.get_xscale(), limit.get_xdata()[0]) == (name, "log", limits[name])
        for line, (title, values) in zip(curves, sets.items(), strict=True):
            x, y = line.get_data()
            assert line.get_label() == title and line.get_drawstyle() == "steps-post"
            assert y[np.flatnonzero(x <= limits[name])[-1]] == pytest.approx(np.mean(values <= limits[name]))
            assert (y[0], y[-1]) == (0, 1)
            assert ax.get_xlim() == (x[0], x[-1]) and 0 < x[0] <= x[x > 0].min() and x[-1] > values.max()
        colours.append([line.get_color() for line in curves])
    assert colours[0] == colours[1] and len(set(colours[0])) == 3
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["known", "out", "one", "limit"]
    assert plotting.to_png(fig).startswith(b"\x89PNG")


def test_picture_png_draws_every_pixel_as_a_square() -> None:
    image = np.array([[0.0, 1.0], [0.5, 0.25]])
    png = imread(io.BytesIO(plotting.picture_png(image, 9)))[..., 0]
    assert png.shape == (8, 8)
    assert np.allclose(png, np.kron(image, np.ones((4, 4))), atol=1 / 255)
    assert imread(io.BytesIO(plotting.picture_png(image, 1))).shape[:2] == (2, 2)


# ------------------------------------------------------------------------------- pictures and verdicts


def test_erasing_and_merging_pictures_gives_half_and_chimera_digits() -> None:
    pictures = noise(2)
    before = pictures.copy()
    stored = torch.from_numpy(pictures)[:, None]
    tops, bottoms = data.half_digits(stored.repeat_interleave(2, dim=0))[:2, 0].numpy()
    assert np.array_equal(erased(pictures[0], "top"), tops) and np.array_equal(erased(pictures[0], "bottom"), bottoms)
    for half, opposite in (("top", "bottom"), ("left", "right")):
        assert np.array_equal(erased(pictures[0], half) + erased(pictures[0], opposite), pictures[0])
        assert not erased(erased(pictures[0], half), opposite).any()
    assert np.array_equal(erased(pictures[0].T, "left"), erased(pictures[0], "top").T)
    chimeras = data.chimera_digits(stored, torch.tensor([3, 8]))[:, 0].numpy()
    assert np.array_equal(merged(pictures[1], pictures[0]), chimeras[0])
    assert np.array_equal(merged(pictures[0], pictures[1]), chimeras[1])
    assert np.array_equal(pictures, before)
    with pytest.raises(ValueError, match=r"erased expects half .* got 'botom': did you mean 'bottom'"):
        erased(pictures[0], "botom")


def test_a_drawn_picture_is_prepared_as_test_images_are() -> None:
    pictures = noise(3)
    for shape in ((1, 14, 14), (1, 28, 28)):
        wanted = data.as_shape(torch.from_numpy(pictures)[:, None], shape).float() / 255
        assert torch.equal(seen(pictures, shape), wanted)


def test_a_verdict_is_the_rank_of_the_error_among_errors_of_known_images() -> None:
    torch.manual_seed(0)
    model, known = conv28(), seen(noise(60), (1, 28, 28)) * torch.linspace(0.2, 1, 60)[:, None, None, None]
    judge = Judge("NAE-OMI", model, known)
    with torch.no_grad():
        made = model.decode(model.encode(known))
    errors = (known - made).square().mean(dim=(1, 2, 3)).double().numpy()
    verdicts = [judge(x[None]) for x in known]
    assert [verdict.error for verdict in verdicts] == pytest.approx(errors, rel=1e-5)
    assert np.allclose(verdicts[7].reconstruction, made[7, 0], atol=1e-6)
    order = np.argsort(errors)
    assert [verdicts[i].exceeds for i in order] == pytest.approx(np.arange(60) / 60)
    assert [verdicts[i].accepted for i in order] == [True] * 57 + [False] * 3  # 95 % of 60
    assert {verdict.limit for verdict in verdicts} == {verdicts[order[56]].error}
    assert not judge(torch.ones(1, 1, 28, 28) * 3).accepted


# -------------------------------------------------------------------------------------------- the canvas


def sent(canvas: Canvas, picture: np.ndarray, *, turn: int | None = None) -> None:
    """Do as the page does when something was drawn."""
    shown = re.search(r'data-turn="(\d+)"', canvas._page.value)[1]
    canvas._field.value = f"{shown if turn is None else turn} {base64.b64encode(picture.tobytes()).decode()}"


def given(canvas: Canvas) -> dict[str, str]:
    """Return what the page is told."""
    return dict(re.findall(r'data-([a-z]+)="([^"]*)"', canvas._page.value))


def on_page(canvas: Canvas) -> np.ndarray:
    return np.frombuffer(base64.b64decode(given(canvas)["pixels"]), np.uint8).reshape(SIDE, SIDE)


def test_the_kernel_receives_drawn_pictures_and_the_page_shows_pictures_put_by_the_kernel() -> None:
    seen_pictures: list[np.ndarray] = []
    canvas, (one, two) = Canvas(seen_pictures.append), noise(2)
    assert not on_page(canvas).any()
    canvas.put(one)
    assert np.array_equal(on_page(canvas), one) and np.array_equal(canvas.picture, one)
    turn = int(given(canvas)["turn"])
    sent(canvas, two)
    assert np.array_equal(canvas.picture, two) and int(given(canvas)["turn"]) == turn, "drawing on is not disturbed"
    sent(canvas, one, turn=turn - 1)
    assert np.array_equal(canvas.picture, two), "of a picture that the page no longer shows"
    canvas.clear.click()
    assert not canvas.picture.any() and not on_page(canvas).any()
    sent(canvas, two, turn=turn)
    assert not canvas.picture.any()
    assert [picture.any() for picture in seen_pictures] == [True, True, False]
    one[:] = 0
    assert seen_pictures[0].any(), "pictures are not shared"
    with pytest.raises(ValueError, match=r"Canvas.put expects .* got \(14, 14\) uint8"):
        canvas.put(np.zeros((14, 14), np.uint8))
    with pytest.raises(ValueError, match=r"got \(28, 28\) float64"):
        canvas.put(np.zeros((28, 28)))


def test_changes_of_brush_and_eraser_reach_the_page_and_keep_the_picture() -> None:
    canvas, other = Canvas(lambda _: None), Canvas(lambda _: None)
    sent(canvas, noise(1)[0])
    assert (given(canvas)["brush"], given(canvas)["erases"]) == ("2.0", "false")
    canvas.tool.value, canvas.brush.value = "eraser", 5.0
    assert (given(canvas)["brush"], given(canvas)["erases"]) == ("5.0", "true")
    assert np.array_equal(on_page(canvas), noise(1)[0])
    fields = [given(c)["field"] for c in (canvas, other)]
    assert fields[0] != fields[1] and [c._field._dom_classes for c in (canvas, other)] == [(f,) for f in fields]
    script = html.unescape(re.search(r'onload="([^"]*)"', canvas._page.value)[1])
    assert "given.pixels" in script and "SEND_EVERY" not in script


# --------------------------------------------------------------------------------------------- the panel


def test_the_outlier_panel_runs_missing_trainings_and_loads_stored_ones(embedded: None) -> None:
    panel = outlier_reconstruction_panel(profile="smoke")
    panel.wait(120)
    assert "Not trained yet: AE, NAE-OMI. Press Train." in panel.status.value, panel.status.value
    assert "stand-in for mnist" in panel.status.value and panel.verdicts == {}
    assert (panel.train_button.disabled, panel.stop_button.disabled) == (False, True)
    panel.train_button.click()
    panel.wait(120)
    assert "Accepted are errors" in panel.status.value, panel.status.value
    assert list(panel.verdicts) == ["AE", "NAE-OMI"] and panel.train_button.disabled
    second = outlier_reconstruction_panel(profile="smoke")
    second.wait(120)
    assert list(second.verdicts) == ["AE", "NAE-OMI"] and second.bar.value == 0, "nothing is trained again"
    for name, verdict in second.verdicts.items():
        model = training.train_or_load(smoke(name), device="cpu").model
        x = seen(second.canvas.picture[None], (1, 14, 14))
        with torch.no_grad():
            assert verdict.error == pytest.approx(float(model.reconstruction_error(x)), rel=1e-5)
        assert f"error {verdict.error:.4f}" in second._words[name].value
        assert ("accepted</b>" if verdict.accepted else "rejected</b>") in second._words[name].value


@pytest.fixture
def panel(embedded: None) -> OutlierPanel:
    """Have a panel whose models are ready."""
    ready = outlier_reconstruction_panel(profile="smoke")
    ready.wait(120)
    ready.train()
    ready.wait(120)
    assert len(ready.judges) == 2, ready.status.value
    return ready


def test_every_control_of_the_outlier_panel_changes_the_picture_and_its_verdicts(panel: OutlierPanel) -> None:
    digits = data.as_shape(data.load("digits", "test").x, (1, 28, 28))[:, 0].numpy()
    assert np.array_equal(panel.canvas.picture, digits[0])

    def after(act: Any) -> np.ndarray:
        errors = {name: verdict.error for name, verdict in panel.verdicts.items()}
        shown = [bytes(image.value) for image in panel._images.values()]
        act()
        assert all(panel.verdicts[name].error != error for name, error in errors.items())
        assert bytes(panel._images["input"].value) != shown[0]
        x = seen(panel.canvas.picture[None], (1, 14, 14))
        assert panel.verdicts["AE"].error == panel.judges["AE"](x).error
        return panel.canvas.picture

    def choose(index: int) -> None:
        panel.digit.value = index

    assert np.array_equal(after(lambda: choose(5)), digits[5])
    for half in HALVES:
        assert np.array_equal(after(panel.erase[half].click), erased(digits[5], half))
        assert np.array_equal(after(panel.take.click), digits[5])
    panel.other.value = 8
    assert np.array_equal(after(panel.merge.click), merged(digits[5], digits[8]))
    assert not after(panel.canvas.clear.click).any()
    drawn = noise(1)[0]
    assert np.array_equal(after(lambda: sent(panel.canvas, drawn)), drawn)


@pytest.mark.parametrize("n", [50, 10_000])
def test_the_outlier_panel_accepts_errors_up_to_the_limit_of_the_figure(
    embedded: None, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """The limit is the notebook's: the same quantile of the errors of the same known images."""
    monkeypatch.setitem(setting.SIZES, "smoke", replace(setting.SIZES["smoke"], test_items=n))
    panel = outlier_reconstruction_panel(profile="smoke")
    panel.wait(120)
    panel.train()
    panel.wait(120)
    known = unit_pixels(STUDY.at("smoke").played[0].load(n=n).test.x)
    assert f"of {len(known)} known test images" in panel.status.value
    for name, judge in panel.judges.items():
        scores = image_method(name, "smoke", "printed").detectors({"model": judge.model})[name].score_samples(known)
        assert panel.verdicts[name].limit == -metrics.threshold_at_tpr(scores)


def test_stop_keeps_finished_trainings_and_the_train_button_resumes(
    embedded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = outlier_reconstruction_panel(profile="smoke")
    panel.wait(120)
    panel._recipes["NAE-OMI"] = replace(panel._recipes["NAE-OMI"], steps=30)
    say = panel.work.say

    def stop_at_the_second(text: str) -> None:
        say(text)
        if text.startswith("NAE-OMI: update"):
            panel.stop()

    panel.work.say = stop_at_the_second
    panel.train()
    panel.wait(120)
    stopped = re.search(r"NAE-OMI has (\d+) of its 30 updates. Press Train.", panel.status.value)
    assert stopped and 0 < int(stopped[1]) < 30, panel.status.value
    assert list(panel.verdicts) == ["AE"] and not panel.train_button.disabled
    panel.work.say = say
    panel.train()
    panel.wait(120)
    assert list(panel.verdicts) == ["AE", "NAE-OMI"] and panel.bar.value == panel.bar.max == 33, (
        "those it starts from are counted"
    )


def test_an_error_of_a_training_is_shown_on_the_outlier_panel(embedded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "train_or_load", lambda *_, **__: 1 / 0)
    panel = outlier_reconstruction_panel(profile="smoke")
    panel.wait(120)
    panel.train()
    panel.wait(120)
    assert "ZeroDivisionError" in panel.status.value and not panel.train_button.disabled
