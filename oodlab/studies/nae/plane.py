"""Networks, chains and densities of the plane, as the studies of `nae` in two dimensions share them.

"released" is the authors' code (swyoon/normalized-autoencoders): the paper prints no number of
these trainings but the networks (table 10).

Imports: pandas, grids, models, objectives, samplers, training.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor, nn

from oodlab import grids
from oodlab.grids import GridDensity
from oodlab.models import Autoencoder, ResidualMLP, VariationalAutoencoder
from oodlab.objectives import ManifoldChains, SquaredError
from oodlab.samplers import Box, LangevinChain, MalaChain, RejectOutside, Sphere
from oodlab.training import Result

INSIDE = RejectOutside(-5.0, 5.0)  # released: a proposal outside is rejected
LATENT_CHAIN = LangevinChain(steps=10, step_size=0.005, noise_std=0.1)  # released
CHAIN = MalaChain(steps=30, step_size=0.005, noise_std=0.1, bounds=INSIDE)  # released
CAPACITY, RESTART = 10_000, 0.05  # released: replay ratio 0.95
ENERGY_PENALTY = 1.0  # released
LATENT_PENALTY = 0.01  # released: where codes are not on the sphere
T_RATE = 100.0  # text: rate of log T over that of the network


@dataclass(frozen=True)
class Width:
    """Size of a residual network of the plane, arguments of models.ResidualMLP."""

    width: int
    hidden: int
    blocks: int

    def __call__(self, inputs: int, outputs: int) -> ResidualMLP:
        """Build a network with fresh weights."""
        return ResidualMLP(inputs, outputs, width=self.width, hidden=self.hidden, blocks=self.blocks)


FCRES2 = Width(256, 1024, 5)  # table 10
MEDIUM = Width(96, 192, 2)  # ours
SMALL = Width(64, 128, 2)  # ours
TINY = Width(16, 32, 1)  # ours


@dataclass(frozen=True)
class PlaneAutoencoder:
    """Autoencoder of the plane: called, it builds the network.

    Attributes:
        size: Size of encoder and decoder.
        latent: Numbers in a code.
        temperature: Temperature before the first update.
        sphere: Whether codes lie on the unit sphere.
        fixed: Whether the decoder, and with it the manifold of reconstructions, stays as it is.
    """

    size: Width
    latent: int
    temperature: float
    sphere: bool = False
    fixed: bool = False

    def __call__(self) -> Autoencoder:
        """Build it with fresh weights."""
        halves = self.size(2, self.latent), self.size(self.latent, 2)
        model = Autoencoder(*halves, latent=self.latent, sphere=self.sphere, temperature=self.temperature)
        model.decoder.requires_grad_(not self.fixed)
        return model


@dataclass(frozen=True)
class PlaneVAE:
    """Variational autoencoder of the plane; `samples` are the importance samples of its likelihood."""

    size: Width
    latent: int
    samples: int

    def __call__(self) -> VariationalAutoencoder:
        """Build it with fresh weights."""
        halves = self.size(2, 2 * self.latent), self.size(self.latent, 2)
        return VariationalAutoencoder(*halves, latent=self.latent, samples=self.samples)


def manifold_chains(latent_steps: int, steps: int, *, sphere: bool = False) -> ManifoldChains:
    """Return on-manifold initialisation with chains of some lengths."""
    return ManifoldChains(
        replace(LATENT_CHAIN, steps=latent_steps, bounds=Sphere() if sphere else None),
        replace(CHAIN, steps=steps),
        CAPACITY,
        RESTART,
        start_bounds=Box(INSIDE.low, INSIDE.high),  # released for images: starts are clamped to the data's range
    )


# --------------------------------------------------------------------------- what was learned, as a density


def learned(result: Result, fit: Tensor, points: int) -> tuple[nn.Module, GridDensity]:
    """Return a trained model with its temperature, and its density on the grid.

    The loss of a plain autoencoder knows no temperature: it gets the most likely one of some points.

    Args:
        result: A training.
        fit: Points that the temperature is fitted to, (N, 2).
        points: Grid lines per axis.
    """
    model = copy.deepcopy(result.model)
    place = next(model.parameters()).device
    if isinstance(result.objective, SquaredError):
        best = grids.best_temperature(model.reconstruction_error, fit, points=points, device=place)
        model.log_temperature.data.fill_(math.log(best))
    return model, grids.normalise(model.log_density, points=points, device=place)


def density_numbers(model: nn.Module, grid: GridDensity, test: Tensor) -> dict[str, float]:
    """Return how likely a density makes points, and how far its normaliser can be trusted.

    Args:
        model, grid: Model and its density on a grid, as learned returns them.
        test: Fresh points, (N, 2).
    """
    place = next(model.parameters()).device
    numbers = {
        "NLL": grids.negative_log_likelihood(model.log_density, test.to(place), grid),
        "refinement error": grid.refinement_error,
        "mass outside": grids.mass_outside(model.log_density, grid, device=place),
    }
    return {**numbers, "T": float(model.temperature.detach())} if isinstance(model, Autoencoder) else numbers


def of_quantity(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return a measured number: a line per seed, a column per method."""
    return rows[rows["quantity"] == quantity].pivot(index="seed", columns="method", values="value")
