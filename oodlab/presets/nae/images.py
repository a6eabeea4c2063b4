"""How each method is trained on images; the notebooks on images share these trainings.

Imports: checks, data, detectors, samplers, training, presets.base, presets.sources, its own folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from oodlab import checks, data
from oodlab.detectors import Detector, Reconstruction
from oodlab.presets.base import Preset, explained
from oodlab.presets.nae import image_parts as parts
from oodlab.presets.nae.image_budgets import BUDGETS, COLOUR_BUDGETS, GREY_IMAGES, LONG, Budget
from oodlab.presets.nae.image_methods import BATCH, FIXED, LATENT_CHAIN, METHODS, PIXELS, SOURCES, UNSTATED, VISIBLE
from oodlab.presets.sources import images
from oodlab.samplers import Annealed
from oodlab.training import LinearTail, adam

# ------------------------------------------------------------------------------------------- the images


@dataclass(frozen=True)
class Kind:
    """What the kind of images decides of every training on them, in one of SETTINGS.

    Attributes:
        side, channels: Of the images.
        width: Channels of the first convolution.
        residual: Whether the networks are the residual ones.
        n: Training images, without those for validation.
        epochs, normalising_epochs: Passes through them.
        transform: (stored images, generator) -> the model's input.
        changes: What a method has otherwise than METHODS, by its name: changed fields, as in Preset.changed.
        budgets: What a profile spends.
        spent: What is spent at the profile paper, too; None is what the paper has.
        sources, unstated: Of what is different here.
    """

    side: int
    channels: int
    width: int
    residual: bool
    n: int
    epochs: int
    normalising_epochs: int
    transform: Callable[[Tensor, Any], Tensor]
    changes: Mapping[str, Mapping[str, Any]]
    budgets: Mapping[str, Budget]
    spent: Budget | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    unstated: tuple[str, ...] = ()


_GREY = Kind(
    **PIXELS,
    n=GREY_IMAGES,
    epochs=100,
    normalising_epochs=50,
    transform=parts.unit_pixels,
    changes={},
    budgets=BUDGETS,
)
_COLOUR_LATENT_CHAIN = replace(LATENT_CHAIN, steps=20, step_size=1.0, noise_std=0.02)
_COLOUR_VISIBLE = replace(VISIBLE, steps=40, noise_std=Annealed(0.02))
_COLOUR_RELEASED_VISIBLE = replace(VISIBLE, steps=40, noise_std=Annealed(0.02, delayed=True))
_COLOUR = Kind(
    side=32,
    channels=3,
    width=32,
    residual=False,
    n=45_000,
    epochs=120,
    normalising_epochs=50,
    transform=parts.unit_pixels,
    changes={
        "NAE-CD": {"objective": {"chain": _COLOUR_VISIBLE}},
        "NAE-PCD": {"objective": {"chain": _COLOUR_VISIBLE}},
        "NAE-OMI": {"objective": {"chain": _COLOUR_VISIBLE, "latent_chain": _COLOUR_LATENT_CHAIN}},
    },
    budgets=COLOUR_BUDGETS,
    sources={"model.width": "table 10 (Conv32)", "steps": "table 11: 120 epochs to reconstruct, 50 to normalise"},
    unstated=(
        "objective.chain.noise_std: the paper writes 0.05 / (1 + t) for cifar10, too, where its table has 0.02; here 0.02 / (1 + t)",
        "batches.n: which 5,000 images are for validation; the released code's list is not published",
    ),
)
_COLOUR_RELEASED = replace(
    _COLOUR,
    width=128,
    residual=True,
    epochs=180,
    normalising_epochs=10,
    transform=data.dequantize,
    changes={
        "AE": {key: METHODS["AE"].released[key] for key in ("optimiser", "sources")},  # its objective without L2
        "NAE-CD": {"objective": {"chain": _COLOUR_RELEASED_VISIBLE, "penalise_data": True}},
        "NAE-PCD": {"objective": {"chain": _COLOUR_RELEASED_VISIBLE, "penalise_data": True}},
        "NAE-OMI": {"objective": {"chain": _COLOUR_RELEASED_VISIBLE, "latent_chain": _COLOUR_LATENT_CHAIN}},
    },
    sources={
        "model.width": "released: the encoder of arXiv:1903.08689, the decoder of arXiv:1802.05957",
        "steps": "released: 180 epochs to reconstruct, 10 to normalise",
    },
    unstated=(
        *_COLOUR.unstated,
        "The weights published for cifar10 are those after 9 of the 10 normalising epochs, chosen on svhn's validation part.",
    ),
)
_SMALL = replace(
    _GREY,
    spent=LONG,
    sources={
        **dict.fromkeys(("model.side", "model.width", "model.latent", "model.samples"), "ours, for two cores"),
        **dict.fromkeys(("batches.batch_size", "steps", "optimiser.lr", "schedule.start"), "ours, for two cores"),
        **dict.fromkeys(("objective.latent_chain", "objective.chain"), "ours, fewer and longer steps than printed"),
    },
)
KINDS = {  # by channels, then by setting: those of SETTINGS, and the printed one with small networks at every profile
    1: {
        "paper": _GREY,
        "released": replace(_GREY, changes={name: m.released for name, m in METHODS.items()}),
        "small": _SMALL,
    },
    3: {"paper": _COLOUR, "released": _COLOUR_RELEASED},
}

# ----------------------------------------------------------------------------------------- the trainings


def image_training(name: str, without: int | None = None, *, in_set: str = "mnist", setting: str = "paper") -> Preset:
    """Return the training of one of METHODS on a set of images.

    Args:
        name: Of METHODS.
        without: Class held out; None trains on all, and then nothing is measured on the way.
        in_set: Set trained on: grey images as mnist is trained on, colour images as cifar10.
        setting: One of SETTINGS: as printed, or as the authors' released code has it; on grey images also
            "small": as printed, but with the small networks of quick also at the profile paper.
    """
    checks.one_of("image_training", "a method of", name, tuple(METHODS))
    stored = data.entry(in_set).shape
    if len(stored) != 3:
        raise ValueError(
            f"image_training expects a set of images, got {in_set!r}: its items have the shape {stored}; `oodlab data` lists "
            "the sets."
        )
    checks.one_of("image_training", "setting", setting, tuple(KINDS[stored[0]]))
    method, kind = METHODS[name], KINDS[stored[0]][setting]
    probed = method.normalises and without is not None
    tail = ("" if without is None else f"-without-{without}") + ("" if setting == "paper" else f"-{setting}")
    shape = (kind.channels, kind.side, kind.side)
    epoch = math.ceil((kind.n if without is None else kind.n * 9 // 10) / BATCH)
    preset = Preset(
        name=f"nae/images/{in_set}-{method.name}{tail}",
        model=method.model,
        objective=method.objective,
        batches=partial(
            images,
            name=in_set,
            split="train-val",
            without=() if without is None else (without,),
            n=kind.n,
            shape=shape,
            batch_size=BATCH,
            seed=1,
            transform=kind.transform,
        ),
        optimiser=partial(adam, lr=1e-5, lr_of=FIXED) if method.normalises else partial(adam, lr=1e-4, clip=None),
        schedule=LinearTail(1.0) if method.normalises else None,
        steps=(kind.normalising_epochs if method.normalises else kind.epochs) * epoch,
        probe=partial(
            parts.validation_errors, name=in_set, held_out=without, channels=kind.channels, side=kind.side, n=1000
        )
        if probed
        else None,
        probes=50 if probed else 0,
        start=image_training("AE", without, in_set=in_set, setting=setting) if method.normalises else None,
        unstated=(*UNSTATED, *kind.unstated),
    )
    size = {name: getattr(kind, name) for name in PIXELS}
    preset = preset.changed(model=size, objective=_known(preset.objective, {"shape": shape}))
    preset = preset.changed(**kind.changes.get(name, {}))
    preset = replace(preset, sources=explained(preset, {**SOURCES, **kind.sources, **preset.sources}))
    profiles = {profile: _changes(name, preset, kind, of) for profile, of in kind.budgets.items()}
    whole = preset.changed(**_changes(name, preset, kind, kind.spent)) if kind.spent else preset
    return whole.changed(profiles=profiles)


def image_detectors(name: str, model: nn.Module) -> dict[str, Detector]:
    """Return the detectors of a model trained by one of METHODS, by the paper's names; some need fit first."""
    checks.one_of("image_detectors", "a method of", name, tuple(METHODS))
    own = METHODS[name].detectors or {name: Reconstruction}
    return {title: detector(model) for title, detector in own.items()}


