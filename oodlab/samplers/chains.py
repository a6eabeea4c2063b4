"""Langevin chains on unnormalised densities, without and with Metropolis acceptance, and their settings for recipes.

The samplers are functions of a log-density (or its gradient) and a state, and do
not depend on a model or paper.

Convention: x <- x + step_size * grad_log_density(x) + noise_std * xi, xi ~ N(0, I).
Where step_size and noise_std are chosen separately, the temperature is
T = noise_std**2 / (2 * step_size).

Imports: checks, graphs, samplers.parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from oodlab import checks
from oodlab.graphs import host_may_look
from oodlab.samplers.parts import RejectOutside, per_chain

FINITE_CHECK_EVERY = 10  # steps between two checks for NaN and infinity: each check waits for the device

LogDensityFunction = Callable[[Tensor], Tensor]
StopFlag = Callable[[], bool]


class Stopped(Exception):
    """Raised when a chain is stopped before its last step: its state is not a sample."""


@dataclass
class ChainRecord:
    """Diagnostics of a run of B chains, filled by the sampler that the record is passed to.

    Attributes:
        log_density: Function evaluated on every recorded state, (B, *event) -> (B,), nats; None skips it.
        every: Steps between two recorded states; the start and the end are always recorded.
        steps: Step numbers of the records.
        states: Recorded states, each (B, *event).
        mean_log_density: Mean over chains at each record, when log_density is given.
        acceptance: Accepted share of mala's proposals; langevin leaves it at 1.
        temperature: noise_std**2 / (2 * step_size), the temperature an unadjusted chain runs at.
    """

    log_density: LogDensityFunction | None = None
    every: int = 1
    steps: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    mean_log_density: list[float] = field(default_factory=list)
    acceptance: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        checks.whole("ChainRecord", "every", self.every, least=1)

    def _see(self, step: int, last: int, x: Tensor) -> None:
        if step % self.every == 0 or step == last:
            self.steps.append(step)
            self.states.append(x)
            if self.log_density is not None:
                with torch.no_grad():
                    self.mean_log_density.append(float(self.log_density(x).mean()))


def langevin(
    grad_log_density: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    steps: int,
    step_size: float,
    noise_std: float | Callable[[int], float] | None = None,
    clip: Callable[[Tensor], Tensor] | None = None,
    bounds: Callable[[Tensor, Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
    should_stop: StopFlag | None = None,
    record: ChainRecord | None = None,
) -> Tensor:
    """Run B chains of unadjusted Langevin dynamics and return their final states.

    Args:
        grad_log_density: Stein score of the target, (B, *event) -> (B, *event),
            in nats per unit of x.
        x: Start of the chains, (B, *event); left unchanged.
        steps: Number of updates.
        step_size: Factor on the gradient, in units of x squared; > 0.
        noise_std: Standard deviation of the noise added per update, in units of
            x, or a function of the step number. None means sqrt(2 * step_size),
            i.e. temperature 1.
        clip: Function applied to the gradient, e.g. ClipElements or ClipNorm.
        bounds: Function of (proposal, current) that returns the next state, e.g. Box, Sphere or RejectOutside.
        generator: Source of randomness on x's device; None uses torch's own.
        should_stop: Function called before every update; the chains stop when it returns True.
        record: Record that receives states and diagnostics.

    Returns:
        Final state, (B, *event), detached, same dtype and device as x.

    Raises:
        ValueError: step_size is not positive, or steps or noise_std are negative.
        FloatingPointError: a state or gradient became NaN or infinite; in a captured CUDA
            graph, where the host cannot check, all states become NaN instead.
        Stopped: should_stop returned True.

    Source: Roberts & Tweedie (1996); step_size and noise_std chosen separately as in
    Grathwohl et al. (2020), arXiv:1912.03263. Not Metropolis-adjusted: for a
    Gaussian of variance s2 the chain settles at s2 / (1 - step_size / (2 * s2)).
    """
    _check_chain("langevin", steps, step_size, noise_std)
    _check_state("langevin", x)
    schedule = _schedule(step_size, noise_std)
    x = x.detach()
    if record is not None:
        record.temperature = schedule(0) ** 2 / (2 * step_size)
        record._see(0, steps, x)
    doubt = x.new_zeros(())
    for t in range(steps):
        if should_stop is not None and should_stop():
            raise Stopped(f"langevin stopped after {t} of {steps} steps.")
        gradient = grad_log_density(x).detach()
        if clip is not None:
            doubt = doubt + _doubt(gradient)  # before clipping, which makes an infinite gradient finite
            gradient = clip(gradient)
        proposal = torch.add(x, gradient, alpha=step_size)
        noise_std_now = schedule(t)
        if noise_std_now:
            proposal = proposal.add_(noise(x, generator), alpha=noise_std_now)
        if bounds is not None:
            doubt = doubt + _doubt(proposal)  # before bounds, which may hide NaN and infinity
            proposal = bounds(proposal, x)
        x = proposal
        if record is not None:
            record._see(t + 1, steps, x)
        if (t + 1) % FINITE_CHECK_EVERY == 0 or t + 1 == steps:
            x = _checked("langevin", (doubt + _doubt(x)).isfinite(), x, t + 1, step_size)
    return x


def mala(
    log_density: LogDensityFunction,
    x: Tensor,
    *,
    steps: int,
    step_size: float,
    noise_std: float | None = None,
    clip: Callable[[Tensor], Tensor] | None = None,
    bounds: RejectOutside | None = None,
    generator: torch.Generator | None = None,
    should_stop: StopFlag | None = None,
    record: ChainRecord | None = None,
) -> Tensor:
    """Run B chains of Metropolis-adjusted Langevin dynamics and return their final states.

    Each chain accepts its proposal y by its own ratio
    log a = log p(y) - log p(x) + log q(x | y) - log q(y | x),
    q(y | x) = N(x + step_size * g(x), noise_std**2), with the clipped gradient g on
    both sides. So the target is exp(log_density) for any step_size and noise_std;
    a proposal outside the bounds is rejected.

    Args:
        log_density: Unnormalised log-density, (B, *event) -> (B,), nats.
        x, steps, step_size, noise_std, clip, generator, should_stop, record: The arguments of langevin.
        bounds: Region outside which the target is zero. Clamping and projecting
            would break the acceptance ratio, so only RejectOutside is allowed.

    Returns:
        Final state, (B, *event), detached.

    Raises:
        ValueError, FloatingPointError, Stopped: The errors of langevin.

    Source: Roberts & Stramer (2002), Langevin diffusions and Metropolis-Hastings algorithms.
    """
    _check_chain("mala", steps, step_size, noise_std)
    _check_state("mala", x)
    if bounds is not None and not isinstance(bounds, RejectOutside):
        raise ValueError(
            f"mala expects bounds of type RejectOutside, got {bounds}: clamping or projecting "
            "breaks the acceptance ratio; use langevin, or RejectOutside(low, high)."
        )
    noise_std = math.sqrt(2 * step_size) if noise_std is None else noise_std
    if noise_std <= 0:
        raise ValueError("mala expects noise_std > 0, got 0: without noise no move can be reversed; use langevin.")

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_p, gradient = value_and_grad(log_density, x)
        sound = log_p.isfinite() & gradient.isfinite().flatten(1).all(dim=1)  # before clip, as in langevin
        return log_p, gradient if clip is None else clip(gradient), sound

    x = x.detach()
    log_p, gradient, sound = evaluate(x)
    if bounds is not None:  # no density outside: a chain that starts there takes the first step that leads inside
        log_p = torch.where(bounds.inside(x), log_p, -math.inf)
    accepted_share = torch.zeros((), device=x.device)
    finite = sound.all()
    if record is not None:
        record._see(0, steps, x)
    for t in range(steps):
        if should_stop is not None and should_stop():
            raise Stopped(f"mala stopped after {t} of {steps} steps.")
        xi = noise(x, generator)
        proposal = torch.add(x, gradient, alpha=step_size).add_(xi, alpha=noise_std)
        new_log_p, new_gradient, sound = evaluate(proposal)
        back = (x - proposal - step_size * new_gradient).flatten(1).square().sum(dim=1)
        forth = xi.flatten(1).square().sum(dim=1)
        log_ratio = new_log_p - log_p - (back / noise_std**2 - forth) / 2
        u = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device)
        accept = u.log() < log_ratio
        allowed = torch.ones_like(accept) if bounds is None else bounds.inside(proposal)
        accept = accept & allowed
        wide = per_chain(accept, x)
        x = torch.where(wide, proposal, x)
        gradient = torch.where(wide, new_gradient, gradient)
        log_p = torch.where(accept, new_log_p, log_p)
        # -inf says "not in the domain" and is rejected; NaN is an error, though no chain would accept it
        finite = finite & (sound | ~accept).all() & ~(new_log_p.isnan() & allowed).any()
        accepted_share += accept.float().mean()
        if record is not None:
            record._see(t + 1, steps, x)
        if (t + 1) % FINITE_CHECK_EVERY == 0 or t + 1 == steps:
            x = _checked("mala", finite, x, t + 1, step_size)
    if record is not None and steps:
        record.acceptance = float(accepted_share) / steps
    return x


def on_manifold_start(
    log_density: LogDensityFunction,
    decode: Callable[[Tensor], Tensor],
    z: Tensor,
    chain: LangevinChain,
    *,
    generator: torch.Generator | None = None,
    should_stop: StopFlag | None = None,
    record: ChainRecord | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a latent chain towards high density, then decode it: on-manifold initialisation of a visible chain.

    Args:
        log_density: Log-density of visible states, (B, *event) -> (B,), nats.
        decode: Decoder from latent to visible states, (B, *latent) -> (B, *event).
        z: Initial states of the latent chains, (B, *latent).
        chain: Settings of the latent chain on log_density(decode(z)).
        generator, should_stop, record: The arguments of langevin.

    Returns:
        Final latent states and the decoded start of the visible chain, both detached.

    Source: Yoon et al. (2021), arXiv:2105.05735, section 4.2.
    """
    z = chain(lambda z: log_density(decode(z)), z, generator=generator, should_stop=should_stop, record=record)
    with torch.no_grad():
        return z, decode(z)


