"""Generators: networks that map noise to inputs, and their distribution, against which an energy model is trained.

Imports: checks, models.energy, models.joint.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models.energy import EnergyModel
from oodlab.models.joint import JointEnergy

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
ONE_THREAD_FEATURES = 32  # features up to which two threads take as long as one, on 16 x 16 pixels


class TableGenerator(nn.Sequential):
    """A generator of a table's rows, (B, latent) -> (B, outputs).

    Its layers are linear without bias, each but the last with batch normalisation and an activation.

    Source: released code of Elflein et al. (2021), arXiv:2107.08785.
    """

    def __init__(
        self, latent: int, hidden: Sequence[int], outputs: int, activation: Callable[[], nn.Module] = nn.LeakyReLU
    ) -> None:
        checks.layers("TableGenerator", {"latent": latent, "outputs": outputs}, hidden)
        widths = [latent, *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), activation()]
        super().__init__(*layers, nn.Linear(widths[-1], outputs, bias=False))


class ImageGenerator(nn.Module):
    """A generator of images in [-1, 1], (B, latent) -> (B, channels, side, side).

    A linear layer makes a 4 x 4 feature map, each residual block doubles its side, and tanh ends it.

    Args:
        latent: Number of noise dimensions.
        channels: Channels of the images.
        features: Channels of the feature maps.
        side: Side of the images in pixels; 4 times a power of two.

    Source: Miyato et al. (2018), arXiv:1802.05957, as in the released code of Grathwohl
    et al. (2021), arXiv:2010.04230, with the same number of channels in every block.
    """

    def __init__(self, *, latent: int, channels: int, features: int, side: int) -> None:
        super().__init__()
        sizes = {"latent": latent, "channels": channels, "features": features, "side": side}
        checks.layers("ImageGenerator", sizes)
        blocks = max(side // 4, 1).bit_length() - 1
        if side != 4 * 2**blocks:
            raise ValueError(f"ImageGenerator expects a side of 4 times a power of two, got {side}: resize the images.")
        self.features = features
        self.one_thread = features <= ONE_THREAD_FEATURES
        self.first = nn.Linear(latent, 4 * 4 * features)
        self.blocks = nn.Sequential(*(Doubling(features) for _ in range(blocks)))
        self.last = nn.Sequential(
            nn.BatchNorm2d(features), nn.ReLU(), nn.Conv2d(features, channels, 3, padding=1), nn.Tanh()
        )
        nn.init.xavier_uniform_(self.first.weight)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2))

    def forward(self, h: Tensor) -> Tensor:
        """Return images, (B, latent) -> (B, channels, side, side)."""
        return self.last(self.blocks(self.first(h).reshape(len(h), self.features, 4, 4)))


class Doubling(nn.Module):
    """A residual block that doubles the side, (B, features, H, W) -> (B, features, 2 H, 2 W).

    The upsampled input is added to normalisation, ReLU, upsampling, convolution, normalisation, ReLU, convolution.

    Args:
        features: Channels of the feature maps.
        norm: Class of the normalisation, called with the number of channels.
    """

    def __init__(self, features: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.twice_as_large = nn.Upsample(scale_factor=2)
        self.branch = nn.Sequential(
            norm(features),
            nn.ReLU(),
            self.twice_as_large,
            nn.Conv2d(features, features, 3, padding=1),
            norm(features),
            nn.ReLU(),
            nn.Conv2d(features, features, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps with doubled side, (B, features, H, W) -> (B, features, 2 H, 2 W)."""
        return self.twice_as_large(x) + self.branch(x)


class NoisyGenerator(nn.Module):
    """The distribution q of x = g(h) + std * xi, h ~ N(0, I), xi ~ N(0, I).

    Beside g the module has a proposal N(h, proposal_std^2) of latents that could have generated
    an x, where h is the latent that did; with it the gradient of the entropy is estimated.

    Args:
        network: The network g, (B, latent) -> (B, *event).
        latent: Number of dimensions of h.
        std: Initial standard deviation of the noise in units of x, learned as log_std.
        proposal_std: Initial standard deviation of the proposal, learned for each latent dimension.

    Source: Grathwohl et al. (2021), arXiv:2010.04230.
    """

    def __init__(self, network: nn.Module, latent: int, *, std: float, proposal_std: float) -> None:
        super().__init__()
        checks.whole("NoisyGenerator", "latent", latent, least=1)
        for name, value in {"std": std, "proposal_std": proposal_std}.items():
            checks.number("NoisyGenerator", name, value, above=0)
        self.network, self.latent = network, latent
        self.log_std = nn.Parameter(torch.tensor(math.log(std)))
        self.log_proposal_std = nn.Parameter(torch.full((latent,), math.log(proposal_std)))

    def draw(self, n: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw n inputs, differentiable by g's weights and log_std, and their latents: (n, *event), (n, latent)."""
        like = self.log_proposal_std
        h = torch.randn(n, self.latent, generator=generator, dtype=like.dtype, device=like.device)
        mean = self.mean(h)
        xi = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + self.log_std.exp() * xi, h

    def mean(self, h: Tensor) -> Tensor:
        """Return g(h), never in reduced precision, (B, latent) -> (B, *event)."""
        with torch.autocast(h.device.type, enabled=False):  # in bfloat16 it would be off by as much as the noise
            return self.network(h)

    def log_joint_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Return log q(x, h), nats, (B, *event) and (B, latent) -> (B,)."""
        misfit = ((x - self.mean(h)) / self.log_std.exp()).flatten(1)
        log_likelihood = (-misfit.square() / 2 - self.log_std - LOG_SQRT_2PI).sum(dim=1)
        return log_likelihood + (-h.square() / 2 - LOG_SQRT_2PI).sum(dim=1)


class EnergyWithGenerator(EnergyModel):
    """An energy model together with the generator whose samples replace Markov chains in its training.

    Its density is that of the energy model; the generator has no part in it.

    Args:
        energy_model: The energy model, whose outputs may be classes.
        generator: Generator of inputs of the shape that the energy model takes.
    """

    def __init__(self, energy_model: JointEnergy, generator: NoisyGenerator) -> None:
        super().__init__()
        self.energy_model, self.generator = energy_model, generator

    def energy(self, x: Tensor) -> Tensor:
        """Return the energy model's energy, nats, (B,)."""
        return self.energy_model.energy(x)

    def logits(self, x: Tensor) -> Tensor:
        """Return the energy model's outputs, (B, C)."""
        return self.energy_model.logits(x)

    def log_joint_density(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the energy model's log p(x, y) up to a constant, nats, (B,)."""
        return self.energy_model.log_joint_density(x, y)
