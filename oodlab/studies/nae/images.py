"""How each method is trained on images and scored; the studies on images share these trainings.

"text" is the paper's, "released" the authors' code (swyoon/normalized-autoencoders), which the
paper does not follow in norm clipping, annealing, penalties and, on cifar10, the networks.

Imports: data, detectors, objectives, samplers, study, training, its own folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from oodlab import checks, data
from oodlab.data import Stored
from oodlab.detectors import Detector, LogDensity, MixtureLogDensity, Reconstruction, Reencoding
from oodlab.models import Autoencoder
from oodlab.objectives import (
    AdversarialReencoding,
    Contrastive,
    DataChains,
    ManifoldChains,
    MixtureLikelihood,
    Normalised,
    ReplayChains,
    SquaredError,
    VectorQuantisation,
    WassersteinMMD,
    negative_elbo,
)
from oodlab.samplers import Annealed, Box, ClipElements, ClipRows, LangevinChain, Sphere
from oodlab.studies.nae.networks import (
    Halves,
    ImageAutoencoder,
    ImageCodebook,
    ImageEnergy,
    ImageMixture,
    ImageReencoder,
    ImageVAE,
)
from oodlab.study import Inputs, Method, Models, Recipe, Task
from oodlab.training import Adam, LinearTail
from oodlab.training.sources import StoredBatches

NORMALISING = ("NAE-CD", "NAE-PCD", "NAE-OMI")
METHODS = ("AE", "DAE", "VAE", "WAE", "VQVAE", "DAGMM", "Ganomaly", "IGEBM", *NORMALISING)
GREY, COLOUR = 1, 3  # channels
UNIT = Box(0.0, 1.0)
LOOKS = 5  # ours: times that a normalising training's weights are kept, besides those it began with

# ---------------------------------------------------------------------------- what the source says

ENCODER_L2 = {  # text: 1e-4 (Conv28, Conv32); released: none with the residual networks
    ("printed", GREY): 1e-4,
    ("printed", COLOUR): 1e-4,
    ("released", GREY): 1e-4,
    ("released", COLOUR): 0.0,
}
NOISY = {  # text: uniform noise in all image studies; released: on colour images only
    ("printed", GREY): True,
    ("printed", COLOUR): True,
    ("released", GREY): False,
    ("released", COLOUR): True,
}
LATENT_STEP, LATENT_NOISE = {GREY: 0.2, COLOUR: 1.0}, {GREY: 0.05, COLOUR: 0.02}  # text
VISIBLE_STEP, VISIBLE_NOISE = 10.0, {GREY: 0.05, COLOUR: 0.02}  # text; over 1 + t, also on cifar10
CLIP = 0.01  # text: of the gradient; its elements (printed: unstated), or the norm of its rows (released, grey)
CAPACITY, RESTART = 10_000, 0.05  # released: replay ratio 0.95
PRE_TRAINING_CLIP = {"printed": None, "released": 0.1}  # released: in one of its trainers

UNSTATED = (
    "Which training images are for validation: 54,000 and 6,000 of mnist as the text says (released: 50,000 and 10,000), drawn "
    "with a fixed seed.",
    "Learning rates: the released ones, 1e-4 and, normalising, 1e-5; other methods have the AE's rate, epochs and batch.",
    "Whether `the gradient` of the visible chain is clipped by element or by row: by element as in the newer of two released "
    "classes (printed), by row as in the older one (released, grey).",
    "Numbers in a code: the text searches 2 to 256 by validation AUROC; 32, as released.",
    "VQ-VAE: one entry of a codebook of 512 per image, commitment 0.25 (arXiv:1711.00937). DAGMM: 10 hidden units, 4 components, "
    "weights 0.1 and 0.005 (Zong et al., 2018). GANomaly: weights 1, 50 and 1 (arXiv:1805.06725), 64 features of its discriminator.",
    "DAE and WAE have codes on the sphere, IGEBM the autoencoders' encoder; none of the baselines has the encoder's penalty.",
    "Pre-training runs to its end; the released code stops after the fourth validation without improvement.",
    "The last weights are scored; the text selects among them on grey levels, the released code on sets of its own.",
    "Networks, chains, rates and lengths of quick and long are ours, chosen by the AUROC of a held-out 9 among the 6,000 "
    "validation images; no test image and no other held-out digit had a part in it.",
)


@dataclass(frozen=True)
class Scale:
    """What trainings on one kind of images spend.

    Attributes:
        side, latent, width: Pixels a side, numbers in a code, channels of the first convolution.
        n: Training images at most.
        batch_size, normalising_batch_size: Images per update before and while normalising.
        length: Updates by method, "" for all others; of `in_epochs` passes through the images.
        lr, normalising_lr: Learning rates before and while normalising.
        tail: Share of a normalising training after which its rate falls to zero; 1 keeps it.
        latent_steps, visible_steps, igebm_steps: Steps of the chains.
        latent_step, latent_noise, visible_step: Other sizes of the chains' steps than the text's; None takes those.
        importance_samples: Draws of a code per image for the score of VAE (L).
        probes, probe_images: How often validation errors are measured, and on how many images of each kind.
        in_epochs: Whether `length` counts epochs.
    """

    side: int
    latent: int
    width: int
    n: int
    batch_size: int
    normalising_batch_size: int
    length: Mapping[str, int]
    lr: float
    normalising_lr: float
    tail: float
    latent_steps: int
    visible_steps: int
    igebm_steps: int
    importance_samples: int
    probes: int
    probe_images: int
    latent_step: float | None = None
    latent_noise: float | None = None
    visible_step: float | None = None
    in_epochs: bool = False

    def updates(self, method: str, images: int) -> int:
        """Return a method's updates on so many images."""
        own = self.length.get(method, self.length[""])
        return own * math.ceil(images / self.batch_size) if self.in_epochs else own


