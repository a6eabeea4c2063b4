"""Sources of negatives: the samples of the negative phase of a contrastive objective.

Each class is one published way to start the chains; the chain itself is a
setting (samplers.LangevinChain, samplers.MalaChain).  Called with a model and a
data batch, it returns negatives, detached; what it keeps between calls (a replay
buffer) is part of its state_dict.

Imports: checks, samplers, models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models import Autoencoder, EnergyModel, frozen
from oodlab.samplers import Box, LangevinChain, MalaChain, ReplayBuffer, on_manifold_start

Chain = LangevinChain | MalaChain
_CHAIN = "LangevinChain(...) or MalaChain(...)"


@dataclass(frozen=True)
class Negatives:
    """Negatives of one step.

    Attributes:
        x: Final states of the visible chains, (B, *event).
        start: Their starts, (B, *event).
        z: Latent codes the starts were decoded from, for on-manifold initialisation.
    """

    x: Tensor
    start: Tensor
    z: Tensor | None = None


class FromData(nn.Module):
    """Contrastive divergence: chains start at the data batch.

    Source: Hinton (2002).
    """

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        checks.function("FromData", "chain", chain, instead=_CHAIN)
        self.chain = chain

    def forward(self, model: EnergyModel, x: Tensor, **run: Any) -> Negatives:
        """Return negatives of the batch's size; `run` takes generator, should_stop and record."""
        with frozen(model):
            return Negatives(self.chain(model.log_density, x, **run), start=x)


class FromReplay(nn.Module):
    """Persistent contrastive divergence: chains go on from earlier final states.

    A replay divided into classes makes the chains class-conditional: each draws its
    class uniformly and follows log p(x, y) of a JointEnergy.

    Source: Tieleman (2008); restarts as in Du & Mordatch (2019), class-conditional
    chains as in the released code of Elflein et al. (2021), arXiv:2107.08785.
    """

    def __init__(self, chain: Chain, replay: ReplayBuffer) -> None:
        super().__init__()
        checks.function("FromReplay", "chain", chain, instead=_CHAIN)
        self.chain, self.replay = chain, replay

    def forward(self, model: EnergyModel, x: Tensor, **run: Any) -> Negatives:
        """Return negatives of the batch's size; `run` takes generator, should_stop and record."""
        generator, log_density, classes = run.get("generator"), model.log_density, None
        if self.replay.classes > 1:
            classes = torch.randint(self.replay.classes, (len(x),), generator=generator, device=x.device)
            log_density = partial(model.log_joint_density, y=classes)
        start, slots = self.replay.draw(len(x), y=classes, generator=generator)
        with frozen(model):
            negatives = self.chain(log_density, start, **run)
        self.replay.write(negatives, slots)
        return Negatives(negatives, start=start)


class OnManifold(nn.Module):
    """On-manifold initialisation: a latent chain, decoded, starts the visible chain.

    Both chains run on the model's density, the latent one on that of its decoded
    point. Final latent states are kept in the replay buffer, visible ones are not.

    Args:
        latent_chain: Settings of the latent chain.
        chain: Settings of the visible chain.
        replay: Replay of latent states.
        start_bounds: Region the decoded starts are clamped to; outside its own bounds
            a rejecting visible chain could not move.

    Source: Yoon et al. (2021), arXiv:2105.05735, section 4.2 and Algorithm 1.
    """

    def __init__(
        self, latent_chain: LangevinChain, chain: Chain, replay: ReplayBuffer, *, start_bounds: Box | None = None
    ) -> None:
        super().__init__()
        for name, settings in {"latent_chain": latent_chain, "chain": chain}.items():
            checks.function("OnManifold", name, settings, instead=_CHAIN)
        self.latent_chain, self.chain, self.replay = latent_chain, chain, replay
        self.start_bounds = start_bounds

    def forward(self, model: Autoencoder, x: Tensor, **run: Any) -> Negatives:
        """Return negatives of the batch's size; `run` takes generator, should_stop and record (visible chain)."""
        record = run.pop("record", None)
        z, slots = self.replay.draw(len(x), generator=run.get("generator"))
        with frozen(model):
            z, start = on_manifold_start(model.log_density, model.decode, z, self.latent_chain, **run)
            if self.start_bounds is not None:
                start = self.start_bounds(start, start)
            negatives = self.chain(model.log_density, start, record=record, **run)
        self.replay.write(z, slots)
        return Negatives(negatives, start=start, z=z)
