"""Laws of data-parallel training on two processes: the whole batch's gradient, one history, the same bits."""

from __future__ import annotations

import contextlib
import io
import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest import mock

import psutil
import pytest
import torch
import torch.distributed as dist
from conftest import flow_of_the_plane, plane_recipe, probabilistic_pca, smooth_nae
from test_runner import alive, hear_interrupts, notebooks, wait_for, write  # noqa: F401
from test_training import SETTINGS, STEPS, Erupting, asking, assert_same_bits, left_behind, on_manifold, run
from torch import Tensor, nn

from oodlab import workspace
from oodlab.batch import runner, train
from oodlab.batch.progress import Progress
from oodlab.data import eight_gaussians
from oodlab.models import MLP, EnergyWithGenerator, JointEnergy, NoisyGenerator, TableGenerator, vector_realnvp
from oodlab.objectives import (
    ContrastiveDivergence,
    FromData,
    FromReplay,
    Joint,
    NormalizedLikelihood,
    PenalisedLikelihood,
    SlicedScoreMatching,
    VariationalLikelihood,
    maximum_likelihood,
    negative_elbo,
)
from oodlab.samplers import LangevinChain, MalaChain
from oodlab.samplers.replay import ReplayBuffer, Uniform, joined, share_of
from oodlab.studies import studies
from oodlab.training import (
    Adam,
    Fresh,
    Recipe,
    Result,
    Shuffled,
    fit,
    parallel,
    team,
    train_or_load,
    train_or_load_in_parallel,
)
from oodlab.training import launch as launching
from oodlab.training.loop import STREAM

BATCH = 12  # no other size below is 12: it says which dimension of a draw is the batch's
SEED = 3
PATIENCE = 120  # seconds; what hangs fails

# ------------------------------------------------------------------------------------ two processes


