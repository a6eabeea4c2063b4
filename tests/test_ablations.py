"""One thing of NAE-OMI varied at a time; on the embedded digits, so without files."""

from __future__ import annotations

import dataclasses
import re
import sys
from typing import Any

import numpy as np
import pytest
import torch

from oodlab import metrics, plotting, training, widgets
from oodlab.plotting import COLOURS, NormalisingCourse, NormalisingSnapshot
from oodlab.plotting.sets import HELD_OUT, KNOWN
from oodlab.presets import PROFILES, Preset
from oodlab.presets.base import numbers
from oodlab.presets.nae import (
    ABLATED,
    ABLATIONS,
    ABLATIONS_RELEASED,
    BUDGETS,
    EXTENTS,
    Ablation,
    ablated_training,
    image_training,
)

ROWS = [(table, row) for table, rows in ABLATED.items() for row in rows]


def smoke(ablation: Ablation) -> Preset:
    return ablated_training(ablation, in_set="digits", profile="smoke")


def base_at(profile: str, setting: str = "paper") -> Preset:
    base = image_training("NAE-OMI", 9, setting=setting)
    return base if profile == "paper" else base.at(profile)


def nameless(preset: Preset) -> str:
    return re.sub(r"name = 'nae/[^']*'", "", preset.text)


def numbers_of(preset: Preset) -> dict[str, float]:
    begun = {f"start.{path}": value for path, value in numbers(preset.start)} if preset.start else {}
    return {**dict(numbers(preset)), **begun}


# ----------------------------------------------------------------------------------------- the trainings


@pytest.mark.parametrize("profile", PROFILES)
def test_what_differs_in_nothing_is_the_training_that_all_notebooks_share(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXTENTS, profile, dataclasses.replace(EXTENTS[profile], share=1.0))
    base = base_at(profile)
    for ablation in (Ablation(), Ablation(latent=base.model.keywords["latent"])):
        same = ablated_training(ablation, profile=profile)
        assert (same.hash, same.name) == (base.hash, base.name)
    other = ablated_training(Ablation(replay=False), profile=profile)
    assert other.name != base.name and other.start.hash == base.start.hash, "the plain autoencoder is shared"


@pytest.mark.parametrize("setting", ["paper", "released"])
@pytest.mark.parametrize("profile", PROFILES)
def test_an_ablation_changes_its_own_numbers_and_no_other(profile: str, setting: str) -> None:
    plain = ablated_training(Ablation(), profile=profile, setting=setting)
    at_base, chain = numbers_of(plain), plain.objective.keywords["latent_chain"].steps
    assert plain.steps == round(EXTENTS[profile].share * base_at(profile).steps)
    assert plain.start.hash == base_at(profile, setting).start.hash
    wanted = {
        Ablation(pre_training=0.5): {"start.steps": max(1, round(at_base["start.steps"] / 2))},
        Ablation(pre_training=2): {"start.steps": 2 * at_base["start.steps"]},
        Ablation(latent_steps=0, replay=False): {"objective.latent_chain.steps": 0, "objective.restart": 1},
        Ablation(latent_steps=5): {"objective.latent_chain.steps": 5 * chain},
        Ablation(replay=False): {"objective.restart": 1},
        Ablation(sphere=False): {"objective.latent_penalty": 0.01},
        Ablation(latent=77): {"model.latent": 77, "start.model.latent": 77},
    }
    for ablation, changes in wanted.items():
        own = ablated_training(ablation, profile=profile, setting=setting)
        assert {path: value for path, value in numbers_of(own).items() if at_base.get(path) != value} == changes
        assert set(at_base) <= set(numbers_of(own))
        assert own.name.startswith("nae/ablations/mnist-omi-without-9") and own.name != plain.name
        sphere = [training.model.keywords["sphere"] for training in (own, own.start)]
        assert sphere == [ablation.sphere] * 2
        assert (own.objective.keywords["latent_chain"].bounds is None) == (not ablation.sphere)
    fresh = ablated_training(Ablation(pre_training=0), profile=profile, setting=setting)
    assert fresh.start is None and dict(numbers(fresh)) == dict(numbers(plain))


