"""Colour images, the OOD sets of nae/ood_detection, its figures and its panel; on embedded sets, so without files."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn

from oodlab import data, metrics, plotting, presets, training, widgets
from oodlab.plotting import DetectionSnapshot
from oodlab.plotting.sets import set_looks
from oodlab.presets.nae import (
    BUDGETS,
    COLOUR_BUDGETS,
    METHODS,
    OOD_DETECTION,
    OOD_DETECTION_RELEASED,
    OOD_SETS,
    image_detectors,
    image_training,
    ood_inputs,
)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Have no files on this machine."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))


def smoke(method: str, in_set: str = "photo_patches", **changes: Any) -> presets.Preset:
    return image_training(method, in_set=in_set).at("smoke").changed(**changes)


# -------------------------------------------------------------------------------- trainings on colour images


@pytest.mark.parametrize("setting", ["paper", "released"])
def test_colour_images_have_the_chains_and_epochs_of_cifar10(setting: str) -> None:
    """Table 11 and the released configuration: latent 1, .02, 20; visible 10, .02, 40; 120 and 50 epochs, or 180 and 10."""
    run = image_training("NAE-OMI", in_set="cifar10", setting=setting)
    given = run.objective.keywords
    latent, visible = given["latent_chain"], given["chain"]
    assert (latent.steps, latent.step_size, latent.noise_std) == (20, 1.0, 0.02)
    assert (visible.steps, visible.step_size, visible.noise_std(0)) == (40, 10.0, 0.02)
    assert visible.noise_std(1) == (0.01 if setting == "paper" else 0.02), "the released noise falls a step later"
    batches = 352  # of 128 among 45,000
    epochs = {"paper": (120, 50), "released": (180, 10)}[setting]
    assert (run.start.steps, run.steps) == (epochs[0] * batches, epochs[1] * batches)
    assert run.start.objective.keywords["objective"].keywords["encoder_l2"] == given["encoder_l2"] == 0.0
    assert run.start.optimiser.keywords["clip"] == (None if setting == "paper" else 0.1)
    igebm = image_training("IGEBM", in_set="cifar10", setting=setting).objective.keywords
    assert (igebm["chain"].steps, igebm["chain"].noise_std, igebm["shape"]) == (60, 0.005, (3, 32, 32))


def test_grey_images_keep_their_own() -> None:
    run = image_training("NAE-OMI", in_set="fashion_mnist")
    given = run.objective.keywords
    assert (given["latent_chain"].steps, given["chain"].steps, given["chain"].noise_std(0)) == (10, 50, 0.05)
    assert (run.start.steps, run.steps) == (100 * 422, 50 * 422)  # of 128 among 54,000
    assert image_training("NAE-OMI", 9).steps == 50 * 380  # and among 48,600


@pytest.mark.parametrize("setting", ["paper", "released"])
def test_colour_images_have_the_networks_of_either_source(setting: str) -> None:
    with torch.device("meta"):
        model = image_training("AE", in_set="cifar10", setting=setting).model()
    sizes = [sum(p.numel() for p in half.parameters()) for half in (model.encoder, model.decoder)]
    if setting == "paper":
        assert sizes == [438_336, 952_451]
    else:
        assert [type(half).__name__ for half in (model.encoder, model.decoder)] == [
            "Conv32BigEncoder",
            "Conv32BigDecoder",
        ]
        assert model.encoder[0].out_channels == 128
    for profile in ("quick", "smoke"):
        small = image_training("AE", in_set="cifar10", setting=setting).at(profile).model()
        assert small.decode(small.encode(torch.zeros(2, 3, 16, 16))).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("setting", ["paper", "released"])
def test_only_the_released_training_on_colour_images_is_dequantised(setting: str) -> None:
    run = image_training("AE", in_set="photo_patches", setting=setting).at("smoke")
    x = run.batches()(0, torch.Generator().manual_seed(0))["x"]
    assert x.shape == (16, 3, 16, 16) and float(x.min()) >= 0 and float(x.max()) <= 1
    whole = torch.allclose(x * 255, (x * 255).round(), atol=1e-4)
    assert whole == (setting == "paper")
    if setting == "released":
        stored = run.batches().batches(0, torch.Generator())["x"]
        assert torch.equal((x * 256).floor().to(torch.uint8), stored)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_colour_images_and_scores(method: str) -> None:
    result = training.train_or_load(smoke(method), device="cpu")
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert result.finished
    for detector in image_detectors(method, result.model).values():
        scores = detector.fit(x).score_samples(x)
        assert scores.shape == (5,) and np.ptp(scores) > 0


def test_a_class_of_colour_images_can_be_held_out_and_watched() -> None:
    run = image_training("NAE-CD", 1, in_set="photo_patches").at("smoke")
    assert run.probe().sets["out"].shape[1:] == (3, 16, 16)
    assert set(run.batches().batches.y.tolist()) == {0}


def test_a_table_is_no_set_of_images() -> None:
    with pytest.raises(ValueError, match=r"image_training expects a set of images, got 'wine': .* shape \(13,\)"):
        image_training("AE", in_set="wine")


@pytest.mark.parametrize("experiment", [OOD_DETECTION, OOD_DETECTION_RELEASED], ids=["paper", "released"])
def test_the_study_trains_what_the_other_notebooks_train(experiment: presets.Experiment) -> None:
    """So that their trainings are one in the run store."""
    setting = "released" if experiment is OOD_DETECTION_RELEASED else "paper"
    for in_set, methods in experiment.settings["methods"].items():
        for method in methods:
            run = experiment.at("quick").runs[f"{in_set} {method}"]
            assert run.text == image_training(method, in_set=in_set, setting=setting).at("quick").text
    of_table_2 = {r.method for r in metrics.reported("nae", table="table2", in_set="cifar10")}
    titles = {
        experiment.settings["printed_as"].get(title, title)
        for method in experiment.settings["methods"]["cifar10"]
        for title in METHODS[method].detectors or {method: None}
    }
    assert titles | set(experiment.settings["paper_only"]) - {"PXCNN"} == of_table_2
    assert set(experiment.settings["methods"]["mnist"]) == set(METHODS)


def test_the_released_weights_have_the_printed_numbers() -> None:
    printed = {r.out_set: r.value for r in metrics.reported("nae", table="table2", in_set="cifar10", method="NAE")}
    assert printed == {out: round(value, 3) for out, value in OOD_DETECTION.settings["readme"].items()}


# ------------------------------------------------------------------------------------------------ the inputs


def test_without_files_mnist_is_played_by_digits(embedded: None) -> None:
    run = smoke("AE", "digits")
    inputs = ood_inputs(run, "mnist", n=40, made=7)
    shapes = {name: tuple(x.shape) for name, x in inputs.outside.items()}
    assert shapes == {
        "constant_gray": (7, 1, 14, 14),
        "half_digits": (40, 1, 14, 14),
        "chimera_digits": (40, 1, 14, 14),
        "photo_patches": (40, 1, 14, 14),
        "noise": (7, 1, 14, 14),
    }
    assert inputs.inside.shape == (40, 1, 14, 14) and inputs.train.shape == (200, 1, 14, 14)
    assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in (inputs.inside, *inputs.outside.values()))
    assert [info.stand_in_for for info in inputs.infos] == ["mnist", "mnist", "omniglot, fashion_mnist"]
    assert "digits" in inputs.sentence
    again = ood_inputs(run, "mnist", n=40, made=7)
    assert all(torch.equal(x, again.outside[name]) for name, x in inputs.outside.items())


def test_halves_and_chimeras_are_cut_from_the_test_images_before_they_are_resized(embedded: None) -> None:
    inputs = ood_inputs(smoke("AE", "digits"), "mnist", n=40, made=2)
    test = data.load("digits", "test", n=40, seed=0)
    for name, cut in {
        "half_digits": data.half_digits(test.x),
        "chimera_digits": data.chimera_digits(test.x, test.y),
    }.items():
        assert torch.equal(inputs.outside[name], data.as_shape(cut, (1, 14, 14)).float() / 255), name
    assert torch.equal(inputs.inside, data.as_shape(test.x, (1, 14, 14)).float() / 255)


def test_grey_levels_and_noise_are_drawn_at_the_size_of_the_training(embedded: None) -> None:
    inputs = ood_inputs(smoke("AE"), "cifar10", n=10, made=400)
    grey, noise = inputs.outside["constant_gray"], inputs.outside["noise"]
    assert grey.shape == noise.shape == (400, 3, 16, 16)
    assert torch.equal(grey, grey[:, :1, :1, :1].expand_as(grey)) and len(grey[:, 0, 0, 0].unique()) > 100
    assert float(noise.var()) == pytest.approx(1 / 12, rel=0.02), "noise that is shrunk has less"
    assert list(inputs.outside) == ["constant_gray", "digits", "noise"]


def test_inputs_for_a_training_on_another_set_are_refused(embedded: None) -> None:
    with pytest.raises(ValueError, match=r"expects a training on digits, got one on photo_patches: .* Train on that"):
        ood_inputs(smoke("AE"), "mnist", n=10, made=2)
    with pytest.raises(ValueError, match=r"ood_inputs expects in_set .*got 'cifar100': did you mean 'cifar10'"):
        ood_inputs(smoke("AE"), "cifar100", n=10, made=2)


def test_every_printed_ood_set_is_made_or_loaded() -> None:
    for in_set, table in OOD_DETECTION.settings["tables"].items():
        printed = {r.out_set for r in metrics.reported("nae", table=table, in_set=in_set)}
        sets = OOD_SETS[in_set]
        cut = {f"half_{in_set}", f"chimera_{in_set}"} if sets.cut else set()
        assert printed <= {"constant_gray", "noise", *cut, *sets.outs}


# ----------------------------------------------------------------------------------------------- the figures

ROWS = [
    {"in_set": "a", "out_set": "x", "method": "AE", "auroc": [0.1, 0.3], "reported": 0.4},
    {"in_set": "a", "out_set": "y", "method": "AE", "auroc": [0.5], "reported": None},
    {"in_set": "b", "out_set": "x", "method": "NAE-OMI", "auroc": [0.9], "reported": 1.0},
    {"in_set": "a", "out_set": "x", "method": "GLOW", "auroc": [], "reported": 0.7},
]


@pytest.mark.filterwarnings("error")  # a layout that collapses
def test_every_ood_set_has_a_panel_in_the_row_of_what_was_trained_on() -> None:
    fig = plotting.ood_aurocs(ROWS)
    first, second, third, empty = fig.axes
    assert [ax.get_title() for ax in (first, second, third)] == ["x", "y", "x"] and not empty.axison
    assert [ax.get_ylabel() for ax in (first, third)] == ["trained on a", "trained on b"]
    assert [t.get_text() for t in first.get_yticklabels()] == ["AE", "GLOW"]
    assert [t.get_text() for t in third.get_yticklabels()] == ["NAE-OMI"]
    drawn = {
        marker: [
            (float(x), int(y)) for line in first.lines if line.get_marker() == marker for x, y in line.get_xydata()
        ]
        for marker in "o|D"
    }
    assert drawn == {"o": [(0.1, 0), (0.3, 0)], "|": [(pytest.approx(0.2), 0)], "D": [(0.4, 0), (0.7, 1)]}
    assert plotting.to_png(fig).startswith(b"\x89PNG")


def test_error_histograms_hold_all_images_on_one_scale_per_set() -> None:
    random = np.random.default_rng(0)
    errors = {
        "a": {
            name: {"a": random.random(30) + 0.01, "x": largest * random.random(20) + 0.01}
            for name, largest in {"AE": 10, "NAE-OMI": 100}.items()
        },
        "b": {"AE": {"b": random.random(5) + 0.01}},
    }
    fig = plotting.error_histograms(errors)
    assert [ax.get_title() for ax in fig.axes] == ["AE, trained on a", "NAE-OMI, trained on a", "AE, trained on b", ""]
    limits = [ax.get_xlim() for ax in fig.axes]
    assert limits[0] == pytest.approx(limits[1])
    for ax, names in zip(fig.axes[:3], (2, 2, 1), strict=True):
        filled = [patch.get_xy() for patch in ax.patches[::2]]
        assert len(filled) == names and ax.get_xscale() == "log"
        assert [xy[:, 1].sum() / 2 for xy in filled] == pytest.approx([1.0] * names), "shares sum to 1"
    assert [text.get_text() for text in fig.axes[1].get_legend().get_texts()] == ["a", "x"]


SCORES = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])


def test_images_are_chosen_by_their_distance_from_the_threshold_or_by_how_wrong_they_are() -> None:
    near, wrong = plotting.IMAGE_ORDERS
    assert plotting.chosen_images(SCORES, 2.2, inside=True, which=near).tolist() == [2, 3, 1, 4, 0, 5]
    assert plotting.chosen_images(SCORES, 2.2, inside=True, which=wrong).tolist() == [0, 1, 2], "rejected"
    assert plotting.chosen_images(SCORES, 2.2, inside=False, which=wrong).tolist() == [5, 4, 3], "accepted"
    assert plotting.chosen_images(SCORES, 2.0, inside=True, which=wrong).tolist() == [0, 1], "on it is accepted"


def snapshot() -> DetectionSnapshot:
    images = {name: np.linspace(0, 1, 6).reshape(6, 1, 1, 1) * np.ones((1, 1, 3, 3)) for name in ("in", "out", "far")}
    scores = {"AE": {"in": SCORES, "out": SCORES - 2.5, "far": SCORES - 10}, "IGEBM": {name: SCORES for name in images}}
    return DetectionSnapshot("in", scores, images, {"AE": {name: x / 2 for name, x in images.items()}})


def test_the_live_figure_says_what_the_threshold_does_and_shows_its_mistakes() -> None:
    fig = plotting.live_detection(snapshot(), out_set="out", tpr=0.5, which=plotting.IMAGE_ORDERS[1], shown=2)
    histogram, known, outside = fig.axes[0], fig.axes[1:5], fig.axes[5:9]
    auroc = metrics.auroc(SCORES, SCORES - 2.5)
    assert histogram.get_title(loc="left") == f"AE: AUROC {auroc:.3f}\n100% of OOD images rejected"
    assert histogram.lines[-1].get_xdata()[0] == 3.0, "half of the known are at 3 or above"
    values = [[float(ax.images[0].get_array()[0, 0]) for ax in axes if ax.images] for axes in (known, outside)]
    assert values == [pytest.approx([0.0, 0.2, 0.0, 0.1]), []], "inputs, and below them what was made of them"
    texts = [sub.get_suptitle() for row in fig.subfigs for sub in row.subfigs[1:]]
    assert texts == ["in: 3 of 6 rejected", "out: 0 of 6 accepted", "in: 3 of 6 rejected", "out: 3 of 6 accepted"]
    frames = {ax.spines["left"].get_edgecolor() for ax in known}
    assert frames == {to_rgba(plotting.COLOURS[1])}, "rejected"
    igebm = [ax for ax in fig.axes[9:] if ax.images]
    assert len(igebm) == 4, "no reconstructions: two images of each set"
    assert [ax.get_ylabel() for ax in known[::2]] == ["input", "made of it"]


def test_the_live_figure_frames_what_is_wrong_and_says_so() -> None:
    fig = plotting.live_detection(snapshot(), out_set="out", tpr=0.5, which=plotting.IMAGE_ORDERS[0], shown=6)
    framed = {}
    for key, axes in {"in": fig.axes[1:7], "IGEBM, out": fig.axes[38:44]}.items():
        for ax in axes:
            score = round(5 * float(ax.images[0].get_array()[0, 0]))
            framed[key, score] = ax.spines["left"].get_edgecolor() == to_rgba(plotting.COLOURS[1])
    assert framed == {**{("in", s): s < 3 for s in range(6)}, **{("IGEBM, out", s): s >= 3 for s in range(6)}}
    (said,) = fig.legends[0].get_texts()
    assert said.get_text() == "wrong: an OOD image accepted, or a known one rejected"


def test_a_set_looks_the_same_in_every_panel_and_figure() -> None:
    e = np.array([0.1, 0.2])
    rows = {
        "a": {"AE": dict.fromkeys(["a", "half_a", "constant_gray", "noise", "mine"], e)},
        "b": {"AE": dict.fromkeys(["b", "noise", "mine", "svhn", "constant_gray", "a"], e)},
    }
    first, second = (
        {p.get_label(): (p.get_edgecolor(), p.get_linestyle() != (0, None)) for p in ax.patches if p.get_label()}
        for ax in plotting.error_histograms(rows).axes
    )
    curves = dict.fromkeys(["blank", "noise", "known", "constant_gray", "half"], e)
    lines = plotting.error_distributions({"AE": curves}, {"AE": 0.1}, known="known").axes[0].lines
    third = {line.get_label(): (to_rgba(line.get_color()), line.get_linestyle() != "-") for line in lines}
    for name in ("noise", "constant_gray"):
        assert first[name] == second[name] == third[name], name
    assert first["mine"] == second["mine"] and first["half_a"] == third["half"]
    assert first["a"] == second["b"] == third["known"] != second["a"], (
        "what is known has one look, outside it has another"
    )
    assert all(len(set(looks.values())) == len(looks) for looks in (first, second, third))


def test_more_sets_than_hues_still_look_different() -> None:
    names = ["noise", *(f"my set {i}" for i in range(17))]
    assert len({(look["color"], look["linestyle"]) for look in set_looks(names).values()}) == 18
    assert list(set_looks([*names, "one more"])) == [*names, "one more"]


def test_the_live_figure_can_be_drawn_before_there_is_anything_and_for_a_set_that_is_not_there() -> None:
    given = {"tpr": 0.9, "which": plotting.IMAGE_ORDERS[0], "shown": 3}
    empty = plotting.live_detection(DetectionSnapshot("in"), out_set="out", **given)
    assert not empty.axes and plotting.to_png(empty).startswith(b"\x89PNG")
    other = plotting.live_detection(snapshot(), out_set="half_mnist", **given)
    assert other.subfigs[0].subfigs[2].get_suptitle().startswith("out: ")


# ------------------------------------------------------------------------------------------------- the panel


@pytest.fixture
def tiny(embedded: None, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Let the quick profile be smoke's, with a store of its own."""
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    for budgets in (BUDGETS, COLOUR_BUDGETS):
        monkeypatch.setitem(budgets, "quick", budgets["smoke"])