@dataclass(frozen=True)
class LangevinChain:
    """Settings of langevin; called with a log-density and initial states, they run the chains."""

    steps: int
    step_size: float
    noise_std: float | Callable[[int], float] | None = None
    clip: Callable[[Tensor], Tensor] | None = None
    bounds: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        _check_chain("LangevinChain", self.steps, self.step_size, self.noise_std)

    def part(self, first: int, steps: int) -> LangevinChain:
        """Return the chain of updates first to first + steps - 1 of this one, counted from 0, with their annealed noise."""
        checks.whole("LangevinChain.part", "first", first, least=0)
        noise_std = self.noise_std
        later = (lambda t: noise_std(first + t)) if callable(noise_std) else noise_std
        return replace(self, steps=steps, noise_std=later)

    def __call__(self, log_density: LogDensityFunction, x: Tensor, **run: Any) -> Tensor:
        """Run the chain; `run` takes generator, should_stop and record."""
        return langevin(
            lambda x: value_and_grad(log_density, x)[1],
            x,
            steps=self.steps,
            step_size=self.step_size,
            noise_std=self.noise_std,
            clip=self.clip,
            bounds=self.bounds,
            **run,
        )


@dataclass(frozen=True)
class MalaChain:
    """Settings of mala; called with a log-density and initial states, they run the chains."""

    steps: int
    step_size: float
    noise_std: float | None = None
    clip: Callable[[Tensor], Tensor] | None = None
    bounds: RejectOutside | None = None

    def __post_init__(self) -> None:
        _check_chain("MalaChain", self.steps, self.step_size, self.noise_std)

    def part(self, first: int, steps: int) -> MalaChain:
        """Return the chain of updates first to first + steps - 1 of this one, counted from 0; all updates are alike."""
        checks.whole("MalaChain.part", "first", first, least=0)
        return replace(self, steps=steps)

    def __call__(self, log_density: LogDensityFunction, x: Tensor, **run: Any) -> Tensor:
        """Run the chain; `run` takes generator, should_stop and record."""
        return mala(
            log_density,
            x,
            steps=self.steps,
            step_size=self.step_size,
            noise_std=self.noise_std,
            clip=self.clip,
            bounds=self.bounds,
            **run,
        )


