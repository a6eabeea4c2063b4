"""The setting of nae/linear_case: section 7 and appendix A.2.

The paper has no experiment there, so all numbers are ours.

Imports: data, models, objectives, samplers, training, presets.base, its own folder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from oodlab.data import exact_gaussian
from oodlab.models import Autoencoder, LinearNAE, linear_autoencoder, most_likely_linear_nae
from oodlab.objectives import maximum_likelihood, reconstruction
from oodlab.presets.base import Experiment, Preset
from oodlab.presets.nae.parts import by_contrast, on_manifold, only
from oodlab.samplers import Box, LangevinChain, MalaChain, RejectOutside
from oodlab.training import LinearTail, Shuffled, adam

Covariance = tuple[tuple[float, ...], ...]

# --------------------------------------------------------- what the settings below are composed of


def tied_autoencoder(*, dims: int, latent: int, temperature: float, weight_std: float) -> Autoencoder:
    """Build a linear autoencoder with weights drawn from N(0, weight_std^2)."""
    return linear_autoencoder(weight_std * torch.randn(latent, dims), temperature=temperature)


def tied_density(**size: float) -> LinearNAE:
    """Build the same as a normalised density."""
    return LinearNAE(tied_autoencoder(**size))


def points_of(*, covariance: Covariance, n: int, batch_size: int, seed: int) -> Shuffled:
    """Build batches of n points whose own second moments are exactly the covariance."""
    x = exact_gaussian(n, torch.tensor(covariance), torch.Generator().manual_seed(seed))
    return Shuffled(x, None, batch_size, seed)


@dataclass(frozen=True)
class Excess:
    """How far a linear model's expected NLL lies above the least one of its size, in nats, without sampling error."""

    covariance: Covariance

    def __call__(self, model: LinearNAE | Autoencoder) -> dict[str, Tensor]:
        """Return {"excess": a scalar}."""
        model = copy.deepcopy(model).cpu().double()
        density = model if isinstance(model, LinearNAE) else LinearNAE(model)
        covariance = torch.tensor(self.covariance, dtype=torch.float64)
        least = most_likely_linear_nae(covariance, density.autoencoder.latent).nll
        return {"excess": density.expected_nll(covariance).detach() - least}


# -------------------------------------------------------------------------------------- the trainings

_LINEAR = "nae/linear_case"
SPACE = ((3.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 0.1))
PLANE = ((1.5625, 0.7578), (0.7578, 0.6875))  # variances 2 and 1/4 along axes turned by 30 degrees
_UNSTATED = (
    "model: no experiment in the paper; weights start from N(0, 1) where the gradient is exact, so that eigenvalues of "
    "W^T W lie on both sides of 1, and from N(0, 0.09), nearly all below 1, where negatives are sampled",
    "batches: ours: variances 3, 2 and 0.1 in space, 2 and 0.25 in the plane; the points' own moments are exactly these",
    "objective: ours: 30 MALA steps (with 15, OMI stayed 0.1 nats above the optimum) and no penalty, so that the negatives alone tell it from the exact gradient; one run "
    "has the paper's penalty",
    "optimiser: ours",
    "steps: ours",
    "schedule: ours",
    "probe: ours",
    "probes: ours",
)


def _preset(variant: str, model: partial, objective: Callable, covariance: Covariance, **changes: dict) -> Preset:
    """Fill in what all trainings of this experiment share."""
    given = {"n": 500, "batch_size": 500, **changes.get("batches", {})}
    return Preset(
        name=f"{_LINEAR}/{variant}",
        model=model,
        objective=objective,
        batches=partial(points_of, covariance=covariance, seed=0, **given),
        optimiser=partial(adam, **{"lr": 0.03, "lr_of": {}, **changes.get("optimiser", {})}),
        steps=3000,
        schedule=LinearTail(0.5),
        unstated=_UNSTATED,
        profiles={"quick": {"steps": 600}, "smoke": {"steps": 4, **changes.get("smoke", {})}},
        **changes.get("own", {}),
    )


