"""Samples of a normalised autoencoder of images, and the way to them.

Imports: checks, models, objectives, samplers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oodlab import checks
from oodlab.models import Autoencoder, frozen
from oodlab.objectives import ManifoldChains
from oodlab.samplers import Box, ChainRecord, LangevinChain, on_manifold_start

BATCH = 500  # chains that run side by side


@dataclass(frozen=True)
class OnManifoldSamples:
    """Images on the way from fresh codes to samples, on the CPU.

    Attributes:
        first: Decoded fresh codes, (N, C, H, W).
        start: Decoded codes after the latent chain, (N, C, H, W).
        x: Images after the visible chain: samples, (N, C, H, W).
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
        latent_chain, chain: Chains of codes and of images.
        start_bounds: Region that decoded starts are clamped to.
        places: Shape of a code after its `latent` numbers.
        seed: Seed of codes and noise: equal seeds begin with equal codes, whatever the chains.
    """

    latent_chain: LangevinChain
    chain: LangevinChain
    start_bounds: Box | None
    places: tuple[int, ...] = (1, 1)
    seed: int = 0

    @classmethod
    def of(cls, training: ManifoldChains, *, longer: int = 1, seed: int = 0) -> FreshChains:
        """Take the chains of a training, with so many times its latent steps."""
        latent_chain = replace(training.latent_chain, steps=longer * training.latent_chain.steps)
        return cls(latent_chain, training.chain, training.start_bounds, training.places, seed)

    def __call__(self, model: Autoencoder, n: int, *, followed: int = 0) -> OnManifoldSamples:
        """Draw n samples.

        Args:
            model: Autoencoder whose energy the chains descend.
            n: Number of samples.
            followed: Chains whose energies are kept, at most BATCH.
        """
        checks.whole("FreshChains", "n", n, least=1)
        checks.whole("FreshChains", "followed", followed, least=0, most=min(n, BATCH))
        place = model.log_temperature.device
        generator = torch.Generator(place).manual_seed(self.seed)
        codes = model.latent_start(torch.empty(n, model.latent, *self.places, device=place), generator)
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