class Pair:
    """Two processes in one group: each call runs a function of this module in both and returns both results."""

    def __init__(self, meeting: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.ranks = [
            ProcessPoolExecutor(1, mp_context=spawn, initializer=meet, initargs=(meeting, rank)) for rank in range(2)
        ]

    def __call__(self, function: Callable, *arguments: object) -> list:
        futures = [rank.submit(function, *arguments) for rank in self.ranks]
        return [future.result(timeout=PATIENCE) for future in futures]


def meet(meeting: Path, rank: int) -> None:
    options = {"rank": rank, "world_size": 2, "timeout": timedelta(seconds=PATIENCE)}
    dist.init_process_group("gloo", init_method=f"file://{meeting}", **options)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    started = Pair(tmp_path_factory.mktemp("pair") / "meeting")
    yield started
    for rank in started.ranks:
        rank.shutdown(wait=False, cancel_futures=True)


def plain(state: dict) -> dict:
    """Tensors of a state as arrays, which travel between processes by value."""
    return {name: value.detach().numpy().copy() for name, value in state.items() if torch.is_tensor(value)}


def heard(act: Callable) -> tuple[object, str]:
    """Return what an action returns, or the error it raises, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            result = act()
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
    return result, said.getvalue()


# ------------------------------------------------------- the law: the whole batch's gradient, averaged


def energy() -> JointEnergy:
    return JointEnergy(MLP(2, [8], 3, nn.SiLU))


def one_energy() -> JointEnergy:
    return JointEnergy(MLP(2, [8], 1, nn.SiLU))  # score matching gives its output bias no gradient


def against_generator(generator: nn.Module) -> EnergyWithGenerator:
    return EnergyWithGenerator(energy(), NoisyGenerator(generator, 3, std=0.1, proposal_std=0.2))


def divergence(model: nn.Module) -> ContrastiveDivergence:
    return ContrastiveDivergence(FromData(LangevinChain(4, 0.1, 0.1)), l2=0.5)


def vera(model: nn.Module) -> VariationalLikelihood:
    return VariationalLikelihood(entropy_weight=0.5, proposals=5, gradient_penalty=0.1, std_bounds=(0.01, 0.3))


LAWS = {  # name: (model, objective of a model)
    "CD": (one_energy, divergence),
    "CD and classes": (energy, lambda model: Joint(divergence(model), gamma=0.7, entropy_weight=0.1)),
    "SSM": (one_energy, lambda model: SlicedScoreMatching(projections=2)),
    "VERA": (lambda: against_generator(MLP(3, [8], 2, nn.SiLU)), vera),
    "NAE-OMI": (lambda: smooth_nae(3), on_manifold),
    "NAE-CD": (lambda: smooth_nae(3), lambda model: NormalizedLikelihood(FromData(MalaChain(4, 0.005, 0.1)))),
    "VAE": (probabilistic_pca, lambda model: negative_elbo),
    "maximum likelihood": (flow_of_the_plane, lambda model: maximum_likelihood),
    "mass penalty": (flow_of_the_plane, lambda model: PenalisedLikelihood(2.0)),
    "squared mass penalty": (flow_of_the_plane, lambda model: PenalisedLikelihood(2.0, squared=True)),
}


def built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double()


def as_two_ranks(draw: Callable, streams: list[torch.Generator]) -> Callable:
    """Make of a function that draws for a batch one that draws its halves from the two ranks' streams."""

    def both(*size: object, generator: torch.Generator, **options: object) -> Tensor:
        before, shape = (size[:-1], size[-1]) if isinstance(size[-1], tuple) else ((), size)
        if BATCH not in shape:  # for the two inputs that fit shows the model first
            return draw(*size, generator=generator, **options)
        dim = shape.index(BATCH)
        half = (*shape[:dim], BATCH // 2, *shape[dim + 1 :])
        return torch.cat([draw(*before, half, generator=stream, **options) for stream in streams], dim=dim)

    return both


def first_move(law: str, streams: list[torch.Generator] | None = None) -> dict[str, object]:
    """Take one step of size 1: what the parameters move by is the gradient; each rank comes with weights of its own."""
    build, objective = LAWS[law]
    model = built(build, parallel.rank())
    data = torch.Generator().manual_seed(1)
    x, y = eight_gaussians(BATCH, data).double(), torch.randint(3, (BATCH,), generator=data)
    learned = objective(model)
    if isinstance(learned, nn.Module):
        learned.double()
    with contextlib.ExitStack() as patches:
        for name in ("randn", "rand", "randint") if streams else ():
            patches.enter_context(mock.patch.object(torch, name, as_two_ranks(getattr(torch, name), streams)))
        descend(model, learned, Shuffled(x, y, batch_size=BATCH, seed=0))
    start = dict(built(build, 0).named_parameters())
    return plain({name: start[name] - p for name, p in model.named_parameters()})


def descend(model: nn.Module, objective: Callable, batches: Callable, steps: int = 1, **options: object) -> Result:
    """Train by plain gradient descent."""
    sgd = partial(torch.optim.SGD, lr=options.pop("lr", 1.0))
    settings = {"steps": steps, "seed": SEED, "device": "cpu", "show_progress": False, **options}
    return fit(model, objective, batches, optimiser=lambda m: sgd(m.parameters()), **settings)


@pytest.mark.parametrize("law", LAWS)
def test_the_gradient_of_two_processes_is_that_of_the_whole_batch(law: str, pair: Pair) -> None:
    """In float64 the gradients differ by rounding, 1e-16, times its growth over chains of a few steps."""
    ranks = pair(first_move, law)
    wanted = first_move(law, [torch.Generator().manual_seed(SEED + STREAM + r * team.STREAM) for r in range(2)])
    assert any(abs(value).max() > 1e-3 for value in wanted.values())
    for rank in ranks:
        for name, value in wanted.items():
            assert abs(rank[name] - value).max() < 1e-10 * max(1.0, abs(value).max()), name


def without_noise() -> dict[str, object]:
    """Train on fresh samples by an objective that draws nothing."""
    model = built(flow_of_the_plane, parallel.rank())
    result = descend(model, maximum_likelihood, Fresh(plane, BATCH), steps=6, lr=0.01)
    return plain(model.state_dict()) | {"loss": [row["loss"] for row in result.history]}


def plane(n: int, generator: torch.Generator) -> Tensor:
    return eight_gaussians(n, generator).double()


def test_a_run_of_two_processes_that_draws_only_data_equals_the_run_of_one_process(pair: Pair) -> None:
    """Fresh data come from one stream for all ranks, reported numbers are means over ranks, only rounding differs."""
    wanted = without_noise()
    for rank in pair(without_noise):
        for name, value in wanted.items():
            assert rank[name] == pytest.approx(value, rel=1e-10, abs=1e-12), name


class Two(nn.Module):
    """Parameters that get a gradient on both ranks, on the second alone, and on none."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.second, self.none = (nn.Parameter(torch.ones(2)) for _ in range(3))


def some_gradients() -> dict[str, object]:
    model = Two()

    def objective(model: Two, x: Tensor, y: None = None, **run: object) -> dict[str, Tensor]:
        value = model.both.sum() * (1 + parallel.rank())
        return {"loss": value + model.second.sum() if parallel.rank() else value}

    descend(model, objective, Fresh(plane, 2), steps=2)
    return plain(model.state_dict()) | {"without": model.none.grad is None}


def test_a_ranks_missing_gradient_counts_as_zero_and_stays_missing_where_no_rank_has_one(pair: Pair) -> None:
    for rank in pair(some_gradients):
        assert rank["both"].tolist() == [1 - 2 * 1.5] * 2
        assert rank["second"].tolist() == [1 - 2 * 0.5] * 2
        assert rank["without"]


def normalised() -> EnergyWithGenerator:
    return against_generator(TableGenerator(3, [8], 2))


def statistics() -> dict[str, object]:
    """Train against a generator with batch normalisation; remember what each rank's own batches said."""
    model, own = built(normalised, 0), []
    objective = vera(model)

    def watched(*arguments: object, **run: object) -> dict[str, Tensor]:
        parts = objective(*arguments, **run)
        own.append(plain(model.state_dict()))
        return parts

    descend(model, watched, Fresh(plane, BATCH), lr=0.01)
    return {"own": own[0], "end": plain(model.state_dict())}


def test_batches_are_normalised_per_rank_and_their_running_statistics_averaged(pair: Pair) -> None:
    ranks = pair(statistics)
    names = [name for name in ranks[0]["end"] if "running" in name]
    assert len(names) == 2
    for name in names:
        own = [rank["own"][name] for rank in ranks]
        assert abs(own[0] - own[1]).max() > 1e-6
        for rank in ranks:
            assert rank["end"][name] == pytest.approx((own[0] + own[1]) / 2, rel=1e-12)


# ---------------------------------------------------------------- refused, by all ranks and at once


def refused(case: str, folder: Path) -> str:
    batches, model = Fresh(plane, 10), built(flow_of_the_plane, 0)
    capacity, classes = (6, 2) if case == "classes" else (15, 1)
    replay = ReplayBuffer(capacity, (2,), **SLOTS, classes=classes)
    objective = {
        "couples": PenalisedLikelihood(1.0, "batch"),
        "divides": PenalisedLikelihood(1.0, "released"),
        "capacity": ContrastiveDivergence(FromReplay(LangevinChain(1, 0.1), replay)),
        "classes": ContrastiveDivergence(FromReplay(LangevinChain(1, 0.1), replay)),
    }.get(case, maximum_likelihood)
    if case == "batch":
        batches = Fresh(plane, 9)
    if case == "sets itself":
        model = vector_realnvp(2, couplings=2, hidden=(8,), actnorm=True).double()
        return heard(lambda: descend(model, objective, batches, folder=folder))[0]
    return heard(lambda: descend(model, objective, batches))[0]


SLOTS = {"start": Uniform(-1.0, 1.0), "restart": 0.1, "fifo": False}


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        (
            "batch",
            "ValueError: training on 2 processes expects batches of a multiple of 2, got 9 of 'x': every process takes",
        ),
        ("capacity", "multiple of classes x processes = 1 x 2, got 15: each"),
        ("classes", "multiple of classes x processes = 2 x 2, got 6: each"),
        ("couples", "expects an objective that is a mean over inputs, got PenalisedLikelihood"),
        ("divides", "expects an objective that is a mean over inputs, got PenalisedLikelihood"),
        ("sets itself", "RuntimeError: training on 2 processes expects the same weights in each, got different"),
    ],
)
def test_objectives_batches_and_replays_that_cannot_be_sliced_are_refused_by_all_ranks(
    case: str, complaint: str, pair: Pair, tmp_path: Path
) -> None:
    for said in pair(refused, case, tmp_path):
        assert complaint in said


