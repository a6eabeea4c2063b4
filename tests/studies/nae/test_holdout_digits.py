"""The study nae/holdout_digits: trainings, measures, drawings and panel, on the embedded digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn

from oodlab import data, metrics, plotting, training, widgets
from oodlab.objectives import FromData, FromReplay, OnManifold
from oodlab.objectives.negatives import Negatives
from oodlab.plotting import NormalisingCourse, NormalisingSnapshot
from oodlab.studies.nae.coverage import Coverage
from oodlab.studies.nae.holdout_digits.figure import class_shares
from oodlab.studies.nae.holdout_digits.panel import holdout_digits_panel
from oodlab.studies.nae.holdout_digits.setting import CLAIMS, DIGITS, STUDY, normalising, printed, printed_alone
from oodlab.studies.nae.images import (
    GREY,
    LONG,
    METHODS,
    NORMALISING,
    QUICK,
    SCORES,
    digits_task,
    image_recipe,
    scale_of,
    unit_pixels,
    unit_prepared,
)
from oodlab.studies.nae.reconstructions import reconstructed
from oodlab.study import Measured, evaluate, scores, verdicts
from oodlab.training import Recipe, Result


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Have no mnist on this machine."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))


def recipe(method: str, *held_out: int, profile: str = "smoke") -> Recipe:
    task = digits_task(*held_out, profile=profile).with_stand_ins()
    return image_recipe(method, task, scale_of(profile, "printed", GREY), "printed")


def trained(method: str) -> Result:
    return training.train_or_load(recipe(method, 9), device="cpu")


# ------------------------------------------------------------------------------------- what is trained on


def test_training_images_are_those_of_the_split_without_the_held_out_digits() -> None:
    one = recipe("AE", 3)
    stored = replace(one.batches, stored=replace(one.batches.stored, n=None), transform=unit_pixels)
    every, validation = (data.load("digits", split, without=3) for split in ("train", "val"))
    x, y = stored.stored.load().x, stored.stored.load().y
    assert set(y.tolist()) == set(range(10)) - {3}
    assert len(x) == len(every) - len(validation) > 1000
    kept_back = {image.numpy().tobytes() for image in validation.x}
    assert not any(image.numpy().tobytes() in kept_back for image in x)
    batch = stored.begin()(0, torch.Generator())["x"]
    assert torch.allclose(batch * 255, (batch * 255).round(), atol=1e-4) and batch.shape[1:] == (1, 14, 14)


@pytest.mark.parametrize("profile", ["smoke", "full"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "IGEBM"])
def test_all_autoencoders_have_the_networks_of_the_plain_autoencoder(method: str, profile: str) -> None:
    ours, plain = (recipe(name, 9, profile=profile).build({}) for name in (method, "AE"))
    for part in ("encoder", "decoder"):
        shapes = [[tuple(p.shape) for p in getattr(model, part).parameters()] for model in (ours, plain)]
        if (method, part) == ("VAE", "encoder"):  # mean and variance
            shapes = [shape[:-2] for shape in shapes]
        assert shapes[0] == shapes[1], part
    assert [type(layer) for layer in ours.encoder] == [type(layer) for layer in plain.encoder]


def test_every_layer_of_the_energy_has_spectral_norm_1() -> None:
    model = recipe("IGEBM", 9).build({}).train()
    for _ in range(200):  # each pass takes one step of the power iteration
        model.energy(torch.rand(2, 1, 14, 14))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    norms = [float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).detach()) for layer in layers]
    assert norms == pytest.approx([1.0] * 4, abs=1e-3)


@pytest.mark.parametrize("method", NORMALISING)
def test_normalising_begins_with_the_plain_autoencoder_and_keeps_its_temperature(method: str) -> None:
    plain, normalised = trained("AE"), trained(method)
    measured = recipe(method, 9).probe()(plain.model)
    first, last = normalised.probes[0], normalised.probes[-1]
    assert (first["step"], last["step"]) == (0, 3)
    for name, errors in measured.items():
        assert torch.equal(first["values"][name], errors) and not torch.equal(last["values"][name], errors)
    assert normalised.model.temperature.item() == 1.0


def test_unknown_methods_are_refused_with_the_nearest_known_method() -> None:
    with pytest.raises(ValueError, match="got 'NAE-OMJ': did you mean 'NAE-OMI'"):
        recipe("NAE-OMJ", 9)


def test_a_recipe_without_held_out_digits_trains_on_all_digits_and_has_no_probe() -> None:
    whole = recipe("NAE-OMI")
    assert whole.probe is None and whole.probes == 0
    assert set(whole.batches.stored.load().y.tolist()) == set(range(10))


def test_the_probe_measures_errors_of_inside_and_held_out_validation_images() -> None:
    one = recipe("NAE-OMI", 9)
    model = one.build({})
    probe = replace(one.probe, n=700)
    measured = probe()(model)
    for name, which in {"in": {"without": 9}, "out": {"only": 9}}.items():
        x = data.as_shape(data.load("digits", "val", **which).x, (1, 14, 14)).float() / 255
        with torch.no_grad():
            wanted = (x - model.decode(model.encode(x))).square().mean(dim=(1, 2, 3))
        assert torch.allclose(measured[name], wanted, rtol=1e-5)
        assert not measured[name].requires_grad
    assert {len(errors) for errors in replace(probe, n=4)()(model).values()} == {4}
    parts = replace(probe(), sets={"many": torch.zeros(1003, 1, 14, 14, dtype=torch.uint8)})
    assert parts(model)["many"].shape == (1003,)


def test_long_differs_from_quick_only_in_lengths_normalising_rate_and_probes() -> None:
    """Profile long has more updates, another normalising rate and other probes than quick."""
    quick, long = QUICK[GREY], LONG[GREY]
    same = replace(long, length=quick.length, normalising_lr=quick.normalising_lr, probes=quick.probes)
    assert same == quick
    assert all(long.length[name] >= length for name, length in quick.length.items())


# ------------------------------------------------------------------------------------------- the setting


def test_quick_and_long_hold_out_the_same_digits_and_full_holds_out_every_digit() -> None:
    assert [task.held_out for task in STUDY.at("full").tasks] == [(digit,) for digit in range(10)]
    for profile in ("quick", "long"):
        assert {task.held_out[0] for task in STUDY.at(profile).tasks} == set(DIGITS)
        assert {task.shape for task in STUDY.at(profile).tasks} == {(1, 14, 14)}
    assert STUDY.at("long").budget.seeds == 3 and STUDY.at("full").budget.seeds == 10


def test_every_score_has_a_printed_number_after_its_training_and_none_before() -> None:
    titles = [title for method in METHODS for title in SCORES.get(method, {method: None})]
    for digit in range(10):
        for title in titles:
            row = {"score": title, "in_set": f"mnist without {digit}", "last": True}
            assert len(metrics.find_reported("nae", metric="auroc", **printed(row))) == 1, title
            assert printed({**row, "last": False}) is None


def rows(**aurocs: tuple[float, ...]) -> pd.DataFrame:
    """Return rows of scores without 9 at their last step, a number per seed, and 0.01 before any update."""
    made = [
        {"score": score, "method": score, "in_set": "mnist without 9", "seed": seed, "step": step, "auroc": value}
        for score, values in aurocs.items()
        for seed, last in enumerate(values)
        for step, value in ((0, 0.01), (3, last))
    ]
    return pd.DataFrame(made).assign(out_set="held out", profile="smoke", printed=0.5)


def test_claims_are_leads_over_the_best_other_method_at_the_last_step() -> None:
    some = rows(**{"AE": (0.5, 0.6), "NAE-CD": (0.7, 0.5), "NAE-PCD": (0.6, 0.95), "NAE-OMI": (0.8, 0.8)})
    found = [list(claim.number(some).round(6)) for claim in CLAIMS]
    assert found == [[0.3, 0.2], [0.1, -0.15], [0.1, -0.15]]
    assert [one.word for one in verdicts(CLAIMS, some).each] == ["Partly", "Not reproduced", "Not reproduced"]


def test_methods_of_the_paper_only_are_drawn_beside_measured_methods() -> None:
    alone = printed_alone(rows(AE=(0.5,)))
    assert "AE" not in set(alone["score"]) and {"GLOW", "PXCNN++", "GANOMALY(PUB)"} <= set(alone["score"])
    assert alone.set_index("score").loc["GLOW", "printed"] == pytest.approx(0.426)
    fig = plotting.auroc_panels(pd.concat([rows(AE=(0.5,)), alone]))
    assert sum(line.get_marker() == "D" for line in fig.axes[0].lines) == 1 + len(alone)


# ------------------------------------------------------------------------------------------ the coverage


class Told(nn.Module):
    """Negatives that are some images, whatever the model; it counts how often it was asked."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.images, self.asked = images, 0

    def forward(self, model: nn.Module, x: torch.Tensor, **run: Any) -> Negatives:
        self.asked += 1
        return Negatives(self.images[: len(x)], start=x)