def test_the_rows_are_those_that_the_paper_prints() -> None:
    for table, setting in {"table6": "pretrain_epochs", "table8": "z_dim"}.items():
        printed = {r.setting for r in metrics.reported("nae", table=table)}
        assert printed == {f"{setting}={row}" for row in ABLATED[table]}
    assert all(ablation == Ablation(pre_training=epochs / 100) for epochs, ablation in ABLATED["table6"].items())
    assert all(ablation == Ablation(latent=latent) for latent, ablation in ABLATED["table8"].items())
    answer = {True: "Yes", False: "No"}
    for r in metrics.reported("nae", table="table7"):
        how = ABLATED["table7"][r.method]
        said = (f"latent_chain_length={10 * how.latent_steps:g}", f"replay_buffer={answer[how.replay]}")
        assert r.setting == "; ".join((*said, f"spherical_latent={answer[how.sphere]}"))
    assert len(metrics.reported("nae", table="table7")) == len(ABLATED["table7"])
    epochs = 50 * EXTENTS["paper"].share  # of normalising; NAE-OMI's own are 50
    assert f"NAE (after {epochs:g} NAE epochs)" in {r.method for r in metrics.reported("nae", table="table6")}
    for profile, extent in EXTENTS.items():
        assert all(row in ABLATED[table] for table, rows in extent.tables.items() for row in rows), profile
        assert "No.1" in extent.tables["table7"], "the notebook's base"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("experiment", "setting"), [(ABLATIONS, "paper"), (ABLATIONS_RELEASED, "released")])
def test_the_experiment_lists_what_its_notebook_trains(experiment: Any, setting: str, profile: str) -> None:
    """Under one name at all profiles, where a profile's own base may be another row."""
    listed = {nameless(run) for run in experiment.at(profile).runs.values()}
    trained = {nameless(ablated_training(ABLATED[table][row], profile=profile, setting=setting)) for table, row in ROWS}
    assert trained == listed


def test_an_impossible_ablation_is_refused() -> None:
    for wrong in ({"pre_training": -1}, {"latent_steps": -0.5}, {"latent": 0}):
        with pytest.raises(ValueError, match=f"Ablation expects {next(iter(wrong))}"):
            Ablation(**wrong)


# ------------------------------------------------------------------------------------- how chains start


def begun(ablation: Ablation) -> tuple[Any, Any, Any]:
    """Return a model, and its objective's negatives twice; before the second call the replay holds one state only."""
    preset = smoke(ablation)
    torch.manual_seed(0)
    model = preset.model()
    objective = preset.objective(model)
    x = torch.rand(64, 1, 14, 14)
    first = objective.negatives(model, x, generator=torch.Generator().manual_seed(1))
    objective.negatives.replay.states.fill_(0.5)
    return model, first, objective.negatives(model, x, generator=torch.Generator().manual_seed(2))


def test_without_replay_or_latent_steps_chains_start_at_decoded_draws_of_the_sphere() -> None:
    model, first, second = begun(Ablation(latent_steps=0, replay=False))
    for negatives in (first, second):
        assert torch.allclose(negatives.z.norm(dim=1), torch.ones(64, 1, 1), atol=1e-5)
        assert torch.equal(negatives.start, model.decode(negatives.z).clamp(0, 1))
    assert not (second.z == 0.5).all(dim=1).any(), "none is from the replay"
    many = torch.cat([first.z, second.z]).mean(dim=0)
    assert many.abs().max() < 5 / (3 * 128) ** 0.5  # uniform on S^2: variance 1/3 a coordinate, five standard errors
    _, _, kept = begun(Ablation(latent_steps=0))
    assert 40 < int((kept.z == 0.5).all(dim=1).sum()) <= 64, "95 % go on where they ended"


def test_off_the_sphere_codes_have_any_length_and_long_ones_cost() -> None:
    preset = smoke(Ablation(sphere=False, latent_steps=0, replay=False))
    torch.manual_seed(0)
    model = preset.model()
    x = torch.rand(64, 1, 14, 14)
    objective = preset.objective(model)
    negatives = objective.negatives(model, x, generator=torch.Generator().manual_seed(1))
    assert negatives.z.norm(dim=1).std() > 0.3  # N(0, I) in three dimensions: 0.67
    moved = smoke(Ablation(sphere=False)).objective(model).negatives(model, x)
    assert not torch.allclose(moved.z.norm(dim=1), torch.ones(64, 1, 1), atol=0.01), "nothing projects them"

    def loss(weight: float) -> float:
        objective.latent_penalty = weight
        return float(objective(model, x, generator=torch.Generator().manual_seed(1))["loss"].detach())

    squares = model.encode(torch.cat([x, negatives.x])).square().mean().item()
    assert loss(0.01) - loss(0) == pytest.approx(0.01 * squares, rel=0.02, abs=1e-7)


