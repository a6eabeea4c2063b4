"""Maximum likelihood against a learned generator instead of chains, for a density known up to a constant.

log Z = max over q of E_q f + H(q): the generator plays q, and raises that bound while
the energy model lowers f where q puts its inputs.

Imports: checks, objectives.autoencoding, models, samplers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models.generators import EnergyWithGenerator, NoisyGenerator
from oodlab.objectives.autoencoding import Parts
from oodlab.samplers import value_and_grad


class VariationalLikelihood(nn.Module):
    """The losses of VERA for its three players, in one step.

    The energy model descends -(mean f(data) - mean f(generated)) + gradient_penalty / 2 *
    mean ||grad_x f(data)||^2; the generator ascends mean f(generated) + entropy_weight *
    H(q); the proposal of its latents descends its KL divergence to q(h | x). Each player's
    gradient reaches its own parameters only, and all three are those of the same
    weights: the published algorithm lets the players move one after the other.

    The value of "loss" is the energy model's. H(q) is not known, only its gradient; so
    it appears nowhere among the numbers.

    Args:
        entropy_weight: lambda; >= 0. Below 1 the generator's optimum is p^(1 / lambda).
        proposals: Number K of latents per input in the estimate of grad_x log q.
        gradient_penalty: Weight of half the squared gradient on data; >= 0.
        std_bounds: Smallest and largest noise of the generator; it is set back to them before every step.

    Source: Grathwohl et al. (2021), arXiv:2010.04230.
    """

    advice = "a larger gradient_penalty, a lower rate of the generator"

    def __init__(
        self, *, entropy_weight: float, proposals: int, gradient_penalty: float, std_bounds: tuple[float, float]
    ) -> None:
        super().__init__()
        for name, value in {"entropy_weight": entropy_weight, "gradient_penalty": gradient_penalty}.items():
            checks.number("VariationalLikelihood", name, value, least=0)
        checks.whole("VariationalLikelihood", "proposals", proposals, least=1)
        lowest, highest = std_bounds
        checks.number("VariationalLikelihood", "the lowest std", lowest, above=0)
        checks.number("VariationalLikelihood", "the highest std", highest, least=lowest)
        self.entropy_weight, self.proposals, self.gradient_penalty = entropy_weight, proposals, gradient_penalty
        self.std_bounds = std_bounds

    def forward(
        self,
        model: EnergyWithGenerator,
        x: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **run: Any,
    ) -> Parts:
        """Return the loss, mean log-densities of data and generated inputs, the first minus the second, the penalty and both stds."""
        q = model.generator
        with torch.no_grad():
            q.log_std.clamp_(*map(math.log, self.std_bounds))
        generated, h = q.draw(len(x), generator=generator)
        negatives = generated.detach().requires_grad_()
        x = x.detach().requires_grad_()
        f_data, f_generated = model.log_density(x), model.log_density(negatives)
        (ascent,) = torch.autograd.grad(f_generated.sum(), negatives, retain_graph=True)
        gap = f_data.mean() - f_generated.mean()
        loss = -gap
        penalty = x.new_zeros(())
        if self.gradient_penalty:
            (slope,) = torch.autograd.grad(f_data.sum(), x, create_graph=True)
            penalty = slope.flatten(1).square().sum(dim=1).mean() / 2
            loss = loss + self.gradient_penalty * penalty
        if self.entropy_weight:
            entropy_ascent = negative_stein_score(q, generated, h, proposals=self.proposals, generator=generator)
            ascent = ascent + self.entropy_weight * entropy_ascent
        generator_loss = -(ascent * generated).flatten(1).sum(dim=1).mean()
        others = generator_loss + proposal_loss(q, generated, h, generator=generator)
        return {
            "loss": loss + (others - others.detach()),  # gradients of the other players, and no value
            "f_data": f_data.detach().mean(),
            "f_generated": f_generated.detach().mean(),
            "log_density_gap": gap.detach(),
            "gradient_penalty": penalty.detach(),
            "generator_std": q.log_std.detach().exp(),
            "proposal_std": q.log_proposal_std.detach().exp().mean(),
            "generated": generated.detach(),
        }


@torch.no_grad()
def negative_stein_score(
    q: NoisyGenerator, x: Tensor, h: Tensor, *, proposals: int, generator: torch.Generator | None = None
) -> Tensor:
    """Estimate -grad_x log q(x) = E [ (x - g(h')) / std^2 ] over h' ~ q(h' | x), detached, shape of x.

    Self-normalised importance sampling from N(h, proposal_std^2). Its product with x has,
    averaged over x ~ q, the gradient of H(q) by the generator's parameters (not its
    value). A proposal much narrower than the posterior makes it the gradient of H(x | h)
    instead, the entropy of the noise alone: watch proposal_std. With batch normalisation
    the proposals share one batch of their own.

    Args:
        q: The generator.
        x: Inputs it made, (B, *event).
        h: The latents it made them from, (B, latent).
        proposals: Draws per input.
        generator: Source of randomness.

    Source: Grathwohl et al. (2021), arXiv:2010.04230.
    """
    std = q.log_proposal_std.exp()
    xi = torch.randn(proposals, *h.shape, generator=generator, dtype=h.dtype, device=h.device)
    latents = h + std * xi
    flat = latents.flatten(0, 1)
    misfit = (x - q.mean(flat).reshape(proposals, *x.shape)) / q.log_std.exp()
    log_joint_density = -(misfit.flatten(2).square().sum(dim=2) + latents.square().sum(dim=2)) / 2
    weights = torch.softmax(log_joint_density + xi.square().sum(dim=2) / 2, dim=0)  # constants cancel
    return (weights.reshape(*weights.shape, *[1] * (x.ndim - 1)) * misfit).sum(dim=0) / q.log_std.exp()


def proposal_loss(q: NoisyGenerator, x: Tensor, h: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return what has the gradient, by log_proposal_std only, of KL(N(h, proposal_std^2) || q(h' | x)), mean over the batch."""
    xi = torch.randn(h.shape, generator=generator, dtype=h.dtype, device=h.device)
    latents = h + q.log_proposal_std.exp() * xi
    _, slope = value_and_grad(lambda latents: q.log_joint_prob(x, latents), latents)
    return -(slope * latents).sum(dim=1).mean() - q.log_proposal_std.sum()