# ------------------------------------------------------------------------------ one course of all ranks


def course(setting: str, folder: Path, stop: dict[int, int] | None = None) -> dict[str, object]:
    """Train a setting of test_training, perhaps stopped by one rank, and say what this rank has and did."""
    os.environ["OODLAB_PROGRESS"] = str(folder / f"events-{parallel.rank()}")
    draws: list[Tensor] = []
    kept = "elsewhere" if parallel.rank() else "kept"  # as on two machines, which share no folder
    options = {} if stop is None else {"should_stop": asking(stop.get(parallel.rank(), 10**6))}
    objective, batches = SETTINGS[setting]

    def watched(model: nn.Module) -> Callable:
        learned = objective(model)
        if hasattr(learned, "negatives"):
            write = learned.negatives.replay.write
            learned.negatives.replay.write = lambda x, slots: (draws.append(x.clone()), write(x, slots))
        return learned

    with mock.patch.dict(SETTINGS, {setting: (watched, batches)}):
        result, said = heard(lambda: run(setting, folder / kept, **options))
    del os.environ["OODLAB_PROGRESS"]
    replay = getattr(getattr(result.objective, "negatives", None), "replay", None)
    return {
        "model": plain(result.model.state_dict()),
        "step": result.step,
        "finished": result.finished,
        "said": said,
        "written": [x.numpy() for x in draws],
        "replay": None if replay is None else replay.states.numpy(),
        "filled": None if replay is None else len(replay),
        "history": [{name: value for name, value in row.items() if name != "seconds"} for row in result.history],
    }


