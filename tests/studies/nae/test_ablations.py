"""The study nae/ablations: the changes of each table row, claims, drawings and panel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from oodlab import identity, metrics, plotting, training, widgets
from oodlab.plotting import COLOURS, NormalisingCourse, NormalisingSnapshot
from oodlab.studies.nae import images
from oodlab.studies.nae.ablations import panel as panel_module
from oodlab.studies.nae.ablations.figure import errors_by_line, stage_panels
from oodlab.studies.nae.ablations.panel import ablations_panel
from oodlab.studies.nae.ablations.setting import (
    CLAIMS,
    EPOCHS,
    LATENT_PENALTY,
    ROWS,
    STUDY,
    Variation,
    ends,
    name_of,
    printed,
)
from oodlab.studies.nae.holdout_digits.setting import STUDY as HOLDOUT_DIGITS
from oodlab.studies.nae.images import GREY, digits_task, image_recipe, scale_of
from oodlab.study import verdicts
from oodlab.training import Recipe


def base(profile: str = "smoke", source: str = "printed") -> Recipe:
    task = digits_task(9, profile=profile).with_stand_ins()
    return image_recipe("NAE-OMI", task, scale_of(profile, source, GREY), source)


# ------------------------------------------------------------------------------------- what a row changes


@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_a_row_without_a_change_uses_the_training_of_holdout_digits(profile: str) -> None:
    theirs = {
        name: recipe.key for (task, name, role), recipe in HOLDOUT_DIGITS.at(profile).recipes.items() if "9" in task
    }
    ours = {name: recipe.key for (_, name, role), recipe in STUDY.at(profile).recipes.items() if role == "model"}
    same = {name for name, key in ours.items() if key == theirs["NAE-OMI"]}
    own = {"quick": {"table 8: 16 numbers"}, "smoke": set()}[profile]
    assert same == {"table 6: 100 epochs", "table 7: No.1, the base", *own}


CHANGES = {
    Variation(pre_training=0.5): {"needs.AE.steps"},
    Variation(latent_steps=5): {"objective.negatives.latent_chain.steps"},
    Variation(replay=False): {"objective.negatives.restart"},
    Variation(latent_steps=0, replay=False): {"objective.negatives.latent_chain.steps", "objective.negatives.restart"},
    Variation(latent=8): {"model.halves.latent", "needs.AE.model.halves.latent"},
    Variation(sphere=False): {
        "model.sphere",
        "needs.AE.model.sphere",
        "objective.latent_penalty",
        "objective.negatives.latent_chain.bounds",
    },
}


@pytest.mark.parametrize("source", ["printed", "released"])
@pytest.mark.parametrize("variation", CHANGES, ids=repr)
def test_a_variation_changes_its_own_numbers_of_the_recipe_and_no_other(variation: Variation, source: str) -> None:
    plain = base("full", source)
    changed = {path for path, _, _ in identity.differences(variation(plain), plain)}
    numbers = {path for path in CHANGES[variation] if not path.endswith(("sphere", "bounds"))}
    assert changed >= numbers and all(path in CHANGES[variation] for path in changed), changed
    assert variation(plain).key != plain.key


def test_without_pre_training_normalising_begins_with_fresh_weights() -> None:
    fresh = Variation(pre_training=0)(base())
    assert (dict(fresh.needs), fresh.begins_with) == ({}, "")
    assert replace(fresh, needs=base().needs, begins_with="AE").text == base().text


def test_rows_of_the_tables_have_the_papers_lengths_chains_and_code_sizes() -> None:
    before = {n: row[1](base("full")).needs for n, row in ROWS["table6"].items()}
    epoch = base("full").needs["AE"].steps // EPOCHS
    assert {n: needs["AE"].steps // epoch if needs else 0 for n, needs in before.items()} == {n: n for n in before}
    chains = {n: row[1](base("full")).objective.negatives for n, row in ROWS["table7"].items()}
    assert {n: one.latent_chain.steps for n, one in chains.items()} == {1: 10, 2: 0, 3: 50, 4: 10, 5: 50, 6: 10}
    assert {n for n, one in chains.items() if one.restart == 1.0} == {2, 4, 5}
    assert {n for n, one in chains.items() if one.latent_chain.bounds is None} == {6}
    assert {n: row[1](base("full")).model.halves.latent for n, row in ROWS["table8"].items()} == {
        n: n for n in (2, 4, 8, 16, 32, 64, 128, 256)
    }


def test_at_full_size_normalising_takes_20_epochs() -> None:
    """48,600 images in batches of 128 are 380 updates an epoch."""
    study = STUDY.at("full")
    (task,) = study.tasks
    trainings = {method.name: method.trainings(task) for method in study.on(task)}
    assert {one["model"].steps for one in trainings.values()} == {20 * 380}
    assert trainings["table 7: No.1, the base"]["AE"].steps == 100 * 380


@pytest.mark.parametrize(
    "variation", [Variation(), Variation(latent_steps=0, replay=False), Variation(sphere=False, latent=3)]
)
def test_negatives_start_where_the_variation_says(variation: Variation) -> None:
    recipe = variation(base())
    torch.manual_seed(0)
    model = recipe.build({})
    negatives = recipe.begin(model, {}).negatives
    found = negatives(model, torch.rand(6, 1, 14, 14), generator=torch.Generator().manual_seed(0))
    lengths = found.z.flatten(1).norm(dim=1)
    if variation.sphere:
        assert torch.allclose(lengths, torch.ones(6), atol=1e-5)
        assert torch.allclose(found.start, model.decode(found.z).clamp(0, 1), atol=1e-6), "decoded codes"
    else:
        assert lengths.std() > 0.1 and recipe.objective.latent_penalty == LATENT_PENALTY


@pytest.mark.parametrize(
    ("given", "said"),
    [({"pre_training": -1}, "pre_training"), ({"latent_steps": -1}, "latent_steps"), ({"latent": 0}, "latent")],
)
def test_an_impossible_variation_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"Variation expects {said}"):
        Variation(**given)


# ------------------------------------------------------------------------------------ what the paper says


def test_every_printed_number_has_its_row_before_or_after_normalising() -> None:
    found = []
    for table, rows in ROWS.items():
        for row in rows:
            for step, last in ((0, False), (7, False), (9, True)):
                named = printed({"method": name_of(table, row), "step": step, "last": last})
                found += metrics.find_reported("nae", metric="auroc", **named) if named else []
    wanted = [one for table in ROWS for one in metrics.reported("nae", table=table)]
    assert sorted(found, key=repr) == sorted(wanted, key=repr)


def rows(*given: tuple[str, float, float], seeds: int = 1) -> pd.DataFrame:
    """Return rows of (method, AUROC before, AUROC after), with one look between; the errors are 1 less these."""
    made = [
        {"method": method, "score": "NAE-OMI", "in_set": "mnist without 9", "seed": seed, "step": step, "auroc": value}
        for method, before, after in given
        for seed in range(seeds)
        for step, value in ((0, before), (5, 0.001), (9, after))
    ]
    frame = pd.DataFrame(made).assign(profile="smoke", printed=np.nan)
    frame.loc[frame["step"] == 9, "printed"] = 0.9
    for side, factor in {"in": 1.0, "out": 2.0}.items():
        for name, quantile in {"q10": 1.5, "q50": 1.0, "q90": 0.5}.items():
            frame[f"{side}_{name}"] = -factor * quantile * frame["auroc"]
    return frame


BASE = (name_of("table7", 1), 0.5, 0.9)


def number(claim: int, *given: tuple[str, float, float]) -> list[float]:
    return list(CLAIMS[claim].number(rows(BASE, *given)).round(6))


def test_claims_of_the_ablations_are_differences_after_normalising_less_a_fixed_margin() -> None:
    assert number(0, (name_of("table6", 0), 0.9, 0.6)) == [0.2]
    assert number(1, (name_of("table7", 2), 0.9, 0.8)) == [0.07]
    assert number(2, (name_of("table7", 5), 0.9, 0.91)) == [0.02]
    assert number(3, (name_of("table7", 6), 0.9, 0.85)) == [-0.05]
    assert number(4, (name_of("table8", 2), 0.6, 0.62), (name_of("table8", 8), 0.8, 0.7)) == [0.01, 0.13]
    assert number(5, (name_of("table8", 16), 0.6, 0.8), (name_of("table8", 4), 0.6, 0.1)) == [0.2]


def test_a_claim_whose_row_a_profile_lacks_is_not_tested() -> None:
    assert {one.word for one in verdicts(CLAIMS, rows(BASE)).each} == {"Not tested"}


def test_the_stage_of_a_row_is_before_at_its_first_step_and_after_at_its_last() -> None:
    both = ends(rows(BASE))
    assert list(zip(both["stage"], both["auroc"], strict=True)) == [("before", 0.5), ("after", 0.9)]


# ------------------------------------------------------------------------------------------- the drawings


def points(ax: Any, marker: str, colour: str) -> list[tuple[float, float]]:
    return [
        (round(float(x), 6), float(y))
        for line in ax.lines
        if (line.get_marker(), line.get_color()) == (marker, colour)
        for x, y in zip(*line.get_data(), strict=True)
    ]


def test_stage_panels_draw_a_table_as_panel_a_row_as_line_and_a_stage_as_colour() -> None:
    some = ends(rows(BASE, (name_of("table7", 2), 0.4, 0.7), (name_of("table8", 4), 0.3, 0.2), seeds=2))
    seven, eight = stage_panels(some).axes
    assert [ax.get_title(loc="left") for ax in (seven, eight)] == ["table 7", "table 8"]
    labels = [label.get_text() for label in seven.get_yticklabels()]
    assert labels == ["No.1, the base", "No.2, no latent chain, no replay"]
    assert sorted(points(seven, "o", COLOURS[0])) == [(0.4, 1)] * 2 + [(0.5, 0)] * 2
    assert sorted(points(seven, "o", COLOURS[1])) == [(0.7, 1)] * 2 + [(0.9, 0)] * 2
    assert sorted(points(eight, "|", COLOURS[1])) == [(0.2, 0)]
    assert points(seven, "D", COLOURS[0]) == [] and sorted(points(seven, "D", COLOURS[1])) == [(0.9, 0), (0.9, 1)]


def test_errors_are_drawn_as_medians_in_bands_of_80_percent() -> None:
    sizes = {name_of("table8", n): str(n) for n in (4, 16)}
    some = ends(rows((name_of("table8", 4), 0.2, 0.4), (name_of("table8", 16), 0.3, 0.6)))
    before, after = errors_by_line(some, sizes).axes
    assert [ax.get_title() for ax in (before, after)] == ["before normalising", "after normalising"]
    assert [list(line.get_ydata()) for line in before.lines] == [pytest.approx([0.2, 0.3]), pytest.approx([0.4, 0.6])]
    assert [list(line.get_ydata()) for line in after.lines] == [pytest.approx([0.4, 0.6]), pytest.approx([0.8, 1.2])]
    band = before.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.1, 0.45))
    assert [label.get_text() for label in after.get_xticklabels()] == ["4", "16"]


def test_the_live_figure_draws_the_course_of_the_base_in_grey() -> None:
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
    monkeypatch.setitem(images.QUICK, GREY, images.SMOKE[GREY])


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


def test_the_ablations_panel_draws_its_training_over_the_kept_base(tiny: None) -> None:
    panel = ablations_panel()
    steps, start = base().steps, base().needs["AE"].steps
    said = run(panel, updates=5, latent=2)
    assert sum(text.startswith("the base's plain autoencoder, error") for text in said) == start
    assert sum(text.startswith("the base, error") for text in said) == steps
    assert sum(text.startswith("plain autoencoder, error") for text in said) == start, "of another code size"
    snapshot = panel._snapshot
    kept = training.train_or_load(panel_module._base(), anew=False)
    assert snapshot.beside == NormalisingCourse.of(kept.history, kept.probes)
    assert list(snapshot.course.steps) == [1, 2, 3, 4, 5] and snapshot.negatives.shape[1:] == (14, 14)
    again = run(panel, latent=base().model.halves.latent)
    assert not any(text.startswith(("the base", "plain autoencoder")) for text in again), "both are kept"
    snapshot = panel._snapshot
    assert snapshot.course.aurocs[0] == snapshot.beside.aurocs[0], "both begin with the same plain autoencoder"
    run(panel, beside=False, seed=1)
    assert panel._snapshot.beside is None and panel._snapshot.course.error_data[0] != snapshot.course.error_data[0]


def test_the_controls_of_the_ablations_panel_decide_the_training(tiny: None) -> None:
    panel = ablations_panel()
    values = {name: widget.value for name, widget in panel.controls.items()}
    own = panel_module._base()
    untouched = replace(panel_module.recipe_of(values), snapshots=own.snapshots)
    assert untouched.key == own.key, "untouched controls are the base"
    run(panel, updates=2, latent=8, sphere=False, latent_steps=0, replay=False, pre_training=0, beside=False)
    negatives = panel.result.objective.negatives
    assert (negatives.latent_chain.steps, negatives.latent_chain.bounds, negatives.replay.restart) == (0, None, 1.0)
    assert (panel.result.model.latent, panel.result.model.sphere, panel.result.step) == (8, False, 2)
    assert panel.result.objective.latent_penalty > 0
    latent_steps = own.objective.negatives.latent_chain.steps
    longer = panel_module.recipe_of({**values, "pre_training": 6, "latent_steps": latent_steps + 3})
    assert longer.needs["AE"].steps == 6 and longer.objective.negatives.latent_chain.steps == latent_steps + 3


def test_stop_while_the_base_is_trained_ends_the_run(tiny: None) -> None:
    panel = ablations_panel()
    publish = panel._publish

    def stop_at_first(snapshot: Any, done: int, total: int, text: str) -> None:
        publish(snapshot, done, total, text)
        panel.stop()

    panel._publish = stop_at_first
    panel.run()
    panel.wait(120)
    assert "stopped. the base" in panel.status.value, panel.status.value
    assert not panel.result.finished and panel._snapshot.course == NormalisingCourse()


def test_the_controls_of_the_ablations_panel_start_at_the_base_of_quick() -> None:
    panel, own = ablations_panel(), base("quick")
    values = {name: widget.value for name, widget in panel.controls.items()}
    assert values["latent"] == own.model.halves.latent
    assert values["latent_steps"] == own.objective.negatives.latent_chain.steps
    assert (values["pre_training"], values["updates"]) == (own.needs["AE"].steps, own.steps)
    assert all(text in panel._name(values) for text in (f"{values['latent']} numbers", "with replay", "sphere"))