def measure(images: torch.Tensor) -> tuple[dict[str, float], Told]:
    task = digits_task(9, profile="smoke").with_stand_ins()
    inputs, told = task.load(), Told(images)
    objective = type("Objective", (), {"negatives": told})()
    result = Result(nn.Identity(), objective, [], [], 3, 0.0, 0, True)
    given = {"train": inputs.train.x, "test": inputs.test.x, "prepare": unit_prepared(inputs, {}), "seed": 0}
    one = Measured(task, {"model": nn.Identity()}, {"model": result}, device=torch.device("cpu"), **given)
    return Coverage(negatives=100, images=1000, validation_images=100)(one), told


def test_the_classifier_assigns_negatives_to_their_digits_and_the_replay_is_unchanged() -> None:
    nines = data.as_shape(data.load("digits", "test", only=9).x, (1, 14, 14)).float() / 255
    ones = data.as_shape(data.load("digits", "test", only=1).x, (1, 14, 14)).float() / 255
    shares, told = measure(torch.cat([nines[:25], ones[:25]]).repeat(2, 1, 1, 1))
    assert set(shares) == {*(f"called {digit}" for digit in range(10)), "accuracy"}
    assert sum(shares[f"called {digit}"] for digit in range(10)) == pytest.approx(1)
    assert shares["called 9"] == pytest.approx(0.5, abs=0.06) and shares["called 1"] == pytest.approx(0.5, abs=0.06)
    assert shares["accuracy"] > 0.9
    assert told.asked == 0, "a copy is asked: chains write to their replay"


