"""The setting of nae/holdout_digits: tables 1 and 3, figure 6.

Imports: data, presets.base, presets.sources, its own folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from oodlab import data
from oodlab.presets.base import Experiment, Preset
from oodlab.presets.nae.image_parts import unit_pixels
from oodlab.presets.nae.images import BUDGETS, METHODS, SETTINGS, Budget, image_training
from oodlab.presets.sources import training_images


@dataclass(frozen=True)
class HeldOutInputs:
    """Images that the models without one digit are asked about, (N, 1, H, W) in [0, 1].

    Attributes:
        train: Those trained on.
        inside, outside: Test images of the other digits, and of the one held out.
        infos: Of every split used.
    """

    train: Tensor
    inside: Tensor
    outside: Tensor
    infos: tuple[data.SplitInfo, ...]


def held_out_inputs(preset: Preset, in_set: data.Choice, *, n: int) -> HeldOutInputs:
    """Load what the test of a image_training with a held-out digit needs, n test images of each kind at most."""
    given = preset.batches.keywords
    train = training_images(preset)
    known, held_out = (
        data.load(in_set, "test", **{which: given["without"]}, download=False) for which in ("without", "only")
    )
    inputs = [unit_pixels(data.as_shape(x, given["shape"])) for x in (train.x, known.x[:n], held_out.x[:n])]
    infos = (replace(train.info, stand_in_for=in_set.stand_in_for), known.info, held_out.info)
    return HeldOutInputs(*inputs, infos)


def _shrinks(budget: Budget) -> str:
    steps = ", ".join(f"{n:,} of {name}" for name, n in budget.steps_of.items())
    return (
        f"Quick profile: digits 9, 1 and 4, one seed; images of {budget.side} x {budget.side} pixels instead of 28 x 28, networks "
        f"with {budget.width} channels in their first layer instead of 32 and {budget.latent} numbers in a code instead of 32; "
        f"batches of {budget.batch_size} and, normalising, {budget.normalising_batch_size} instead of 128; {budget.steps:,} updates, "
        f"{steps}, instead of 38,000 and, normalising, 19,000; learning rates of {budget.lr:g} and, normalising, "
        f"{budget.normalising_lr:g}, falling to zero from {budget.normalising_tail:.0%} on, instead of 1e-4 and 1e-5; chains of "
        f"{budget.latent_steps} latent steps of size {budget.latent_step_size:g} and {budget.visible_steps} visible ones of "
        f"{budget.visible_step_size:g} instead of 10 of 0.2 and 50 of 10, IGEBM's of {budget.igebm_steps} instead of 60; "
        f"{budget.importance_samples} importance samples of VAE (L) instead of 500."
    )


def _experiment(setting: str) -> Experiment:
    return Experiment(
        name="nae/holdout_digits",
        runs={name: image_training(name, 9, setting=setting) for name in METHODS},
        seeds=10,
        settings={
            "digits": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
            "test_images": 10_000,
            "shown": 4,
            "paper_only": {
                "GLOW": "with the hier study",
                "PXCNN++": "with the hier study",
                "GANOMALY(PUB)": "as its authors published it",
            },
        },
        sources={
            "seeds": "paper: 10 runs of NAE-OMI",
            "settings.digits": "table 1",
            "settings.test_images": "all",
            "settings.shown": "ours",
        },
        unstated=(
            "The paper selects on ConstantGray, the released code on the held-out digit of the validation part; here nothing is "
            "selected: the last weights are scored.",
            "Glow, PixelCNN++ and Ganomaly as published stand in the table with the paper's numbers only.",
            "Which of the methods besides NAE-OMI the paper ran more than once: it prints their numbers without spread.",
        ),
        profiles={
            "quick": {"seeds": 1, "settings": {"digits": (9, 1, 4)}},
            "smoke": {"seeds": 1, "settings": {"digits": (9,), "test_images": 300}},
        },
        shrinks={
            "paper": "Conv28 networks on 28 x 28 pixels as printed.",
            "quick": _shrinks(BUDGETS["quick"]),
            "smoke": "Smoke profile: 3 updates of a tiny network, to show that everything runs; the numbers mean nothing.",
        },
    )


HOLDOUT_DIGITS, HOLDOUT_DIGITS_RELEASED = map(_experiment, SETTINGS)
