"""What published code does, for comparison: float32, contiguous images, parameters that require gradients."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from oodlab.detectors.base import in_float32
from oodlab.models import Autoencoder, EnergyModel


def plain_copy(model: nn.Module) -> nn.Module:
    """Return the same network with its weights in the default memory format."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)


@in_float32()  # as the kit scores, not in the TF32 that is torch's default
def langevin(model: EnergyModel, x: Tensor, steps: int, step_size: float, noise_std: float) -> Tensor:
    """Take the gradient of f(x).sum() at every step, add noise."""
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.log_density(x).sum(), x)
        x = x + step_size * gradient + noise_std * torch.randn_like(x)
    return x.detach()


def latent_langevin(model: Autoencoder, z: Tensor, steps: int, step_size: float, noise_std: float) -> Tensor:
    """Walk on the sphere of codes by the density of the decoded images."""
    for _ in range(steps):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.log_density(model.decode(z)).sum(), z)
        z = z + step_size * gradient + noise_std * torch.randn_like(z)
        z = z / z.norm(dim=1, keepdim=True)
    return z.detach()
