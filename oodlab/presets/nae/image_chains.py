"""Samples of a normalized autoencoder of images, the way to them, and what they are compared by.

Imports: checks, models, objectives, samplers, its own folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oodlab import checks
from oodlab.models import Autoencoder, frozen, inception_features
from oodlab.objectives import OnManifold
from oodlab.presets.nae.image_parts import ValidationErrors, validation_errors
from oodlab.samplers import Box, ChainRecord, LangevinChain, on_manifold_start

BATCH = 500  # chains that run side by side
POOLED = 7  # pixels a side of the smallest images that still are digits


@dataclass(frozen=True)
class OnManifoldSamples:
    """Images on the way from fresh codes to samples, on the CPU.

    Attributes:
        first: Decoded fresh codes, (N, C, H, W).
        start: Decoded codes after the latent chain, (N, C, H, W).
        x: After the visible chain: samples, (N, C, H, W).
        latent_energies, visible_energies: Energies along the two chains, start and end among them, nats,
            (steps + 1, M) for the first M chains.
    """

    first: Tensor
    start: Tensor
    x: Tensor
    latent_energies: Tensor
    visible_energies: Tensor


@dataclass(frozen=True)
class FreshChains:
    """Draw samples by on-manifold initialisation from fresh codes, without a replay of earlier chains.

    Attributes:
        latent_chain, chain: Settings of the latent and of the visible chain.
        start_bounds: Region the decoded starts are clamped to.
        seed: Of codes and noise: equal seeds begin with equal codes, whatever the chains.
    """

    latent_chain: LangevinChain
    chain: LangevinChain
    start_bounds: Box | None
    seed: int

    @classmethod
    def of(cls, negatives: OnManifold, *, latent_steps: int, seed: int) -> FreshChains:
        """Take the chains of a training, with another number of latent steps."""
        latent_chain = replace(negatives.latent_chain, steps=latent_steps)
        return cls(latent_chain, negatives.chain, negatives.start_bounds, seed)

    def __call__(self, model: Autoencoder, like: Tensor, n: int, *, followed: int = 0) -> OnManifoldSamples:
        """Draw n samples.

        Args:
            model: Whose.
            like: Any of its codes, (B, latent, ...).
            n: Number of samples.
            followed: Chains whose energies are kept, at most BATCH.
        """
        checks.whole("FreshChains", "n", n, least=1)
        checks.whole("FreshChains", "followed", followed, least=0, most=min(n, BATCH))
        place = model.log_temperature.device
        generator = torch.Generator(place).manual_seed(self.seed)
        codes = model.latent_start(like.new_empty((n, *like.shape[1:]), device=place), generator)
        parts = [self._batch(model, z, generator, followed if i == 0 else 0) for i, z in enumerate(codes.split(BATCH))]
        images = [torch.cat([getattr(part, name) for part in parts]) for name in ("first", "start", "x")]
        return OnManifoldSamples(*images, parts[0].latent_energies, parts[0].visible_energies)

    def _batch(self, model: Autoencoder, z: Tensor, generator: torch.Generator, followed: int) -> OnManifoldSamples:
        latent, visible = (ChainRecord() if followed else None for _ in range(2))
        with frozen(model), torch.no_grad():
            first = model.decode(z)
            run = {"generator": generator}
            _, start = on_manifold_start(model.log_density, model.decode, z, self.latent_chain, record=latent, **run)
            if self.start_bounds is not None:
                start = self.start_bounds(start, start)
            x = self.chain(model.log_density, start, record=visible, **run)
            energies = [torch.empty(0, 0)] * 2
            if followed:
                on_way = [[model.decode(z[:followed]) for z in latent.states], [x[:followed] for x in visible.states]]
                energies = [torch.stack([model.energy(x).cpu() for x in states]) for states in on_way]
        return OnManifoldSamples(first.cpu(), start.cpu(), x.cpu(), *energies)


@dataclass(frozen=True)
class ErrorsAndChains:
    """Measure validation errors, and where fresh chains of one and the same randomness lead.

    Attributes:
        errors: Of validation images.
        chains: Of the samples.
        n: Number of samples.
    """

    errors: ValidationErrors
    chains: FreshChains
    n: int

    def __call__(self, model: Autoencoder) -> dict[str, Tensor]:
        """Return the errors by set, (N,) each, and "start" and "negatives", (n, 1, H, W)."""
        place = model.log_temperature.device
        images = next(iter(self.errors.sets.values()))[:1].to(place, torch.float32)
        with torch.no_grad():
            like = model.encode(images)
        drawn = self.chains(model, like, self.n)
        return {**self.errors(model), "start": drawn.start, "negatives": drawn.x}


def errors_and_chains(
    *,
    name: str,
    held_out: int,
    channels: int,
    side: int,
    n: int,
    latent_chain: LangevinChain,
    chain: LangevinChain,
    start_bounds: Box,
    samples: int,
    seed: int,
) -> ErrorsAndChains:
    """Build the measurement of n validation images of each kind (see validation_errors) and `samples` samples."""
    errors = validation_errors(name=name, held_out=held_out, channels=channels, side=side, n=n)
    return ErrorsAndChains(errors, FreshChains(latent_chain, chain, start_bounds, seed), samples)


# ------------------------------------------------------------------------------- what samples are compared by


def pooled_pixels(x: Tensor) -> Tensor:
    """Return images averaged to 7 x 7 pixels, (N, C, H, W) -> (N, 49 C)."""
    return F.adaptive_avg_pool2d(x, POOLED).flatten(1)


def image_features(names: Sequence[str]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return spaces in which distributions of images are compared: images in [0, 1], (N, C, H, W) -> (N, D).

    Args:
        names: "pixels" (averaged to 7 x 7) or "inception".

    Raises:
        FileNotFoundError: The weights of Inception-v3 are not here, and cannot be downloaded.
    """
    builders = {"pixels": lambda: pooled_pixels, "inception": inception_features}
    for name in names:
        checks.one_of("image_features", "features", name, tuple(builders))
    return {name: builders[name]() for name in names}


