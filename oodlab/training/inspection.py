"""What fit looks at before the first step: its arguments, and the data as far as they are at hand.

Imports: checks, training.batches.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.training.batches import Batches, all_labels, require_finite


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
    x, y = _batch(batches(step, generator))
    if not len(x):
        raise ValueError(
            f"fit expects batches with inputs, got shape {tuple(x.shape)}: raise batch_size, or mend the source."
        )
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    if x.dtype != kind and hasattr(model, "log_density"):  # other objectives may convert on their own
        way = "a preset's transform scales stored values" if x.dtype == torch.uint8 else f"convert them by x.to({kind})"
        raise ValueError(f"fit expects batches of {kind}, as the model's weights are, got {x.dtype}: {way}.")
    require_finite("fit", f"inputs of the batch of step {step + 1}", x)
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


def _batch(drawn: Any) -> tuple[Tensor, Tensor | None]:
    whole = isinstance(drawn, tuple) and len(drawn) == 2 and torch.is_tensor(drawn[0])
    if not whole or not (drawn[1] is None or torch.is_tensor(drawn[1])):
        kinds = ", ".join(type(part).__name__ for part in drawn) if isinstance(drawn, tuple) else type(drawn).__name__
        raise ValueError(
            f"fit expects batches as (tensor, tensor or None), got ({kinds}): use Shuffled, Fresh or Transformed."
        )
    return drawn


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
