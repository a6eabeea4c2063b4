"""Trainings made to diverge end healthy, are rolled back with a message, or stop with advice for their method."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import plane_recipe
from torch import Tensor, nn

from oodlab import training
from oodlab.objectives import Joint, SlicedScoreMatching
from oodlab.samplers import LangevinChain, MalaChain
from oodlab.studies.ebm.gamma_sweep.setting import STUDY as SWEEP
from oodlab.studies.ebm.gamma_sweep.setting import Energies
from oodlab.studies.mass.epoch_curves.setting import STUDY as FLOWS
from oodlab.study import Task
from oodlab.training import Adam, Fresh, Guard, Recipe, Result

STEPS = 24
LOOKS = 6  # in a run: most steps pass before anybody looks at them


def table(loss: str, gamma: float) -> Recipe:
    """Return an energy's training on an embedded table."""
    return Energies(loss, gamma, SWEEP.at("smoke").budget, "printed")(SWEEP.tasks[0].with_stand_ins())["energy"]


def without_l2(recipe: Recipe) -> Recipe:
    """Leave the penalty on log-densities out."""
    generative = dataclasses.replace(recipe.objective.generative, l2=0.0)
    return dataclasses.replace(recipe, objective=dataclasses.replace(recipe.objective, generative=generative))


def flow(name: str, source: str = "printed") -> Recipe:
    """Return a flow's training on embedded images of side 8."""
    (method,) = [method for method in FLOWS.at("smoke", source).chosen if method.name == name]
    recipe = method.recipes(Task("digits", ("photo_patches",), shape=(1, 8, 8)))["flow"]
    return dataclasses.replace(recipe, snapshots=0)


CHAINS, CLIPPING = "step_size or more steps of the chain", "clipping the gradient"
METHODS = {  # name: (setting, what helps it)
    "AE": (plane_recipe("AE, circle"), CLIPPING),
    "VAE": (plane_recipe("VAE, D_z = 1"), CLIPPING),
    "NAE-OMI": (plane_recipe("NAE-OMI, D_z = 3"), CHAINS),
    "NAE-OMI, circle": (plane_recipe("NAE-OMI, circle"), CHAINS),
    "NAE-CD": (plane_recipe("NAE-CD"), CHAINS),
    "NAE-PCD": (plane_recipe("NAE-PCD"), CHAINS),
    "PCD": (table("CD", 0.0), CHAINS),
    "PCD without l2": (without_l2(table("CD", 0.0)), "a larger l2"),
    "JEM": (table("CD", 1.0), "a smaller gamma, a smaller step_size"),
    "SSM": (table("SSM", 0.0), "more projections"),
    "VERA": (table("VERA", 0.0), "a larger gradient_penalty"),
    "VERA with classes": (table("VERA", 1.0), "a smaller gamma, a larger gradient_penalty"),
    "flow": (flow("SiLU, vanilla"), CLIPPING),
    "flow, penalised": (flow("SiLU, per sample"), "a smaller alpha"),
    "flow, clipped": (flow("batch norm, vanilla", "released"), CLIPPING),
}


def faster(recipe: Recipe, factor: float) -> Recipe:
    """Multiply every learning rate."""

    def scaled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rate if key == "betas" else scaled(rate) for key, rate in value.items()}
        return factor * value

    rates = {"lr": factor * recipe.optimiser.lr, "lr_of": scaled(dict(recipe.optimiser.lr_of))}
    return dataclasses.replace(recipe, optimiser=dataclasses.replace(recipe.optimiser, **rates))


def with_chains(recipe: Recipe, **factors: float) -> Recipe:
    """Multiply numbers of every chain."""

    def scaled(part: Any) -> Any:
        if isinstance(part, LangevinChain | MalaChain):
            return dataclasses.replace(part, **{key: getattr(part, key) * factor for key, factor in factors.items()})
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return dataclasses.replace(
                part, **{f.name: scaled(getattr(part, f.name)) for f in dataclasses.fields(part)}
            )
        return part

    return dataclasses.replace(recipe, objective=scaled(recipe.objective))


def unclipped(recipe: Recipe, factor: float) -> Recipe:
    """Leave gradients as they are, and multiply every learning rate."""
    free = dataclasses.replace(recipe.optimiser, clip=None)
    return faster(dataclasses.replace(recipe, optimiser=free), factor)


def clips(recipe: Recipe) -> bool:
    return recipe.optimiser.clip is not None


