"""Laws of the training loop: same bits after any interruption, checkpoints, guard, budget, rates."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace

import pytest
import torch
from conftest import plane_recipe, smooth_nae
from torch import Tensor, nn

from oodlab import training, workspace
from oodlab.data import eight_gaussians
from oodlab.models import MLP, Autoencoder
from oodlab.objectives import FromReplay, NormalizedLikelihood, OnManifold, reconstruction
from oodlab.samplers import LangevinChain, MalaChain, ReplayBuffer, Uniform
from oodlab.training import (
    Adam,
    Beside,
    Fresh,
    Guard,
    LinearTail,
    Recipe,
    Result,
    Shuffled,
    Transformed,
    fit,
    read_snapshot,
    train_or_load,
)

# --------------------------------------------------------------- resuming: the same bits, always

STEPS = 24


def with_dropout() -> Autoencoder:
    """Build the same small model at every call; its dropout draws from torch's own generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(MLP(2, [8], 3), nn.Dropout(0.3))
        return Autoencoder(encoder, MLP(3, [8], 2), latent=3, temperature=0.5)


def on_manifold(model: Autoencoder) -> NormalizedLikelihood:
    replay = ReplayBuffer(30, (3,), start=model.latent_start, restart=0.3, fifo=True)
    chains = LangevinChain(3, 0.005, 0.1), MalaChain(4, 0.005, 0.1)
    return NormalizedLikelihood(OnManifold(*chains, replay), latent_penalty=0.01)


def persistent(model: Autoencoder) -> NormalizedLikelihood:
    replay = ReplayBuffer(30, (2,), start=Uniform(-5.0, 5.0), restart=0.3, fifo=False)
    return NormalizedLikelihood(FromReplay(MalaChain(4, 0.005, 0.1), replay))


def shuffled() -> Shuffled:
    return Shuffled(eight_gaussians(50, torch.Generator().manual_seed(1)), None, batch_size=10, seed=7)


SETTINGS = {
    "OMI, shuffled": (on_manifold, shuffled),
    "OMI, fresh": (on_manifold, lambda: Fresh(eight_gaussians, 10)),
    "PCD in slots": (persistent, shuffled),
    "AE": (lambda model: reconstruction, shuffled),
}


def run(setting: str, folder: Path, **options: object) -> Result:
    objective, batches = SETTINGS[setting]
    model = with_dropout()
    return fit(
        model,
        objective(model),
        batches(),
        optimiser=Adam(lr=1e-2, lr_of={"log_temperature": 1e-1}),
        steps=STEPS,
        seed=3,
        warm_up=5,
        schedule=LinearTail(0.5),
        folder=folder,
        identity="the same",
        checkpoint_every=5,
        device="cpu",
        **options,
    )


