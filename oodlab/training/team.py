"""What the processes of a data-parallel training do together: one model, the gradient of the whole batch.

Every process draws the same batch, takes its slice of it and keeps its share of the replay;
noise is its own. After backward one all-reduce averages all gradients in one flat tensor, so
that all make the same optimiser step. No wrapper around the model: torch's waits for gradients
that some objectives never give (score matching has none for an output bias), and is wrong in
silence.

Whatever decides the course of a run (a stop, a divergence, what a checkpoint says) is agreed
on by all, or else some would wait in an all-reduce that others never reach.

Imports: replay, training.batches, training.parallel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from oodlab.samplers.replay import ReplayBuffer, joined, share_of
from oodlab.training.batches import Batch
from oodlab.training.parallel import from_all, from_first, rank, ranks

STREAM = 2_654_435_769  # between two ranks' seeds: golden ratio of 2**32, whose multiples lie far apart

T = TypeVar("T")


class Team:
    """The processes that train a model; alone, each method returns what it is given.

    Args:
        model: The same weights in all processes, once `begin` was called.
        objective: What is minimised.
    """

    def __init__(self, model: nn.Module, objective: Callable[..., Any]) -> None:
        self.model, self.objective, self.size = model, objective, ranks()

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self.size == 1

    # ------------------------------------------------------------------- what each process has of its own

    @staticmethod
    def seed(seed: int) -> int:
        """Return this process's seed of a run's noise; the first has the run's own."""
        return seed + rank() * STREAM

    def slice(self, batch: Batch) -> Batch:
        """Return this process's equal part of every tensor of a batch.

        Raises:
            ValueError: A tensor's items cannot be divided.
        """
        if self.alone:
            return batch
        for name, values in batch.items():
            if len(values) % self.size:
                raise ValueError(
                    f"training on {self.size} processes expects batches of a multiple of {self.size}, got {len(values)} of "
                    f"{name!r}: every process takes an equal slice; start a number of processes that divides "
                    f"{len(values)}, or change batch_size."
                )
        return {name: values.chunk(self.size)[rank()] for name, values in batch.items()}

    def begin(self) -> None:
        """Give every process the weights of the first, and this one its share of the objective's replay.

        Raises:
            ValueError: The objective is not a mean over inputs, or a replay cannot be divided.
        """
        if self.alone:
            return
        if getattr(self.objective, "couples_batch", False):
            raise ValueError(
                f"training on {self.size} processes expects an objective that is a mean over inputs, got {self.objective}: its "
                "value on a slice means something else than on the batch; train it in one process."
            )
        self.model.load_state_dict(from_first(lambda: _on_cpu(self.model.state_dict())))
        for _, replay in self._replays():
            replay.divide(rank(), self.size)

    def end(self) -> None:
        """Give every process the whole replay again."""
        if not self.alone:
            for _, replay in self._replays():
                replay.replace(joined(from_all(_on_cpu(replay.state_dict()))))

    # -------------------------------------------------------------------------- what all agree on

    def compute(self, compute: Callable[[], T], stops: bool) -> tuple[T, bool]:
        """Compute gradients in every process and put their mean in place of each; running statistics likewise.

        A parameter without gradient counts as zero, and has none afterwards if it had none in
        any process. Whether one stops or failed travels with the gradients: once a step it is
        read from the device.

        Args:
            compute: Leaves gradients in the model's parameters.
            stops: Whether this process is asked to stop.

        Returns:
            What compute returns here, and whether any process is asked to stop: then all do, after this step.

        Raises:
            FloatingPointError: compute raised it in one of the processes, so here too.
        """
        if self.alone:
            return compute(), False
        result, error = None, None
        try:
            result = compute()
        except FloatingPointError as raised:  # the others wait for this process's part of the mean
            error = f"process {rank()}: {raised}"
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        has = [error is None and p.grad is not None for p in parameters]
        values = [p.grad if here else torch.zeros_like(p) for p, here in zip(parameters, has, strict=True)]
        statistics = [
            value
            for module in self.model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
            for value in (module.running_mean, module.running_var)
        ]
        said = torch.tensor([*has, stops, error is not None], dtype=torch.float32, device=values[0].device)
        flat = torch.cat([value.detach().flatten() for value in (*values, *statistics, said)])
        dist.all_reduce(flat)
        *has, stops, failed = (count > 0 for count in flat[-len(said) :].tolist())
        if failed:
            raise FloatingPointError(next(text for text in from_all(error) if text))
        means = (flat[: -len(said)] / self.size).split([value.numel() for value in (*values, *statistics)])
        for parameter, here, mean in zip(parameters, has, means, strict=False):
            if here and parameter.grad is None:
                parameter.grad = mean.view_as(parameter).to(parameter.dtype, copy=True)
            elif here:
                parameter.grad.copy_(mean.view_as(parameter))
        for value, mean in zip(statistics, means[len(parameters) :], strict=True):
            value.copy_(mean)
        return result, stops

    @staticmethod
    def largest(value: Tensor) -> float:
        """Return the largest of all processes' numbers."""
        return max(from_all(float(value)))

    @staticmethod
    def complaint(text: str) -> str:
        """Return what the first process with a complaint says, "" if none has one."""
        return next((said for said in from_all(text) if said), "")

    @staticmethod
    def mean(numbers: dict[str, float]) -> dict[str, float]:
        """Return the means over processes of numbers that all of them have."""
        every = from_all(numbers)
        return {name: sum(of[name] for of in every) / len(every) for name in numbers}

    # ------------------------------------------------------------------------------- checkpoints

    def whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a run's state with the parts that each process has of its own.

        The replay is put together as one process would hold it, "random" becomes a list.

        Raises:
            RuntimeError: The processes' weights are no longer the same.
        """
        if self.alone:
            return state
        own = {"sum": _fingerprint(self.model), "random": state["random"], "objective": _on_cpu(state["objective"])}
        every = from_all(own)
        if any(of["sum"] != every[0]["sum"] for of in every):
            raise RuntimeError(
                f"training on {self.size} processes expects the same weights in each, got different ones: part of the model "
                "sets itself by the data it sees, as ActNorm does at its first batch (show it one before training), or the "
                "processes compute on different hardware."
            )
        objective = dict(state["objective"])
        for prefix, _ in self._replays():
            shares = [{key: of["objective"][prefix + key] for key in ("states", "_extra_state")} for of in every]
            objective.update({prefix + key: value for key, value in joined(shares).items()})
        return {**state, "objective": objective, "random": [of["random"] for of in every]}

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return this process's part of a whole state; "random" is None if another number of processes made it."""
        states = state["random"] if isinstance(state["random"], list) else [state["random"]]
        objective = dict(state["objective"])
        for prefix, _ in () if self.alone else self._replays():
            held = {key: objective[prefix + key] for key in ("states", "_extra_state")}
            objective.update({prefix + key: value for key, value in share_of(held, rank(), self.size).items()})
        return {**state, "objective": objective, "random": states[rank()] if len(states) == self.size else None}

    def _replays(self) -> list[tuple[str, ReplayBuffer]]:
        """Return the objective's replays, each with what its names in the state_dict begin with."""
        modules = self.objective.named_modules() if isinstance(self.objective, nn.Module) else ()
        return [(f"{name}." if name else "", module) for name, module in modules if isinstance(module, ReplayBuffer)]


def _on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.cpu() if torch.is_tensor(value) else value for name, value in state.items()}


def _fingerprint(model: nn.Module) -> int:
    """Return the sum of all bytes of a model's weights and buffers: exact, whatever the order."""
    values = [value for value in model.state_dict().values() if torch.is_tensor(value)]
    return sum(int(value.contiguous().flatten().view(torch.uint8).sum(dtype=torch.int64)) for value in values)
