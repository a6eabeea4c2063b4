"""What samples are compared by: energies, distances to the training images, spread of codes.

Imports: checks, metrics, models, study, its own folder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oodlab import checks, metrics
from oodlab.models import Autoencoder, inception_features
from oodlab.studies.nae.samples.chains import BATCH, FreshChains, OnManifoldSamples
from oodlab.study import Measured
from oodlab.study.method import Prepare

POOLED = 7  # pixels a side of the smallest images that still are digits
SPACES = ("pixels", "inception")
TEST = "test digits"

# ------------------------------------------------------------------------------------- Fréchet distances


def pooled_pixels(x: Tensor) -> Tensor:
    """Return images averaged to 7 x 7 pixels, (N, C, H, W) -> (N, 49 C)."""
    return F.adaptive_avg_pool2d(x, POOLED).flatten(1)


@functools.lru_cache(maxsize=1)
def _inception(device: torch.device) -> Callable[[Tensor], Tensor]:
    return inception_features(device)


def features(space: str, x: Tensor, device: torch.device) -> Tensor:
    """Return images in [0, 1], (N, C, H, W), in a space where distributions are compared, (N, D), on the CPU.

    Args:
        space: "pixels" averages to 7 x 7, "inception" asks Inception-v3.
        x: Images.
        device: Device that the network works on.

    Raises:
        FileNotFoundError: The weights of Inception-v3 are not here, and cannot be downloaded.
    """
    checks.one_of("features", "space", space, SPACES)
    return pooled_pixels(x) if space == "pixels" else _inception(device)(x)


@functools.lru_cache(maxsize=4)  # a tensor's hash is its own: training images, the same for all methods and seeds, once
def _features_of_training(space: str, stored: Tensor, prepare: Prepare, device: torch.device) -> Tensor:
    return features(space, prepare(stored), device)


# ------------------------------------------------------------------------------------------- likenesses


def nearest_images(x: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far each image is from the nearest of others, and which that is.

    Args:
        x: Images, (N, C, H, W).
        among: Others, (M, C, H, W).

    Returns:
        Mean squared difference per pixel, as a reconstruction error is, (N,); its index, (N,).
    """
    others = among.flatten(1)
    index = torch.cat([torch.cdist(part, others).argmin(dim=1) for part in x.flatten(1).split(BATCH)])
    return (x - among[index]).square().flatten(1).mean(dim=1), index


def way(drawn: OnManifoldSamples, among: Tensor, n: int) -> dict[str, np.ndarray]:
    """Return the first n images at each stage of their way, and the training images nearest to the samples, (n, H, W)."""
    rows = {
        "fresh codes, decoded": drawn.first,
        "after the latent chain": drawn.start,
        "sample": drawn.x,
        "nearest training image": among[nearest_images(drawn.x[:n], among)[1]],
    }
    return {name: x[:n, 0].numpy() for name, x in rows.items()}


@dataclass(frozen=True)
class Likeness:
    """How images compare with those of a training.

    Attributes:
        energies: Energies under the model, nats, (N,).
        far: Mean squared difference per pixel from the nearest training image, (N,).
        spread: Total variance of the codes: on the sphere 1 if they lie all over it, 0 if all are one.
        classes: Number of classes among the nearest training images.
    """

    energies: np.ndarray
    far: np.ndarray
    spread: float
    classes: int


@torch.no_grad()
def likeness(model: Autoencoder, x: Tensor, among: Tensor, labels: Tensor) -> Likeness:
    """Compare images with training images.

    Args:
        model: Autoencoder whose energy and codes are taken.
        x: Images, (N, C, H, W).
        among, labels: Training images, (M, C, H, W), and their classes, (M,).
    """
    place, parts = model.log_temperature.device, x.split(BATCH)
    codes = torch.cat([model.encode(part.to(place)) for part in parts]).flatten(1).double()
    energies = torch.cat([model.energy(part.to(place)) for part in parts]).cpu()
    far, index = nearest_images(x, among)
    spread = float(codes.var(dim=0, unbiased=False).sum())
    return Likeness(energies.numpy(), far.numpy(), spread, len(labels[index].unique()))


@dataclass(frozen=True)
class SampleNumbers:
    """What samples of a model are like, drawn by short and by long latent chains from the same codes.

    Called with a trained model it returns numbers named "<images>: <what>"; images are fresh codes decoded, starts
    (after the latent chain) and samples of both lengths, and test digits.

    Attributes:
        chains: Chains with the latent steps of the training; the seed is the training's.
        longer: How many times longer the long latent chains are.
        n: Samples whose distribution is compared.
        followed: Samples of which energies, codes and nearest training images are looked at.
        spaces: Spaces of Fréchet distances, of SPACES.
    """

    chains: FreshChains
    longer: int
    n: int
    followed: int
    spaces: tuple[str, ...]

    def __call__(self, given: Measured) -> Mapping[str, float]:
        """Draw, and compare with the training images."""
        model, device = given.models["model"], given.device
        short = replace(self.chains, seed=given.seed)
        latent = replace(short.latent_chain, steps=self.longer * short.latent_chain.steps)
        followed = min(self.followed, self.n)
        drawn = {
            name: chains(model, self.n, followed=followed)
            for name, chains in {"short": short, "long": replace(short, latent_chain=latent)}.items()
        }
        images = {
            "fresh codes": drawn["short"].first,
            **{f"start, {name}": of.start for name, of in drawn.items()},
            **{f"sample, {name}": of.x for name, of in drawn.items()},
            TEST: given.prepare(given.test[: self.n]),
        }
        train = given.prepare(given.train)
        seen = {name: likeness(model, x[:followed], train, given.labels) for name, x in images.items()}
        near = np.quantile(seen[TEST].far, 0.05)
        found: dict[str, float] = {}
        for name, one in seen.items():
            low, middle, high = np.quantile(one.energies, [0.1, 0.5, 0.9])
            numbers = {
                "energy": one.energies.mean(),
                "energy, 10 %": low,
                "energy, median": middle,
                "energy, 90 %": high,
                "nearest training image": np.median(one.far),
                "near copies": (one.far < near).mean(),
                "spread of codes": one.spread,
                "classes": one.classes,
            }
            found |= {f"{name}: {what}": float(value) for what, value in numbers.items()}
        for space in self.spaces:
            known = _features_of_training(space, given.train, given.prepare, device)
            for name, x in images.items():
                distance = metrics.frechet_distance(features(space, x, device), known)
                found[f"{name}: Fréchet distance, {space}"] = distance
        ends = [of.latent_energies[-1] for of in drawn.values()]
        return {**found, "long chains: end lower": float((ends[1] < ends[0]).float().mean())}
