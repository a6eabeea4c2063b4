"""The setting of nae/holdout_digits: tables 1 and 3.

Imports: presets.base, its own folder.
"""

from __future__ import annotations

from oodlab.presets.base import Experiment
from oodlab.presets.nae.digits import METHODS, digit_training

HOLDOUT_DIGITS = Experiment(
    name="nae/holdout_digits",
    runs={name: digit_training(name, 9) for name in METHODS},
    seeds=10,
    settings={"digits": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), "test_images": 10_000},
    sources={
        "seeds": "paper: 10 runs of NAE-OMI",
        "settings.digits": "table 1",
        "settings.test_images": "all",
    },
    unstated=(
        "The paper selects on ConstantGray, the released code on the held-out digit of the validation part; here nothing is "
        "selected: the last weights are scored.",
        "Glow and PixelCNN++ stand in the table with the paper's numbers only.",
    ),
    profiles={
        "quick": {"seeds": 1, "settings": {"digits": (9, 1, 4), "test_images": 10_000}},
        "smoke": {"seeds": 1, "settings": {"digits": (9,), "test_images": 300}},
    },
    shrinks={
        "paper": "Conv28 networks on 28 x 28 pixels as printed.",
        "quick": "Quick profile: TODO",
        "smoke": "Smoke profile: 3 updates of a tiny network, to show that everything runs; the numbers mean nothing.",
    },
)
