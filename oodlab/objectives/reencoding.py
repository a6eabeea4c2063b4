"""Adversarial training of an autoencoder that encodes its reconstruction once more.

Imports: checks, objectives.autoencoding, models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from oodlab import checks
from oodlab.models import ReencodingAutoencoder
from oodlab.objectives.autoencoding import Parts


@dataclass(frozen=True)
class AdversarialReencoding:
    """The losses of GANomaly for its two players, in one step.

    With x' the reconstruction of x, f the discriminator's features, z and z' the codes
    of x and x', the autoencoder and its second encoder descend

        adversarial_weight * mean (f(x) - f(x'))^2 + context_weight * mean |x - x'|
        + encoder_weight * mean (z - z')^2,

    means over inputs and dimensions; the discriminator descends the cross-entropy of
    telling x from x'. Each player's gradient reaches its own parameters only, and both
    are those of the same weights: the published algorithm lets them move one after the
    other. Give the discriminator a rate of its own by the name "discriminator".

    The value of "loss" is the autoencoder's.

    Source: Akcay et al. (2018), arXiv:1805.06725, equations 2 to 5, with its weights 1, 50, 1; norms
    taken as means, so that the weights do not depend on the sizes.
    """

    adversarial_weight: float = 1.0
    context_weight: float = 50.0
    encoder_weight: float = 1.0
    advice: ClassVar[str] = "a lower rate of the discriminator, a smaller adversarial_weight"

    def __post_init__(self) -> None:
        for name in ("adversarial_weight", "context_weight", "encoder_weight"):
            checks.number("AdversarialReencoding", name, getattr(self, name), least=0)

    def __call__(self, model: ReencodingAutoencoder, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
        """Return the loss, its three terms, and the discriminator's loss."""
        z = model.encode(x)
        made = model.decode(z)
        shown = made.detach().requires_grad_()
        f = model.discriminator["features"](torch.cat([x, shown]))
        f_data, f_made = f.split([len(x), len(x)])
        matching = (f_data - f_made).square().mean()
        (slope,) = torch.autograd.grad(matching, shown, retain_graph=True)
        through_made = (slope * made).sum()  # has matching's gradient, and none by the discriminator
        context = (x - made).abs().mean()
        codes = (z - model.reencoder(made)).square().mean()
        adversarial = matching.detach() + (through_made - through_made.detach())
        loss = self.adversarial_weight * adversarial + self.context_weight * context + self.encoder_weight * codes
        logits = model.discriminator["head"](f)
        is_data = torch.cat([torch.ones_like(logits[: len(x)]), torch.zeros_like(logits[len(x) :])])
        telling = cross_entropy(logits, is_data)
        return {
            "loss": loss + (telling - telling.detach()),  # the discriminator's gradient, and no value
            "adversarial": matching.detach(),
            "context": context.detach(),
            "codes": codes.detach(),
            "discriminator": telling.detach(),
        }