def assert_equal_arrays(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert (value == other[name]).all(), name


@pytest.mark.parametrize("setting", SETTINGS)
def test_ranks_have_the_same_weights_and_noise_of_their_own(setting: str, pair: Pair, tmp_path: Path) -> None:
    first, second = pair(course, setting, tmp_path)
    assert first["finished"]
    assert_equal_arrays(first["model"], second["model"])
    assert first["history"] == second["history"]
    assert len(first["said"].splitlines()) == 10
    assert second["said"] == ""
    assert not (tmp_path / "events-1").exists()
    assert not (tmp_path / "elsewhere").exists()
    assert len((tmp_path / "events-0").read_text().splitlines()) == STEPS
    kept = left_behind(tmp_path / "kept")
    assert_equal_arrays(first["model"], plain(kept["model"]))
    if first["replay"] is None:
        return
    assert [len(x) for x in first["written"]] == [5] * STEPS  # half a batch
    assert all((a != b).any(axis=1).all() for a, b in zip(first["written"], second["written"], strict=True))
    assert (first["replay"] == second["replay"]).all()
    assert first["filled"] == len(first["replay"]) == 30
    last = {tuple(rank["written"][-1][-1]) for rank in (first, second)}  # nothing of the same rank overwrites it
    assert last <= {tuple(x) for x in first["replay"]}
    assert (kept["objective"]["negatives.replay.states"].numpy() == first["replay"]).all()


@pytest.mark.parametrize("setting", ["OMI, fresh", "PCD in slots"])
@pytest.mark.parametrize("stop", [{0: 0}, {1: 7}, {0: 9, 1: 3}])
def test_a_stop_on_one_rank_stops_all_ranks_and_the_run_resumes_with_the_same_bits(
    setting: str, stop: dict[int, int], pair: Pair, tmp_path: Path
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    pair(course, setting, tmp_path / "whole")
    stopped = pair(course, setting, tmp_path / "parts", stop)
    assert [rank["step"] for rank in stopped] == [min(stop.values()) + 1] * 2  # the step in which it was asked is done
    assert left_behind(tmp_path / "parts" / "kept")["step"] == stopped[0]["step"]
    continued = pair(course, setting, tmp_path / "parts")
    assert "continues at step" in continued[0]["said"]
    assert "continues" not in continued[1]["said"]
    assert_same_bits(left_behind(tmp_path / "parts" / "kept"), left_behind(tmp_path / "whole" / "kept"))
    assert_equal_arrays(continued[0]["model"], continued[1]["model"])


@pytest.mark.parametrize("setting", ["OMI, fresh", "PCD in slots"])
def test_a_training_resumes_with_another_number_of_processes(setting: str, pair: Pair, tmp_path: Path) -> None:
    """The resumed run has other random numbers; a finished training is the same for any number of processes."""
    (first, _) = pair(course, setting, tmp_path, {0: 8})
    alone = run(setting, tmp_path / "kept", should_stop=asking(60))
    assert first["step"] < alone.step < STEPS
    (last, _) = pair(course, setting, tmp_path)
    assert (last["finished"], f"continues at step {alone.step}" in last["said"]) == (True, True)
    loaded = run(setting, tmp_path / "kept", should_stop=lambda: pytest.fail("a step was begun"))
    assert_equal_arrays(last["model"], plain(loaded.model.state_dict()))
    assert (loaded.objective.negatives.replay.states.numpy() == last["replay"]).all()


@pytest.mark.parametrize("capacity", [12, 24])
@pytest.mark.parametrize("slots", [{"fifo": True}, {"fifo": False}, {"fifo": False, "classes": 3}])
def test_shares_of_a_replay_join_to_the_whole_replay(capacity: int, slots: dict, generator: torch.Generator) -> None:
    """Each share is a replay of its own kind, and two of four shares join to one of two shares."""
    whole = ReplayBuffer(capacity, (1,), start=Uniform(-1.0, 1.0), restart=0.0, **slots)
    y = torch.tensor([0, 1, 2, 2]) if "classes" in slots else None
    for i in range(4):
        whole.write(torch.arange(4.0)[:, None] + 4 * i, whole.draw(4, y=y, generator=generator)[1])
    state = whole.state_dict()
    shares = [share_of(state, part, 4) for part in range(4)]
    assert_same_bits(dict(joined(shares)), dict(state))
    assert_same_bits(joined([shares[0], shares[2]]), share_of(state, 0, 2))
    part = ReplayBuffer(capacity, (1,), start=Uniform(-1.0, 1.0), restart=0.0, **slots)
    part.load_state_dict(state)
    part.divide(1, 4)
    assert len(part) == len(whole) // 4
    drawn = part.draw(50, y=None if y is None else torch.full((50,), 2), generator=generator)[0].flatten()
    of_class = state["states"].flatten()[-capacity // 3 :] if y is not None else state["states"].flatten()[: len(whole)]
    assert set(drawn.tolist()) <= set(of_class.tolist())


# ------------------------------------------------------------------------- divergence of one rank alone


def diverge(by: float | None, folder: Path, *, always: bool = False) -> dict[str, object]:
    """Erupt on the second rank at its call 13, in a watched number (by) or in a chain (None)."""
    calls = set(range(13, 100)) if always else {13}
    erupting = Erupting(calls if parallel.rank() and by else set(), by or 1.0)

    def objective(model: nn.Module, x: Tensor, y: Tensor | None = None, **run: object) -> dict[str, Tensor]:
        parts = erupting(model, x, y, **run)
        if by is None and parallel.rank() and erupting.call in calls:
            raise FloatingPointError("langevin: 2 of 5 chains left")
        return parts

    with mock.patch.dict(SETTINGS, {"AE": (lambda model: objective, SETTINGS["AE"][1])}):
        result, said = heard(lambda: run("AE", folder))
    if isinstance(result, str):
        return {"error": result, "calls": erupting.call}
    steps = [row["step"] for row in result.history]
    model = plain(result.model.state_dict())
    return {"model": model, "rollbacks": result.rollbacks, "said": said, "steps": steps, "calls": erupting.call}


@pytest.mark.parametrize("by", [math.nan, 1e12, None])
def test_a_divergence_on_one_rank_rolls_all_ranks_back(by: float | None, pair: Pair, tmp_path: Path) -> None:
    first, second = pair(diverge, by, tmp_path)
    assert_equal_arrays(first["model"], second["model"])
    for rank in (first, second):
        assert (rank["rollbacks"], rank["calls"]) == (1, 13 + STEPS - 10)  # back to step 10
        assert rank["steps"] == list(range(1, STEPS + 1))
    why = "process 1: langevin: 2 of 5 chains left" if by is None else "a watched number reached"
    assert f"diverged at step 12 ({why}" in first["said"]


def test_a_rank_that_keeps_diverging_ends_all_ranks_with_advice(pair: Pair, tmp_path: Path) -> None:
    first, second = pair(partial(diverge, always=True), None, tmp_path)
    assert first == second
    assert "FloatingPointError: training diverged 4 times (process 1: langevin" in first["error"]
    assert left_behind(tmp_path)["step"] == 10


# ------------------------------------------------------------------------------------ the command line


def test_every_notebooks_study_is_found_by_its_name() -> None:
    found = studies()
    names = {str(path.relative_to(NOTEBOOKS).with_suffix("")) for path in NOTEBOOKS.glob("*/*.ipynb")}
    assert names
    assert names <= set(found)
    assert all(study.name == name for name, study in found.items())


NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["nae/eight_gaussians/NAE-OMI, D_z = 33"],
            "got 'nae/eight_gaussians/NAE-OMI, D_z = 33'; at profile quick the nearest is nae/eight_gaussians/NAE-OMI, D_z = 3, of\n",
        ),
        (["nae/eight_gaussian"], "\n  nae/eight_gaussians/VAE, D_z = 1\n"),
        ([], "expects the name of a training, got None"),
        (["mass/epoch_curves/digits: ReLU", "--profile", "full"], ": ReLU, vanilla\n"),
        (["nae/eight_gaussians/NAE-CD", "--profile", "quik"], "did you mean 'quick'?"),
        (["nae/eight_gaussians/NAE-CD", "--device", "gpu"], "device expects"),
    ],
)
def test_the_training_command_refuses_invalid_arguments_before_anything_starts(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: pytest.fail("a group was started"))
    monkeypatch.setattr(train, "train_or_load", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("came as far as signals"))
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert train.main(arguments) == 2
    assert complaint in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert train.main(arguments) == 2
    assert capsys.readouterr().err == "", "one process complains"