@pytest.mark.parametrize(
    "ablation", [ABLATED["table6"][0], ABLATED["table7"]["No.2"], ABLATED["table7"]["No.6"], ABLATED["table8"][2]]
)
def test_an_ablation_trains(ablation: Ablation) -> None:
    preset = smoke(ablation)
    result = training.train_or_load(preset, device="cpu")
    assert result.finished and result.step == preset.steps
    if preset.start is None:  # the notebook scores these weights as the model before normalising
        torch.manual_seed(0)
        begun_with = preset.probe()(preset.model())
        assert all(torch.equal(result.probes[0]["values"][kind], errors) for kind, errors in begun_with.items())


# ------------------------------------------------------------------------------------------ the figures


def row(at: int, **changes: Any) -> dict[str, Any]:
    told = {"epochs": at, "updates": 10 * at, "latent": at, "label": f"way {at}"}
    numbers = {"before": [0.5, 0.6], "after": [0.8, 0.9], "paper_before": 0.55, "paper_after": 0.95}
    return {**told, **numbers, **changes}


def marks(ax: Any, marker: str, colour: str) -> list[tuple[float, float]]:
    lines = [line for line in ax.lines if line.get_marker() == marker and line.get_color() == colour]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def legend_of(fig: Any) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_pre_training_is_drawn_at_its_length_before_and_after() -> None:
    fig = plotting.pre_training_aurocs([row(0, paper_before=None), row(50, after=[0.7])])
    (ax,) = fig.axes
    before, after = COLOURS[:2]
    assert marks(ax, "o", before) == [(0, 0.5), (0, 0.6), (50, 0.5), (50, 0.6)]
    assert marks(ax, "o", after) == [(0, 0.8), (0, 0.9), (50, 0.7)]
    assert (marks(ax, "D", before), marks(ax, "D", after)) == ([(50, 0.55)], [(0, 0.95), (50, 0.95)])
    means = [line.get_ydata() for line in ax.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2]
    assert np.allclose(means[:2], [[0.55, 0.55], [0.85, 0.7]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0\n(0)", "500\n(50)"]
    assert "paper" in legend_of(fig)
    alone = plotting.pre_training_aurocs([row(0, paper_before=None, paper_after=None)])
    assert "paper" not in legend_of(alone), "stand-in images are compared with nothing"


def test_ways_to_start_chains_are_lines_from_above() -> None:
    fig = plotting.sampling_aurocs([row(1), row(2, after=[0.7], paper_after=None)])
    (ax,) = fig.axes
    before, after = COLOURS[:2]
    assert marks(ax, "o", after) == [(0.8, 0), (0.9, 0), (0.7, 1)]
    assert marks(ax, "o", before) == [(0.5, 0), (0.6, 0), (0.5, 1), (0.6, 1)]
    assert marks(ax, "D", after) == [(0.95, 0)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["way 1", "way 2"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_errors_over_code_sizes_are_medians_in_bands_of_80_percent() -> None:
    even = np.arange(101) / 100
    errors = {
        stage: {n: {"known": even * n * share, "9": even * n * share + 1} for n in (8, 2)}
        for stage, share in {"before": 1, "after": 2}.items()
    }
    fig = plotting.code_sizes([row(2), row(8)], errors)
    auroc, *stages = fig.axes
    assert marks(auroc, "o", COLOURS[1]) == [(2, 0.8), (2, 0.9), (8, 0.8), (8, 0.9)]
    assert marks(auroc, "D", COLOURS[0]) == [(2, 0.55), (8, 0.55)]
    assert [ax.get_title() for ax in stages] == ["before normalising", "after normalising"]
    for ax, share in zip(stages, (1, 2), strict=True):
        known, nine = ax.lines
        assert list(known.get_xdata()) == [2, 8], "in the order of their sizes"
        assert (known.get_color(), nine.get_color()) == (KNOWN["color"], HELD_OUT), "as in energies_along_chains"
        assert np.allclose(known.get_ydata(), [share, 4 * share]) and np.allclose(
            nine.get_ydata(), known.get_ydata() + 1
        )
        corners = ax.collections[0].get_paths()[0].vertices
        at_8 = corners[corners[:, 0] == 8][:, 1]
        assert (at_8.min(), at_8.max()) == pytest.approx((0.8 * share, 7.2 * share))
    assert stages[0].get_ylim() == stages[1].get_ylim()
    assert all(ax.get_xscale() == "log" for ax in fig.axes)


def test_another_course_is_drawn_in_grey_below() -> None:
    own, other = (NormalisingCourse((1, 2), (a, a), (a, a), (0, 2), (a, a)) for a in (0.2, 0.4))
    for beside in (None, other):
        fig = plotting.live_normalising(NormalisingSnapshot(own, beside=beside), shown=4, starts=True)
        drawn = [[(line.get_ydata()[0], line.get_color()) for line in ax.lines] for ax in fig.axes[::2]]
        grey = [] if beside is None else [(0.4, "0.65")]
        assert drawn[0] == [*grey * 2, *[(0.2, COLOURS[1])] * 2]
        assert drawn[1][:-1] == [*grey, (0.2, COLOURS[1])]
        assert fig.axes[1].get_title(loc="left") == ("grey: the base" if grey else "")


# -------------------------------------------------------------------------------------------- the panel


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Have no mnist on this machine, and a base that is trained at once."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.modules["oodlab.widgets.ablations"], "PROFILE", "smoke")


def run(panel: widgets.RunPanel, **values: Any) -> list[str]:
    """Run to the end, and return the texts that were published."""
    for name, value in values.items():
        panel.controls[name].value = value
    seen: list[str] = []
    publish = panel._publish
    panel._publish = lambda snapshot, done, total, text: (seen.append(text), publish(snapshot, done, total, text))
    panel.run()
    panel.wait(120)
    panel._publish = publish
    assert "done." in panel.status.value, panel.status.value
    return seen


def test_the_panel_draws_its_training_over_the_base_that_it_keeps(tiny: None) -> None:
    panel = widgets.ablations()
    steps, start = smoke(Ablation()).steps, smoke(Ablation()).start.steps
    said = run(panel, updates=5, latent=2)
    assert sum(text.startswith("the base's plain autoencoder, error") for text in said) == start
    assert sum(text.startswith("the base, error") for text in said) == steps
    assert sum(text.startswith("plain autoencoder, error") for text in said) == start, "of another code size"
    snapshot = panel._snapshot
    kept = training.train_or_load(smoke(Ablation()), anew=False)
    assert snapshot.beside == NormalisingCourse.of(kept.history, kept.probes)
    assert list(snapshot.course.steps) == [1, 2, 3, 4, 5] and snapshot.negatives.shape[1:] == (14, 14)
    again = run(panel, latent=smoke(Ablation()).model.keywords["latent"])
    assert not any(text.startswith(("the base", "plain autoencoder")) for text in again), "both are kept"
    snapshot = panel._snapshot
    assert snapshot.course.aurocs[0] == snapshot.beside.aurocs[0], "both begin with the same plain autoencoder"
    run(panel, beside=False, seed=1)
    assert panel._snapshot.beside is None and panel._snapshot.course.error_data[0] != snapshot.course.error_data[0]


def test_the_controls_decide_the_training(tiny: None) -> None:
    panel = widgets.ablations()
    base = smoke(Ablation())
    latent_steps = base.objective.keywords["latent_chain"].steps
    run(panel, updates=2, latent=8, sphere=False, latent_steps=0, replay=False, pre_training=0, beside=False)
    negatives = panel.result.objective.negatives
    assert (negatives.latent_chain.steps, negatives.latent_chain.bounds, negatives.replay.restart) == (0, None, 1.0)
    assert (panel.result.model.latent, panel.result.model.sphere, panel.result.step) == (8, False, 2)
    assert panel.result.objective.latent_penalty > 0
    module = sys.modules["oodlab.widgets.ablations"]
    values = {name: widget.value for name, widget in widgets.ablations().controls.items()}
    assert module._preset(values).hash == base.hash, "untouched controls are the base"
    longer = module._preset({**values, "pre_training": 2 * base.start.steps, "latent_steps": latent_steps + 3})
    assert longer.start.steps == 2 * base.start.steps
    assert longer.objective.keywords["latent_chain"].steps == latent_steps + 3
    first, second = (module._preset({**values, "seed": seed}).hash for seed in (0, 1))
    assert first == second, "a seed is no part of a setting"


def test_stop_while_the_base_is_trained_ends_the_run(tiny: None) -> None:
    panel = widgets.ablations()
    publish = panel._publish

    def stop_at_first(snapshot: Any, done: int, total: int, text: str) -> None:
        publish(snapshot, done, total, text)
        panel.stop()

    panel._publish = stop_at_first
    panel.run()
    panel.wait(120)
    assert "stopped. the base" in panel.status.value, panel.status.value
    assert not panel.result.finished and panel._snapshot.course == NormalisingCourse()


def test_the_quick_base_is_within_the_panel_s_sliders() -> None:
    panel, quick = widgets.ablations(), BUDGETS["quick"]
    values = {name: widget.value for name, widget in panel.controls.items()}
    assert (values["latent"], values["latent_steps"], values["pre_training"]) == (
        quick.latent,
        quick.latent_steps,
        quick.updates("AE"),
    )
    assert values["updates"] == round(EXTENTS["quick"].share * quick.updates("NAE-OMI"))
    assert all(text in panel._name(values) for text in (f"{quick.latent} numbers", "with replay", "sphere"))
