"""The methods trained on images: network, objective and scores of each, as printed and as released.

Imports: detectors, objectives, samplers, presets.base, its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from oodlab.detectors import Detector, LogDensity, MixtureLogDensity, Reconstruction, Reencoding
from oodlab.objectives import denoising, negative_elbo, reconstruction
from oodlab.presets.nae import image_parts as parts
from oodlab.presets.nae.parts import by_contrast, by_persistence, on_manifold, only
from oodlab.samplers import Annealed, Box, ClipElements, ClipRows, LangevinChain, Sphere

_SIDE, _LATENT, _WIDTH, BATCH = 28, 32, 32, 128
PIXELS = {"side": _SIDE, "channels": 1, "width": _WIDTH, "residual": False}
_SIZE = {**PIXELS, "latent": _LATENT}
SHAPE = (1, _SIDE, _SIDE)
_UNIT = Box(0.0, 1.0)
FIXED = {"log_temperature": 0.0}  # the temperature stays 1
VISIBLE = LangevinChain(steps=50, step_size=10.0, noise_std=Annealed(0.05), clip=ClipElements(0.01), bounds=_UNIT)
LATENT_CHAIN = LangevinChain(steps=10, step_size=0.2, noise_std=0.05, bounds=Sphere())
_ENERGY_CHAIN = LangevinChain(steps=60, step_size=10.0, noise_std=0.005, clip=ClipElements(0.01), bounds=_UNIT)

SOURCES = {
    "model.side": "the images",
    "model.channels": "the images",
    "model.latent": "released: 32",
    "model.width": "table 10 (Conv28)",
    "model.samples": "released (two-dimensional experiment)",
    "model.codes": "arXiv:1711.00937",
    "batches.n": "all",
    "batches.batch_size": "table 11; the other methods have the AE's",
    "batches.shape": "the images",
    "batches.without": "the held-out digit",
    "probe.held_out": "the held-out digit",
    "probe.side": "the images",
    "probe.channels": "the images",
    "objective.objective.encoder_l2": "released",
    "objective.objective.noise_std": "paper",
    "objective.coefficient": "paper: 0.001 to 0.1",
    "objective.commitment": "arXiv:1711.00937",
    "objective.energy_weight": "Zong et al. (2018)",
    "objective.covariance_weight": "Zong et al. (2018)",
    "objective.adversarial_weight": "arXiv:1805.06725",
    "objective.context_weight": "arXiv:1805.06725",
    "objective.encoder_weight": "arXiv:1805.06725",
    "objective.energy_penalty": "released",
    "objective.encoder_l2": "released",
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
    "steps": "table 11: 100 epochs to reconstruct, 50 to normalise; the other methods have the AE's",
}
UNSTATED = (
    "batches.seed: decides the order; 1 here",
    "probe.n: validation images, our choice",
    "probes: our choice",
    "model.hidden: of DAGMM's estimator; 10, as in Zong et al. (2018)",
    "model.components: of DAGMM's mixture; 4",
    "model.features: of Ganomaly's discriminator; 64",
    "model.latent: the paper searches 2 to 256 by validation AUROC; 32, as released",
    "optimiser: the rates of AE and NAE are the released ones; the other methods have the AE's rate, epochs and batch",
    "objective.encoder_l2: in the paper's setting 0; the released code has it on the sphere",
    "VQ-VAE: one entry of the codebook per image, as the networks' code has one place; DAE and WAE: codes on the sphere",
    "released: trains on the first 50,000 images and validates on the last 10,000; here 54,000 and 6,000, as the paper has it",
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
_RELEASED_VISIBLE = replace(VISIBLE, noise_std=Annealed(0.05, delayed=True), clip=ClipRows(0.01))
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
        detectors={"DAGMM": MixtureLogDensity},
    ),
    "Ganomaly": Method(
        "ganomaly",
        partial(parts.image_reencoder, **_SIZE, features=64),
        partial(parts.reencoding, adversarial_weight=1.0, context_weight=50.0, encoder_weight=1.0),
        detectors={"GANOMALY(REPRO)": Reencoding},
    ),
    "IGEBM": Method(
        "igebm",
        partial(parts.image_energy, **PIXELS),
        partial(parts.energy_by_persistence, chain=_ENERGY_CHAIN, shape=SHAPE, capacity=10_000, restart=0.05, l2=1.0),
        detectors={"IGEBM": LogDensity},
    ),
    "NAE-CD": Method(
        "cd",
        _AUTOENCODER,
        partial(by_contrast, chain=VISIBLE, penalise_data=False, **_WEIGHTS),
        normalises=True,
        released={"objective": {"penalise_data": True, **_RELEASED_WEIGHTS}},
    ),
    "NAE-PCD": Method(
        "pcd",
        _AUTOENCODER,
        partial(
            by_persistence,
            chain=VISIBLE,
            capacity=10_000,
            restart=0.05,
            low=0.0,
            high=1.0,
            shape=SHAPE,
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
            latent_chain=LATENT_CHAIN,
            chain=VISIBLE,
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
