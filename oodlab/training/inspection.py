"""What fit looks at before the first step: its arguments, and the data as far as they are at hand.

Imports: checks, training.batches, training.devices.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from oodlab import checks
from oodlab.training.batches import Batch, Batches, all_labels, require_finite
from oodlab.training.devices import GRAPHS


def check_arguments(
    model: nn.Module, functions: Mapping[str, tuple[Any, str]], numbers: Mapping[str, tuple[Any, int]]
) -> None:
    """Refuse arguments of another kind.

    Args:
        model: What is trained.
        functions: By name, what must be callable, and what to pass instead.
        numbers: By name, what must be a whole number, and the least.

    Raises:
        ValueError: The first that does not fit.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"fit expects model to be a torch module, got {type(model).__name__}: build one of oodlab.models."
        )
    for name, (value, instead) in functions.items():
        checks.function("fit", name, value, instead=instead)
    for name, (value, least) in numbers.items():
        checks.whole("fit", name, value, least=least)


def checked_budget(given: dict[str, Any]) -> int:
    """Return the number of steps; refuse fit's arguments where they do not fit."""
    functions = {
        "objective": "one of oodlab.objectives",
        "batches": "Shuffled, Fresh or Transformed",
        "optimiser": "what builds one of the model, such as Adam(lr=1e-3)",
        "schedule": "LinearTail(start)",
        "probe": "what measures the model, such as a recipe's probe",
        "should_stop": "what says whether to stop, such as threading.Event().is_set",
        "on_step": "what takes (step, steps, numbers, parts)",
    }
    needed = ("objective", "batches", "optimiser")
    numbers = {"seed": 0, "warm_up": 0, "probes": 0, "snapshots": 0}
    optional = {"steps": 1, "epochs": 1, "checkpoint_every": 1}
    check_arguments(
        given["model"],
        {name: (given[name], way) for name, way in functions.items() if name in needed or given[name] is not None},
        {
            name: (given[name], least)
            for name, least in {**numbers, **optional}.items()
            if name in numbers or given[name] is not None
        },
    )
    total = _budget(given["steps"], given["epochs"], given["batches"])
    if (given["probe"] is None) != (given["probes"] == 0) or not 0 <= given["probes"] <= total:
        raise ValueError(f"fit expects a probe and 1 to {total} probes, or neither, got {given['probes']}: see probe.")
    if given["snapshots"] > total or (given["snapshots"] and given["folder"] is None):
        raise ValueError(
            f"fit expects a folder and at most {total} snapshots, got {given['snapshots']} and folder={given['folder']}: they are "
            "files in it."
        )
    checks.one_of("fit", "graph", given["graph"], GRAPHS)
    if given["guard"] is not None and not hasattr(given["guard"], "patience"):
        raise ValueError(
            f"fit expects guard to be a Guard, got {type(given['guard']).__name__}: write Guard(limit=1e8)."
        )
    return total


def _budget(steps: int | None, epochs: int | None, batches: Batches) -> int:
    if (steps is None) == (epochs is None):
        raise ValueError(f"fit expects steps or epochs, got steps={steps} and epochs={epochs}: give one of the two.")
    if epochs is not None:
        per_epoch = getattr(batches, "steps_per_epoch", None)
        if per_epoch is None:
            raise ValueError(
                f"fit expects steps when batches have no steps_per_epoch, got epochs={epochs}: fresh samples have no epochs."
            )
        steps = epochs * per_epoch
    return steps


def check_rates(optimiser: torch.optim.Optimizer) -> list[float]:
    """Return the learning rates of the optimiser's groups.

    Raises:
        ValueError: One is negative or not finite: torch's Adam accepts NaN.
    """
    rates = [group["lr"] for group in optimiser.param_groups]
    for rate in rates:
        checks.number("fit", "the optimiser's learning rate", rate, least=0)
    return rates


def check_first_batch(
    model: nn.Module, objective: Callable, batches: Batches, step: int, generator: torch.Generator, place: torch.device
) -> None:
    """Look at the batch that comes next, and show the model two of its inputs.

    The caller keeps the random numbers; model and batches stay as they are.

    Raises:
        ValueError: Not floating point, not of the weights' type, no items, labels that do
            not fit, or a shape that the model cannot take.
        FloatingPointError: An input is not finite: how many, and where the first one is.
    """
    batch = _batch(batches(step, generator))
    _check_names(objective, batch)
    x, y = batch["x"], batch.get("y")
    if not len(x):
        raise ValueError(
            f"fit expects batches with inputs, got shape {tuple(x.shape)}: raise batch_size, or mend the source."
        )
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    if x.dtype != kind and hasattr(model, "log_density"):  # other objectives may convert on their own
        way = "a recipe's transform scales stored values" if x.dtype == torch.uint8 else f"convert them by x.to({kind})"
        raise ValueError(f"fit expects batches of {kind}, as the model's weights are, got {x.dtype}: {way}.")
    require_finite("fit", f"inputs of the batch of step {step + 1}", x)
    for name, values in batch.items():
        if name != "x" and values.is_floating_point() and len(values):
            require_finite("fit", f"items of {name!r} of the batch of step {step + 1}", values)
    if y is not None and y.shape != x.shape[:1]:
        raise ValueError(
            f"fit expects one label per input, got y of shape {tuple(y.shape)} for {len(x)}: mend the source."
        )
    with _unchanged(model):
        if hasattr(objective, "check"):
            labels = all_labels(batches)
            objective.check(model, x[:2].to(place), y if labels is None else labels)
        if hasattr(model, "log_density"):
            instead = "build the model for that shape, or bring the inputs to its own"
            with checks.inputs_fit("fit", model, x.shape[1:], instead=instead), torch.no_grad():
                model.log_density(x[:2].to(place))


def _batch(drawn: Any) -> Batch:
    if (
        not isinstance(drawn, dict)
        or not torch.is_tensor(drawn.get("x"))
        or not all(map(torch.is_tensor, drawn.values()))
    ):
        kinds = (
            {name: type(part).__name__ for name, part in drawn.items()}
            if isinstance(drawn, dict)
            else type(drawn).__name__
        )
        raise ValueError(
            f"fit expects batches as named tensors with 'x' among them, got {kinds}: use Shuffled, Fresh, Transformed or Beside."
        )
    return drawn


_GATHERING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _check_names(objective: Callable, batch: Batch) -> None:
    """Refuse tensors that the objective does not name: swallowed by its **run, they would train nothing; and missing ones."""
    called = objective.forward if isinstance(objective, nn.Module) else objective
    try:
        parameters = inspect.signature(called).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return
    if "x" not in parameters:  # a wrapper that passes all on
        return
    who = getattr(objective, "__name__", type(objective).__name__)
    unknown = [name for name in batch if name not in parameters]
    needed = [name for name, one in parameters.items() if one.default is one.empty and one.kind not in _GATHERING]
    missing = [name for name in needed if name not in ("self", "model", "generator", "should_stop", *batch)]
    if missing:
        raise ValueError(
            f"{who} expects batches with {', '.join(map(repr, missing))}, got {', '.join(batch)}: put their source Beside the "
            "others, or take an objective of what there is."
        )
    if unknown:
        taken = [name for name in parameters if name not in ("model", "self", "run")]
        raise ValueError(
            f"{who} expects batches of {', '.join(taken)}, got {', '.join(map(repr, unknown))} as well: take an objective that "
            "uses them, or leave that source out of the batches."
        )


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Restore weights, buffers and mode: some layers set themselves up when they first see data."""
    before, modes = copy.deepcopy(model.state_dict()), [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        model.load_state_dict(before)
        for module, training in modes:
            module.training = training
