"""How each method is trained on images of digits; the notebooks on digits share it.

Imports: data, models, objectives, samplers, training, presets.base, presets.sources, its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from oodlab.detectors import Detector, LogDensity, MixtureEnergy, Reconstruction, Reencoding
from oodlab.objectives import denoising, negative_elbo, reconstruction
from oodlab.presets.base import Preset
from oodlab.presets.nae import digit_parts as parts
from oodlab.presets.nae.parts import by_contrast, by_persistence, on_manifold, only
from oodlab.presets.sources import images
from oodlab.samplers import Annealed, Box, ClipElements, LangevinChain, Sphere
from oodlab.training import adam

_SIDE, _LATENT, _WIDTH = 28, 32, 32
_SIZE = {"side": _SIDE, "latent": _LATENT, "width": _WIDTH}
_SHAPE = (1, _SIDE, _SIDE)
_UNIT = Box(0.0, 1.0)
_FIXED = {"log_temperature": 0.0}  # the temperature stays 1
_VISIBLE = LangevinChain(steps=50, step_size=10.0, noise_std=Annealed(0.05), clip=ClipElements(0.01), bounds=_UNIT)
_LATENT_CHAIN = LangevinChain(steps=10, step_size=0.2, noise_std=0.05, bounds=Sphere())
_ENERGY_CHAIN = LangevinChain(steps=60, step_size=10.0, noise_std=0.005, clip=ClipElements(0.01), bounds=_UNIT)
EPOCH = 380  # batches of 128 among 48,600 images, 54,000 less a digit
PRE_TRAINING = 100 * EPOCH
NORMALISING = 50 * EPOCH

_SOURCES = {
    "model.side": "the images",
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
    "optimiser.lr_of": "the temperature is fixed at 1 on images",
    "optimiser.clip": "released, in one of its trainers",
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
    "pre-training: the released code stops after the fourth validation without improvement; here it runs to its end",
)


@dataclass(frozen=True)
class Method:
    """What one method trains, and how.

    Attributes:
        name: In a preset's name.
        model, objective: Builders, as a Preset has them.
        normalises: Whether it begins with the weights of the plain autoencoder.
        detectors: Its scores, by the paper's names of them; None is the reconstruction error under the method's own name.
    """

    name: str
    model: partial
    objective: partial
    normalises: bool = False
    detectors: Mapping[str, type[Detector]] | None = None


_AUTOENCODER = partial(parts.digit_autoencoder, **_SIZE, sphere=True)
_WEIGHTS = {"energy_penalty": 1.0, "encoder_l2": 1e-4}
METHODS = {
    "AE": Method("ae", _AUTOENCODER, partial(only, objective=partial(reconstruction, encoder_l2=1e-4))),
    "DAE": Method("dae", _AUTOENCODER, partial(only, objective=partial(denoising, noise_std=0.3))),
    "VAE": Method(
        "vae",
        partial(parts.digit_vae, **_SIZE, samples=500),
        partial(only, objective=negative_elbo),
        detectors={"VAE(R)": Reconstruction, "VAE(L)": LogDensity},
    ),
    "WAE": Method("wae", _AUTOENCODER, partial(parts.wasserstein, coefficient=0.01)),
    "VQVAE": Method(
        "vqvae", partial(parts.digit_codebook, **_SIZE, codes=512), partial(parts.quantised, commitment=0.25)
    ),
    "DAGMM": Method(
        "dagmm",
        partial(parts.digit_mixture, **_SIZE, hidden=10, components=4),
        partial(parts.mixture, energy_weight=0.1, covariance_weight=0.005),
        detectors={"DAGMM": MixtureEnergy},
    ),
    "Ganomaly": Method(
        "ganomaly",
        partial(parts.digit_reencoder, **_SIZE, features=64),
        partial(parts.reencoding, adversarial_weight=1.0, context_weight=50.0, encoder_weight=1.0),
        detectors={"GANOMALY(REPRO)": Reencoding},
    ),
    "IGEBM": Method(
        "igebm",
        partial(parts.digit_energy, side=_SIDE, width=_WIDTH),
        partial(parts.energy_by_persistence, chain=_ENERGY_CHAIN, shape=_SHAPE, capacity=10_000, restart=0.05, l2=1.0),
        detectors={"IGEBM": LogDensity},
    ),
    "NAE-CD": Method("cd", _AUTOENCODER, partial(by_contrast, chain=_VISIBLE, **_WEIGHTS), normalises=True),
    "NAE-PCD": Method(
        "pcd",
        _AUTOENCODER,
        partial(
            by_persistence, chain=_VISIBLE, capacity=10_000, restart=0.05, low=0.0, high=1.0, shape=_SHAPE, **_WEIGHTS
        ),
        normalises=True,
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
    ),
}

# ------------------------------------------------------------------------------- their smaller budgets

_SMALL = {"side": 14, "latent": 16, "width": 16}
_TINY = {"side": 14, "latent": 3, "width": 2}
_QUICK_STEPS = {"visible": 30, "latent": 10, "igebm": 30}
_SMOKE_STEPS = {"visible": 2, "latent": 2, "igebm": 2}


def digit_training(name: str, without: int | None = None, *, in_set: str = "mnist") -> Preset:
    """Return the training of one of METHODS on a set of digits, without one of them or with all."""
    method = METHODS[name]
    held_out = () if without is None else (without,)
    return Preset(
        name=f"nae/digits/{method.name}" + ("" if without is None else f"-without-{without}"),
        model=method.model,
        objective=method.objective,
        batches=partial(
            images,
            name=in_set,
            split="train-val",
            without=held_out,
            n=None,
            shape=_SHAPE,
            batch_size=128,
            seed=1,
            transform=parts.unit_pixels,
        ),
        optimiser=partial(adam, lr=1e-5, lr_of=_FIXED) if method.normalises else partial(adam, lr=1e-4),
        steps=NORMALISING if method.normalises else PRE_TRAINING,
        probe=partial(parts.validation_errors, name=in_set, held_out=without, side=_SIDE, n=1000)
        if method.normalises and without is not None
        else None,
        probes=20 if method.normalises and without is not None else 0,
        start=digit_training("AE", without, in_set=in_set) if method.normalises else None,
        sources=_SOURCES,
        unstated=_UNSTATED,
        profiles={
            "quick": _smaller(
                method, _SMALL, _QUICK_STEPS, batch_size=64, steps=1000, lr=1e-4 if method.normalises else 1e-3
            ),
            "smoke": _smaller(method, _TINY, _SMOKE_STEPS, batch_size=16, steps=3, lr=1e-3, n=200),
        },
    )


def _smaller(
    method: Method,
    size: dict[str, int],
    chains: dict[str, int],
    *,
    batch_size: int,
    steps: int,
    lr: float,
    **images: int,
) -> dict[str, Any]:
    """Return the changes to a smaller network, shorter chains and fewer updates."""
    shape = (1, size["side"], size["side"])
    objective = {
        "chain": replace(_ENERGY_CHAIN, steps=chains["igebm"])
        if method.name == "igebm"
        else replace(_VISIBLE, steps=chains["visible"]),
        "latent_chain": replace(_LATENT_CHAIN, steps=chains["latent"]),
        "shape": shape,
    }
    return {
        "model": {key: value for key, value in size.items() if key in method.model.keywords},
        "objective": {key: value for key, value in objective.items() if key in method.objective.keywords},
        "batches": {"shape": shape, "batch_size": batch_size, **images},
        "optimiser": {"lr": lr},
        "steps": steps,
    }