def nearest_images(x: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far each image is from the nearest of others, and which that is.

    Args:
        x: Images, (N, C, H, W).
        among: The others, (M, C, H, W).

    Returns:
        Mean squared difference per pixel, as a reconstruction error is, (N,); its index, (N,).
    """
    others = among.flatten(1)
    index = torch.cat([torch.cdist(part, others).argmin(dim=1) for part in x.flatten(1).split(BATCH)])
    return (x - among[index]).square().flatten(1).mean(dim=1), index


@dataclass(frozen=True)
class Likeness:
    """How images compare with those of a training.

    Attributes:
        energies: Under the model, nats, (N,).
        far: Mean squared difference per pixel from the nearest training image, (N,).
        spread: Total variance of the codes: on the sphere 1 if they lie all over it, 0 if all are one.
        classes: Number of classes among the nearest training images.
    """

    energies: np.ndarray
    far: np.ndarray
    spread: float
    classes: int

    @property
    def row(self) -> dict[str, float]:
        """Of a table."""
        return {
            "energy": float(self.energies.mean()),
            "nearest training image": float(np.median(self.far)),
            "spread of codes": self.spread,
            "classes": self.classes,
        }


@torch.no_grad()
def likeness(model: Autoencoder, x: Tensor, among: Tensor, labels: Tensor) -> Likeness:
    """Compare images with training images.

    Args:
        model: Whose energy and codes.
        x: Images, (N, C, H, W).
        among, labels: Training images, (M, C, H, W), and their classes, (M,).
    """
    place, parts = model.log_temperature.device, x.split(BATCH)
    codes = torch.cat([model.encode(part.to(place)) for part in parts]).flatten(1).double()
    energies = torch.cat([model.energy(part.to(place)) for part in parts]).cpu()
    far, index = nearest_images(x, among)
    spread = float(codes.var(dim=0, unbiased=False).sum())
    return Likeness(energies.numpy(), far.numpy(), spread, len(labels[index].unique()))