def left_behind(folder: Path) -> dict[str, object]:
    """Everything in a checkpoint but the clock."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    state.pop("seconds")
    for row in state["history"]:
        row.pop("seconds")
    return state


def assert_same_bits(got: object, wanted: object, place: str = "checkpoint") -> None:
    if isinstance(wanted, dict):
        assert got.keys() == wanted.keys(), place
        for key in wanted:
            assert_same_bits(got[key], wanted[key], f"{place}.{key}")
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), place
        for i, item in enumerate(wanted):
            assert_same_bits(got[i], item, f"{place}[{i}]")
    elif torch.is_tensor(wanted):
        assert torch.equal(got, wanted), place
    else:
        assert got == wanted, place


def asking(allowed: int) -> Callable[[], bool]:
    """Return a flag that says stop from its call number allowed + 1 on."""
    asked = iter(range(10**9))
    return lambda: next(asked) >= allowed


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("asked", [0, 1, 2, 7, 23, 61, 100])
def test_a_stopped_run_continues_with_the_same_bits(setting: str, asked: int, tmp_path: Path) -> None:
    """The stop flag is also asked within chains, so most of these stops fall into the middle of a step."""
    whole = run(setting, tmp_path / "whole")
    first = run(setting, tmp_path / "parts", should_stop=asking(asked))
    assert first.finished == (first.step == STEPS)
    assert left_behind(tmp_path / "parts")["step"] == first.step  # nothing done is lost
    second = run(setting, tmp_path / "parts", should_stop=asking(30))
    last = run(setting, tmp_path / "parts")
    assert first.step <= second.step <= last.step == whole.step == STEPS
    assert last.finished
    assert_same_bits(left_behind(tmp_path / "parts"), left_behind(tmp_path / "whole"))
    assert_same_bits(dict(last.model.state_dict()), dict(whole.model.state_dict()))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("crash_at", [2, 7, 15, 23])
def test_a_crashed_run_continues_from_its_checkpoint_with_the_same_bits(
    setting: str, crash_at: int, tmp_path: Path
) -> None:
    def crash(step: int, *_: object) -> None:
        if step == crash_at:
            raise KeyboardInterrupt

    whole = run(setting, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(setting, tmp_path / "parts", on_step=crash)
    resumed: list[int] = []
    run(setting, tmp_path / "parts", on_step=lambda step, *_: resumed.append(step))
    assert resumed[0] == (crash_at - 1) // 5 * 5 + 1  # a checkpoint after every fifth step
    assert_same_bits(left_behind(tmp_path / "parts"), left_behind(tmp_path / "whole"))
    assert whole.finished


def test_the_seed_decides_the_weights_of_a_run(tmp_path: Path) -> None:
    def end(seed: int) -> Tensor:
        model = with_dropout()
        batches = Fresh(eight_gaussians, 10)
        fit(
            model,
            on_manifold(model),
            batches,
            optimiser=Adam(lr=1e-2),
            steps=3,
            seed=seed,
            device="cpu",
        )
        return model.encoder[0][0].weight.detach()

    assert torch.equal(end(0), end(0))
    assert not torch.equal(end(0), end(1))


def test_training_leaves_the_global_random_state_unchanged(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run("OMI, fresh", tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(KeyboardInterrupt):
        run("OMI, fresh", tmp_path / "other", on_step=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert torch.equal(torch.get_rng_state(), before)


# --------------------------------------------------------------------------------- checkpoints


def test_a_finished_checkpoint_is_loaded_without_training(tmp_path: Path) -> None:
    trained = run("OMI, shuffled", tmp_path)
    stamp = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    loaded = run("OMI, shuffled", tmp_path, should_stop=lambda: pytest.fail("a step was begun"))
    assert loaded.finished
    assert not loaded.model.training
    assert loaded.history == trained.history
    assert loaded.seconds == pytest.approx(trained.seconds, abs=0.5)
    assert_same_bits(dict(loaded.model.state_dict()), dict(trained.model.state_dict()))
    assert torch.equal(loaded.objective.negatives.replay.states, trained.objective.negatives.replay.states)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == stamp


def test_a_failed_write_of_a_checkpoint_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("AE", tmp_path, should_stop=asking(7))
    old = (tmp_path / "checkpoint.pt").read_bytes()

    def full_disk(state: object, stream: object) -> None:
        stream.write(b"half a checkpoint")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(torch, "save", full_disk)
        run("AE", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert (tmp_path / "checkpoint.pt").read_bytes() == old
    assert run("AE", tmp_path).finished


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_a_damaged_checkpoint_raises_an_error_with_its_name(tmp_path: Path, keep: int) -> None:
    run("AE", tmp_path)
    with (tmp_path / "checkpoint.pt").open("r+b") as file:
        file.truncate(keep)
    with pytest.raises(ValueError, match=r"checkpoint.pt cannot be read .*: it is damaged; delete it"):
        run("AE", tmp_path)


def test_a_file_that_is_no_checkpoint_raises_an_error_with_its_name(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="damaged"):
        run("AE", tmp_path)


def test_a_checkpoint_of_another_recipe_is_refused_with_the_difference(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    training.write_checkpoint(file, {"step": 1}, "name = a\nsteps = 8\nbatch = 50")
    with pytest.raises(ValueError, match="expects the recipe it was made with") as refusal:
        training.read_checkpoint(file, "name = a\nsteps = 9\nbatch = 50")
    text = str(refusal.value)
    assert re.search(r"checkpoint: +steps = 8\n +now: +steps = 9", text)
    assert "batch" not in text


def test_a_checkpoint_of_another_seed_is_refused(tmp_path: Path) -> None:
    run("AE", tmp_path)
    model = with_dropout()
    with pytest.raises(ValueError, match="seed 3, got 4"):
        fit(
            model,
            reconstruction,
            shuffled(),
            optimiser=Adam(lr=1),
            steps=STEPS,
            seed=4,
            folder=tmp_path,
            identity="the same",
            device="cpu",
        )


def test_a_checkpoint_of_another_device_is_loaded(tmp_path: Path) -> None:
    """A random state has no meaning on another device: a CUDA generator's has 16 bytes, a CPU's 5056."""
    trained = run("AE", tmp_path)
    file = tmp_path / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    state["device"] = "cuda"
    state["random"] = {
        "own": torch.zeros(16, dtype=torch.uint8),
        "cpu": torch.get_rng_state(),
        "cuda": torch.zeros(16),
    }
    torch.save(state, file)
    loaded = run("AE", tmp_path)
    assert loaded.finished
    assert_same_bits(dict(loaded.model.state_dict()), dict(trained.model.state_dict()))


# ------------------------------------------------------------------------------- divergence guard


class Erupting(nn.Module):
    """Reconstruction whose loss is multiplied by `by` at the given calls."""

    def __init__(self, calls: set[int], by: float) -> None:
        super().__init__()
        self.calls, self.by, self.call = calls, by, 0

    def forward(self, model: Autoencoder, x: Tensor, y: Tensor | None = None, **run: object) -> dict:
        self.call += 1
        parts = reconstruction(model, x)
        return {"loss": parts["loss"] * self.by} if self.call in self.calls else parts


def erupt(objective: Callable, **options: object) -> Result:
    return fit(
        with_dropout(),
        objective,
        shuffled(),
        optimiser=Adam(lr=1e-3),
        steps=20,
        device="cpu",
        **options,
    )


@pytest.mark.parametrize("by", [math.nan, math.inf, 1e12])
def test_a_diverged_run_rolls_back_and_resumes_with_a_lower_learning_rate(
    by: float, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rates = []

    def watched(model: nn.Module) -> torch.optim.Optimizer:
        rates.append(Adam(lr=1e-3)(model))
        return rates[0]

    objective = Erupting({13}, by)
    result = fit(
        with_dropout(),
        objective,
        shuffled(),
        optimiser=watched,
        steps=20,
        device="cpu",
        folder=tmp_path,
        checkpoint_every=5,
    )
    assert (result.finished, result.rollbacks, objective.call) == (True, 1, 13 + 10)  # back to step 10
    assert all(value.isfinite().all() for value in result.model.state_dict().values())
    assert [row["step"] for row in result.history] == list(range(1, 21))
    assert rates[0].param_groups[0]["lr"] == pytest.approx(0.3e-3)
    said = capsys.readouterr().out
    assert re.search(
        r"diverged at step 12 \(a watched number reached .*\); back to step 10, learning rates x 0.3", said
    )


def test_a_chain_that_diverges_rolls_the_run_back() -> None:
    calls = []

    def diverging(model: Autoencoder, x: Tensor, y: Tensor | None = None, **run: object) -> dict:
        calls.append(1)
        if len(calls) == 4:
            raise FloatingPointError("langevin: 2 of 5 chains left the finite numbers")
        return reconstruction(model, x)

    assert erupt(diverging).rollbacks == 1


def test_a_run_that_keeps_diverging_ends_with_advice(tmp_path: Path) -> None:
    objective = Erupting(set(range(8, 100)), math.nan)
    with pytest.raises(FloatingPointError, match=r"diverged 4 times .* 0.027 of the recipe's\. What usually helps: a"):
        erupt(objective, folder=tmp_path, checkpoint_every=5)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5  # the last good state stays
    with pytest.raises(FloatingPointError, match="diverged 1 times"):
        erupt(Erupting(set(range(100)), math.nan), guard=Guard(patience=0))


@pytest.mark.parametrize("spoilt_step", [9, 10])
def test_nan_weights_behind_a_finite_loss_are_not_written_to_the_checkpoint(
    tmp_path: Path, spoilt_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient can be NaN where the loss is not, and the last step before a checkpoint shows no sign of the NaN."""
    calls = []

    def spoiling(model: Autoencoder, x: Tensor, y: Tensor | None = None, **run: object) -> dict:
        calls.append(1)
        parts = reconstruction(model, x)
        if len(calls) == spoilt_step:
            parts["loss"] = parts["loss"] + (0 * next(model.parameters())).sqrt().sum()  # 0, of slope 0 * inf
        return parts

    result = erupt(spoiling, folder=tmp_path, checkpoint_every=5)
    assert (result.finished, result.rollbacks) == (True, 1)
    assert all(value.isfinite().all() for value in result.model.state_dict().values())

    calls.clear()
    monkeypatch.setattr(training.loop, "HISTORY_ROWS", 1)  # nobody looks before the stop
    stopped = erupt(spoiling, folder=tmp_path / "stopped", should_stop=asking(spoilt_step), checkpoint_every=100)
    assert (len(calls), stopped.step) == (spoilt_step, 0)
    assert all(value.isfinite().all() for value in stopped.model.state_dict().values())
    assert not (tmp_path / "stopped" / "checkpoint.pt").exists()