def test_the_list_of_the_training_command_names_every_training(capsys: pytest.CaptureFixture) -> None:
    assert train.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    own = {recipe.name for study in studies().values() for recipe in study.at("quick").recipes.values()}
    assert "nae/eight_gaussians/NAE-CD" in own and len(own) > 3
    assert sorted(lines) == sorted(own)
    assert train.main(["--list", "--profile", "smoke", "--source", "released"]) == 0
    released = capsys.readouterr().out.splitlines()
    both = [study.at("smoke", "released") for study in studies().values() if "released" in study.sources]
    assert sorted(released) == sorted({recipe.name for study in both for recipe in study.recipes.values()})
    assert not any(line.startswith("nae/eight_gaussians/") for line in released)


def test_the_training_command_stores_the_training_that_its_notebook_loads_and_stops_on_sigterm(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    smoke = plane_recipe("NAE-OMI, D_z = 3")
    command = [smoke.name, "--profile", "smoke", "--seed", "4", "--device", "cpu", "--threads", "1"]
    hear: dict[int, Callable] = {}
    monkeypatch.setattr(signal, "signal", hear.__setitem__)
    monkeypatch.setattr(
        train, "train_or_load", lambda *a, **k: hear[signal.SIGTERM](15, None) or train_or_load(*a, **k)
    )
    assert train.main(command) == 143
    assert capsys.readouterr().out.endswith("step 0 of 8, 0.0 s, stopped; the same command continues\n")
    monkeypatch.setattr(train, "train_or_load", train_or_load)
    assert train.main(command) == 0
    assert "step 8 of 8" in capsys.readouterr().out.splitlines()[-1]
    loaded = train_or_load(smoke, seed=4, device="cpu", should_stop=lambda: pytest.fail("a step was begun"))
    monkeypatch.setenv("OODLAB_RUNS", str(workspace.runs_folder() / "other"))
    again = train_or_load(smoke, seed=4, device="cpu")
    assert_same_bits(dict(loaded.model.state_dict()), dict(again.model.state_dict()))


# -------------------------------------------------------------------------------------- from a notebook

LAUNCH = """\
from oodlab import training
from oodlab.studies.nae.eight_gaussians.setting import SPACE, STUDY
recipe = STUDY.at("smoke").recipes["eight_gaussians", SPACE, "model"]
result = training.train_or_load_in_parallel(recipe, processes=2, seed=5, device="cpu")
assert result.finished and not result.model.training
"""


def test_a_notebook_launches_a_training_on_two_processes_and_shows_its_progress(
    notebooks: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OODLAB_DATA", str(notebooks))
    (run,) = runner.plan([write(notebooks / "nae" / "a.ipynb", LAUNCH)], folder=notebooks)
    shown = io.StringIO()
    runner.execute([run], jobs=1, progress=Progress(shown, every=0))
    assert run.status == "done", run.error
    events = workspace.events(run.events, 0)[0]
    label = "nae/eight_gaussians/NAE-OMI, D_z = 3 seed 5"
    steps = [event["step"] for event in events if event["event"] == "step" and event["label"] == label]
    assert steps == list(range(1, 9)), "each step once: loading reports none"
    assert f"{label}: step 8 of 8" in run.executed.read_text()
    smoke = plane_recipe("NAE-OMI, D_z = 3")
    file = workspace.runs_folder() / "checkpoints" / f"{smoke.key}-seed5" / "checkpoint.pt"
    assert len(torch.load(file, weights_only=True)["random"]) == 2, "two processes made it"
    loaded = train_or_load(smoke, seed=5, device="cpu", should_stop=lambda: pytest.fail("a step was begun"))
    assert_same_bits(dict(loaded.model.state_dict()), torch.load(file, weights_only=True)["model"])


FAILS = """\
import os
from oodlab import workspace
for event in ({"event": "said", "text": "diverged at step 3"}, *EVENTS):
    workspace.report(**event)
    with open(os.environ["OODLAB_PROGRESS"], "a") as file:
        file.write("torn {\\n")
print("a line\\n" * 20 + "terminate called\\nE1121 torch/distributed/elastic/multiprocessing/api.py:988] failed")
print("its own traceback\\n" * 20)
raise SystemExit(1)
"""


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([{"event": "error", "text": "ValueError: first"}, {"event": "error", "text": "peer"}], "ValueError: first$"),
        ([], "(a line\n){10}terminate called\nE1121 .* failed$"),
    ],
)
def test_the_error_output_of_a_failing_first_process_reaches_the_caller(
    events: list[dict], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    start, script = subprocess.Popen, FAILS.replace("EVENTS", repr(events))
    monkeypatch.setattr(subprocess, "Popen", lambda command, **run: start([sys.executable, "-c", script], **run))
    smoke = plane_recipe("NAE-OMI, D_z = 3")
    with pytest.raises(
        RuntimeError, match=f"D_z = 3 on 2 processes ended with status 1; its last lines:\n?{complaint}"
    ):
        train_or_load_in_parallel(smoke, processes=2, device="cpu")
    assert capsys.readouterr().out == "diverged at step 3\n"


def test_a_launched_process_reports_why_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODLAB_PROGRESS", str(tmp_path / "events"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "recipe").write_bytes(b"no recipe")
    given = ["--device", "cpu", "--threads", "1", "--pickled", str(tmp_path / "recipe")]
    with pytest.raises(pickle.UnpicklingError):
        train.main(given)
    smoke = plane_recipe("NAE-OMI, D_z = 3")
    (tmp_path / "recipe").write_bytes(pickle.dumps(replace(smoke, optimiser=Adam(1e-3, lr_of={"no such": 1.0}))))
    with pytest.raises(ValueError, match="no such"):
        train.main(given)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [event["event"] for event in events] == ["error", "error"]
    assert "UnpicklingError" in events[0]["text"].splitlines()[-1]
    assert "got ['no such']" in events[1]["text"].splitlines()[-1]


LONG = """\
from dataclasses import replace
from oodlab import training
from oodlab.studies.nae.eight_gaussians.setting import SPACE, STUDY
from oodlab.studies.nae.plane import Width
paper = STUDY.recipes["eight_gaussians", SPACE, "model"]
paper = replace(paper, model=replace(paper.model, size=Width(8, 8, 1)))
training.train_or_load_in_parallel(paper, processes=2, device="cpu")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_launch_leaves_a_checkpoint_and_no_process(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "events"
    monkeypatch.setenv("OODLAB_PROGRESS", str(events))
    script = subprocess.Popen([sys.executable, "-c", LONG], stderr=subprocess.PIPE, preexec_fn=hear_interrupts)
    wait_for(lambda: events.exists() and '"step"' in events.read_text(), seconds=PATIENCE)
    started = [process.pid for process in psutil.Process(script.pid).children(recursive=True)]
    assert len(started) >= 3
    script.send_signal(number)
    said = script.communicate(timeout=PATIENCE)[1].decode()
    wait_for(lambda: not any(alive(pid) for pid in started), seconds=PATIENCE)
    kept = list(workspace.runs_folder().rglob("checkpoint.pt"))
    if number == signal.SIGINT:
        assert said.endswith("KeyboardInterrupt\n")
        assert 0 < torch.load(kept[0], weights_only=True)["step"] < 2000
    assert not list(workspace.runs_folder().rglob(".checkpoint*"))


ENDS = """\
import os, subprocess, sys, time
child = "import os, time; from oodlab.training import parallel; parallel.end_with({}); print(flush=True); time.sleep(1000)"
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
process = subprocess.Popen([sys.executable, "-c", child.format(f"{os.getpid()}, {other.pid}")], stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, other.pid, flush=True)
if "other" in sys.argv:
    other.kill()
    other.wait()
process.wait()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("gone", ["parent", "other"])
def test_a_launched_process_ends_when_its_parent_or_another_named_process_ends(gone: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ENDS, gone], stdout=subprocess.PIPE) as parent:
        process, other = map(int, parent.stdout.readline().split())
        try:
            if gone == "parent":
                parent.kill()
            wait_for(lambda: not alive(process), seconds=PATIENCE)
        finally:
            for pid in (process, other, parent.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_a_launch_without_enough_gpus_or_with_notebook_functions_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    smoke = plane_recipe("NAE-OMI, D_z = 3")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="got 2 processes and 1 GPUs"):
        parallel.check_gpus(torch.device("cuda"), 2)
    own = replace(smoke, objective=of_the_notebook)
    monkeypatch.setattr(of_the_notebook, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "of_the_notebook", of_the_notebook, raising=False)
    with pytest.raises(ValueError, match="with one defined in this notebook or script"):
        train_or_load_in_parallel(own, processes=2)