def _exact(latent: int, temperature: float | None) -> Preset:
    model = {"dims": 3, "latent": latent, "temperature": temperature or 1.0, "weight_std": 1.0}
    return _preset(
        f"{f't{temperature:g}'.replace('.', '-') if temperature else 'free'}-{latent}",
        partial(tied_density, **model),
        partial(only, objective=maximum_likelihood),
        SPACE,
        # a rate of 0 keeps T as it is
        optimiser={"lr_of": {"autoencoder.log_temperature": 0.0}} if temperature else {},
    )


def _plane(variant: str, latent: int, build: Callable[..., nn.Module], objective: Callable) -> Preset:
    model = partial(build, dims=2, latent=latent, temperature=1.0, weight_std=1.0)
    return _preset(f"{variant}-plane-{latent}", model, partial(only, objective=objective), PLANE)


def _probed(variant: str, model: Callable[..., nn.Module], objective: Callable, **changes: dict) -> Preset:
    return _preset(
        variant,
        partial(model, dims=3, latent=2, temperature=1.0, weight_std=0.3),
        objective,
        SPACE,
        optimiser={"lr": 0.01},
        own={"probe": partial(Excess, covariance=SPACE), "probes": 60},
        smoke={"probes": 2, **changes.pop("smoke", {})},
        **changes,
    )


def _sampled(variant: str, objective: Callable, *, energy_penalty: float = 0.0, **given: object) -> Preset:
    chain = MalaChain(steps=30, step_size=0.02, noise_std=0.2, bounds=RejectOutside(-10.0, 10.0))
    return _probed(
        variant,
        tied_autoencoder,
        partial(objective, chain=chain, energy_penalty=energy_penalty, latent_penalty=0.0, **given),
        batches={"batch_size": 100},
        smoke={"batches": {"batch_size": 20}},
    )


_MANIFOLD = {
    "capacity": 10_000,
    "restart": 0.05,
    "latent_chain": LangevinChain(steps=10, step_size=0.02, noise_std=0.2),
    "start_bounds": Box(-10.0, 10.0),
}
TEMPERATURES = {"T free": None, "T = 0.2": 0.2, "T = 1": 1.0, "T = 4": 4.0}

LINEAR_CASE = Experiment(
    name=_LINEAR,
    runs={
        **{
            f"{title}, D_z = {latent}": _exact(latent, temperature)
            for title, temperature in TEMPERATURES.items()
            for latent in (1, 2, 3, 4)
        },
        **{f"plane AE, D_z = {latent}": _plane("ae", latent, tied_autoencoder, reconstruction) for latent in (1, 2)},
        **{f"plane NAE, D_z = {latent}": _plane("nae", latent, tied_density, maximum_likelihood) for latent in (1, 2)},
        "exact gradient": _probed("exact", tied_density, partial(only, objective=maximum_likelihood)),
        "CD": _sampled("cd", by_contrast),
        "OMI": _sampled("omi", partial(on_manifold, **_MANIFOLD)),
        "OMI with energy penalty": _sampled("omi-penalty", partial(on_manifold, **_MANIFOLD), energy_penalty=1.0),
    },
    seeds=5,
    settings={
        "temperatures": tuple(temperature for temperature in TEMPERATURES.values() if temperature),
        "few_seeds": 2,
        "grid_points": 161,
        "chains": 4000,
        "tolerance": 1e-3,
    },
    unstated=(
        "seeds: ours",
        "settings: ours; the sampled and the probed trainings have few_seeds, the plane's one",
        "The paper's energy of section 7 has no mean over dimensions: its temperature is D times the one here.",
    ),
    profiles={
        "smoke": {"seeds": 1, "settings": {"few_seeds": 1, "grid_points": 41, "chains": 200}},
    },
    shrinks={
        "paper": "3,000 updates per training.",
        "quick": "Quick profile: 600 updates per training instead of 3,000.",
        "smoke": "Smoke profile: 4 updates, to show that everything runs; the numbers mean nothing.",
    },
)