@pytest.mark.parametrize("by", [math.nan, 1e12])
def test_a_run_stopped_after_it_diverged_keeps_the_old_checkpoint(
    by: float, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The run is stopped after it diverged and before its numbers were checked."""
    steps = 2000  # numbers are looked at every 10 steps
    batches, objective = Fresh(eight_gaussians, 5), Erupting(set(range(13, 100)), by)
    options = {"optimiser": Adam(lr=1e-3), "steps": steps, "device": "cpu", "folder": tmp_path}
    result = fit(with_dropout(), objective, batches, checkpoint_every=5, should_stop=asking(13), **options)
    assert (result.step, objective.call) == (10, 13)
    assert "stopped at step 13, diverged" in capsys.readouterr().out
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 10
    assert all(value.isfinite().all() for value in state["model"].values())
    assert_same_bits(dict(result.model.state_dict()), state["model"])


def test_nan_or_infinite_running_statistics_are_not_written_to_the_checkpoint() -> None:
    """Running statistics are no parameters, and the loss of the batch that spoils them is finite."""

    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.zeros(()))
            self.register_buffer("mean", torch.zeros(()))

    def objective(model: nn.Module, x: Tensor, y: Tensor | None = None, **run: object) -> dict:
        spoils.append(None)
        if len(spoils) == 3:
            model.mean.fill_(math.inf)
        return {"loss": model.place.square()}

    spoils: list[None] = []
    batches = Fresh(lambda n, generator: torch.zeros(n, 1), 1)
    result = fit(Running(), objective, batches, optimiser=Adam(lr=1e-3), steps=10, device="cpu")
    assert result.rollbacks == 1
    assert bool(result.model.mean.isfinite())


# ------------------------------------------------------------------- budget, rates, history, events


def rates_of(**options: object) -> list[float]:
    """Train one parameter by SGD on a loss of slope 1: its moves are the learning rates."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.zeros((), dtype=torch.float64))

    model, places = Slope(), [0.0]
    batches = Fresh(lambda n, generator: torch.zeros(n, 1), 1)
    fit(
        model,
        lambda model, x, y=None, **run: {"loss": model.place * 1.0},
        batches,
        optimiser=lambda m: torch.optim.SGD(m.parameters(), lr=1.0),
        device="cpu",
        on_step=lambda *_: places.append(-float(model.place.detach())),
        **options,
    )
    return [after - before for before, after in pairwise(places)]


def test_learning_rates_warm_up_and_decay_at_the_end() -> None:
    assert rates_of(steps=6) == pytest.approx([1.0] * 6)
    assert rates_of(steps=6, warm_up=4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert rates_of(steps=8, schedule=LinearTail(0.5)) == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert rates_of(steps=4, warm_up=2, schedule=LinearTail(0.0)) == pytest.approx([0.5, 0.75, 0.5, 0.25])
    assert rates_of(steps=3, schedule=LinearTail(1.0)) == pytest.approx([1.0] * 3)


def test_adam_gives_named_parameters_a_rate_of_their_own() -> None:
    groups = Adam(lr=1e-3, lr_of={"log_temperature": 1e-2}, betas=(0.0, 0.9))(smooth_nae(3)).param_groups
    assert [(len(group["params"]), group["lr"], group["betas"]) for group in groups] == [
        (8, 1e-3, (0.0, 0.9)),
        (1, 1e-2, (0.0, 0.9)),
    ]
    with pytest.raises(ValueError, match=r"got \['log_temperatur'\]"):
        Adam(lr=1e-3, lr_of={"log_temperatur": 1.0})(smooth_nae(3))


def test_adam_applies_weight_decay_to_all_parameters_or_to_those_with_a_name_ending() -> None:
    model = smooth_nae(3)
    some = Adam(lr=1e-3, weight_decay=0.1, decayed=".weight")(model).param_groups
    assert [group["weight_decay"] for group in some] == [0.1, 0.0]
    assert {p.ndim for p in some[0]["params"]} == {2} and sum(len(g["params"]) for g in some) == 9
    assert [g["weight_decay"] for g in Adam(lr=1e-3, weight_decay=0.1)(model).param_groups] == [0.1]
    for wrong, complaint in (
        ({"lr": -1.0}, "lr"),
        ({"lr": 1.0, "weight_decay": -1.0}, "weight_decay"),
        ({"lr": 1.0, "clip": 0.0}, "clip"),
    ):
        with pytest.raises(ValueError, match=f"Adam expects {complaint}"):
            Adam(**wrong)


def test_adam_gives_a_part_of_the_model_the_options_of_the_longest_matching_name() -> None:
    own = {
        "encoder": {"lr": 1e-2, "betas": (0.0, 0.9)},
        "encoder.0.bias": 1.0,
        "log_temperature": {"betas": (0.5, 0.6)},
    }
    model = smooth_nae(3)
    rest, encoder, bias, temperature = Adam(lr=1e-3, lr_of=own)(model).param_groups
    assert [len(rest["params"]), len(encoder["params"])] == [4, 3]
    assert (encoder["lr"], encoder["betas"]) == (1e-2, (0.0, 0.9))
    assert (bias["params"], bias["lr"], bias["betas"]) == ([model.encoder[0].bias], 1.0, rest["betas"])
    assert (temperature["lr"], temperature["betas"]) == (1e-3, (0.5, 0.6))
    with pytest.raises(ValueError, match=r"got \['enc'\]"):  # parts end at a dot
        Adam(lr=1e-3, lr_of={"enc": 1.0})(model)


def test_adam_clips_the_global_norm_of_the_gradient_over_all_groups() -> None:
    """A gradient longer than the limit is scaled to the limit, over all groups together; a shorter one is unchanged."""
    shortened, plain = smooth_nae(3), smooth_nae(3)
    plain.load_state_dict(shortened.state_dict())
    rates = {"lr": 1e-2, "lr_of": {"decoder": 1e-1}}
    optimisers = Adam(clip=2.0, **rates)(shortened), Adam(**rates)(plain)
    draws = torch.Generator().manual_seed(0)
    for length, counted in ((40.0, 2.0), (0.5, 0.5), (3.0, 2.0), (0.0, 0.0)):
        directions = [torch.randn(p.shape, generator=draws) for p in plain.parameters()]
        norm = torch.stack([d.square().sum() for d in directions]).sum().sqrt()
        for model, optimiser, own in zip((shortened, plain), optimisers, (length, counted), strict=True):
            for parameter, direction in zip(model.parameters(), directions, strict=True):
                parameter.grad = direction / norm * own
            optimiser.step()
    for name, value in shortened.state_dict().items():
        assert torch.allclose(value, plain.state_dict()[name], rtol=1e-4, atol=1e-6), name
    with pytest.raises(ValueError, match="Adam expects clip > 0, got 0"):
        Adam(lr=1e-3, clip=0)(plain)


def test_a_budget_in_epochs_needs_a_data_set_and_invalid_budgets_are_refused() -> None:
    x = torch.zeros(23, 2)
    batches = Shuffled(x, None, batch_size=5, seed=0)
    result = fit(with_dropout(), reconstruction, batches, optimiser=Adam(lr=1e-3), epochs=3, device="cpu")
    assert result.step == 3 * 4
    for budget, text in [
        ({}, "steps or epochs, got steps=None and epochs=None"),
        ({"steps": 1, "epochs": 1}, "steps=1 and epochs=1"),
        ({"steps": 0}, "steps >= 1, got 0"),
        ({"epochs": 1}, "fresh samples have no epochs"),
        ({"steps": 1, "warm_up": -1}, "warm_up >= 0"),
    ]:
        with pytest.raises(ValueError, match=text):
            rates_of(**budget)


def test_every_epoch_of_shuffled_batches_sees_every_image_once_in_another_order() -> None:
    x = torch.arange(12.0)[:, None]
    batches = Shuffled(x, torch.arange(12), batch_size=4, seed=0)
    epochs = []
    for epoch in range(2):
        pairs = [batches(3 * epoch + i, torch.Generator()) for i in range(3)]
        assert all(torch.equal(batch["x"].flatten().long(), batch["y"]) for batch in pairs)
        epochs.append(torch.cat([batch["y"] for batch in pairs]).tolist())
        assert sorted(epochs[-1]) == list(range(12))
    assert epochs[0] != epochs[1]
    again = Shuffled(x, None, batch_size=4, seed=0)(4, torch.Generator())["x"]  # a function of the step alone
    assert torch.equal(again, batches(4, torch.Generator())["x"])
    assert not torch.equal(again, Shuffled(x, None, batch_size=4, seed=1)(4, torch.Generator())["x"])
    for size in (0, 13):
        with pytest.raises(ValueError, match=f"<= 12, got {size}"):
            Shuffled(x, None, batch_size=size, seed=0)


def test_history_has_at_most_two_hundred_rows_and_ends_with_the_run() -> None:
    seen = []
    result = fit(
        with_dropout(),
        reconstruction,
        Fresh(eight_gaussians, 2),
        optimiser=Adam(lr=1e-3),
        steps=402,
        device="cpu",
        on_step=lambda step, steps, numbers, parts: seen.append((step, steps, numbers, parts)),
    )
    steps = [row["step"] for row in result.history]
    assert steps == [*range(3, 403, 3)]  # every third: 402 rows are too many, 201 one too many
    assert [step for step, *_ in seen] == steps
    assert seen[-1][1] == 402
    assert set(seen[-1][2]) == {"loss", "error"}
    assert not seen[-1][3]["loss"].requires_grad
    assert result.history[-1]["loss"] == seen[-1][2]["loss"]
    seconds = [row["seconds"] for row in result.history]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= result.seconds


def test_progress_is_reported_as_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODLAB_PROGRESS", str(tmp_path / "events"))
    run("AE", tmp_path)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [event["step"] for event in events] == list(range(1, STEPS + 1))
    assert {(event["event"], event["label"], event["steps"]) for event in events} == {("step", "training", STEPS)}
    assert set(events[0]["numbers"]) == {"loss", "error"}


def test_training_without_a_terminal_prints_about_ten_lines_of_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run("AE", tmp_path, label="demo")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert re.match(r"demo: step 24 of 24  loss [\d.]+  error [\d.]+$", lines[-1])


# -------------------------------------------------------------------------------- device, precision


def test_pick_device_refuses_unknown_devices_and_auto_precision_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.pick_device("auto") == cpu
    with pytest.raises(ValueError, match="got 'gpu'"):
        training.pick_device("gpu")
    with pytest.raises(ValueError, match="no GPU here"):
        training.pick_device("cuda")

    dense, convolutional = nn.Linear(1, 1), nn.Conv2d(1, 1, 1)
    for amx, avx512, kind in [
        (True, True, torch.bfloat16),
        (False, True, torch.bfloat16),
        (False, False, torch.float32),
    ]:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx512=avx512: avx512)
        assert training.pick_precision("auto", dense, cpu) == torch.float32
        assert training.pick_precision("auto", convolutional, cpu) == kind
        assert training.pick_precision("float32", convolutional, cpu) == torch.float32
        assert training.pick_precision("bfloat16", dense, cpu) == torch.bfloat16
    with pytest.raises(ValueError, match="one of auto, float32 or bfloat16, got 'float16'"):
        training.pick_precision("float16", dense, cpu)


def test_bfloat16_leaves_weights_and_chain_states_in_float32(tmp_path: Path) -> None:
    result = run("OMI, shuffled", tmp_path, precision="bfloat16")
    assert result.finished
    assert {p.dtype for p in result.model.parameters()} == {torch.float32}
    assert result.objective.negatives.replay.states.dtype == torch.float32
    exact = run("OMI, shuffled", tmp_path / "exact", precision="float32")
    assert result.history[-1]["loss"] != exact.history[-1]["loss"]  # it did multiply in bfloat16


# -------------------------------------------------------------------------------------- train_or_load


@pytest.fixture
def recipe() -> SimpleNamespace:
    return plane_recipe("NAE-OMI, circle")


def test_a_recipe_is_trained_once_per_seed(recipe: SimpleNamespace) -> None:
    before = torch.get_rng_state()
    first = train_or_load(recipe, seed=0, device="cpu")
    loaded = train_or_load(recipe, seed=0, device="cpu", should_stop=lambda: pytest.fail("a step was begun"))
    assert_same_bits(dict(loaded.model.state_dict()), dict(first.model.state_dict()))
    other = train_or_load(recipe, seed=1, device="cpu")
    assert not torch.equal(next(other.model.parameters()), next(first.model.parameters()))
    assert torch.equal(torch.get_rng_state(), before)
    files = sorted(workspace.runs_folder().rglob("checkpoint.pt"))
    assert len(files) == 2
    folders = [workspace.runs_folder() / "checkpoints" / f"{recipe.key}-seed{seed}" for seed in (0, 1)]
    assert [file.parent for file in files] == folders


def test_a_finished_training_is_repeated_on_request_and_an_unfinished_one_is_resumed(
    recipe: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODLAB_ANEW", "1")
    steps: list[int] = []
    train_or_load(recipe, device="cpu", on_step=lambda step, *_: steps.append(step), should_stop=asking(100))
    for _ in range(2):
        train_or_load(recipe, device="cpu", on_step=lambda step, *_: steps.append(step))
    assert steps == [*range(1, recipe.steps + 1), *range(1, recipe.steps + 1)]


def test_initial_weights_depend_on_the_seed_and_not_on_the_global_random_state(recipe: SimpleNamespace) -> None:
    ends = []
    for seed_of_caller in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed_of_caller)
            ends.append(train_or_load(recipe, seed=5, device="cpu", should_stop=lambda: True).model.state_dict())
    assert_same_bits(dict(ends[0]), dict(ends[1]))


def started(start: str = "AE, circle", **changes: object) -> Recipe:
    """OMI from a plain autoencoder, at smoke size."""
    omi = plane_recipe("NAE-OMI, circle")
    return dataclasses.replace(omi, needs={"start": plane_recipe(start)}, begins_with="start", **changes)


def test_a_training_begins_with_the_final_weights_of_another() -> None:
    """The other training is done once for all that begin with its weights; its history does not enter."""
    events: list[tuple[int, int]] = []
    first = train_or_load(started().needs["start"], seed=3, device="cpu").model.state_dict()
    file = next(workspace.runs_folder().rglob("checkpoint.pt"))
    before = file.stat().st_mtime_ns
    for lr in (0.0, 1e-9):
        recipe = started(optimiser=Adam(lr, lr_of={"log_temperature": lr}))
        result = train_or_load(recipe, seed=3, device="cpu", on_step=lambda step, *_: events.append(step), anew=True)
        assert result.step == recipe.steps
        for name, value in result.model.state_dict().items():
            assert torch.allclose(value, first[name], atol=1e-6)
    assert file.stat().st_mtime_ns == before
    assert events == 2 * list(range(1, recipe.steps + 1))
    shutil.rmtree(file.parent)
    assert train_or_load(recipe, seed=3, device="cpu").finished
    assert not file.exists(), "what is finished needs its start no more"


def test_a_stopped_training_whose_weights_another_begins_with_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train_or_load(started(), seed=3, device="cpu")
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "other"))
    stopped = train_or_load(started(), seed=3, device="cpu", should_stop=asking(3))
    assert (stopped.finished, len(list(workspace.runs_folder().rglob("checkpoint.pt")))) == (False, 1)
    stopped = train_or_load(started(), seed=3, device="cpu", should_stop=asking(8))
    assert (stopped.finished, len(list(workspace.runs_folder().rglob("checkpoint.pt")))) == (False, 2)
    goes_on = train_or_load(started(), seed=3, device="cpu")
    assert_same_bits(dict(goes_on.model.state_dict()), dict(alone.model.state_dict()))