def of_the_notebook(model: nn.Module) -> Callable:
    return maximum_likelihood


def test_precision_and_graph_options_of_the_caller_apply_in_every_launched_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test hands the command line of each process to the function that such a process runs."""
    asked: list[tuple] = []

    def record(recipe: Recipe, *, seed: int, precision: str, graph: str, **options: object) -> Result:
        asked.append((seed, precision, graph))
        return train_or_load(recipe, seed=seed, device="cpu", precision=precision, graph=graph)

    def launch(command: list[str], **run: object) -> subprocess.Popen:
        assert train.main(command[command.index("oodlab.batch.train") + 1 :]) == 0
        return start([sys.executable, "-c", ""], **run)

    start, smoke = subprocess.Popen, plane_recipe("AE, D_z = 3")
    monkeypatch.setattr(subprocess, "Popen", launch)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(train, "train_or_load", record)
    monkeypatch.setattr(launching, "train_or_load", record)
    settings = {"processes": 2, "device": "cpu", "precision": "bfloat16", "graph": "off"}
    result = train_or_load_in_parallel(smoke, seed=2, **settings)
    assert asked == [(2, "bfloat16", "off")] * 2, "trained, and loaded"
    monkeypatch.setenv("OODLAB_RUNS", str(workspace.runs_folder() / "other"))
    exact = train_or_load(smoke, seed=2, device="cpu")
    assert any(not torch.equal(a, b) for a, b in zip(result.model.parameters(), exact.model.parameters(), strict=True))


def test_a_finished_training_is_launched_again_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the checkpoint is whole, a launch succeeds however its processes end."""
    smoke = plane_recipe("AE, D_z = 3")
    launched: list[int] = []

    def launch(command: list[str], **run: object) -> subprocess.Popen:
        assert not list(workspace.runs_folder().rglob("checkpoint.pt"))
        launched.append(len(launched))
        train_or_load(smoke, device="cpu")
        return start([sys.executable, "-c", "raise SystemExit(1)"], **run)

    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", launch)
    for anew in (False, False, True, None):
        assert train_or_load_in_parallel(smoke, processes=2, device="cpu", anew=anew).finished
    assert len(launched) == 2
    monkeypatch.setenv("OODLAB_ANEW", "1")
    train_or_load_in_parallel(smoke, processes=2, device="cpu", anew=False)
    assert len(launched) == 2