def value_and_grad(log_density: LogDensityFunction, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return log_density(x), (B,), and its gradient with respect to x, both detached.

    The sum over the batch is differentiated, so each row of the gradient belongs to one chain alone.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        values = log_density(x)
        (gradient,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), gradient


def effective_temperature(step_size: float, noise_std: float) -> float:
    """Return the temperature T at which an unadjusted chain samples p^(1/T): noise_std**2 / (2 * step_size)."""
    return noise_std**2 / (2 * step_size)


def noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw noise from N(0, I) with the shape, dtype and device of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _schedule(step_size: float, noise_std: float | Callable[[int], float] | None) -> Callable[[int], float]:
    if callable(noise_std):
        return noise_std
    constant = math.sqrt(2 * step_size) if noise_std is None else noise_std
    return lambda t: constant


def _check_chain(name: str, steps: int, step_size: float, noise_std: object) -> None:
    checks.whole(name, "steps", steps, least=0)
    checks.number(name, "step_size", step_size, above=0)
    if noise_std is not None and not callable(noise_std):
        checks.number(name, "noise_std", noise_std, least=0)


def _check_state(name: str, x: Tensor) -> None:
    if not torch.is_tensor(x) or not x.is_floating_point() or x.ndim == 0:
        kind = f"{x.dtype} {tuple(x.shape)}" if torch.is_tensor(x) else type(x).__name__
        raise ValueError(
            f"{name} expects a start of floating-point numbers (B, *event), got {kind}: chains cannot move in whole "
            "numbers; scale stored values first, or take torch.from_numpy(x).float()."
        )


def _doubt(x: Tensor) -> Tensor:
    """Return 0 if all entries of x are finite, else NaN (also if their sum overflows): cheaper than isfinite for each."""
    return x.sum() * 0.0


def _checked(name: str, finite: Tensor, x: Tensor, step: int, step_size: float) -> Tensor:
    """Return x if all states and gradients were finite, else raise; where the host cannot check, return NaN instead."""
    if not host_may_look():
        return torch.where(finite, x, math.nan)
    if not finite:  # the one wait for the device in a block of steps
        lost = int((~x.isfinite()).flatten(1).any(dim=1).sum())
        raise FloatingPointError(
            f"{name}: {lost or 'some'} of {len(x)} chains or their gradients became NaN or infinite within "
            f"{step} steps; lower step_size (now {step_size:g}) or clip the gradient."
        )
    return x
