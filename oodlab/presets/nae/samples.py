"""The setting of nae/samples: figures 7, 9 and 10, table 5.

Imports: presets.base, its own folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from oodlab.presets.base import Experiment, Preset
from oodlab.presets.nae.image_budgets import BUDGETS, PRINTED
from oodlab.presets.nae.image_chains import errors_and_chains
from oodlab.presets.nae.images import image_training

HELD_OUT = 9  # figure 9
ALL, WITHOUT = "all digits", f"without {HELD_OUT}"


@dataclass(frozen=True)
class _Version:
    """Where the paper's text and the released code part.

    Attributes:
        name: Of the experiment.
        setting: Of the trainings.
        longer: Latent steps of samples drawn without replay, in those of the training.
        source: Of that number.
    """

    name: str
    setting: str
    longer: int
    source: str


_PAPER = _Version("nae/samples", "paper", 8, "paper: 8 times training's")
_RELEASED = _Version("nae/samples_released", "released", 20, "released: 200 for the 10 of training on MNIST")


def sample_trainings(version: str = "paper", *, in_set: str = "mnist") -> dict[str, Preset]:
    """Return the trainings of nae/samples, on all digits and without 9.

    That without 9 has the setting of the one of nae/holdout_digits, at quick for half of its updates, and another
    measurement on the way: besides validation errors it draws samples from fresh codes, with the same randomness at
    every moment. What is measured changes no weight.

    Args:
        version: One of SETTINGS.
        in_set: Set trained on.
    """
    own = {"paper": _PAPER, "released": _RELEASED}[version]
    return {
        ALL: image_training("NAE-OMI", in_set=in_set, setting=version),
        WITHOUT: _watched(own, image_training("NAE-OMI", HELD_OUT, in_set=in_set, setting=version)),
    }


def _watched(version: _Version, training: Preset) -> Preset:
    """Return the training with samples drawn on the way; quick's ends after half of its updates."""

    def chains(preset: Preset) -> dict[str, object]:
        own = preset.objective.keywords
        latent_chain = own["latent_chain"]
        longer = 2 if preset.profile == "smoke" else version.longer
        return {"latent_chain": replace(latent_chain, steps=longer * latent_chain.steps), "chain": own["chain"]}

    profiles = {}
    for profile, changes in training.profiles.items():
        shrunk = training.at(profile)
        steps = shrunk.steps // 2 if profile == "quick" else shrunk.steps
        profiles[profile] = {**changes, "probe": {**changes["probe"], **chains(shrunk)}, "steps": steps}
    bounds = training.objective.keywords["start_bounds"]
    probe = partial(
        errors_and_chains, **training.probe.keywords, **chains(training), start_bounds=bounds, samples=8, seed=0
    )
    return replace(
        training,
        name=f"{version.name}/{training.name.rsplit('/', 1)[1]}",
        probe=probe,
        sources={**training.sources, "probe.latent_chain": version.source, "probe.chain": "table 11"},
        unstated=(
            *training.unstated,
            "probe: what figure 9 shows comes from the training's replay; ours begins afresh",
        ),
        profiles=profiles,
    )


def _shrinks() -> str:
    half = f"half of these updates of normalising without {HELD_OUT}"
    budget = BUDGETS["quick"].told(("AE", "NAE-OMI"))
    return f"Quick profile, one seed: {budget}; {half}; 1,000 samples, without FID. Printed: {PRINTED}; 50,000 samples."


def _experiment(version: _Version) -> Experiment:
    return Experiment(
        name=version.name,
        runs=sample_trainings(version.setting),
        seeds=1,
        settings={
            "samples": 50_000,
            "followed": 500,
            "longer": version.longer,
            "shown": 8,
            "features": ("pixels", "inception"),
        },
        sources={
            "seeds": "ours: the figures show one model",
            "settings.samples": "table 5, of CelebA-64",
            "settings.followed": "ours",
            "settings.longer": version.source,
            "settings.shown": "ours",
        },
        unstated=(
            "Of the FID in table 5 the paper says 50,000 samples of CelebA-64: not the images they are compared with, the "
            "weights of the network, nor how images are resized. Ours, at profile paper, compares samples of mnist with its "
            "training images by torchvision's weights: no number of the paper belongs beside it.",
            "How long the chains are whose samples figures 7 and 10 show: here without replay, with the latent chain as many "
            "times longer than training's as `longer` says.",
            "When in the training figure 9 looks, and which chains: here evenly, at fresh chains with the same random numbers.",
        ),
        profiles={
            "quick": {"settings": {"samples": 1000, "followed": 200, "features": ("pixels",)}},
            "smoke": {"settings": {"samples": 20, "followed": 20, "longer": 2, "features": ("pixels",)}},
        },
        shrinks={
            "paper": "Conv28 networks on 28 x 28 pixels as printed.",
            "quick": _shrinks(),
            "smoke": "Smoke profile: 3 updates of a tiny network, to show that everything runs; the numbers mean nothing.",
        },
    )


SAMPLES, SAMPLES_RELEASED = _experiment(_PAPER), _experiment(_RELEASED)
