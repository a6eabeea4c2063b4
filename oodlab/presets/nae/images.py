"""How each method is trained on images; the notebooks on images share these trainings.

Imports: checks, data, detectors, objectives, samplers, training, presets.base, presets.sources, its own folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from oodlab import checks, data
from oodlab.detectors import Detector, LogDensity, MixtureEnergy, Reconstruction, Reencoding
from oodlab.objectives import denoising, negative_elbo, reconstruction
from oodlab.presets.base import Preset, explained
from oodlab.presets.nae import image_parts as parts
from oodlab.presets.nae.parts import by_contrast, by_persistence, on_manifold, only
from oodlab.presets.sources import images
from oodlab.samplers import Annealed, Box, ClipElements, ClipRows, LangevinChain, Sphere
from oodlab.training import LinearTail, adam

_SIDE, _LATENT, _WIDTH, _BATCH = 28, 32, 32, 128
_PIXELS = {"side": _SIDE, "channels": 1, "width": _WIDTH, "residual": False}
_SIZE = {**_PIXELS, "latent": _LATENT}
_SHAPE = (1, _SIDE, _SIDE)
_UNIT = Box(0.0, 1.0)
_FIXED = {"log_temperature": 0.0}  # the temperature stays 1
_VISIBLE = LangevinChain(steps=50, step_size=10.0, noise_std=Annealed(0.05), clip=ClipElements(0.01), bounds=_UNIT)
_LATENT_CHAIN = LangevinChain(steps=10, step_size=0.2, noise_std=0.05, bounds=Sphere())
_ENERGY_CHAIN = LangevinChain(steps=60, step_size=10.0, noise_std=0.005, clip=ClipElements(0.01), bounds=_UNIT)
_ALL = 54_000  # mnist's training images less those for validation


@dataclass(frozen=True)
class Budget:
    """What a profile spends; the paper's own stands in the presets.

    Attributes:
        side, latent, width: Pixels a side, numbers in a code, channels of the first convolution.
        batch_size, normalising_batch_size: Images per update before and while normalising.
        n: Training images at most.
        steps: Updates of a method without normalisation, the plain autoencoder among them.
        steps_of: Updates of normalising methods, and of others that differ, by name in METHODS.
        lr, normalising_lr: Learning rates before and while normalising.
        normalising_tail: Share of a normalising training after which its rate falls to zero.
        latent_steps, latent_step_size, visible_steps, visible_step_size: Of a normalized autoencoder's chains;
            fewer steps are longer ones.
        igebm_steps: Of IGEBM's chains.
        importance_samples: Of VAE (L).
        probes, probe_images: How often validation errors are measured, and on how many images of each kind.
    """

    side: int
    latent: int
    width: int
    batch_size: int
    normalising_batch_size: int
    n: int
    steps: int
    steps_of: Mapping[str, int]
    lr: float
    normalising_lr: float
    normalising_tail: float
    latent_steps: int
    latent_step_size: float
    visible_steps: int
    visible_step_size: float
    igebm_steps: int
    importance_samples: int
    probes: int
    probe_images: int

    def updates(self, method: str) -> int:
        """Return the updates of one of METHODS."""
        return self.steps_of.get(method, self.steps)

    def told(self, methods: Sequence[str]) -> str:
        """Say what is spent on some of METHODS."""
        own = [f"{n:,} of {name}" for name, n in self.steps_of.items() if name in methods]
        others = [f"{self.steps:,} of each other method"] if len(own) < len(methods) else []
        igebm = f", IGEBM's of {self.igebm_steps}" if "IGEBM" in methods else ""
        draws = f"; {self.importance_samples} importance samples of VAE (L)" if "VAE" in methods else ""
        return (
            f"images of {self.side} x {self.side} pixels, networks with {self.width} channels in their first layer and {self.latent} "
            f"numbers in a code; updates: {', '.join(own + others)}; batches of {self.batch_size} and, normalising, "
            f"{self.normalising_batch_size}; learning rates of {self.lr:g} and, normalising, {self.normalising_lr:g}, falling to zero "
            f"from {self.normalising_tail:.0%} on; chains of {self.latent_steps} latent steps of size {self.latent_step_size:g} and "
            f"{self.visible_steps} visible ones of {self.visible_step_size:g}{igebm}{draws}"
        )


BUDGETS = {
    "quick": Budget(
        side=14,
        latent=16,
        width=16,
        batch_size=64,
        normalising_batch_size=32,
        n=_ALL,
        steps=600,
        steps_of={"AE": 3000, "NAE-CD": 250, "NAE-PCD": 250, "NAE-OMI": 500, "IGEBM": 150},
        lr=1e-3,
        normalising_lr=7e-4,
        normalising_tail=0.5,
        latent_steps=5,
        latent_step_size=3.0,
        visible_steps=10,
        visible_step_size=30.0,
        igebm_steps=20,
        importance_samples=20,
        probes=10,
        probe_images=500,
    ),
    "smoke": Budget(
        side=14,
        latent=3,
        width=4,
        batch_size=16,
        normalising_batch_size=16,
        n=200,
        steps=3,
        steps_of={"NAE-CD": 3, "NAE-PCD": 3, "NAE-OMI": 3, "IGEBM": 3},
        lr=1e-3,
        normalising_lr=1e-3,
        normalising_tail=0.5,
        latent_steps=2,
        latent_step_size=3.0,
        visible_steps=2,
        visible_step_size=30.0,
        igebm_steps=2,
        importance_samples=2,
        probes=2,
        probe_images=50,
    ),
}

PRINTED = (
    "28 x 28 pixels, 32 channels, 32 numbers in a code, 38,000 updates and 19,000 of normalising (a ninth more with no digit "
    "held out), batches of 128, rates of 1e-4 and 1e-5, chains of 10 latent steps of size 0.2 and 50 visible ones of 10"
)
LONG = replace(  # the small networks of quick, for hours instead of minutes
    BUDGETS["quick"],
    steps=3000,
    steps_of={"AE": 10_000, "NAE-CD": 1500, "NAE-PCD": 1500, "NAE-OMI": 4000, "IGEBM": 1500},
    normalising_lr=5e-4,
    importance_samples=200,
    probes=40,
)
COLOUR_BUDGETS = {
    "quick": replace(
        BUDGETS["quick"],
        side=16,
        latent=32,
        width=16,
        n=45_000,
        steps=300,
        steps_of={"AE": 1500, "NAE-CD": 100, "NAE-PCD": 100, "NAE-OMI": 500, "IGEBM": 50},
        latent_step_size=4.0,
        visible_step_size=40.0,
    ),
    "smoke": replace(BUDGETS["smoke"], side=16),
}

# ------------------------------------------------------------------------------------------ the methods

_SOURCES = {
    "model.side": "the images",
    "model.channels": "the images",
    "model.latent": "released: 32",
    "model.width": "table 10 (Conv28)",
    "model.samples": "released (two-dimensional experiment)",
    "model.codes": "arXiv:1711.00937",
    "batches.n": "all",
    "batches.batch_size": "table 11",
    "batches.shape": "the images",
    "batches.without": "the held-out digit",
    "probe.held_out": "the held-out digit",
    "probe.side": "the images",
    "probe.channels": "the images",
    "objective.objective.encoder_l2": "released; the paper has none",
    "objective.objective.noise_std": "paper",
    "objective.coefficient": "paper: 0.001 to 0.1",
    "objective.commitment": "arXiv:1711.00937",
    "objective.energy_weight": "Zong et al. (2018)",
    "objective.covariance_weight": "Zong et al. (2018)",
    "objective.adversarial_weight": "arXiv:1805.06725",
    "objective.context_weight": "arXiv:1805.06725",
    "objective.encoder_weight": "arXiv:1805.06725",
    "objective.energy_penalty": "released",
    "objective.encoder_l2": "released; the paper has none",
    "objective.latent_chain": "table 11",
    "objective.chain": "table 11; of IGEBM: paper",
    "objective.capacity": "released",
    "objective.restart": "released: replay ratio 0.95",
    "objective.start_bounds": "released",
    "objective.places": "a code has one place",
    "objective.low": "the pixels' range",
    "objective.high": "the pixels' range",
    "objective.shape": "the images",
    "objective.l2": "paper: alpha = 1",
    "optimiser.lr": "released: 1e-4 to reconstruct, 1e-5 to normalise",
    "schedule.start": "released: a constant rate",
    "optimiser.lr_of": "the temperature is fixed at 1 on images",
    "steps": "table 11: 100 epochs to reconstruct, 50 to normalise",
}
_UNSTATED = (
    "batches.seed: decides the order; 1 here",
    "probe.n: validation images, our choice",
    "probes: our choice",
    "model.hidden: of DAGMM's estimator; 10, as in Zong et al. (2018)",
    "model.components: of DAGMM's mixture; 4",
    "model.features: of Ganomaly's discriminator; 64",
    "optimiser: the paper gives the rates of AE and NAE only; the other methods have the AE's",
    "objective.chain.clip: the paper clips `the gradient`; here its elements, as the newer of two released classes does, and as "
    "released on grey images its rows, as the older one does",
    "pre-training: the released code stops after the fourth validation without improvement; here it runs to its end",
)


@dataclass(frozen=True)
class Method:
    """What one method trains, and how.

    Attributes:
        name: In a preset's name.
        model, objective: Builders, as a Preset has them.
        normalises: Whether it begins with the weights of the plain autoencoder.
        released: What the released code does otherwise on grey images: changed fields, as in Preset.changed.
        detectors: Its scores, by the paper's names of them; none is the reconstruction error under the method's own name.
    """

    name: str
    model: partial
    objective: partial
    normalises: bool = False
    released: Mapping[str, Any] = field(default_factory=dict)
    detectors: Mapping[str, type[Detector]] = field(default_factory=dict)


SETTINGS = ("paper", "released")
_AUTOENCODER = partial(parts.image_autoencoder, **_SIZE, sphere=True)
_WEIGHTS = {"energy_penalty": 1.0, "encoder_l2": 0.0}
_RELEASED_VISIBLE = replace(_VISIBLE, noise_std=Annealed(0.05, delayed=True), clip=ClipRows(0.01))
_RELEASED_WEIGHTS = {"chain": _RELEASED_VISIBLE, "encoder_l2": 1e-4}
METHODS = {
    "AE": Method(
        "ae",
        _AUTOENCODER,
        partial(only, objective=partial(reconstruction, encoder_l2=0.0)),
        released={
            "objective": {"objective": partial(reconstruction, encoder_l2=1e-4)},
            "optimiser": {"clip": 0.1},
            "sources": {"optimiser.clip": "released, in one of its trainers"},
        },
    ),
    "DAE": Method("dae", _AUTOENCODER, partial(only, objective=partial(denoising, noise_std=0.3))),
    "VAE": Method(
        "vae",
        partial(parts.image_vae, **_SIZE, samples=500),
        partial(only, objective=negative_elbo),
        detectors={"VAE(R)": Reconstruction, "VAE(L)": LogDensity},
    ),
    "WAE": Method("wae", _AUTOENCODER, partial(parts.wasserstein, coefficient=0.01)),
    "VQVAE": Method(
        "vqvae", partial(parts.image_codebook, **_SIZE, codes=512), partial(parts.quantised, commitment=0.25)
    ),
    "DAGMM": Method(
        "dagmm",
        partial(parts.image_mixture, **_SIZE, hidden=10, components=4),
        partial(parts.mixture, energy_weight=0.1, covariance_weight=0.005),
        detectors={"DAGMM": MixtureEnergy},
    ),
    "Ganomaly": Method(
        "ganomaly",
        partial(parts.image_reencoder, **_SIZE, features=64),
        partial(parts.reencoding, adversarial_weight=1.0, context_weight=50.0, encoder_weight=1.0),
        detectors={"GANOMALY(REPRO)": Reencoding},
    ),
    "IGEBM": Method(
        "igebm",
        partial(parts.image_energy, **_PIXELS),
        partial(parts.energy_by_persistence, chain=_ENERGY_CHAIN, shape=_SHAPE, capacity=10_000, restart=0.05, l2=1.0),
        detectors={"IGEBM": LogDensity},
    ),
    "NAE-CD": Method(
        "cd",
        _AUTOENCODER,
        partial(by_contrast, chain=_VISIBLE, penalise_data=False, **_WEIGHTS),
        normalises=True,
        released={"objective": {"penalise_data": True, **_RELEASED_WEIGHTS}},
    ),
    "NAE-PCD": Method(
        "pcd",
        _AUTOENCODER,
        partial(
            by_persistence,
            chain=_VISIBLE,
            capacity=10_000,
            restart=0.05,
            low=0.0,
            high=1.0,
            shape=_SHAPE,
            penalise_data=False,
            **_WEIGHTS,
        ),
        normalises=True,
        released={"objective": {"penalise_data": True, **_RELEASED_WEIGHTS}},
    ),
    "NAE-OMI": Method(
        "omi",
        _AUTOENCODER,
        partial(
            on_manifold,
            latent_chain=_LATENT_CHAIN,
            chain=_VISIBLE,
            capacity=10_000,
            restart=0.05,
            start_bounds=_UNIT,
            places=(1, 1),
            **_WEIGHTS,
        ),
        normalises=True,
        released={"objective": _RELEASED_WEIGHTS},
    ),
}

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
    **_PIXELS,
    n=_ALL,
    epochs=100,
    normalising_epochs=50,
    transform=parts.unit_pixels,
    changes={},
    budgets=BUDGETS,
)
_COLOUR_LATENT_CHAIN = replace(_LATENT_CHAIN, steps=20, step_size=1.0, noise_std=0.02)
_COLOUR_VISIBLE = replace(_VISIBLE, steps=40, noise_std=Annealed(0.02))
_COLOUR_RELEASED_VISIBLE = replace(_VISIBLE, steps=40, noise_std=Annealed(0.02, delayed=True))
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
    epoch = math.ceil((kind.n if without is None else kind.n * 9 // 10) / _BATCH)
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
            batch_size=_BATCH,
            seed=1,
            transform=kind.transform,
        ),
        optimiser=partial(adam, lr=1e-5, lr_of=_FIXED) if method.normalises else partial(adam, lr=1e-4, clip=None),
        schedule=LinearTail(1.0) if method.normalises else None,
        steps=(kind.normalising_epochs if method.normalises else kind.epochs) * epoch,
        probe=partial(
            parts.validation_errors, name=in_set, held_out=without, channels=kind.channels, side=kind.side, n=1000
        )
        if probed
        else None,
        probes=50 if probed else 0,
        start=image_training("AE", without, in_set=in_set, setting=setting) if method.normalises else None,
        unstated=(*_UNSTATED, *kind.unstated),
    )
    size = {name: getattr(kind, name) for name in _PIXELS}
    preset = preset.changed(model=size, objective=_known(preset.objective, {"shape": shape}))
    preset = preset.changed(**kind.changes.get(name, {}))
    preset = replace(preset, sources=explained(preset, {**_SOURCES, **kind.sources, **preset.sources}))
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
