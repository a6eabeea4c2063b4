"""The study nae/ood_detection: its OOD sets, recipes, figures and panel; on embedded sets where no file is required."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn

from oodlab import data, metrics, plotting, widgets
from oodlab.plotting.sets import set_looks
from oodlab.studies.nae import images
from oodlab.studies.nae.images import COLOUR, FULL, METHODS, image_recipe
from oodlab.studies.nae.ood_detection.figure import (
    IMAGE_ORDERS,
    DetectionSnapshot,
    chosen_images,
    error_histograms,
    live_detection,
)
from oodlab.studies.nae.ood_detection.panel import ood_detection_panel
from oodlab.studies.nae.ood_detection.setting import (
    CLAIMS,
    OF_TABLE_2,
    PAPER_ONLY,
    README,
    STUDY,
    TABLES,
    above,
    lead,
    methods,
    paper_only,
    printed,
)
from oodlab.studies.nae.outlier_reconstruction.figure import error_distributions
from oodlab.studies.nae.outside import GREY_LEVELS, MADE, NOISE, PRINTED_AS
from oodlab.study import Inputs, decide, evaluate


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Have no files on this machine."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))


def played(in_set: str, n: int = 40) -> Inputs:
    """Return the inputs of a task at profile smoke."""
    (task,) = STUDY.at("smoke", dataset=in_set).played
    return task.load(n=n)


# ----------------------------------------------------------------------------------------------- the setting


@pytest.mark.parametrize("source", ["printed", "released"])
def test_colour_images_have_the_printed_or_the_released_networks(source: str) -> None:
    colour = STUDY.at("full", dataset="cifar10").tasks[0]
    with torch.device("meta"):
        model = image_recipe("AE", colour, FULL[source, COLOUR], source).model()
    sizes = [sum(p.numel() for p in half.parameters()) for half in (model.encoder, model.decoder)]
    kinds = [type(half).__name__ for half in (model.encoder, model.decoder)]
    if source == "printed":
        assert sizes == [438_336, 952_451]
    else:
        assert kinds == ["Conv32BigEncoder", "Conv32BigDecoder"] and model.encoder[0].out_channels == 128


@pytest.mark.parametrize("source", ["printed", "released"])
def test_cifar10_has_the_methods_of_table_2_and_mnist_has_all_methods(source: str) -> None:
    study = STUDY.at("quick", source=source)
    trained = {task.inside: tuple(method.name for method in study.on(task)) for task in study.tasks}
    assert trained == {"mnist": METHODS, "cifar10": OF_TABLE_2}
    here = {task.name: task for task in study.played}
    places = {(task, method) for task, method, _ in study.recipes}
    assert places == {(name, one.name) for name, task in here.items() for one in study.on(task)}
    embedded = STUDY.at("smoke", dataset="embedded")
    assert [len(embedded.on(task)) for task in embedded.tasks] == [3, 3], "a stand-in is played by the same methods"


def test_every_printed_column_and_method_is_in_the_study_or_listed_as_paper_only() -> None:
    for task in STUDY.tasks:
        rows = metrics.reported("nae", table=TABLES[task.inside], in_set=task.inside)
        outside = {PRINTED_AS.get(name, name) for name in task.outsides()}
        ours = {"fashion_mnist"} if task.inside == "mnist" else set()
        assert {row.out_set for row in rows} == outside - ours
        names = [method.name for method in STUDY.on(task)]
        titles = {title.removesuffix("-OMI") for name in names for title in images.SCORES.get(name, {name: None})}
        assert {row.method for row in rows} <= titles | set(PAPER_ONLY)


def test_rows_are_named_as_the_paper_prints_them() -> None:
    row = {"in_set": "mnist", "out_set": "chimera_digits", "score": "NAE-OMI", "last": True}
    found = metrics.find_reported("nae", in_set="mnist", **printed(row))
    assert [one.value for one in found] == [0.992]
    assert printed({**row, "last": False}) is None
    row = {"in_set": "cifar10", "out_set": "celeba", "score": "VAE(L)", "last": True}
    assert [one.value for one in metrics.find_reported("nae", in_set="cifar10", **printed(row))] == [0.684]


def test_the_released_weights_have_the_printed_numbers() -> None:
    table = {r.out_set: r.value for r in metrics.reported("nae", table="table2", in_set="cifar10", method="NAE")}
    assert table == {out: round(value, 3) for out, value in README.items()}


# -------------------------------------------------------------------------------------------------- the claims


def made_rows(*given: tuple) -> pd.DataFrame:
    """Return rows of (in_set, out_set, score, seed, step, auroc)."""
    frame = pd.DataFrame(given, columns=["in_set", "out_set", "score", "seed", "step", "auroc"])
    return frame.assign(profile="quick", stand_in_for="", method=frame["score"])


ROWS = made_rows(
    ("mnist", "half_digits", "AE", 0, 9, 0.5),
    ("mnist", "half_digits", "DAE", 0, 9, 0.8),
    ("mnist", "half_digits", "NAE-OMI", 0, 0, 0.1),
    ("mnist", "half_digits", "NAE-OMI", 0, 5, 0.7),
    ("mnist", "noise", "AE", 0, 9, 1.0),
    ("mnist", "noise", "NAE-OMI", 0, 5, 0.4),
    ("cifar10", "svhn", "AE", 0, 9, 0.2),
    ("cifar10", "svhn", "NAE-OMI", 0, 5, 0.3),
)


def test_the_claims_compare_final_aurocs_by_outside_set() -> None:
    half = {"in_set": "mnist", "out_sets": ("half_digits",)}
    assert lead(ROWS, over=("AE",), **half).to_dict() == {(0, "mnist", "half_digits"): pytest.approx(0.2)}
    assert lead(ROWS, **half).to_dict() == {(0, "mnist", "half_digits"): pytest.approx(-0.1)}
    numbers = {"score": "AE", "in_set": "cifar10", "out_sets": ("svhn",)}
    assert above(ROWS, **numbers).tolist() == pytest.approx([-0.3])
    assert above(ROWS, sign=-1, **numbers).tolist() == pytest.approx([0.3])
    words = [decide(claim, ROWS).word for claim in CLAIMS]
    assert words == ["Partly", "Not reproduced", "Partly", "Partly", "Partly", "Not reproduced"], (
        "noise is no part of it"
    )
    alone = ROWS[ROWS["in_set"] == "mnist"]
    assert [decide(claim, alone).word for claim in CLAIMS[2:]] == ["Not tested"] * 4


def test_methods_of_the_paper_only_have_printed_numbers_and_no_measured_ones() -> None:
    extra = paper_only(ROWS)
    glow = extra[extra["score"] == "GLOW"].set_index(["in_set", "out_set"])["printed"].to_dict()
    assert glow == {("mnist", "half_digits"): 0.948, ("mnist", "noise"): 1, ("cifar10", "svhn"): 0.26}
    assert extra["auroc"].isna().all() and not set(extra["score"]) & set(METHODS)
    fig = plotting.auroc_panels(pd.concat([ROWS.assign(printed=math.nan), extra]), panel="out_set")
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["AE", "DAE", "NAE-OMI", "GLOW", "PXCNN"]
    assert paper_only(ROWS.assign(stand_in_for="mnist")).empty


# ------------------------------------------------------------------------------------------------ the inputs


def test_digits_stand_in_for_mnist_without_files(embedded: None) -> None:
    inputs = played("mnist")
    shapes = {name: tuple(split.x.shape) for name, split in inputs.outside.items()}
    assert shapes == dict.fromkeys(
        ["photo_patches", "constant_gray", "half_digits", "chimera_digits", "noise"], (40, 1, 14, 14)
    )
    assert inputs.task.name == "digits for mnist" and inputs.test.x.shape == (40, 1, 14, 14)
    again = played("mnist")
    assert all(torch.equal(split.x, again.outside[name].x) for name, split in inputs.outside.items())


def test_halves_and_chimeras_are_cut_from_the_test_images_before_they_are_resized(embedded: None) -> None:
    inputs = played("mnist")
    test = data.load("digits", "test", n=40, seed=0)
    for name, cut in {
        "half_digits": data.half_digits(test.x),
        "chimera_digits": data.chimera_digits(test.x, test.y),
    }.items():
        assert torch.equal(inputs.outside[name].x, data.as_shape(cut, (1, 14, 14))), name
    assert torch.equal(inputs.test.x, data.as_shape(test.x, (1, 14, 14)))


def test_outside_images_are_first_resized_to_the_stored_size_of_the_inside_set(embedded: None) -> None:
    """As in the paper, a grey 28 x 28 image outside of cifar10 becomes one of 3 x 32 x 32 before images are shrunk."""
    inputs = played("cifar10")
    stored = data.load("digits", "test", n=40, seed=0).x
    large = data.as_shape(stored, (3, 32, 32))
    outside = inputs.outside["digits"].x
    assert torch.equal(outside, data.as_shape(large, (3, 16, 16)))
    assert not torch.equal(outside, data.as_shape(stored, (3, 16, 16))), "another way gives another image"
    assert torch.equal(outside, outside[:, :1].expand_as(outside)), "all channels are alike"
    plain = replace(inputs.task, shape=None).load(n=40)
    assert torch.equal(plain.outside["digits"].x, stored), "as stored, where a task has no shape"


def test_grey_levels_and_noise_are_drawn_at_the_size_of_the_training(embedded: None) -> None:
    inputs = played("cifar10", 400)
    grey, noise = inputs.outside["constant_gray"].x, inputs.outside["noise"].x
    assert grey.shape == noise.shape == (400, 3, 16, 16)
    assert torch.equal(grey, grey[:, :1, :1, :1].expand_as(grey)) and len(grey[:, 0, 0, 0].unique()) > 100
    assert float((noise / 255.0).var()) == pytest.approx(1 / 12, rel=0.02), "noise that is shrunk has less"


def test_made_sets_have_at_most_the_number_of_items_of_table_9(embedded: None) -> None:
    assert GREY_LEVELS.n == NOISE.n == MADE == 4000
    task = replace(STUDY.at("smoke", dataset="mnist").played[0], outside=(replace(NOISE, n=7),))
    assert len(task.load().outside["noise"].x) == 7 and len(task.load(n=5).outside["noise"].x) == 5


def test_ood_detection_runs_on_embedded_sets(embedded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = evaluate(STUDY.at("smoke", dataset="embedded"))
    assert set(rows["in_set"]) == {"digits for mnist", "photo_patches for cifar10"}
    assert rows["printed"].isna().all() and paper_only(rows).empty
    assert [decide(claim, rows).word for claim in CLAIMS] == ["Not tested"] * len(CLAIMS), "no claim is on stand-ins"
    assert [one.name for one in methods(STUDY.budgets["smoke"], "printed")] == ["AE", "VAE", "NAE-OMI"]


# ----------------------------------------------------------------------------------------------- the figures


def test_error_histograms_contain_all_images_on_one_scale_per_inside_set() -> None:
    random = np.random.default_rng(0)
    errors = {
        "a": {
            name: {"a": random.random(30) + 0.01, "x": largest * random.random(20) + 0.01}
            for name, largest in {"AE": 10, "NAE-OMI": 100}.items()
        },
        "b": {"AE": {"b": random.random(5) + 0.01}},
    }
    fig = error_histograms(errors)
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
    near, wrong = IMAGE_ORDERS
    assert chosen_images(SCORES, 2.2, inside=True, which=near).tolist() == [2, 3, 1, 4, 0, 5]
    assert chosen_images(SCORES, 2.2, inside=True, which=wrong).tolist() == [0, 1, 2], "rejected"
    assert chosen_images(SCORES, 2.2, inside=False, which=wrong).tolist() == [5, 4, 3], "accepted"
    assert chosen_images(SCORES, 2.0, inside=True, which=wrong).tolist() == [0, 1], "on it is accepted"


def snapshot() -> DetectionSnapshot:
    images = {name: np.linspace(0, 1, 6).reshape(6, 1, 1, 1) * np.ones((1, 1, 3, 3)) for name in ("in", "out", "far")}
    scores = {"AE": {"in": SCORES, "out": SCORES - 2.5, "far": SCORES - 10}, "IGEBM": {name: SCORES for name in images}}
    return DetectionSnapshot("in", scores, images, {"AE": {name: x / 2 for name, x in images.items()}})


def test_the_live_figure_states_the_share_rejected_at_the_threshold_and_shows_wrong_images() -> None:
    fig = live_detection(snapshot(), out_set="out", tpr=0.5, which=IMAGE_ORDERS[1], shown=2)
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


def test_the_live_figure_frames_wrong_decisions_and_explains_the_frame() -> None:
    fig = live_detection(snapshot(), out_set="out", tpr=0.5, which=IMAGE_ORDERS[0], shown=6)
    framed = {}
    for key, axes in {"in": fig.axes[1:7], "IGEBM, out": fig.axes[38:44]}.items():
        for ax in axes:
            score = round(5 * float(ax.images[0].get_array()[0, 0]))
            framed[key, score] = ax.spines["left"].get_edgecolor() == to_rgba(plotting.COLOURS[1])
    assert framed == {**{("in", s): s < 3 for s in range(6)}, **{("IGEBM, out", s): s >= 3 for s in range(6)}}
    (said,) = fig.legends[0].get_texts()
    assert said.get_text() == "wrong: an OOD image accepted, or a known one rejected"


def test_an_outside_set_has_the_same_style_in_every_panel_and_figure() -> None:
    e = np.array([0.1, 0.2])
    rows = {
        "a": {"AE": dict.fromkeys(["a", "half_a", "constant_gray", "noise", "mine"], e)},
        "b": {"AE": dict.fromkeys(["b", "noise", "mine", "svhn", "constant_gray", "a"], e)},
    }
    first, second = (
        {p.get_label(): (p.get_edgecolor(), p.get_linestyle() != (0, None)) for p in ax.patches if p.get_label()}
        for ax in error_histograms(rows).axes
    )
    curves = dict.fromkeys(["blank", "noise", "known", "constant_gray", "half"], e)
    lines = error_distributions({"AE": curves}, {"AE": 0.1}, known="known").axes[0].lines
    third = {line.get_label(): (to_rgba(line.get_color()), line.get_linestyle() != "-") for line in lines}
    for name in ("noise", "constant_gray"):
        assert first[name] == second[name] == third[name], name
    assert first["mine"] == second["mine"] and first["half_a"] == third["half"]
    assert first["a"] == second["b"] == third["known"] != second["a"], (
        "what is known has one look, outside it has another"
    )
    assert all(len(set(looks.values())) == len(looks) for looks in (first, second, third))


def test_more_sets_than_hues_have_different_styles() -> None:
    names = ["noise", *(f"my set {i}" for i in range(17))]
    assert len({(look["color"], look["linestyle"]) for look in set_looks(names).values()}) == 18
    assert list(set_looks([*names, "one more"])) == [*names, "one more"]


def test_the_live_figure_can_be_drawn_without_scores_and_for_an_absent_outside_set() -> None:
    given = {"tpr": 0.9, "which": IMAGE_ORDERS[0], "shown": 3}
    empty = live_detection(DetectionSnapshot("in"), out_set="out", **given)
    assert not empty.axes and plotting.to_png(empty).startswith(b"\x89PNG")
    other = live_detection(snapshot(), out_set="half_mnist", **given)
    assert other.subfigs[0].subfigs[2].get_suptitle().startswith("out: ")


# ------------------------------------------------------------------------------------------------- the panel


@pytest.fixture
def tiny(embedded: None, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Let the quick profile be smoke's, with a store of its own."""
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(images, "QUICK", images.SMOKE)