def test_bars_show_shares_per_digit_and_the_held_out_digit_has_its_own_colour() -> None:
    shares = {digit: digit / 45 for digit in range(10)}
    made = [
        {"method": method, "in_set": "mnist without 9", "seed": seed, "quantity": f"called {digit}", "value": value}
        for method in ("NAE-CD", "NAE-OMI")
        for seed in (0, 1)
        for digit, value in shares.items()
    ]
    made.append({**made[0], "quantity": "accuracy", "value": 0.9})
    fig = class_shares(pd.DataFrame(made), {"mnist without 9": 9})
    assert len(fig.axes) == 2
    for ax in fig.axes:
        bars = ax.patches
        assert [bar.get_height() for bar in bars] == pytest.approx(list(shares.values()))
        colours = [to_rgba(bar.get_facecolor())[:3] for bar in bars]
        assert len(set(colours[:9])) == 1 and colours[9] != colours[0]
        assert ax.texts[0].get_text() == "20.0%"


def test_the_classes_of_negatives_are_measured_for_normalising_methods_only() -> None:
    assert [method.name for method in normalising(STUDY.at("quick").budget, "printed")] == list(NORMALISING)


# ------------------------------------------------------------------------------------------- the figures


def test_an_image_is_marked_wrong_where_its_score_is_on_the_wrong_side_of_the_threshold(embedded: None) -> None:
    study = STUDY.at("smoke", dataset="embedded")
    ready = study.trained(device="cpu")
    found = reconstructed(study, ready, ["AE", "NAE-OMI"], seed=0, shown=5)
    (task,) = study.played
    assert list(found.images) == ["9, held out", "known, without 9"]
    for method in (one for one in study.chosen if one.name in ("AE", "NAE-OMI")):
        ((_, values),) = scores(study, ready, task, method, 0).items()
        threshold = metrics.threshold_at_tpr(values[task.name])
        assert list(found.wrong[method.name]["9, held out"]) == list(values["held out"][:5] >= threshold)
        assert list(found.wrong[method.name]["known, without 9"]) == list(values[task.name][:5] < threshold)
        for title, name in {"9, held out": "held out", "known, without 9": task.name}.items():
            errors = ((found.images[title] - found.made[method.name][title]) ** 2).mean(axis=(1, 2))
            assert errors == pytest.approx(-values[name][:5], rel=1e-4)


def test_holdout_digits_has_rows_at_every_snapshot_and_no_printed_numbers_for_stand_ins(embedded: None) -> None:
    study = STUDY.at("smoke", dataset="embedded")
    found = evaluate(study, study.trained(device="cpu"))
    steps = found.groupby("score")["step"].agg(list)
    assert steps["NAE-OMI"] == [0, 1, 2, 3] and steps["AE"] == [3]
    assert found["printed"].isna().all(), "a stand-in has no printed numbers"


