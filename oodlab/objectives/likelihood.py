"""Maximum likelihood of normalised densities, and its penalty on the approximate mass.

x is what the density is of; for images w = (255 pixel + u) / 256 in [0, 1]^D,
so that bits_per_dim means bits per dimension of the 8-bit image.

Imports: checks, objectives.autoencoding, models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from oodlab import checks
from oodlab.models import Density
from oodlab.models.flows.mass import SPACES, Space, log_prob_and_gradient
from oodlab.objectives.autoencoding import Parts

Reduction = Literal["per_sample", "batch", "released"]
REDUCTIONS = get_args(Reduction)


def maximum_likelihood(model: Density, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
    """Mean negative log-likelihood, nats per input."""
    return _likelihood_parts(-model.log_prob(x).mean(), x)


@dataclass(frozen=True)
class PenalisedLikelihood:
    """Maximum likelihood with a penalty on the norm of the input gradient of log p.

    loss = -mean log p(x_i) + alpha * penalty, in nats per input. With g_i the
    gradient of log p(x_i), the paper's text allows two readings of the penalty, and
    the authors' code has a third:

        per_sample   mean of |g_i|
        batch        the norm of the gradient of the batch's mean log p, all its
                     images as one vector: root mean square of |g_i| / sqrt(B)
        released     mean over the images of the norm of that same gradient by one
                     image: mean of |g_i| / B, so per_sample divided by B

    so that one alpha means sqrt(B) times less in the second and B times less in the third.

    Args:
        alpha: Weight; 0 is plain maximum likelihood and costs no more.
        reduction: One of the readings above.
        space: Space of the gradient; see log_prob_and_gradient.
        squared: Penalise squared norms instead.
        eps: Under the square root, whose slope at 0 is not finite.

    Source: Chali et al. (2023), equation 2, which has the norm not squared; "released" as in their code,
    github.com/chsamy/ood_detection_approximate_mass.
    """

    alpha: float
    reduction: Reduction = "per_sample"
    space: Space = "pixel"
    squared: bool = False
    eps: float = 1e-12

    def __post_init__(self) -> None:
        steep = "a negative weight rewards steep densities, and the loss has no lower bound; take 0 for plain maximum likelihood"
        checks.number("PenalisedLikelihood", "alpha", self.alpha, least=0, why=steep)
        checks.number("PenalisedLikelihood", "eps", self.eps, least=0)
        each = "alpha means something else under each"
        checks.one_of("PenalisedLikelihood", "reduction", self.reduction, REDUCTIONS, why=each)
        checks.one_of("PenalisedLikelihood", "space", self.space, SPACES, why=each)

    @property
    def advice(self) -> str:
        """What helps when a training diverges."""
        return ("a smaller alpha, " if self.alpha else "") + "a longer warm_up, clipping the gradient"

    @property
    def couples_batch(self) -> bool:
        """Whether slices of a batch say something else, on average, than the batch.

        Per sample they say the same. As released, a slice divides by its own number of inputs: r
        equal slices weigh the penalty r times as much as their batch does. What the released
        reading asks for can still be trained on slices: per sample with alpha / B.
        """
        return self.reduction != "per_sample" and self.alpha > 0

    def __call__(self, model: Density, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
        """Return the loss, bits per dimension and, unless alpha is 0, the batch's mean approximate mass."""
        if self.alpha == 0:
            return maximum_likelihood(model, x)
        log_prob, gradient = log_prob_and_gradient(model, x, space=self.space, create_graph=True)
        squares = gradient.flatten(1).square().sum(dim=1)
        parts = _likelihood_parts(-log_prob.mean(), x)
        parts["loss"] = parts["loss"] + self.alpha * self._penalty(squares)
        return {**parts, "mass": squares.detach().sqrt().mean()}

    def _penalty(self, squares: Tensor) -> Tensor:
        """Reduce the squared norms of the inputs' gradients, (B,), to the penalty."""
        size = len(squares)
        if self.reduction == "batch":
            squares = squares.sum(dim=0, keepdim=True) / size**2
        penalty = (squares if self.squared else (squares + self.eps).sqrt()).mean()
        return penalty / size if self.reduction == "released" else penalty


def _likelihood_parts(nll: Tensor, x: Tensor) -> Parts:
    # 8 + nll / (D log 2) is metrics.bits_per_dim of the batch's mean, on its device
    return {"loss": nll, "bits_per_dim": 8 + nll.detach() / (x[0].numel() * math.log(2))}


def cost_of_alpha(
    bits_per_dim: float, *, alpha: float, dims: int, reduction: Reduction = "per_sample", batch_size: int = 1
) -> float:
    """Return by how many bits per dimension the penalty should raise the vanilla flow's.

    A flow is taken for a Gaussian of independent innovations whose one variance v
    gives its bits per dimension, b = 8 + log2(2 pi e v) / 2 with v in units of w
    squared. The penalty's optimum has r = 1 + 2 a / sqrt(v D) times that variance,
    where a is the weight of an image's own norm: alpha per sample, alpha / sqrt(B)
    for the batch reading, alpha / B for the released one. The rise is
    log2(r) / 2 - (1 - 1 / r) / (2 ln 2).

    Args:
        bits_per_dim: Bits per dimension of the flow trained without penalty.
        alpha: Weight of the penalty, space "pixel", norms not squared.
        dims: D, numbers in one image.
        reduction: Reading of the penalty, as in PenalisedLikelihood.
        batch_size: B; without effect per sample.

    Source: ours; exact for an isotropic Gaussian of many dimensions.
    """
    checks.one_of("cost_of_alpha", "reduction", reduction, REDUCTIONS, why="alpha means something else under each")
    checks.whole("cost_of_alpha", "batch_size", batch_size, least=1)
    own_norm = alpha * batch_size ** {"per_sample": 0, "batch": -0.5, "released": -1}[reduction]
    std = 2 ** (bits_per_dim - 8) / math.sqrt(2 * math.pi * math.e) * 256 / 255  # in pixels
    ratio = 1 + 2 * own_norm / (std * math.sqrt(dims))
    return 0.5 * math.log2(ratio) - (1 - 1 / ratio) / (2 * math.log(2))