def run(panel: widgets.RunPanel) -> list[str]:
    """Run to the end, and return the texts that were published."""
    seen: list[str] = []
    publish = panel._publish
    panel._publish = lambda *given: (seen.append(given[-1]), publish(*given))
    panel.run()
    panel.wait(120)
    panel._publish = publish
    return seen


def test_the_panel_runs_trainings_that_are_not_stored_and_shows_every_ood_set(tiny: None) -> None:
    panel = ood_detection_panel()
    seen = run(panel)
    assert "done." in panel.status.value, panel.status.value
    assert [text.split(",")[0] for text in seen if text.startswith("training")] == [
        *["training nae/images/digits for mnist: AE"] * 3,
        *["training nae/images/digits for mnist: NAE-OMI"] * 3,
    ]
    assert panel.bar.value == panel.bar.max == 9
    shown = panel._snapshot
    assert list(shown.scores) == ["AE", "NAE-OMI"] == list(shown.reconstructions)
    outs = ("photo_patches", "constant_gray", "half_digits", "chimera_digits", "noise")
    assert panel.views["out_set"].options == outs and tuple(shown.images) == ("digits for mnist", *outs)
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
        "which": IMAGE_ORDERS[1],
        "shown": 3,
    }.items():
        before = bytes(panel.image.value)
        panel.views[view].value = value
        assert bytes(panel.image.value) != before, view
    assert not [text for text in run(panel) if text.startswith("training")], "both are kept"