def test_reconstructions_are_drawn_below_their_inputs_and_wrong_decisions_are_outlined() -> None:
    columns = {name: np.full((2, 3, 3), value) for name, value in {"9": 0.1, "known": 0.2}.items()}
    rows = {
        name: {key: images + shift for key, images in columns.items()}
        for name, shift in {"AE": 0.3, "NAE": 0.5}.items()
    }
    missed = {"AE": {"9": [True, False], "known": [False, False]}, "NAE": {"9": [False, False], "known": [False, True]}}
    fig = plotting.beside_reconstructions(columns, rows, missed)
    shown = [[float(ax.images[0].get_array()[0, 0]) for ax in fig.axes[start : start + 6]] for start in (0, 6)]
    assert shown[0] == pytest.approx([0.1, 0.1, 0.4, 0.4, 0.6, 0.6])
    assert shown[1] == pytest.approx([0.2, 0.2, 0.5, 0.5, 0.7, 0.7])
    outlined = [i for i, ax in enumerate(fig.axes) if ax.spines["left"].get_edgecolor() == to_rgba(plotting.COLOURS[1])]
    assert outlined == [2, 11]
    assert [fig.axes[i].get_ylabel() for i in (0, 2, 4)] == ["input", "AE", "NAE"]


COURSE = NormalisingCourse((1, 2, 3), (0.3, 0.2, 0.1), (0.1, 0.15, 0.2), (0, 3), (0.5, 0.9))


def test_a_normalising_course_is_read_from_history_and_probes() -> None:
    result = trained("NAE-OMI")
    course = NormalisingCourse.of(result.history, result.probes)
    assert course.steps == [1, 2, 3]
    assert course.gaps == pytest.approx([row["gap"] for row in result.history], abs=1e-6)
    errors = {"in": torch.tensor([0.1, 0.2]), "out": torch.tensor([0.15, 0.3])}
    told = NormalisingCourse.of([], [{"step": 7, "values": errors}])
    assert (told.probed, told.aurocs) == ([7], [0.75])


def test_normalising_courses_have_a_row_per_inside_set_and_a_line_per_seed() -> None:
    fig = plotting.normalising_courses(
        {"without 9": {"NAE-CD": [COURSE], "NAE-OMI": [COURSE, COURSE]}, "without 1": {"NAE-OMI": [COURSE]}}
    )
    nine, one = fig.axes[:3], fig.axes[3:]
    assert [ax.get_ylabel() for ax in nine] == [ax.get_ylabel() for ax in one]
    assert [ax.get_xlabel() for ax in fig.axes] == [""] * 3 + ["update"] * 3
    assert [ax.get_title(loc="left") for ax in fig.axes[::3]] == ["without 9", "without 1"]
    errors, gap, auroc = (
        [line for line in ax.lines if len(line.get_xdata()) == n] for ax, n in zip(nine, (3, 3, 2), strict=True)
    )
    assert [len(errors), len(gap)] == [6, 3]
    data_line, negatives_line = errors[:2]
    assert (data_line.get_ydata()[0], data_line.get_linestyle()) == (0.3, "-")
    assert (negatives_line.get_ydata()[0], negatives_line.get_linestyle()) == (0.1, ":")
    assert gap[0].get_ydata() == pytest.approx([0.2, 0.05, -0.1])
    assert [tuple(line.get_ydata()) for line in auroc if line.get_marker() == "."] == [(0.5, 0.9)] * 3
    assert one[1].lines[0].get_color() == gap[1].get_color() != gap[0].get_color(), "a method has one colour everywhere"


def test_a_course_with_a_large_negative_gap_keeps_the_other_courses_readable() -> None:
    ran_away = NormalisingCourse((1, 2), (0.003, 0.003), (0.001, 0.4), (0, 2), (0.5, 0.9))
    calm = NormalisingCourse((1, 2), (0.003, 0.003), (0.001, 0.002), (0, 2), (0.5, 0.9))
    fig = plotting.normalising_courses({9: {"NAE-OMI": [calm, ran_away]}, 1: {"NAE-OMI": [calm]}})
    assert [ax.get_yscale() for ax in fig.axes] == ["log", "symlog", "linear", "log", "linear", "linear"]
    fig.canvas.draw()
    gap = fig.axes[1]
    low, zero, usual = gap.transData.transform([(1, -0.397), (1, 0), (1, 0.002)])[:, 1]
    assert (usual - zero) / (zero - low) > 0.02, "a linear axis would have 0.005"


