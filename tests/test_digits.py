"""Trainings on digits, what is measured on the way, and how it is drawn; on the embedded digits, so without files."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn

from oodlab import data, metrics, plotting, presets, training, widgets
from oodlab.objectives import FromData, FromReplay, OnManifold
from oodlab.plotting import NormalisingCourse, NormalisingSnapshot
from oodlab.presets import Preset
from oodlab.presets.nae import METHODS, held_out_inputs, image_detectors, image_training
from oodlab.samplers import ClipElements, ClipRows
from oodlab.training import Result

CHOICE = data.choose("digits", "digits")


def smoke(method: str, **changes: Any) -> Preset:
    return image_training(method, 9, in_set="digits").at("smoke").changed(**changes)


def trained(method: str, **changes: Any) -> Result:
    return training.train_or_load(smoke(method, **changes), device="cpu")


# ------------------------------------------------------------------------------------- what is trained on


def test_images_are_those_of_the_split_without_the_digits_held_out() -> None:
    preset = image_training("AE", 3, in_set="digits").changed(batches={"shape": (1, 8, 8)})
    stored = preset.batches().batches
    every, validation = (data.load("digits", split, without=3) for split in ("train", "val"))
    assert set(stored.y.tolist()) == set(range(10)) - {3}
    assert len(stored.x) == len(every) - len(validation) > 1000
    kept_back = {image.numpy().tobytes() for image in validation.x}
    assert not any(image.numpy().tobytes() in kept_back for image in stored.x)
    assert torch.equal(presets.sources.training_images(preset).x, stored.x)
    x = preset.batches()(0, torch.Generator())["x"]
    assert torch.equal(x * 255, (x * 255).round()) and x.max() == 1 and x.min() == 0


def test_inputs_of_the_test_have_the_form_of_those_of_the_training() -> None:
    inputs = held_out_inputs(smoke("AE"), CHOICE, n=25)
    assert (inputs.train.shape, inputs.inside.shape, inputs.outside.shape) == (
        (200, 1, 14, 14),
        (25, 1, 14, 14),
        (25, 1, 14, 14),
    )
    assert [info.record for info in inputs.infos] == [
        "digits/train-val(without=9, n=200, seed=1)",
        "digits/test(without=9, n=25, seed=0)",
        "digits/test(only=9, n=25, seed=0)",
    ]
    nines = data.load("digits", "test", only=9, n=25, seed=0).x
    assert torch.equal(inputs.outside, data.as_shape(nines, (1, 14, 14)) / 255)
    every = held_out_inputs(image_training("AE", in_set="digits").at("smoke"), CHOICE, n=10_000)
    assert len(every.outside) == 0 and len(every.inside) == len(data.load("digits", "test"))
    assert [info.record for info in every.infos] == ["digits/train-val(n=200, seed=1)", "digits/test"]
    instead = held_out_inputs(smoke("AE"), dataclasses.replace(CHOICE, stand_in_for="mnist"), n=2)
    assert {info.stand_in_for for info in instead.infos} == {"mnist"}


# ------------------------------------------------------------------------------------------ the methods


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_and_its_detectors_score(method: str) -> None:
    result, inputs = trained(method), held_out_inputs(smoke(method), CHOICE, n=8)
    assert result.finished
    for name, detector in image_detectors(method, result.model).items():
        assert metrics.reported("nae", table="table1", method=name)
        scores = detector.fit(inputs.train).score_samples(inputs.outside)  # refuses what is not finite
        assert scores.shape == (8,) and np.ptp(scores) > 0


@pytest.mark.parametrize("profile", ["smoke", "paper"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "IGEBM"])
def test_all_autoencoders_have_the_networks_of_the_plain_one(method: str, profile: str) -> None:
    ours, plain = (image_training(name, 9).at(profile).model() for name in (method, "AE"))
    for part in ("encoder", "decoder"):
        shapes = [[tuple(p.shape) for p in getattr(model, part).parameters()] for model in (ours, plain)]
        if (method, part) == ("VAE", "encoder"):  # mean and variance
            shapes = [shape[:-2] for shape in shapes]
        assert shapes[0] == shapes[1], part
    assert [type(layer) for layer in ours.encoder] == [type(layer) for layer in plain.encoder]


def test_every_layer_of_the_energy_has_spectral_norm_1() -> None:
    model = smoke("IGEBM", model={"width": 8}).model().train()
    for _ in range(200):  # each pass takes one step of the power iteration
        model.energy(torch.rand(2, 1, 14, 14))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    norms = [float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).detach()) for layer in layers]
    assert norms == pytest.approx([1.0] * 4, abs=1e-3)


@pytest.mark.parametrize("method", ["NAE-CD", "NAE-PCD", "NAE-OMI"])
def test_normalising_begins_with_the_plain_autoencoder_and_keeps_its_temperature(method: str) -> None:
    plain, normalised = trained("AE"), trained(method)
    measured = smoke(method).probe()(plain.model)
    first, last = normalised.probes[0], normalised.probes[-1]
    assert (first["step"], last["step"]) == (0, 3)
    for name, errors in measured.items():
        assert torch.equal(first["values"][name], errors) and not torch.equal(last["values"][name], errors)
    assert normalised.model.temperature.item() == 1.0


def test_unknown_methods_are_refused_with_the_nearest() -> None:
    for ask in (image_training, lambda name: image_detectors(name, nn.Identity())):
        with pytest.raises(ValueError, match="got 'NAE-OMJ': did you mean 'NAE-OMI'"):
            ask("NAE-OMJ")


def test_all_digits_are_trained_on_without_a_measurement_where_none_is_held_out() -> None:
    whole = image_training("NAE-OMI", in_set="digits").at("smoke")
    assert (whole.name, whole.start.name) == ("nae/images/digits-omi", "nae/images/digits-ae")
    assert whole.probe is None and whole.probes == 0
    assert set(whole.batches().batches.y.tolist()) == set(range(10))


def test_validation_errors_are_those_of_validation_images_of_both_kinds() -> None:
    preset = smoke("NAE-OMI", probe={"n": 700})
    model = preset.model()
    measured = preset.probe()(model)
    for name, which in {"in": {"without": 9}, "out": {"only": 9}}.items():
        x = data.as_shape(data.load("digits", "val", **which).x, (1, 14, 14)).float() / 255
        with torch.no_grad():
            wanted = (x - model.decode(model.encode(x))).square().mean(dim=(1, 2, 3))
        assert torch.allclose(measured[name], wanted, rtol=1e-5)
        assert not measured[name].requires_grad
    few = smoke("NAE-OMI", probe={"n": 4}).probe()(model)
    assert {name: torch.allclose(errors, measured[name][:4]) for name, errors in few.items()} == {
        "in": True,
        "out": True,
    }
    parts = dataclasses.replace(preset.probe(), sets={"many": torch.zeros(1003, 1, 14, 14, dtype=torch.uint8)})
    assert parts(model)["many"].shape == (1003,)


# ------------------------------------------------------------------------------------------ the figures

ROWS = [
    {"method": "AE", "held_out": 9, "auroc": [0.5, 0.6], "reported": 0.537},
    {"method": "NAE-OMI", "held_out": 9, "auroc": [0.8, 0.9], "reported": 0.934},
    {"method": "GLOW", "held_out": 9, "auroc": [], "reported": 0.426},
    {"method": "AE", "held_out": 1, "auroc": [0.1, 0.2], "reported": None},
]


def test_every_seed_is_a_dot_and_every_printed_number_a_diamond() -> None:
    nine, one = plotting.held_out_aurocs(ROWS).axes
    assert [ax.get_title() for ax in (nine, one)] == ["without 9", "without 1"]
    assert (nine.get_xlabel(), [label.get_text() for label in nine.get_yticklabels()]) == (
        "AUROC",
        ["AE", "NAE-OMI", "GLOW"],
    )
    drawn = {
        marker: [
            (float(x), float(y))
            for line in nine.lines
            if line.get_marker() == marker
            for x, y in zip(*line.get_data(), strict=True)
        ]
        for marker in "o|D"
    }
    assert drawn["o"] == [(0.5, 0), (0.6, 0), (0.8, 1), (0.9, 1)]
    assert np.allclose(drawn["|"], [(0.55, 0), (0.85, 1)])
    assert drawn["D"] == [(0.537, 0), (0.934, 1), (0.426, 2)]
    assert not any(line.get_marker() == "D" for line in one.lines)


def test_reconstructions_stand_below_their_inputs_and_wrong_ones_are_outlined() -> None:
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


def test_a_course_is_read_off_history_and_probes() -> None:
    result = trained("NAE-OMI")
    course = NormalisingCourse.of(result.history, result.probes)
    assert course.steps == [1, 2, 3]
    assert course.gaps == pytest.approx([row["gap"] for row in result.history], abs=1e-6)
    errors = {"in": torch.tensor([0.1, 0.2]), "out": torch.tensor([0.15, 0.3])}
    told = NormalisingCourse.of([], [{"step": 7, "values": errors}])
    assert (told.probed, told.aurocs) == ([7], [0.75])


def test_courses_are_a_row_per_digit_and_a_line_per_seed() -> None:
    fig = plotting.normalising_courses({9: {"NAE-CD": [COURSE], "NAE-OMI": [COURSE, COURSE]}, 1: {"NAE-OMI": [COURSE]}})
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


def test_negatives_that_ran_away_leave_the_other_courses_readable() -> None:
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


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Have no mnist on this machine."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))


def panel_with(**values: Any) -> widgets.RunPanel:
    panel = widgets.holdout_digits()
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
def test_the_panel_pre_trains_once_and_normalises(embedded: None, method: str) -> None:
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


def test_the_controls_of_the_panel_decide_the_training(embedded: None) -> None:
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


def test_the_released_setting_differs_where_the_released_code_does() -> None:
    """As printed: noise sigma / (1 + t), no L2; as released: full noise twice, encoder L2, a clipped pre-training."""
    paper, released = (
        image_training("NAE-OMI", 9, in_set="digits", setting=s).at("quick") for s in ("paper", "released")
    )
    noise = [[p.objective.keywords["chain"].noise_std(t) for t in range(3)] for p in (paper, released)]
    assert noise == [pytest.approx([0.05, 0.025, 0.05 / 3]), pytest.approx([0.05, 0.05, 0.025])]
    assert [p.objective.keywords["encoder_l2"] for p in (paper, released)] == [0, 1e-4]
    assert [p.objective.keywords["chain"].clip for p in (paper, released)] == [ClipElements(0.01), ClipRows(0.01)]
    assert [p.start.optimiser.keywords["clip"] for p in (paper, released)] == [None, 0.1]
    assert paper.objective.keywords["chain"].steps == released.objective.keywords["chain"].steps
    cd = [image_training("NAE-CD", 9, setting=s).objective.keywords["penalise_data"] for s in ("paper", "released")]
    assert cd == [False, True]
    assert paper.name != released.name


def test_the_small_setting_has_quicks_networks_for_longer_at_paper() -> None:
    """Only updates, the normalising rate, importance samples and looks differ from quick's; at quick nothing does."""
    for method in ("AE", "NAE-OMI", "VAE", "IGEBM"):
        small, printed = (image_training(method, 9, setting=setting) for setting in ("small", "paper"))
        quick = printed.at("quick")
        assert small.model.keywords | {"samples": 0} == quick.model.keywords | {"samples": 0}
        assert small.batches.keywords == quick.batches.keywords
        assert quick.steps < small.steps < printed.steps
        assert dataclasses.replace(small.at("quick"), name=quick.name, start=quick.start).text == quick.text
    small = image_training("NAE-OMI", 9, setting="small")
    assert small.objective.keywords == image_training("NAE-OMI", 9).at("quick").objective.keywords
    assert small.start.name == "nae/images/mnist-ae-without-9-small"
    with pytest.raises(ValueError, match=r"image_training expects setting paper or released, got .small."):
        image_training("AE", in_set="cifar10", setting="small")