def test_the_controls_of_the_ood_detection_panel_decide_the_scores_shown(tiny: None) -> None:
    panel = ood_detection_panel()
    panel.controls["methods"].value = ("AE", "DAGMM")
    scores = []
    for changes in ({}, {"seed": 2}, {"source": "released"}, {"in_set": "cifar10", "methods": ("VAE", "IGEBM")}):
        for name, value in changes.items():
            panel.controls[name].value = value
        run(panel)
        scores.append(panel._snapshot.scores)
    first, seed, source, colour = scores
    assert list(first) == ["AE", "DAGMM"], "the second has to learn from training images before it scores"
    assert not np.array_equal(first["AE"]["noise"], seed["AE"]["noise"])
    assert not np.array_equal(seed["AE"]["noise"], source["AE"]["noise"])
    assert list(colour) == ["VAE(R)", "VAE(L)", "IGEBM"]
    assert panel._snapshot.images["noise"].shape[1:] == (3, 16, 16)
    assert set(panel._snapshot.reconstructions) == {"VAE(R)", "VAE(L)"}, "IGEBM has no decoder"
    panel.controls["methods"].value = ()
    run(panel)
    assert "the panel expects a method, got none" in panel.status.value


def test_stop_on_the_ood_detection_panel_keeps_the_finished_scores(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {channels: replace(scale, length={"": 3, "NAE-OMI": 3000}) for channels, scale in images.SMOKE.items()}
    monkeypatch.setattr(images, "QUICK", long)
    panel = ood_detection_panel()
    publish = panel._publish

    def stop_at_omi(snapshot: Any, done: int, total: int, text: str) -> None:
        publish(snapshot, done, total, text)
        if "NAE-OMI, seed" in text:
            panel.stop()

    panel._publish = stop_at_omi
    panel.run()
    panel.wait(120)
    assert "stopped. training nae/images/digits for mnist: NAE-OMI" in panel.status.value, panel.status.value
    assert list(panel._snapshot.scores) == ["AE"] and not panel.result.finished
    assert isinstance(panel.result.model, nn.Module)