def test_the_live_figure_shows_negatives_below_the_course() -> None:
    images = np.random.default_rng(0).random((5, 4, 4))
    snapshot = NormalisingSnapshot(COURSE, images, images / 2)
    both, alone = (plotting.live_normalising(snapshot, shown=4, starts=starts) for starts in (True, False))
    assert [len(fig.axes) for fig in (both, alone)] == [11, 7]
    assert [both.axes[i].get_ylabel() for i in (3, 7)] == ["starts", "negatives"]
    assert np.array_equal(both.axes[4].images[0].get_array(), images[1])
    assert np.array_equal(alone.axes[3].images[0].get_array(), images[0] / 2)
    empty = plotting.live_normalising(NormalisingSnapshot(NormalisingCourse()), shown=4, starts=True)
    assert len(empty.axes) == 3 and plotting.to_png(empty).startswith(b"\x89PNG")
    few = plotting.live_normalising(snapshot, shown=8, starts=True)
    assert len(few.axes) == 19 and plotting.to_png(few).startswith(b"\x89PNG")


# -------------------------------------------------------------------------------------------- the panel


def panel_with(**values: Any) -> widgets.RunPanel:
    panel = holdout_digits_panel()
    for name, value in {"pre_training": 10, "latent": 1, "visible": 1, "updates": 10, **values}.items():
        panel.controls[name].value = value
    return panel


def run(panel: widgets.RunPanel) -> list[tuple[int, str]]:
    """Run to the end, and return what was published: updates so far and the text."""
    seen: list[tuple[int, str]] = []
    publish = panel._publish
    panel._publish = lambda snapshot, done, total, text: (
        seen.append((done, text)),
        publish(snapshot, done, total, text),
    )
    panel.run()
    panel.wait(120)
    panel._publish = publish
    return seen


@pytest.mark.parametrize("method", ["NAE-OMI", "NAE-CD", "NAE-PCD"])
def test_the_holdout_digits_panel_pre_trains_once_and_then_normalises(embedded: None, method: str) -> None:
    panel = panel_with(method=method, digit=4)
    seen = run(panel)
    assert "done." in panel.status.value, panel.status.value
    assert (panel.bar.value, panel.bar.max) == (20, 20)
    assert [done for done, text in seen if text.startswith("plain autoencoder")] == list(range(1, 11))
    snapshot = panel._snapshot
    assert list(snapshot.course.steps) == list(range(1, 11))
    assert (snapshot.course.probed[0], snapshot.course.probed[-1]) == (0, 10)
    assert snapshot.negatives.shape == snapshot.starts.shape == (32, 14, 14)
    source = {"NAE-OMI": OnManifold, "NAE-CD": FromData, "NAE-PCD": FromReplay}[method]
    assert isinstance(panel.result.objective.negatives, source)
    again = run(panel)
    assert not any(text.startswith("plain autoencoder") for _, text in again), "the plain autoencoder is kept"
    assert panel._snapshot.course.error_data == snapshot.course.error_data
    assert panel._snapshot.course.error_negatives == snapshot.course.error_negatives
    before = bytes(panel.image.value)
    panel.views["starts"].value = False
    assert bytes(panel.image.value) != before


def test_the_controls_of_the_holdout_digits_panel_decide_the_training(embedded: None) -> None:
    panel = panel_with(pre_training=0, rate=1e-6, seed=3, latent=2)
    courses = {}
    for name, changes in {
        "still": {},
        "moved": {"rate": 1e-2},
        "other digit": {"digit": 4},
        "pre-trained": {"digit": 9, "pre_training": 10},
    }.items():
        for control, value in changes.items():
            panel.controls[control].value = value
        run(panel)
        courses[name] = panel._snapshot.course
    still, moved = courses["still"], courses["moved"]
    assert still.aurocs[0] == moved.aurocs[0] and still.error_data[0] == moved.error_data[0]
    assert abs(still.error_data[-1] - still.error_data[0]) < abs(moved.error_data[-1] - moved.error_data[0])
    assert courses["other digit"].aurocs[0] != still.aurocs[0]
    assert courses["pre-trained"].error_data[0] != courses["other digit"].error_data[0]
    negatives = panel.result.objective.negatives
    assert (negatives.latent_chain.steps, negatives.chain.steps) == (2, 1)


def test_stop_during_the_pre_training_ends_the_run(embedded: None) -> None:
    panel = panel_with(pre_training=4000)
    publish = panel._publish

    def stop_at_first(snapshot: Any, done: int, total: int, text: str) -> None:
        publish(snapshot, done, total, text)
        if text.startswith("plain autoencoder"):
            panel.stop()

    panel._publish = stop_at_first
    panel.run()
    panel.wait(120)
    assert "stopped. plain autoencoder" in panel.status.value, panel.status.value
    assert not panel.result.finished and panel._snapshot.course == NormalisingCourse()
    assert panel.result.step > 0, "the plain autoencoder's, nothing was normalised"
