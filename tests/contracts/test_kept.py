"""Whole trainings for panels, from the run store, from the kit or trained anew; and the kit's files of trainings."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from oodlab import training
from oodlab.studies.nae import images, ship, shipped
from oodlab.studies.nae.images import GREY, digits_task, image_recipe, scale_of
from oodlab.training import Recipe
from oodlab.widgets import kept as kept_module
from oodlab.widgets.kept import FOLDER, kept, ready, shipped_file, write_shipped
from oodlab.widgets.live import fresh_model, train_live

HALF = 2.0**-11  # largest relative rounding of half precision
TO_DO = "run `make trained` and commit oodlab/trained"


def smoke(method: str = "AE", *held_out: int, profile: str = "smoke") -> Recipe:
    task = digits_task(*held_out, profile=profile).with_stand_ins()
    return image_recipe(method, task, scale_of(profile, "printed", GREY), "printed")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have an empty store, no files of sets, and a kit of one's own to fill."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(kept_module, "FOLDER", tmp_path / "trained")
    return tmp_path


def get(recipe: Recipe, *, stop_at: int | None = None, seed: int = 0) -> tuple[Any, list[tuple[str, int, int]]]:
    """Return what is kept, and which training told what: its name, updates done, updates of all."""
    told: list[tuple[str, int, int]] = []
    found = kept(
        recipe,
        seed=seed,
        should_stop=lambda: stop_at is not None and len(told) >= stop_at,
        on_step=lambda stage, done, total, numbers, parts: told.append((stage.name, done, total)),
    )
    return found, told


def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "train_or_load", lambda *_, **__: 1 / 0)


# ------------------------------------------------------------------------------- from where a panel has it


def test_progress_counts_the_updates_of_a_training_and_of_the_training_that_gives_its_start(own: Path) -> None:
    recipe = smoke("NAE-OMI")
    assert ready(recipe, seed=0) is None
    found, told = get(recipe)
    names = [recipe.needs["AE"].name] * 3 + [recipe.name] * 3
    assert told == [(name, i + 1, 6) for i, name in enumerate(names)]
    assert (found.recipe, found.done, found.note, found.result.finished) == (recipe, 6, "", True)
    again, told = get(recipe)
    assert told == [] and again.done == 6
    assert ready(recipe.needs["AE"], seed=0).result.step == 3


def test_a_stopped_request_returns_the_training_that_was_interrupted(own: Path) -> None:
    recipe = smoke("NAE-OMI")
    found, _ = get(recipe, stop_at=2)
    assert (found.recipe, found.done, found.result.finished) == (recipe.needs["AE"], 2, False)
    found, told = get(recipe, stop_at=2)
    assert told[0] == (recipe.needs["AE"].name, 3, 6), "it goes on"
    assert (found.recipe, found.done) == (recipe, 4)


def test_finished_trainings_are_taken_from_the_run_store_first_and_then_from_the_kit(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = smoke()
    full = get(recipe)[0].result
    write_shipped(recipe, full, seed=0)
    assert ready(recipe, seed=0).note == ""
    monkeypatch.setenv("OODLAB_RUNS", str(own / "others"))
    get(replace(recipe, optimiser=training.Adam(0.002)))
    training.train_or_load(recipe, should_stop=lambda: True)
    without_training(monkeypatch)
    found, told = get(recipe)
    assert told == [] and found.result.finished and found.done == recipe.steps
    assert found.note == "comes with the kit: trained by the same recipe, seed 0, weights in half precision"


@pytest.mark.parametrize("other", ["seed", "setting", "profile", "held out"])
def test_a_kit_file_of_another_seed_recipe_profile_or_held_out_class_is_not_used(own: Path, other: str) -> None:
    recipe = smoke()
    write_shipped(recipe, get(recipe)[0].result, seed=0)
    asked, seed = {
        "seed": (recipe, 1),
        "setting": (replace(recipe, steps=4), 0),
        "profile": (smoke(profile="quick"), 0),
        "held out": (smoke("AE", 4), 0),
    }[other]
    assert ready(asked, seed=seed) is None and ready(recipe, seed=0)


def test_trainings_of_the_run_store_never_begin_with_the_rounded_weights_of_the_kit(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = smoke("NAE-OMI")
    whole = get(recipe)[0].result
    write_shipped(recipe.needs["AE"], ready(recipe.needs["AE"], seed=0).result, seed=0)
    monkeypatch.setenv("OODLAB_RUNS", str(own / "empty"))
    found, told = get(recipe)
    assert [name for name, *_ in told] == [recipe.needs["AE"].name] * 3 + [recipe.name] * 3
    for name, value in whole.model.state_dict().items():
        assert torch.equal(found.result.model.state_dict()[name], value), name


def test_a_live_training_of_a_panel_has_the_final_weights_of_the_stored_training(own: Path) -> None:
    """Learning rates, warm-up and schedule must be passed on: one left out gives other weights."""
    recipe = replace(
        smoke("NAE-OMI"), needs={}, begins_with="", snapshots=0, steps=6, warm_up=3, schedule=training.LinearTail(0.2)
    )
    whole = training.train_or_load(recipe, seed=2)
    state = torch.random.get_rng_state()
    model, seen = fresh_model(recipe, seed=2), []
    assert torch.equal(torch.random.get_rng_state(), state), "the notebook's own random numbers go on"
    given = {"seed": 2, "should_stop": lambda: False}
    result = train_live(model, recipe, on_step=lambda step, *_: seen.append(step), **given)
    assert result.model is model and seen == [1, 2, 3, 4, 5, 6]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not train_live(model, recipe, on_step=lambda *_: None, seed=2, should_stop=lambda: True).finished


@pytest.mark.parametrize("name", ["samples", "holdout_digits", "ablations", "ood_detection", "outlier_reconstruction"])
def test_a_panel_on_digits_loads_the_trainings_of_the_kit_and_states_their_origin(
    own: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(images.QUICK, GREY, images.SMOKE[GREY])
    for held_out in ((), (9,)):
        for method in ("AE", "NAE-OMI"):
            ours = smoke(method, *held_out, profile="quick")
            write_shipped(ours, get(ours)[0].result, seed=0)
    monkeypatch.setenv("OODLAB_RUNS", str(own / "empty"))
    without_training(monkeypatch)
    room = importlib.import_module(f"oodlab.studies.nae.{name}.panel")
    panel = getattr(room, f"{name}_panel")()
    if name != "outlier_reconstruction":
        if name in ("holdout_digits", "ablations"):
            panel.controls["updates"].value = 10
        panel.run()
    panel.wait(120)
    said = panel.status.value
    assert "comes with the kit: trained by the same recipe, seed 0, weights in half precision" in said, said
    assert "Error" not in said and not (own / "empty").exists()
    if name == "ablations":
        assert panel.snapshot.beside.steps == [1, 2, 3]


# --------------------------------------------------------------------------------------------- the files


def test_a_kit_file_restores_its_training_up_to_rounding(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = smoke("NAE-OMI", 4)
    full = get(recipe)[0].result
    with torch.no_grad():
        full.model.log_temperature.fill_(-3.21987654)
    file = write_shipped(recipe, full, seed=0)
    monkeypatch.setenv("OODLAB_RUNS", str(own / "empty"))
    found = ready(recipe, seed=0).result
    assert (found.step, found.seconds, found.history) == (full.step, full.seconds, full.history)
    assert [probe["step"] for probe in found.probes] == [probe["step"] for probe in full.probes]
    assert torch.equal(found.probes[-1]["values"]["in"], full.probes[-1]["values"]["in"])
    assert not found.model.training and found.model.log_temperature == full.model.log_temperature
    rounded = 0
    for name, value in full.model.state_dict().items():
        got = found.model.state_dict()[name]
        assert got.dtype == torch.float32
        assert ((got - value).abs() <= HALF * value.abs() + 2.0**-25).all(), name
        rounded += int((got != value).sum())
    assert rounded > 100
    x = torch.rand(20, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = (model.cpu().energy(x) for model in (found.model, full.model))
    assert torch.allclose(ours, theirs, rtol=20 * HALF) and not torch.equal(ours, theirs)
    record = torch.load(file, weights_only=True)
    assert (record["name"], record["seed"]) == (recipe.name, 0)
    assert record["identity"] == recipe.text and record["versions"]["torch"] == torch.__version__
    assert record["key"] == recipe.key


def test_a_damaged_or_misnamed_kit_file_raises_an_error(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = smoke()
    file = write_shipped(recipe, get(recipe)[0].result, seed=0)
    monkeypatch.setenv("OODLAB_RUNS", str(own / "empty"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    with pytest.raises(ValueError, match="is damaged"):
        ready(recipe, seed=0)
    file.write_bytes(whole)
    file.rename(shipped_file(recipe, 1))
    with pytest.raises(ValueError, match="expects seed 0, got 1"):
        ready(recipe, seed=1)
    shipped_file(recipe, 1).rename(shipped_file(replace(recipe, steps=9), 0))
    with pytest.raises(ValueError, match="expects the recipe it was made with"):
        ready(replace(recipe, steps=9), seed=0)


def test_weights_too_large_for_half_precision_and_unfinished_trainings_are_not_written_to_the_kit(own: Path) -> None:
    recipe = smoke()
    result = get(recipe)[0].result
    with pytest.raises(
        ValueError, match="expects a finished training, got nae/images/digits for mnist: AE at update 3"
    ):
        write_shipped(recipe, dataclasses.replace(result, finished=False), seed=0)
    with torch.no_grad():
        result.model.encoder[0].bias[0] = 1e5
    with pytest.raises(ValueError, match=r"got larger ones in \['encoder.0.bias'\]"):
        write_shipped(recipe, result, seed=0)
    assert not shipped_file(recipe, 0).exists()


def test_kit_files_are_written_from_the_run_store_and_outdated_kit_files_are_removed(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = smoke("NAE-OMI")
    monkeypatch.setattr(shipped, "SHIPPED", ((recipe.needs["AE"], 0), (recipe, 0)))
    old = write_shipped(replace(recipe, steps=4), get(replace(recipe, steps=4))[0].result, seed=0)
    ship.main()
    files = {shipped_file(stage, 0) for stage in (recipe.needs["AE"], recipe)}
    assert set(kept_module.FOLDER.iterdir()) == files and not old.exists()
    told = capsys.readouterr().out
    assert all(str(file) in told for file in files)


def test_the_kit_has_a_file_of_every_listed_training_and_no_other_file() -> None:
    wanted = {shipped_file(recipe, seed).name for recipe, seed in shipped.SHIPPED}
    there = {file.name for file in FOLDER.iterdir()}
    assert there == wanted, f"a recipe or its code has changed since its file was written: {TO_DO}"
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 8e6


@pytest.mark.parametrize(("recipe", "seed"), shipped.SHIPPED, ids=lambda value: getattr(value, "name", value))
def test_a_kit_file_fits_its_recipe(recipe: Recipe, seed: int) -> None:
    record = training.read_checkpoint(shipped_file(recipe, seed), recipe.text)
    assert (record["name"], record["seed"]) == (recipe.name, seed)
    shapes = {name: tuple(value.shape) for name, value in fresh_model(recipe, seed=seed).state_dict().items()}
    assert {name: tuple(value.shape) for name, value in record["weights"].items()} == shapes, TO_DO
    assert record["history"][-1]["step"] == recipe.steps and bool(record["probes"]) == bool(recipe.probe)
