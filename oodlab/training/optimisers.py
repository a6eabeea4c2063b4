"""Optimisers as settings, and learning rates over a run.

Imports: checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from oodlab import checks


@dataclass(frozen=True)
class LinearTail:
    """Full learning rate up to a share of the budget, then linearly down to zero at its end; a start of 1 keeps it full."""

    start: float

    def __post_init__(self) -> None:
        checks.number("LinearTail", "start", self.start, least=0, most=1)

    def __call__(self, used: float) -> float:
        """Return the factor after this share of the budget."""
        return 1.0 if used <= self.start else (1 - used) / (1 - self.start)


@dataclass(frozen=True)
class Adam:
    """Adam with rates of their own for some parameters: called with a model, it builds the optimiser.

    Attributes:
        lr: Learning rate of all parameters not named in lr_of.
        lr_of: Learning rate, or options such as {"lr": 1e-4, "betas": (0.0, 0.9)}, by name of
            a parameter or of a part of the model; the longest name counts.
        betas: Decay of the mean and of the mean square of gradients.
        weight_decay: L2 penalty as part of the gradient, on all parameters or on those of `decayed`.
        decayed: Ending of the names of the parameters that decay, such as ".original0" for the norms of weight-normed
            weights; empty decays all.
        clip: Largest Euclidean norm of the gradient; None leaves it as it is.
        clip_groups: Whether the gradient of each group of parameters is clipped on its own: decayed, others, those of lr_of.
    """

    lr: float
    lr_of: Mapping[str, float | Mapping[str, Any]] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    decayed: str = ""
    clip: float | None = None
    clip_groups: bool = False

    def __post_init__(self) -> None:
        checks.number("Adam", "lr", self.lr, least=0)
        checks.number("Adam", "weight_decay", self.weight_decay, least=0)
        if self.clip is not None:
            checks.number("Adam", "clip", self.clip, above=0)

    def __call__(self, model: nn.Module) -> torch.optim.Adam:
        """Build the optimiser of a model's trainable parameters."""
        groups = _groups(model, self.lr, self.lr_of)
        if self.weight_decay and self.decayed:
            named = {id(p): name for name, p in model.named_parameters()}
            groups = [part for group in groups for part in _split(group, named, self.decayed, self.weight_decay)]
        decay = 0.0 if self.decayed else self.weight_decay
        return _clipped(torch.optim.Adam(groups, betas=self.betas, weight_decay=decay), self.clip, self.clip_groups)


def _groups(model: nn.Module, lr: float, own: Mapping[str, float | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sort parameters into groups by rate: all others, then those of each name."""
    named = dict(model.named_parameters())
    checks.number("Adam", "lr", lr, least=0)
    for key, value in own.items():
        rate = value.get("lr", lr) if isinstance(value, Mapping) else value
        checks.number("Adam", f"lr of {key!r}", rate, least=0)
    part_of = {
        name: max((key for key in own if name == key or name.startswith(f"{key}.")), key=len, default=None)
        for name in named
    }
    unknown = sorted(set(own) - set(part_of.values()))
    if unknown:
        raise ValueError(f"Adam expects names of parameters in lr_of, got {unknown}: the model has {sorted(named)}.")
    groups = [{"params": [named[name] for name in named if part_of[name] is None], "lr": lr}]
    for key, value in own.items():
        chosen = dict(value) if isinstance(value, Mapping) else {"lr": value}
        groups.append({"params": [named[name] for name in named if part_of[name] == key], "lr": lr, **chosen})
    return groups


def _split(group: dict[str, Any], named: Mapping[int, str], ending: str, decay: float) -> list[dict[str, Any]]:
    """Split a group into parameters that decay and others; a part without any is left out."""
    decays = [p for p in group["params"] if named[id(p)].endswith(ending)]
    others = [p for p in group["params"] if not named[id(p)].endswith(ending)]
    parts = [{**group, "params": decays, "weight_decay": decay}, {**group, "params": others}]
    return [part for part in parts if part["params"]]


def _clipped(optimiser: torch.optim.Adam, clip: float | None, groups: bool) -> torch.optim.Adam:
    """Let an optimiser shorten the gradient before each step."""
    if clip is None:
        return optimiser
    whole = [[p for group in optimiser.param_groups for p in group["params"]]]
    parts = [group["params"] for group in optimiser.param_groups] if groups else whole

    def shorten(*step: Any) -> None:
        for parameters in parts:
            nn.utils.clip_grad_norm_(parameters, clip)

    optimiser.register_step_pre_hook(shorten)
    return optimiser