def test_starting_weights_are_copied_where_shapes_match_and_other_layers_are_reported(
    capsys: pytest.CaptureFixture,
) -> None:
    """For D_z = 3 against the circle's 2, layers next to the code differ in shape; all other layers are copied."""
    recipe = started("AE, D_z = 3")
    given = train_or_load(recipe.needs["start"], device="cpu").model.state_dict()
    model = recipe.model()
    said = training.stored.copy_weights(recipe.needs["start"].model(), model, recipe)
    own = model.state_dict()
    unlike = [name for name in own if own[name].shape != given[name].shape]
    assert unlike and all(name in said.split("fresh:")[1] for name in unlike)
    train_or_load(recipe, device="cpu")
    assert said.split(";")[1] in capsys.readouterr().out
    assert training.stored.copy_weights(recipe.needs["start"].model(), recipe.needs["start"].model(), recipe) == ""
    with pytest.raises(ValueError, match="got none whose name and shape match"):
        training.stored.copy_weights(nn.Linear(7, 7), model, recipe)


def test_precision_and_graph_options_of_the_caller_apply_to_trainings_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The options apply in the processes that train and in the process that loads."""
    smoke = plane_recipe("AE, circle")
    asked: list[tuple] = []

    class Here(ThreadPoolExecutor):
        def __init__(self, workers: int, **start: object) -> None:
            super().__init__(1)

    def record(recipe: object, *, precision: str, graph: str, **options: object) -> None:
        asked.append(("should_stop" in options, precision, graph))

    monkeypatch.setattr(training.stored, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(training.stored, "train_or_load", record)
    monkeypatch.setattr(training.stored, "_stop", threading.Event())
    monkeypatch.setattr(training.stored, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    training.train_or_load_all({"a": smoke}, {"a": [0, 1]}, device="cpu", precision="bfloat16", graph="off")
    assert asked == [(side, "bfloat16", "off") for side in (True, True, False, False)]


def test_trainings_with_functions_typed_in_a_notebook_stay_in_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes cannot import such functions: these trainings run in succession, each with all its updates."""
    recipe = plane_recipe("AE, circle")
    monkeypatch.setattr(training.stored, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(training.stored, "_side_by_side", lambda *_: pytest.fail("other processes were started"))
    with pytest.raises(pytest.fail.Exception):
        list(training.train_each([(recipe, 0), (recipe, 1)], device="cpu"))
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    typed = FunctionType(weight_sum.__code__, {}, "typed")
    typed.__module__, typed.__qualname__ = "__main__", "typed"
    monkeypatch.setattr(training.stored.identity, "definitions_in", lambda value: [typed])
    assert len(list(training.train_each([(recipe, 0), (recipe, 1)], device="cpu"))) == 2


# ------------------------------------------------------------------------------------------ probes


def weight_sum(model: nn.Module) -> dict[str, Tensor]:
    """Measure something that changes with every step, and draw random numbers doing it."""
    assert not model.training
    torch.rand(3)
    return {"sum": torch.stack([p.sum() for p in model.parameters()]).sum()}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("asked", [1, 7, 23, 61])
def test_probes_do_not_change_a_training_and_survive_an_interruption(setting: str, asked: int, tmp_path: Path) -> None:
    plain = run(setting, tmp_path / "plain")
    whole = run(setting, tmp_path / "whole", probe=weight_sum, probes=4)
    assert_same_bits(dict(whole.model.state_dict()), dict(plain.model.state_dict()))
    assert [probe["step"] for probe in whole.probes] == [0, 6, 12, 18, 24]
    assert torch.equal(whole.probes[-1]["values"]["sum"], weight_sum(whole.model)["sum"])
    run(setting, tmp_path / "parts", probe=weight_sum, probes=4, should_stop=asking(asked))
    parts = run(setting, tmp_path / "parts", probe=weight_sum, probes=4)
    assert_same_bits(parts.probes, whole.probes)
    loaded = run(setting, tmp_path / "parts", probe=lambda model: pytest.fail("probed again"), probes=4)
    assert_same_bits(loaded.probes, whole.probes)


def test_a_roll_back_removes_the_probes_of_the_undone_steps() -> None:
    result = erupt(Erupting({13}, math.nan), probe=weight_sum, probes=20, checkpoint_every=5)
    assert result.rollbacks == 1
    assert [probe["step"] for probe in result.probes] == list(range(21))


@pytest.mark.parametrize("wrong", [{"probe": weight_sum}, {"probes": 3}, {"probe": weight_sum, "probes": STEPS + 1}])
def test_a_probe_and_the_number_of_probes_must_be_given_together(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fit expects a probe"):
        run("AE", tmp_path, **wrong)


# --------------------------------------------------------------------------------------- snapshots


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("asked", [1, 7, 23, 61])
def test_snapshots_do_not_change_a_training_and_survive_an_interruption(
    setting: str, asked: int, tmp_path: Path
) -> None:
    plain = run(setting, tmp_path / "plain")
    whole = run(setting, tmp_path / "whole", snapshots=4)
    assert_same_bits(dict(whole.model.state_dict()), dict(plain.model.state_dict()))
    assert list(whole.snapshots) == [0, 6, 12, 18, 24]
    kept = {step: read_snapshot(file, "the same") for step, file in whole.snapshots.items()}
    assert_same_bits(kept[0], dict(with_dropout().state_dict()))
    assert_same_bits(kept[24], dict(whole.model.state_dict()))
    assert not any(torch.equal(kept[a]["encoder.0.0.weight"], kept[b]["encoder.0.0.weight"]) for a, b in pairwise(kept))
    run(setting, tmp_path / "parts", snapshots=4, should_stop=asking(asked))
    parts = run(setting, tmp_path / "parts", snapshots=4)
    assert_same_bits({step: read_snapshot(file, "the same") for step, file in parts.snapshots.items()}, kept)


def test_a_snapshot_after_a_roll_back_has_the_weights_of_the_repeated_steps(tmp_path: Path) -> None:
    """The weights of the steps done again replace those of the steps that were undone."""
    options = {"probe": weight_sum, "probes": 20, "snapshots": 20, "checkpoint_every": 5, "folder": tmp_path}
    result = erupt(Erupting({13}, math.nan), **options)
    assert result.rollbacks == 1 and list(result.snapshots) == list(range(21))
    for probe in result.probes:
        weights = read_snapshot(result.snapshots[probe["step"]], "")
        result.model.load_state_dict(weights)
        assert torch.equal(weight_sum(result.model)["sum"], probe["values"]["sum"]), probe["step"]


def test_snapshots_without_a_folder_and_more_snapshots_than_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="snapshots"):
        erupt(reconstruction, snapshots=4)
    with pytest.raises(ValueError, match="snapshots"):
        erupt(reconstruction, snapshots=21, folder=tmp_path)


# ------------------------------------------------------------------------------------ named batches


def labelled(n: int = 12) -> Shuffled:
    return Shuffled(torch.arange(2.0 * n).reshape(n, 2), torch.arange(n), batch_size=4, seed=0)


def test_a_batch_of_a_second_set_is_passed_under_the_name_of_that_set() -> None:
    both = Beside(labelled(), {"general": labelled(100)})
    assert both.steps_per_epoch == 3
    batch = both(7, torch.Generator())
    assert_same_bits(batch, {**labelled()(7, torch.Generator()), "general": labelled(100)(7, torch.Generator())["x"]})
    halved = Transformed(both, lambda x, generator: x / 2, names=("general",))(7, torch.Generator())
    assert_same_bits(halved, {**batch, "general": batch["general"] / 2})
    with pytest.raises(ValueError, match=r"names of their own for other sources, got \['x'\]"):
        Beside(labelled(), {"x": labelled()})
    with pytest.raises(ValueError, match="Beside expects general"):
        Beside(labelled(), {"general": torch.zeros(3)})
    with pytest.raises(ValueError, match="expects batches with general, got x, y"):
        Transformed(labelled(), lambda x, generator: x, names=("general",))(0, torch.Generator())


def takes_general(model: nn.Module, x: Tensor, *, general: Tensor, **run: object) -> dict[str, Tensor]:
    return reconstruction(model, torch.cat([x, general]))


def test_an_objective_that_does_not_take_a_named_batch_is_refused_before_training() -> None:
    unlabelled = Shuffled(labelled().x, None, 4, 0)
    both = Beside(unlabelled, {"general": unlabelled})
    options = {"optimiser": Adam(lr=1e-3), "steps": 2, "device": "cpu"}
    assert fit(with_dropout(), takes_general, both, **options).finished
    with pytest.raises(ValueError, match="got 'general' as well"):
        fit(with_dropout(), reconstruction, both, **options)
    with pytest.raises(
        ValueError, match="takes_general expects batches with 'general', got x: put their source Beside"
    ):
        fit(with_dropout(), takes_general, unlabelled, **options)


def test_transformed_batches_draw_from_the_runs_generator() -> None:
    batches = Transformed(shuffled(), lambda x, generator: x + torch.rand(x.shape, generator=generator))
    assert batches.steps_per_epoch == 5
    first, again = (batches(2, torch.Generator().manual_seed(1))["x"] for _ in range(2))
    assert torch.equal(first, again)
    other = batches(2, torch.Generator().manual_seed(2))["x"]
    assert not torch.equal(first, other)
    assert bool(((first - shuffled()(2, torch.Generator())["x"]) >= 0).all())
