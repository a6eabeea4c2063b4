"""What the experiments on normalized autoencoders are composed of.

Imports: models, objectives, replay, samplers.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from oodlab.models import Autoencoder, ResidualMLP, VariationalAutoencoder
from oodlab.objectives import FromData, FromReplay, NormalizedLikelihood, OnManifold
from oodlab.replay import ReplayBuffer, Uniform
from oodlab.samplers import Box, LangevinChain, MalaChain

Chain = LangevinChain | MalaChain


def plane_autoencoder(
    *, latent: int, sphere: bool, temperature: float, width: int, hidden: int, blocks: int
) -> Autoencoder:
    """Build an autoencoder of the plane from two residual MLPs."""
    size = {"width": width, "hidden": hidden, "blocks": blocks}
    return Autoencoder(
        ResidualMLP(2, latent, **size),
        ResidualMLP(latent, 2, **size),
        latent=latent,
        sphere=sphere,
        temperature=temperature,
    )


def plane_vae(*, latent: int, width: int, hidden: int, blocks: int, samples: int) -> VariationalAutoencoder:
    """Build a variational autoencoder of the plane from two residual MLPs."""
    size = {"width": width, "hidden": hidden, "blocks": blocks}
    return VariationalAutoencoder(
        ResidualMLP(2, 2 * latent, **size), ResidualMLP(latent, 2, **size), latent=latent, samples=samples
    )


def only(model: nn.Module, *, objective: Callable) -> Callable:
    """Use an objective that needs nothing of the model to be built."""
    return objective


def by_contrast(model: nn.Module, *, chain: Chain, **weights: float) -> NormalizedLikelihood:
    """Train by contrastive divergence: chains start at the data."""
    return NormalizedLikelihood(FromData(chain), **weights)


def by_persistence(
    model: nn.Module,
    *,
    chain: Chain,
    capacity: int,
    restart: float,
    low: float,
    high: float,
    shape: tuple[int, ...] = (2,),
    **weights: float,
) -> NormalizedLikelihood:
    """Train by persistent contrastive divergence from uniform first states."""
    replay = ReplayBuffer(capacity, shape, start=Uniform(low, high), restart=restart, fifo=True)
    return NormalizedLikelihood(FromReplay(chain, replay), **weights)


def on_manifold(
    model: Autoencoder,
    *,
    latent_chain: LangevinChain,
    chain: Chain,
    capacity: int,
    restart: float,
    start_bounds: Box,
    places: tuple[int, ...] = (),
    **weights: float,
) -> NormalizedLikelihood:
    """Train with on-manifold initialisation of the chains; codes have the shape (latent, *places)."""
    replay = ReplayBuffer(capacity, (model.latent, *places), start=model.latent_start, restart=restart, fifo=True)
    return NormalizedLikelihood(OnManifold(latent_chain, chain, replay, start_bounds=start_bounds), **weights)