WAYS: dict[str, Callable[[Recipe], Recipe]] = {
    "rate x 100": partial(faster, factor=100.0),
    "rate x 10,000": partial(faster, factor=1e4),
    "step x 100": partial(with_chains, step_size=100.0),
    "step x 10,000": partial(with_chains, step_size=1e4),
    "noise x 100": partial(with_chains, noise_std=100.0),
    "clip off, rate x 100": partial(unclipped, factor=100.0),
    "clip off, rate x 10,000": partial(unclipped, factor=1e4),
}
CASES = [
    (method, way)
    for method, (recipe, _) in METHODS.items()
    for way, change in WAYS.items()
    if way.startswith("rate")
    or ("clip" in way and clips(recipe))
    or ("clip" not in way and change(recipe).text != recipe.text)
]
PROVOKED = {  # beyond every "rate x 10,000": cases that must not pass for healthy, so that the table cannot be empty
    ("PCD without l2", "rate x 100"),
    ("NAE-OMI", "step x 10,000"),
}


def train(recipe: Recipe, folder: Path | None = None, **options: Any) -> Result:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = recipe.build({})
    return training.fit(
        model,
        recipe.begin(model, {}),
        recipe.feed({}),
        optimiser=recipe.optimiser,
        **{"steps": STEPS, "schedule": recipe.schedule, "device": "cpu", "precision": "float32"},
        **{"probe": recipe.probe and recipe.probe(), "probes": 5 if recipe.probe else 0},
        **{"folder": folder, "checkpoint_every": 7, **options},
    )


def not_finite(value: Any, place: str = "") -> Iterator[str]:
    """Yield where in nested mappings and lists a number is not finite."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from not_finite(item, f"{place}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from not_finite(item, f"{place}[{i}]")
    elif (torch.is_tensor(value) and not bool(value.isfinite().all())) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        yield place


def left_by(result: Result) -> dict[str, Any]:
    own = result.objective.state_dict() if isinstance(result.objective, nn.Module) else {}
    left = {"model": dict(result.model.state_dict()), "objective": dict(own)}
    return {**left, "history": result.history, "probes": result.probes}


@pytest.fixture
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.loop, "HISTORY_ROWS", LOOKS)


@pytest.mark.usefixtures("few_looks")
@pytest.mark.parametrize(("method", "way"), CASES, ids=[f"{method}: {way}" for method, way in CASES])
def test_a_training_made_to_diverge_ends_healthy_or_reports_the_divergence(
    method: str, way: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sane, helps = METHODS[method]
    try:
        result = train(WAYS[way](sane), tmp_path)
    except FloatingPointError as error:
        outcome = "stopped"
        assert "training diverged 4 times (" in str(error)
        assert "learning rates are down to 0.027 of the recipe's. What usually helps: a smaller learning" in str(error)
        assert helps in str(error)
    else:
        outcome = "rolled back" if result.rollbacks else "survived"
        assert result.finished
        assert not list(not_finite(left_by(result)))
        numbers = [value for row in result.history for name, value in row.items()]
        assert max(map(abs, numbers)) <= Guard().limit
        assert max(float(weight.detach().abs().max()) for weight in result.model.parameters()) <= Guard().limit
    said = re.findall(r"diverged at step \d+ \(.+\); back to step \d+, learning rates x", capsys.readouterr().out)
    assert len(said) == (3 if outcome == "stopped" else result.rollbacks)
    if way == "rate x 10,000" or (method, way) in PROVOKED:
        assert outcome != "survived", "nothing was provoked"

    file = tmp_path / "checkpoint.pt"
    if file.exists():
        assert not list(not_finite(torch.load(file, weights_only=True)))
    after = train(sane, tmp_path)  # from the last checkpoint, with the rates and chains as they should be
    assert after.finished and not list(not_finite(left_by(after)))


# --------------------------------------------------------- what a look at the loss does not show


class Spoiling(nn.Module):
    """A loss of slope 1 that spoils something else at one call."""

    def __init__(self, at: int, spoil: Callable[[Spoiling, nn.Module], Tensor | None]) -> None:
        super().__init__()
        self.at, self.spoil, self.calls = at, spoil, 0
        self.register_buffer("replay", torch.zeros(3))

    def forward(self, model: nn.Module, x: Tensor, y: Tensor | None = None, **run: object) -> dict[str, Tensor]:
        self.calls += 1
        loss = model.weight.sum()
        if self.calls == self.at and (more := self.spoil(self, model)) is not None:
            loss = loss + more
        return {"loss": loss}


def steep(objective: Spoiling, model: nn.Module) -> Tensor:
    """Add a loss of 0 whose slope is finite, and whose square is not."""
    difference = model.weight.sum() - model.weight.detach().sum()
    return 1e25 * difference


def full_of_nan(objective: Spoiling, model: nn.Module) -> None:
    objective.replay.fill_(math.nan)


def far_away(objective: Spoiling, model: nn.Module) -> None:
    model.weight.data.fill_(1e30)


def spoil(objective: Spoiling, folder: Path | None = None, **options: Any) -> Result:
    batches = Fresh(lambda n, generator: torch.zeros(n, 1), 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(1, 1, bias=False)
    settings = {"optimiser": Adam(lr=1e-3), "steps": 20, "device": "cpu", "checkpoint_every": 5}
    return training.fit(model, objective, batches, folder=folder, **{**settings, **options})


@pytest.mark.usefixtures("few_looks")
@pytest.mark.parametrize("at", [1, 13, 20])
@pytest.mark.parametrize("what", [steep, full_of_nan, far_away])
def test_spoilt_moments_replay_states_and_huge_weights_are_detected_and_rolled_back(
    what: Callable, at: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Infinite Adam moments freeze their weights, and no later loss shows what the last step spoilt."""
    result = spoil(Spoiling(at, what), tmp_path)
    assert (result.finished, result.rollbacks) == (True, 1)
    wanted = {"steep": "moments", "full_of_nan": r"\(replay\)", "far_away": "beyond 1e\\+08|watched number"}
    assert re.search(rf"diverged at step \d+ \(.*({wanted[what.__name__]})", capsys.readouterr().out)
    assert not list(not_finite(torch.load(tmp_path / "checkpoint.pt", weights_only=True)))
    assert float(result.model.weight.detach().abs()) < 10