def run(panel: widgets.RunPanel) -> list[str]:
    """Run to the end, and return the texts that were published."""
    seen: list[str] = []
    publish = panel._publish
    panel._publish = lambda *given: (seen.append(given[-1]), publish(*given))
    panel.run()
    panel.wait(120)
    panel._publish = publish
    return seen


def test_the_panel_trains_what_is_not_kept_and_shows_every_ood_set(tiny: None) -> None:
    panel = widgets.ood_detection()
    seen = run(panel)
    assert "done." in panel.status.value, panel.status.value
    assert [text.split(",")[0] for text in seen if text.startswith("training")] == [
        *["training nae/images/digits-ae"] * 3,
        *["training nae/images/digits-omi"] * 3,
    ]
    assert panel.bar.value == panel.bar.max == 9
    shown = panel._snapshot
    assert list(shown.scores) == ["AE", "NAE-OMI"] == list(shown.reconstructions)
    outs = ("constant_gray", "half_digits", "chimera_digits", "photo_patches", "noise")
    assert panel.views["out_set"].options == outs and tuple(shown.images) == ("digits", *outs)
    model = panel.result.model
    x = torch.from_numpy(shown.images["noise"])
    with torch.no_grad():
        made = model.decode(model.encode(x))
    assert np.allclose(shown.reconstructions["NAE-OMI"]["noise"], made.numpy(), atol=1e-5)
    error = (x - made).square().mean(dim=(1, 2, 3)).numpy()
    assert shown.scores["NAE-OMI"]["noise"] == pytest.approx(-error, rel=1e-4)
    for view, value in {
        "out_set": "noise",
        "tpr": 0.6,
        "which": plotting.IMAGE_ORDERS[1],
        "shown": 3,
    }.items():
        before = bytes(panel.image.value)
        panel.views[view].value = value
        assert bytes(panel.image.value) != before, view
    assert not [text for text in run(panel) if text.startswith("training")], "both are kept"


