"""Trainings that panels need whole: of the run store, of the kit, or trained; and the files of the kit."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from oodlab import presets, training, widgets
from oodlab.presets.nae import BUDGETS, image_training
from oodlab.widgets import kept as kept_module
from oodlab.widgets import ship
from oodlab.widgets.kept import FOLDER, kept, ready, shipped_file, write_shipped
from oodlab.widgets.live import fresh_model, train_live

HALF = 2.0**-11  # largest relative rounding of half precision
TO_DO = "run `make trained` and commit oodlab/trained"


def smoke(method: str = "AE", without: int | None = None) -> presets.Preset:
    return image_training(method, without, in_set="digits").at("smoke")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have an empty store, no files of sets, and a kit of one's own to fill."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(kept_module, "FOLDER", tmp_path / "trained")
    return tmp_path


def get(preset: presets.Preset, *, stop_at: int | None = None, seed: int = 0) -> tuple[Any, list[tuple[str, int, int]]]:
    """Return what is kept, and which training told what: its name, updates done, updates of all."""
    told: list[tuple[str, int, int]] = []
    found = kept(
        preset,
        seed=seed,
        should_stop=lambda: stop_at is not None and len(told) >= stop_at,
        on_step=lambda stage, done, total, numbers, parts: told.append((stage.name, done, total)),
    )
    return found, told


def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "train_or_load", lambda *_, **__: 1 / 0)


# ------------------------------------------------------------------------------- from where a panel has it


def test_progress_goes_over_what_a_training_starts_from_and_it(own: Path) -> None:
    preset = smoke("NAE-OMI")
    assert ready(preset, seed=0) is None
    found, told = get(preset)
    names = [preset.start.name] * 3 + [preset.name] * 3
    assert told == [(name, i + 1, 6) for i, name in enumerate(names)]
    assert (found.preset, found.done, found.note, found.result.finished) == (preset, 6, "", True)
    again, told = get(preset)
    assert told == [] and again.done == 6
    assert ready(preset.start, seed=0).result.step == 3


def test_stop_says_which_training_it_ended(own: Path) -> None:
    preset = smoke("NAE-OMI")
    found, _ = get(preset, stop_at=2)
    assert (found.preset, found.done, found.result.finished) == (preset.start, 2, False)
    found, told = get(preset, stop_at=2)
    assert told[0] == (preset.start.name, 3, 6), "it goes on"
    assert (found.preset, found.done) == (preset, 4)


def test_the_store_comes_first_then_the_kit_and_an_unfinished_training_is_none(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = smoke()
    full = get(preset)[0].result
    write_shipped(preset, full, seed=0)
    assert ready(preset, seed=0).note == ""
    monkeypatch.setenv("OODLAB_RUNS", str(own / "others"))
    get(preset.changed(optimiser={"lr": 0.002}))
    training.train_or_load(preset, should_stop=lambda: True)
    without_training(monkeypatch)
    found, told = get(preset)
    assert told == [] and found.result.finished and found.done == preset.steps
    assert found.note == "comes with the kit: trained by the same preset, seed 0, weights in half precision"


@pytest.mark.parametrize("other", ["seed", "setting", "profile", "set"])
def test_a_file_of_another_training_is_none_of_this(own: Path, other: str) -> None:
    preset = smoke()
    write_shipped(preset, get(preset)[0].result, seed=0)
    asked, seed = {
        "seed": (preset, 1),
        "setting": (preset.changed(steps=4), 0),
        "profile": (image_training("AE", in_set="digits").at("quick"), 0),
        "set": (image_training("AE", in_set="mnist").at("smoke"), 0),
    }[other]
    assert ready(asked, seed=seed) is None and ready(preset, seed=0)


def test_what_is_kept_never_begins_with_a_file_of_the_kit(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = smoke("NAE-OMI")
    whole = get(preset)[0].result
    write_shipped(preset.start, ready(preset.start, seed=0).result, seed=0)
    monkeypatch.setenv("OODLAB_RUNS", str(own / "empty"))
    found, told = get(preset)
    assert [name for name, *_ in told] == [preset.start.name] * 3 + [preset.name] * 3
    for name, value in whole.model.state_dict().items():
        assert torch.equal(found.result.model.state_dict()[name], value), name


def test_a_live_training_is_the_kept_one_unwatched(own: Path) -> None:
    """Rates, warm-up and schedule among them: one left out gives other weights."""
    preset = smoke("NAE-OMI").changed(start=None, steps=6, warm_up=3, schedule=training.LinearTail(0.2))
    whole = training.train_or_load(preset, seed=2)
    state = torch.random.get_rng_state()
    model, seen = fresh_model(preset, seed=2), []
    assert torch.equal(torch.random.get_rng_state(), state), "the notebook's own random numbers go on"
    given = {"seed": 2, "should_stop": lambda: False}
    result = train_live(model, preset, on_step=lambda step, *_: seen.append(step), **given)
    assert result.model is model and seen == [1, 2, 3, 4, 5, 6]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not train_live(model, preset, on_step=lambda *_: None, seed=2, should_stop=lambda: True).finished


@pytest.mark.parametrize("name", ["samples", "holdout_digits", "ablations", "ood_detection", "outlier_reconstruction"])
def test_a_panel_on_digits_trains_nothing_that_comes_with_the_kit_and_says_so(
    own: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(BUDGETS, "quick", BUDGETS["smoke"])
    monkeypatch.setattr(sys.modules["oodlab.widgets.holdout_digits"], "QUICK", BUDGETS["smoke"])
    for preset, seed in presets.nae.SHIPPED:
        held_out = 9 if "without" in preset.name else None
        method = "NAE-OMI" if preset.start else "AE"
        ours = image_training(method, held_out, in_set="digits").at("quick")
        write_shipped(ours, get(ours, seed=seed)[0].result, seed=seed)
    monkeypatch.setenv("OODLAB_RUNS", str(own / "empty"))
    without_training(monkeypatch)
    panel = getattr(widgets, name)()
    if name != "outlier_reconstruction":
        if name in ("holdout_digits", "ablations"):
            panel.controls["updates"].value = 10
        panel.run()
    panel.wait(120)
    said = panel.status.value
    assert "comes with the kit: trained by the same preset, seed 0, weights in half precision" in said, said
    assert "Error" not in said and not (own / "empty").exists()
    if name == "ablations":
        assert panel.snapshot.beside.steps == [1, 2, 3]


# --------------------------------------------------------------------------------------------- the files


def test_a_file_gives_the_training_back_but_for_rounding(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = smoke("NAE-OMI", 4)
    full = get(preset)[0].result
    with torch.no_grad():
        full.model.log_temperature.fill_(-3.21987654)
    file = write_shipped(preset, full, seed=0)
    monkeypatch.setenv("OODLAB_RUNS", str(own / "empty"))
    found = ready(preset, seed=0).result
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
    assert (record["name"], record["profile"], record["seed"]) == (preset.name, "smoke", 0)
    assert record["identity"] == preset.text and record["versions"]["torch"] == torch.__version__
    assert record["key"] == preset.key


def test_damage_is_said(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = smoke()
    file = write_shipped(preset, get(preset)[0].result, seed=0)
    monkeypatch.setenv("OODLAB_RUNS", str(own / "empty"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    with pytest.raises(ValueError, match="is damaged"):
        ready(preset, seed=0)
    file.write_bytes(whole)
    file.rename(shipped_file(preset, 1))
    with pytest.raises(ValueError, match="expects seed 0, got 1"):
        ready(preset, seed=1)
    shipped_file(preset, 1).rename(shipped_file(preset.changed(steps=9), 0))
    with pytest.raises(ValueError, match="expects the recipe it was made with"):
        ready(preset.changed(steps=9), seed=0)


def test_weights_without_half_precision_and_unfinished_trainings_are_refused(own: Path) -> None:
    preset = smoke()
    result = get(preset)[0].result
    with pytest.raises(ValueError, match="expects a finished training, got nae/images/digits-ae at update 3"):
        write_shipped(preset, dataclasses.replace(result, finished=False), seed=0)
    with torch.no_grad():
        result.model.encoder[0].bias[0] = 1e5
    with pytest.raises(ValueError, match=r"got larger ones in \['encoder.0.bias'\]"):
        write_shipped(preset, result, seed=0)
    assert not shipped_file(preset, 0).exists()


def test_the_kit_is_written_from_the_store_and_old_files_go(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = smoke("NAE-OMI")
    monkeypatch.setattr(presets.nae, "SHIPPED", ((preset.start, 0), (preset, 0)))
    old = write_shipped(preset.changed(steps=2), get(preset.changed(steps=2))[0].result, seed=0)
    ship.main()
    files = {shipped_file(stage, 0) for stage in (preset.start, preset)}
    assert set(kept_module.FOLDER.iterdir()) == files and not old.exists()
    told = capsys.readouterr().out
    assert all(str(file) in told for file in files)


def test_the_kit_has_a_file_of_every_training_named_and_no_other() -> None:
    wanted = {shipped_file(preset, seed).name for preset, seed in presets.nae.SHIPPED}
    there = {file.name for file in FOLDER.iterdir()}
    assert there == wanted, f"a preset has changed since its file was written: {TO_DO}"
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 4e6


@pytest.mark.parametrize(("preset", "seed"), presets.nae.SHIPPED, ids=lambda value: getattr(value, "name", value))
def test_a_file_of_the_kit_fits_its_preset(preset: presets.Preset, seed: int) -> None:
    record = training.read_checkpoint(shipped_file(preset, seed), preset.text)
    assert (record["name"], record["profile"], record["seed"]) == (preset.name, preset.profile, seed)
    shapes = {name: tuple(value.shape) for name, value in fresh_model(preset, seed=seed).state_dict().items()}
    assert {name: tuple(value.shape) for name, value in record["weights"].items()} == shapes, TO_DO
    assert record["history"][-1]["step"] == preset.steps and bool(record["probes"]) == bool(preset.probe)