def _normalising(length: int) -> dict[str, int]:
    return dict.fromkeys(NORMALISING, length)


FULL = {  # by source and channels
    ("printed", GREY): Scale(
        side=28,
        latent=32,  # released
        width=32,  # table 10
        n=54_000,  # text: 60,000 less 6,000 for validation
        batch_size=128,  # released
        normalising_batch_size=128,  # released
        length={"": 100, **_normalising(50)},  # text
        in_epochs=True,
        lr=1e-4,  # released
        normalising_lr=1e-5,  # released
        tail=1.0,  # released: a constant rate
        latent_steps=10,  # text
        visible_steps=50,  # text
        igebm_steps=60,  # text
        importance_samples=500,  # released
        probes=50,  # ours
        probe_images=1000,  # ours
    )
}
FULL["released", GREY] = FULL["printed", GREY]
FULL["printed", COLOUR] = replace(
    FULL["printed", GREY],
    side=32,
    n=45_000,  # text: 50,000 less 5,000
    length={"": 120, **_normalising(50)},  # text
    latent_steps=20,  # text
    visible_steps=40,  # text
)
FULL["released", COLOUR] = replace(
    FULL["printed", COLOUR],
    width=128,  # released: the encoder of arXiv:1903.08689, the decoder of arXiv:1802.05957
    length={"": 180, **_normalising(10)},  # released
)
QUICK = {  # ours, for two cores: chains of fewer and longer steps, higher rates, smaller networks and images
    GREY: Scale(
        side=14,
        latent=16,
        width=16,
        n=54_000,
        batch_size=64,
        normalising_batch_size=32,
        length={"": 600, "AE": 3000, "NAE-CD": 150, "NAE-PCD": 150, "NAE-OMI": 500, "IGEBM": 100},
        lr=1e-3,
        normalising_lr=7e-4,
        tail=0.5,
        latent_steps=5,
        latent_step=3.0,
        visible_steps=10,
        visible_step=30.0,
        igebm_steps=20,
        importance_samples=10,
        probes=10,
        probe_images=500,
    )
}
QUICK[COLOUR] = replace(
    QUICK[GREY],
    side=16,
    latent=32,
    n=45_000,
    length={"": 300, "AE": 1500, "NAE-CD": 100, "NAE-PCD": 100, "NAE-OMI": 500, "IGEBM": 50},
    latent_step=4.0,
    visible_step=40.0,
)
LONG = {  # the networks of quick; as long as three seeds of three digits fit into an hour on two cores
    GREY: replace(
        QUICK[GREY],
        length={"": 600, "AE": 4000, "NAE-CD": 250, "NAE-PCD": 250, "NAE-OMI": 1000, "IGEBM": 100},
        normalising_lr=5e-4,
        probes=20,
    ),
    COLOUR: QUICK[COLOUR],
}
SMOKE = {
    channels: replace(
        scale,
        latent=3,
        width=4,
        n=200,
        batch_size=16,
        normalising_batch_size=16,
        length={"": 3},
        latent_steps=2,
        visible_steps=2,
        igebm_steps=2,
        importance_samples=2,
        probes=2,
        probe_images=50,
    )
    for channels, scale in QUICK.items()
}


def scale_of(profile: str, source: str, channels: int) -> Scale:
    """Return what a profile spends on grey (1) or colour (3) images."""
    small = {"smoke": SMOKE, "quick": QUICK, "long": LONG}
    return FULL[source, channels] if profile == "full" else small[profile][channels]


