"""Trainings side by side in processes: the bits of trainings in succession, starts first, errors reported."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from conftest import plane_recipe
from test_training import assert_same_bits, started

from oodlab import training
from oodlab.training import (
    Adam,
)

# --------------------------------------------------------------- resuming: the same bits, always

STEPS = 24


def test_trainings_side_by_side_have_the_bits_of_trainings_in_succession(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This also holds when every training is repeated, and when all trainings only have to be loaded."""
    runs = {name: plane_recipe(name) for name in ("AE, circle", "NAE-OMI, circle", "NAE-PCD, 5 % restart")}
    seeds = {name: [4, 5] for name in runs}
    alone = training.train_or_load_all(runs, seeds, device="cpu")  # one thread: nothing to share
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "shared"))
    monkeypatch.setattr(training.stored, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("OODLAB_PROGRESS", str(events))
    for anew in ("1", ""):
        monkeypatch.setenv("OODLAB_ANEW", anew)
        shared = training.train_or_load_all(runs, seeds, device="cpu")
        for name in runs:
            for one, other in zip(alone[name], shared[name], strict=True):
                assert_same_bits(dict(one.model.state_dict()), dict(other.model.state_dict()))
        labels = {json.loads(line)["label"] for line in events.read_text().splitlines()}
        assert ("6 trainings, 2 at a time" in labels) == (anew == "1"), "finished trainings start no process"
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        own = [line for line in lines if line["label"].startswith("nae") and line["step"] == 1]
        assert len(own) == (6 if anew else 0), "each is trained once, and not again when it is loaded"
        events.write_text("")


def test_trainings_that_give_starting_weights_run_first_and_once_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that gives starting weights may itself be asked for, after the training that uses the weights."""
    omi = started()
    other = dataclasses.replace(omi, name="nae/eight_gaussians/other", steps=omi.steps + 1)
    runs = {"a": omi, "b": other, "AE": omi.needs["start"]}
    seeds = {name: [4, 5] for name in runs}
    alone = training.train_or_load_all(runs, seeds, device="cpu")
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "shared"))
    monkeypatch.setattr(training.stored, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("OODLAB_PROGRESS", str(events))
    for anew in ("", "1"):
        monkeypatch.setenv("OODLAB_ANEW", anew)
        shared = training.train_or_load_all(runs, seeds, device="cpu")
        for name in runs:
            for one, other in zip(alone[name], shared[name], strict=True):
                assert_same_bits(dict(one.model.state_dict()), dict(other.model.state_dict()))
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    began = [
        line["label"] for line in lines if line["event"] == "step" and line["step"] == 1 and "seed" in line["label"]
    ]
    assert sorted(began) == sorted(2 * [f"{recipe.name} seed {seed}" for recipe in runs.values() for seed in (4, 5)])
    assert max(i for i, label in enumerate(began[:6]) if "/AE" in label) == 1
    waves = training.stored._waves([(runs["a"], 6), (runs["AE"], 6), (runs["b"], 6)])
    assert [[recipe.name.split("/")[-1] for recipe, _ in wave] for wave in waves] == [
        ["AE, circle"],
        ["NAE-OMI, circle", "other"],
    ]


def test_an_error_of_a_training_side_by_side_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    smoke = plane_recipe("AE, circle")
    broken = dataclasses.replace(smoke, optimiser=Adam(lr=1e-3, lr_of={"no such": 1.0}))
    monkeypatch.setattr(training.stored, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ValueError, match="no such"):
        training.train_or_load_all({"a": broken}, {"a": [0, 1]}, device="cpu")


def test_an_interrupt_between_two_trainings_ends_those_that_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback that someone keeps, as a notebook does, must not keep the worker processes."""
    short = plane_recipe("AE, circle")
    endless = dataclasses.replace(short, steps=10**7)
    found = training.stored.folder_of

    def interrupted(recipe: training.Recipe, seed: int) -> Path:
        if multiprocessing.active_children():
            raise KeyboardInterrupt
        return found(recipe, seed)

    monkeypatch.setattr(training.stored, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(training.stored, "folder_of", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:
        training.train_or_load_all({"short": short, "endless": endless}, {"short": [0], "endless": [0]}, device="cpu")
    assert kept.tb is not None and not multiprocessing.active_children()