def _changes(name: str, preset: Preset, kind: Kind, budget: Budget) -> dict[str, Any]:
    """Return what a budget changes of a training, as Preset.profiles has it."""
    method, shape, given = METHODS[name], (kind.channels, budget.side, budget.side), preset.objective.keywords
    size = {
        "side": budget.side,
        "latent": budget.latent,
        "width": budget.width,
        "residual": False,
        "samples": budget.importance_samples,
    }
    chains = {
        "chain": {"steps": budget.igebm_steps}
        if name == "IGEBM"
        else {"steps": budget.visible_steps, "step_size": budget.visible_step_size},
        "latent_chain": {"steps": budget.latent_steps, "step_size": budget.latent_step_size},
    }
    chains = {key: replace(given[key], **changes) for key, changes in chains.items() if key in given}
    normalising = {"schedule": LinearTail(budget.normalising_tail)} if method.normalises else {}
    measured = (
        {"probe": {"side": budget.side, "n": budget.probe_images}, "probes": budget.probes} if preset.probe else {}
    )
    return {
        "model": _known(preset.model, size),
        "objective": _known(preset.objective, {"shape": shape, **chains}),
        "batches": {
            "shape": shape,
            "batch_size": budget.normalising_batch_size if method.normalises else budget.batch_size,
            "n": budget.n,
        },
        "optimiser": {"lr": budget.normalising_lr if method.normalises else budget.lr},
        "steps": budget.updates(name),
        **normalising,
        **measured,
    }


def _known(builder: partial, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments that a builder has."""
    return {key: value for key, value in arguments.items() if key in builder.keywords}