def test_the_controls_of_the_panel_decide_what_is_shown(tiny: None) -> None:
    panel = widgets.ood_detection()
    panel.controls["methods"].value = ("AE", "DAGMM")
    scores = []
    for changes in ({}, {"seed": 2}, {"setting": "released"}, {"in_set": "cifar10", "methods": ("VAE", "IGEBM")}):
        for name, value in changes.items():
            panel.controls[name].value = value
        run(panel)
        scores.append(panel._snapshot.scores)
    first, seed, setting, colour = scores
    assert list(first) == ["AE", "DAGMM"], "the second has to learn from training images before it scores"
    assert not np.array_equal(first["AE"]["noise"], seed["AE"]["noise"])
    assert not np.array_equal(seed["AE"]["noise"], setting["AE"]["noise"])
    assert list(colour) == ["VAE(R)", "VAE(L)", "IGEBM"]
    assert panel._snapshot.images["noise"].shape[1:] == (3, 16, 16)
    assert set(panel._snapshot.reconstructions) == {"VAE(R)", "VAE(L)"}, "IGEBM has no decoder"
    panel.controls["methods"].value = ()
    run(panel)
    assert "the panel expects a method, got none" in panel.status.value


def test_stop_leaves_what_is_there(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    long = dataclasses.replace(BUDGETS["smoke"], steps_of={"NAE-OMI": 3000})
    monkeypatch.setitem(BUDGETS, "quick", long)
    panel = widgets.ood_detection()
    publish = panel._publish

    def stop_at_omi(snapshot: Any, done: int, total: int, text: str) -> None:
        publish(snapshot, done, total, text)
        if "digits-omi" in text:
            panel.stop()

    panel._publish = stop_at_omi
    panel.run()
    panel.wait(120)
    assert "stopped. training nae/images/digits-omi" in panel.status.value, panel.status.value
    assert list(panel._snapshot.scores) == ["AE"] and not panel.result.finished
    assert isinstance(panel.result.model, nn.Module)