def shapes_at(profile: str) -> dict[str, tuple[int, int, int]]:
    """Return (C, H, W) that mnist's and cifar10's images are brought to at a profile."""
    return {
        name: (channels, side, side)
        for name, channels in {"mnist": GREY, "cifar10": COLOUR}.items()
        for side in [scale_of(profile, "printed", channels).side]
    }


def digits_task(*held_out: int, profile: str = "full") -> Task:
    """Return mnist, some digits held out, as large as at a profile; the embedded digits stand in for it."""
    return Task(
        "mnist",
        outside=() if held_out else ("omniglot",),
        held_out=held_out,
        shape=shapes_at(profile)["mnist"],
        train="train-val",
        stand_in="digits",
        stand_in_outside=() if held_out else ("photo_patches",),
        stand_in_held_out=held_out,
    )


# --------------------------------------------------------------------------------------- the trainings


def unit_pixels(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Scale stored images to [0, 1]; no noise is drawn."""
    return data.scale_unit(x)


def noisy_pixels(x: Tensor, generator: torch.Generator) -> Tensor:
    """Scale stored images to [0, 1) with fresh uniform noise within each pixel's bin."""
    return data.dequantize(x, generator)


def latent_chain(scale: Scale, channels: int) -> LangevinChain:
    """Return the chain over codes."""
    step = LATENT_STEP[channels] if scale.latent_step is None else scale.latent_step
    noise = LATENT_NOISE[channels] if scale.latent_noise is None else scale.latent_noise
    return LangevinChain(steps=scale.latent_steps, step_size=step, noise_std=noise, bounds=Sphere())


def visible_chain(scale: Scale, channels: int, source: str) -> LangevinChain:
    """Return the chain over images."""
    released = source == "released"
    return LangevinChain(
        steps=scale.visible_steps,
        step_size=VISIBLE_STEP if scale.visible_step is None else scale.visible_step,
        noise_std=Annealed(VISIBLE_NOISE[channels], delayed=released),  # released: the first two steps have full noise
        clip=ClipRows(CLIP) if released and channels == GREY else ClipElements(CLIP),
        bounds=UNIT,
    )


def image_recipe(method: str, task: Task, scale: Scale, source: str) -> Recipe:
    """Return the training of one of METHODS on a task of images, at a scale.

    A method that normalises begins with the plain autoencoder's weights, its role "AE"; where the task holds
    classes out, reconstruction errors of validation images are measured on the way, which decides nothing.
    """
    checks.one_of("image_recipe", "a method of", method, METHODS)
    shape = task.shape
    channels, images = shape[0], scale.n * (10 - len(task.held_out)) // 10
    normalises = method in NORMALISING
    batch_size = scale.normalising_batch_size if normalises else scale.batch_size
    watched = normalises and task.held_out
    steps = scale.updates(method, images)
    clip = PRE_TRAINING_CLIP[source] if method == "AE" else None
    rate = Adam(lr=scale.normalising_lr, lr_of={"log_temperature": 0.0}) if normalises else Adam(scale.lr, clip=clip)
    return Recipe(
        name=f"nae/images/{task.name}: {method}",
        model=_network(method, scale, shape, source),
        objective=_objective(method, scale, shape, source),
        batches=StoredBatches(
            task.training(n=scale.n),
            batch_size,
            seed=1,  # unstated: decides the order
            transform=noisy_pixels if NOISY[source, channels] else unit_pixels,
            shape=shape,
        ),
        optimiser=rate,
        steps=steps,
        schedule=LinearTail(scale.tail) if normalises and scale.tail < 1 else None,
        probe=ValidationProbe(task.inside, task.held_out, shape, scale.probe_images) if watched else None,
        probes=scale.probes if watched else 0,
        snapshots=min(LOOKS, steps) if normalises else 0,
        needs={"AE": image_recipe("AE", task, scale, source)} if normalises else {},
        begins_with="AE" if normalises else "",
    )


def _network(method: str, scale: Scale, shape: tuple[int, int, int], source: str) -> Callable[[], Any]:
    channels, side, _ = shape
    halves = Halves(scale.latent, side, channels, scale.width, residual=source == "released" and side == 32)
    other = {
        "VAE": ImageVAE(halves, scale.importance_samples),
        "VQVAE": ImageCodebook(halves, codes=512),
        "DAGMM": ImageMixture(halves, hidden=10, components=4),
        "Ganomaly": ImageReencoder(halves, features=64),
        "IGEBM": ImageEnergy(halves),
    }
    return other.get(method, ImageAutoencoder(halves))


def _objective(method: str, scale: Scale, shape: tuple[int, int, int], source: str) -> Callable[..., Any] | Any:
    channels = shape[0]
    visible = visible_chain(scale, channels, source)
    replayed = {"shape": shape, "capacity": CAPACITY, "restart": RESTART, "low": 0.0, "high": 1.0}
    energy_chain = LangevinChain(  # text
        steps=scale.igebm_steps, step_size=10.0, noise_std=0.005, clip=ClipElements(CLIP), bounds=UNIT
    )
    penalties = {"energy_penalty": 1.0, "encoder_l2": ENCODER_L2[source, channels]}
    with_data = {"penalise_data": source == "released", **penalties}  # released: CD and PCD penalise data, too
    start = ManifoldChains(latent_chain(scale, channels), visible, CAPACITY, RESTART, start_bounds=UNIT, places=(1, 1))
    return {
        "AE": SquaredError(encoder_l2=ENCODER_L2[source, channels]),
        "DAE": SquaredError(noise_std=0.3),  # text
        "VAE": negative_elbo,
        "WAE": WassersteinMMD(0.01),  # text: 0.001 to 0.1
        "VQVAE": VectorQuantisation(0.25),
        "DAGMM": MixtureLikelihood(0.1, 0.005),
        "Ganomaly": AdversarialReencoding(adversarial_weight=1.0, context_weight=50.0, encoder_weight=1.0),
        "IGEBM": Contrastive(ReplayChains(energy_chain, **replayed, fifo=False), l2=1.0),  # text: alpha = 1
        "NAE-CD": Normalised(DataChains(visible), **with_data),
        "NAE-PCD": Normalised(ReplayChains(visible, **replayed, fifo=True), **with_data),
        "NAE-OMI": Normalised(start, **penalties),
    }[method]


# ------------------------------------------------------------------------------- scores, and the way there

SCORES: Mapping[str, Mapping[str, type[Detector]]] = {  # by the paper's titles; others: the method's own
    "VAE": {"VAE(R)": Reconstruction, "VAE(L)": LogDensity},
    "DAGMM": {"DAGMM": MixtureLogDensity},
    "Ganomaly": {"GANOMALY(REPRO)": Reencoding},
    "IGEBM": {"IGEBM": LogDensity},
}


@dataclass(frozen=True)
class ImageScores:
    """Scores of one of METHODS: called with its models, they come by the paper's titles."""

    method: str

    def __call__(self, models: Models) -> Mapping[str, Detector]:
        """Return the detectors."""
        made = SCORES.get(self.method, {self.method: Reconstruction})
        return {title: detector(models["model"]) for title, detector in made.items()}


@dataclass(frozen=True)
class ImageTraining:
    """The training of one of METHODS at a scale: called with a task, it is of its kind of images.

    Attributes:
        method: Name.
        scales: What is spent, by channels.
        source: "printed" or "released".
    """

    method: str
    scales: Mapping[int, Scale]
    source: str

    def __call__(self, task: Task) -> Mapping[str, Recipe]:
        """Return the training, as role "model"."""
        return {"model": image_recipe(self.method, task, self.scales[task.shape[0]], self.source)}


def unit_prepared(inputs: Inputs, models: Models) -> Callable[[Tensor], Tensor]:
    """Prepare stored images for scores: in [0, 1], without noise."""
    return unit_pixels


def image_method(method: str, profile: str, source: str) -> Method:
    """Return one of METHODS at a profile."""
    scales = {channels: scale_of(profile, source, channels) for channels in (GREY, COLOUR)}
    return Method(method, ImageTraining(method, scales, source), unit_prepared, ImageScores(method))


@dataclass(frozen=True)
class ValidationProbe:
    """What measures reconstruction errors of validation images on the way; called, it loads them.

    Attributes:
        name: Set.
        held_out: Classes held out.
        shape: (C, H, W) that images are brought to.
        n: Images of each kind at most.
    """

    name: str
    held_out: tuple[int | str, ...]
    shape: tuple[int, int, int]
    n: int

    @property
    def stored(self) -> tuple[Stored, Stored]:
        """Validation images of the known classes, and of those held out."""
        known = Stored(self.name, "val", without=self.held_out, n=self.n)
        return known, Stored(self.name, "val", only=self.held_out, n=self.n)

    def __call__(self) -> ValidationErrors:
        """Load the images."""
        known, held_out = (data.as_shape(part.load().x, self.shape) for part in self.stored)
        return ValidationErrors({"in": known, "out": held_out})


@dataclass(frozen=True)
class ValidationErrors:
    """Measure reconstruction errors of images in [0, 1].

    Attributes:
        sets: Stored images by name, uint8 (N, C, H, W).
    """

    sets: Mapping[str, Tensor]

    def __call__(self, model: Autoencoder) -> dict[str, Tensor]:
        """Return squared errors per pixel by set, (N,) each."""
        place = next(model.parameters()).device
        with torch.no_grad():
            return {
                name: torch.cat([model.reconstruction_error(unit_pixels(part).to(place)) for part in x.split(500)])
                for name, x in self.sets.items()
            }
