"""Reduced precision changes no result beyond its noise: chains keep their law, detectors their AUROC."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from oodlab import metrics
from oodlab.detectors import LogDensity
from oodlab.models import EnergyModel, JointEnergy, WideResNet, frozen, stein_score
from oodlab.objectives import ContrastiveDivergence, FromData
from oodlab.samplers import LangevinChain
from oodlab.training import Adam, fit
from oodlab.training.batches import Fresh


class Quadratic(EnergyModel):
    """E = |conv(x)|^2 / 2 with a 1 x 1 convolution of weight 1: a standard normal per pixel, by way of bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        self.conv.weight.data.fill_(1.0)

    def energy(self, x: Tensor) -> Tensor:
        return self.conv(x).float().square().flatten(1).sum(dim=1) / 2


@pytest.mark.parametrize("step_size", [0.1, 1.0])
def test_a_chain_in_bfloat16_has_the_stationary_variance_of_its_recursion(
    step_size: float, generator: torch.Generator
) -> None:
    """The variance is 2 / (2 - h) up to five standard errors and bfloat16's rounding of the gradient, 2^-8 of it."""
    n = 40_000
    x = torch.randn(n // 16, 1, 4, 4, generator=generator)
    model, chain = Quadratic(), LangevinChain(80, step_size)
    with frozen(model), torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(stein_score(model, x), -x)  # the convolution does compute in bfloat16
        x = chain(model.log_density, x, generator=generator)
    v = 2 / (2 - step_size)
    assert x.dtype == torch.float32
    assert len(x.unique()) > 0.9 * n  # states keep the digits that bfloat16 has not
    assert abs(float(x.var()) - v) < v * (5 * math.sqrt(2 / n) + 2**-8)


def smooth_images(n: int, generator: torch.Generator) -> Tensor:
    """Draw noise of 2 x 2 numbers, enlarged to 8 x 8."""
    coarse = torch.randn(n, 1, 2, 2, generator=generator)
    return nn.functional.interpolate(coarse, size=8, mode="bilinear") / 2


def rough_images(n: int, generator: torch.Generator) -> Tensor:
    """Draw smooth images, with a little noise per pixel."""
    return smooth_images(n, generator) + 0.15 * torch.randn(n, 1, 8, 8, generator=generator)


def test_training_in_bfloat16_changes_the_auroc_by_no_more_than_its_noise() -> None:
    """The 95 % intervals of 400 test images overlap, and both AUROCs are better than chance."""
    found = {}
    inside, outside = (draw(400, torch.Generator().manual_seed(1)) for draw in (smooth_images, rough_images))
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        result = fit(
            JointEnergy(WideResNet(channels=1, outputs=1, width=4, widen=1)),
            ContrastiveDivergence(FromData(LangevinChain(8, 0.05, noise_std=0.1)), l2=1.0),
            Fresh(smooth_images, 64),
            optimiser=Adam(lr=2e-3),
            steps=80,
            precision=precision,
            device="cpu",
            show_progress=False,
        )
        detector = LogDensity(result.model, event_shape=(1, 8, 8))
        scores = detector.score_samples(inside), detector.score_samples(outside)
        found[precision] = metrics.auroc(*scores), metrics.bootstrap_interval(metrics.auroc, *scores, seed=0)
    (exact, (low, high)), (fast, (fast_low, fast_high)) = found.values()
    assert exact != fast  # the two trainings did differ
    assert max(low, fast_low) <= min(high, fast_high), found
    assert min(low, fast_low) > 0.5, found
