"""Every number of a paper's setting has a source; every profile keeps the method."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import subprocess
import sys
import types
from typing import Any

import pytest
import torch

from oodlab import presets
from oodlab.detectors import LogDensity, Reconstruction
from oodlab.presets import PROFILES, Experiment, Preset, describe
from oodlab.presets.base import numbers
from oodlab.samplers import LangevinChain, MalaChain, RejectOutside

EXPERIMENTS = {
    value.name: value
    for module in vars(presets).values()
    if isinstance(module, types.ModuleType)
    for value in vars(module).values()
    if isinstance(value, Experiment)
}
RUNS = {run.name: run for experiment in EXPERIMENTS.values() for run in experiment.runs.values()}
RUNS |= {run.start.name: run.start for run in RUNS.values() if run.start}


@pytest.fixture(params=EXPERIMENTS)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return EXPERIMENTS[request.param]


def unsourced(preset: Preset | Experiment) -> list[str]:
    """Paths of numbers that neither `sources` (the path or one above) nor `unstated` ("path: ...") explains."""
    defaults = {f.name: f.default for f in dataclasses.fields(preset)}
    explained = set(preset.sources) | {item.split(":")[0] for item in preset.unstated}

    def is_explained(path: str) -> bool:
        parts = path.split(".")
        return any(".".join(parts[:n]) in explained for n in range(1, len(parts) + 1))

    return [
        path
        for path, value in numbers(preset)
        if not path.startswith("runs.") and not is_explained(path) and defaults.get(path) != value
    ]


# ------------------------------------------------------------------------------- the papers' presets


def test_every_number_of_a_paper_has_its_source_or_is_said_to_be_open(experiment: Experiment) -> None:
    assert unsourced(experiment) == []
    for run in experiment.runs.values():
        assert len(list(numbers(run))) > 5
        assert run.start is None or unsourced(run.start) == []
        assert unsourced(run) == [], run.name


def test_no_source_explains_a_number_that_no_training_has(experiment: Experiment) -> None:
    paths = {path for run in experiment.runs.values() for path, _ in numbers(run)}
    for source in {source for run in experiment.runs.values() for source in run.sources}:
        assert any(path == source or path.startswith(f"{source}.") for path in paths), source


def test_names_say_where_a_setting_belongs(experiment: Experiment) -> None:
    assert re.fullmatch(r"(ebm|mass|nae|cmg|hier)/[a-z0-9_]+", experiment.name)
    names = [run.name for run in experiment.runs.values()]
    assert len(set(names)) == len(names)
    paper, own = experiment.name.split("/")
    for name in names:  # a group of trainings that several notebooks share is named after its module
        where, group, _ = re.fullmatch(r"([a-z]+)/([a-z0-9_]+)/([a-z0-9-]+)", name).groups()
        shared = isinstance(getattr(getattr(presets, paper), group, None), types.ModuleType)
        assert where == paper and (group == own or shared), name
    assert set(experiment.shrinks) == set(PROFILES)
    for name in experiment.settings.get("one_seed", ()):
        assert name in experiment.runs


def method(value: Any) -> Any:
    """What a profile must keep: classes, functions and names of arguments, without numbers."""
    if isinstance(value, functools.partial):
        return (value.func, {name: method(item) for name, item in value.keywords.items()})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (type(value), {f.name: method(getattr(value, f.name)) for f in dataclasses.fields(value)})
    if isinstance(value, dict):
        return {name: method(item) for name, item in value.items()}
    return type(value) if isinstance(value, int | float | str | tuple) else value


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_changes_the_budget_and_not_the_method(experiment: Experiment, profile: str) -> None:
    changed = experiment.at(profile)
    assert changed.profile == profile
    assert changed.runs.keys() == experiment.runs.keys()
    assert method(changed.settings) == method(dict(experiment.settings))
    for key, run in changed.runs.items():
        paper = experiment.runs[key]
        assert (run.profile, run.name) == (profile, paper.name)
        assert run.steps <= paper.steps
        for part in ("model", "objective", "batches", "optimiser", "schedule", "probe"):
            assert method(getattr(run, part)) == method(getattr(paper, part)), (key, part)
    if profile == "paper":
        assert changed.text == experiment.text


@pytest.mark.parametrize("profile", PROFILES)
def test_every_training_can_be_built(experiment: Experiment, profile: str) -> None:
    without_files = []
    for run in experiment.at(profile).runs.values():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = run.model()
        run.objective(model)
        optimised = sum(len(group["params"]) for group in run.optimiser(model).param_groups)
        assert optimised == len(list(model.parameters()))
        try:
            x = run.batches()(0, torch.Generator().manual_seed(0))["x"]
        except FileNotFoundError as error:
            without_files.append(str(error))
            continue
        detector = Reconstruction if hasattr(model, "reconstruction_error") else LogDensity  # a VAE's density is dear
        assert detector(model).score_samples(x[:2]).shape == (2,)
    if without_files:
        pytest.skip(f"{len(without_files)} trainings are built but not fed: {without_files[0]}")


def test_two_settings_never_share_a_checkpoint() -> None:
    """Trainings of one text have the same numbers, classes and functions: they are one training by several names."""
    by_text: dict[str, list[Preset]] = {}
    for run in (run.at(profile) for run in RUNS.values() for profile in PROFILES):
        by_text.setdefault(run.text, []).append(run)
    assert len(by_text) > 10
    for first, *others in by_text.values():
        for other in others:
            assert list(numbers(other)) == list(numbers(first)), (first.name, other.name)
            for part in ("model", "objective", "batches", "optimiser", "schedule", "probe"):
                assert method(getattr(other, part)) == method(getattr(first, part)), (first.name, other.name, part)


def test_the_text_is_the_same_in_every_process() -> None:
    script = (
        "from oodlab import presets\n"
        "for run in presets.nae.EIGHT_GAUSSIANS.runs.values(): print(run.hash, run.at('smoke').hash)\n"
        "print(presets.nae.EIGHT_GAUSSIANS.hash)"
    )
    here = [f"{run.hash} {run.at('smoke').hash}" for run in presets.nae.EIGHT_GAUSSIANS.runs.values()]
    here.append(presets.nae.EIGHT_GAUSSIANS.hash)
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.split("\n")[:-1] == here
    assert all(re.fullmatch(r"[0-9a-f]{12}", word) for line in here for word in line.split())


# ------------------------------------------------------------------------------- what a preset is


def build(*, width: int, rates: tuple[float, ...] = (1.0,)) -> torch.nn.Module:
    return torch.nn.Linear(width, len(rates))


def toy(**changes: Any) -> Preset:
    chain = MalaChain(steps=4, step_size=0.1, bounds=RejectOutside(-1.0, 1.0))
    settings = {
        "name": "nae/toy/a",
        "model": functools.partial(build, width=8),
        "objective": functools.partial(dict, chain=chain, weight=0.5),
        "batches": dict,
        "optimiser": functools.partial(torch.optim.Adam, lr=1e-3),
        "steps": 100,
        "profiles": {"smoke": {"model": {"width": 2}, "steps": 3}},
    }
    return Preset(**{**settings, **changes})


def test_numbers_finds_each_number_with_its_path() -> None:
    assert dict(numbers(toy())) == {
        "model.width": 8,
        "objective.chain.steps": 4,
        "objective.chain.step_size": 0.1,
        "objective.chain.bounds.low": -1.0,
        "objective.chain.bounds.high": 1.0,
        "objective.weight": 0.5,
        "optimiser.lr": 1e-3,
        "steps": 100,
        "warm_up": 0,
        "probes": 0,
        "snapshots": 0,
    }
    positional = functools.partial(build, 3, 4.0, rates=(5.0, 6.0))
    assert [number for _, number in numbers(positional)] == [3, 4.0, 5.0, 6.0]


def test_a_number_without_a_source_is_found() -> None:
    assert set(unsourced(toy())) == set(dict(numbers(toy()))) - {
        "warm_up",
        "probes",
        "snapshots",
    }  # at their defaults: not set
    sourced = toy(
        sources={"model.width": "a", "objective.chain": "b", "objective.weight": "c", "steps": "d"},
        unstated=("optimiser: no rate is printed",),
    )
    assert unsourced(sourced) == []


def test_every_number_is_part_of_the_text() -> None:
    texts = [
        toy().text,
        toy(steps=101).text,
        toy(warm_up=1).text,
        toy(model=functools.partial(build, width=9)).text,
        toy(model=functools.partial(build, width=8, rates=(1.0, 2.0))).text,
        toy(objective=functools.partial(dict, chain=MalaChain(4, 0.1), weight=0.5)).text,
        toy(objective=functools.partial(dict, chain=LangevinChain(4, 0.1), weight=0.5)).text,
        toy(optimiser=functools.partial(torch.optim.SGD, lr=1e-3)).text,
    ]
    assert len(set(texts)) == len(texts)
    assert toy().hash != toy(steps=101).hash
    assert toy().hash == toy(name="nae/toy/b").hash, "a name decides nothing"


def test_notes_are_no_part_of_the_text() -> None:
    noted = toy(sources={"steps": "table 1"}, unstated=("optimiser: none",), profiles={})
    assert noted.text == toy().text


def test_equal_settings_have_equal_texts_in_whatever_order_they_are_written() -> None:
    one = toy(objective=functools.partial(dict, a=1, b={"x": 1, "y": 2}))
    other = toy(objective=functools.partial(dict, b={"y": 2, "x": 1}, a=1))
    assert one.text == other.text


def test_settings_that_mean_something_else_elsewhere_are_refused() -> None:
    for value in (torch.zeros(1), object(), {1, 2}, lambda: None):
        with pytest.raises(TypeError, match="describe expects"):
            describe(value)


def test_changed_follows_the_rule_of_profiles() -> None:
    small = toy().changed(model={"width": 2}, steps=3)
    assert (small.steps, small.model.keywords, small.objective.keywords) == (3, {"width": 2}, toy().objective.keywords)
    assert small.text.replace("paper", "smoke") == toy().at("smoke").text
    with pytest.raises(ValueError, match=r"a change expects arguments of build, got \['widht'\]"):
        toy().changed(model={"widht": 2})
    experiment = Experiment(name="nae/toy", runs={"a": toy()}, seeds=1, settings={})
    assert experiment.changed(steps=3).runs["a"].steps == 3


def test_what_a_training_starts_from_shrinks_with_it_and_is_part_of_its_text() -> None:
    toy_start = toy(name="nae/toy/start", steps=7)
    whole = toy(start=toy_start)
    assert describe(toy_start).splitlines() == [
        line.strip() for line in whole.text.splitlines() if line.startswith("    ")
    ]
    assert whole.at("smoke").start.text == toy_start.at("smoke").text
    assert whole.changed(start={"steps": 8}).start.steps == 8
    assert "start.steps" not in dict(numbers(whole)), "it has sources of its own"


def test_at_knows_its_profiles_and_starts_from_the_papers() -> None:
    with pytest.raises(ValueError, match="got 'quik': did you mean 'quick'"):
        toy().at("quik")
    with pytest.raises(ValueError, match="got 'huge'"):
        toy().at("huge")
    with pytest.raises(ValueError, match="got one at 'smoke'"):
        toy().at("smoke").at("quick")
    with pytest.raises(ValueError, match=r"expects arguments of build, got \['widht'\]"):
        toy(profiles={"smoke": {"model": {"widht": 2}}}).at("smoke")
    small = toy().at("smoke")
    assert (small.steps, small.model.keywords, small.optimiser.keywords) == (3, {"width": 2}, {"lr": 1e-3})
    assert toy().model.keywords == {"width": 8}
    with pytest.raises(dataclasses.FrozenInstanceError):
        small.steps = 4