@pytest.mark.usefixtures("few_looks")
@pytest.mark.parametrize("what", [steep, full_of_nan, far_away])
def test_a_run_stopped_in_a_diverged_state_returns_its_last_good_state(what: Callable, tmp_path: Path) -> None:
    objective = Spoiling(12, what)
    result = spoil(objective, tmp_path, should_stop=lambda: objective.calls == 12)
    assert (result.finished, result.step) == (False, 10)
    assert not list(not_finite(left_by(result)))
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert torch.equal(result.model.weight, kept["model"]["weight"])
    assert spoil(Spoiling(0, what), tmp_path).finished


@pytest.mark.parametrize("raises", [True, False])
def test_a_probe_with_nan_or_infinite_values_rolls_the_run_back(raises: bool, capsys: pytest.CaptureFixture) -> None:
    calls: list[bool] = []

    def probe(model: nn.Module) -> dict[str, Tensor]:
        calls.append(model.training)
        if len(calls) == 3 and raises:
            raise FloatingPointError("LogDensity: 2 of 5 scores are not finite")
        return {"score": torch.tensor([1.0, math.inf if len(calls) == 3 else 2.0])}

    class Trained(Spoiling):
        def forward(self, model: nn.Module, x: Tensor, y: Tensor | None = None, **run: object) -> dict[str, Tensor]:
            assert model.training, "the probe left the model in eval mode"
            return super().forward(model, x)

    result = spoil(Trained(0, far_away), probe=probe, probes=4)
    assert (result.rollbacks, [row["step"] for row in result.probes]) == (1, [0, 5, 10, 15, 20])
    assert not list(not_finite(result.probes)) and not any(calls)
    assert ("scores are not finite" if raises else "1 of 2 values of 'score' not finite") in capsys.readouterr().out


def test_a_probe_that_is_nan_for_the_untrained_model_ends_the_run_with_an_error() -> None:
    with pytest.raises(FloatingPointError, match="1 of 1 values of 'score' not finite after step 0"):
        spoil(Spoiling(0, far_away), probe=lambda model: {"score": torch.tensor(math.nan)}, probes=1)


def test_an_on_step_callback_that_raises_floating_point_error_rolls_the_run_back() -> None:
    """A panel scores test inputs during training, and a detector refuses scores that are NaN or infinite."""
    seen: list[int] = []

    def on_step(step: int, *_: object) -> None:
        seen.append(step)
        if len(seen) == 8:
            raise FloatingPointError("LogDensity: 2 of 5 scores are not finite")

    result = spoil(Spoiling(0, far_away), on_step=on_step)
    assert (result.finished, result.rollbacks, seen) == (True, 1, [*range(1, 9), *range(6, 21)])


def test_the_advice_after_divergence_is_that_of_the_objective() -> None:
    matching = SlicedScoreMatching()
    assert Joint(matching, gamma=0.0).advice == matching.advice
    assert Joint(matching, gamma=1.0).advice == f"a smaller gamma, {matching.advice}"
    with pytest.raises(FloatingPointError, match="helps: a smaller learning rate, a longer warm_up, clipping"):
        spoil(lambda model, x, y=None, **run: {"loss": model.weight.sum() * math.nan})
