"""The setting of nae/holdout_digits: tables 1 and 3, figure 6.

Imports: data, presets.base, presets.sources, its own folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from oodlab import data
from oodlab.presets.base import Experiment, Preset
from oodlab.presets.nae.image_budgets import BUDGETS, LONG, PRINTED, Budget
from oodlab.presets.nae.image_methods import METHODS, SETTINGS
from oodlab.presets.nae.image_parts import unit_pixels
from oodlab.presets.nae.images import image_training
from oodlab.presets.sources import drawn, training_images


@dataclass(frozen=True)
class HeldOutInputs:
    """Images that the models without one digit are asked about, (N, 1, H, W) in [0, 1].

    Attributes:
        train: Those trained on.
        inside, outside: Test images of the digits trained on, and of the one held out; none where none is.
        infos: Of every split used.
    """

    train: Tensor
    inside: Tensor
    outside: Tensor
    infos: tuple[data.SplitInfo, ...]


def held_out_inputs(preset: Preset, in_set: data.Choice, *, n: int) -> HeldOutInputs:
    """Load what the test of an image_training needs, a fixed draw of n test images of each kind where there are more."""
    given = preset.batches.keywords
    train, without = training_images(preset), given["without"]
    known, held_out = (
        drawn(in_set, "test", n=n, without=without),
        drawn(in_set, "test", n=n, only=without) if without else None,
    )
    shown = (train.x, known.x, known.x[:0] if held_out is None else held_out.x)
    inputs = [unit_pixels(data.as_shape(x, given["shape"])) for x in shown]
    infos = (replace(train.info, stand_in_for=in_set.stand_in_for), known.info, *([held_out.info] if held_out else []))
    return HeldOutInputs(*inputs, infos)


def _spent(budget: Budget) -> str:
    more = "IGEBM's chains of 60, 500 importance samples"
    return f"digits 9, 1 and 4; {budget.told(tuple(METHODS))}. Printed: all digits, {PRINTED}, {more}."


_OWN_WHOLE = {
    "small": f"Setting small, 3 seeds: {_spent(LONG)}",
    **dict.fromkeys(SETTINGS, "Conv28 networks on 28 x 28 pixels as printed."),
}


def _experiment(setting: str) -> Experiment:
    small = setting == "small"
    return Experiment(
        name="nae/holdout_digits" + ("" if setting == "paper" else f"_{setting}"),
        runs={name: image_training(name, 9, setting=setting) for name in METHODS},
        seeds=3 if small else 10,
        settings={
            "digits": (9, 1, 4) if small else (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
            "test_images": 10_000,
            "shown": 4,
            "paper_only": {
                "GLOW": "with the hier study",
                "PXCNN++": "with the hier study",
                "GANOMALY(PUB)": "as its authors published it",
            },
        },
        sources={
            "seeds": "ours" if small else "paper: 10 runs of NAE-OMI",
            "settings.digits": "table 1, in part" if small else "table 1",
            "settings.test_images": "all",
            "settings.shown": "ours",
        },
        unstated=(
            "The paper selects on ConstantGray, the released code on grey images of its own; here nothing is selected: the last "
            "weights are scored.",
            "Glow, PixelCNN++ and Ganomaly as published stand in the table with the paper's numbers only.",
            "Which of the methods besides NAE-OMI the paper ran more than once: it prints their numbers without spread.",
        ),
        profiles={
            "quick": {"seeds": 1, "settings": {"digits": (9, 1, 4)}},
            "smoke": {"seeds": 1, "settings": {"digits": (9,), "test_images": 300}},
        },
        shrinks={
            "paper": _OWN_WHOLE[setting],
            "quick": f"Quick profile, one seed: {_spent(BUDGETS['quick'])}",
            "smoke": "Smoke profile: 3 updates of a tiny network, to show that everything runs; the numbers mean nothing.",
        },
    )


HOLDOUT_DIGITS, HOLDOUT_DIGITS_RELEASED, HOLDOUT_DIGITS_SMALL = map(_experiment, (*SETTINGS, "small"))
