"""Where the paper's text and the authors' code part in the gamma sweep, and where its numbers come from.

Imports: models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt

from torch import nn

from oodlab.models.wide_resnet import LeakyReLU


@dataclass(frozen=True)
class Version:
    """Where the paper's text and the authors' code part."""

    name: str
    lr: Mapping[str, float]  # of images and of tables
    vera_rates: Mapping[str, tuple[float, float]]  # energy and generator: images, tables, tables with classes
    energy_betas: tuple[float, float]
    noise_std: float
    l2: float
    entropy_weight: float
    class_weight: float  # factor on gamma in VERA on images
    matching_is_averaged: bool  # over all axes of an image but the last
    conditional: bool
    supervised_steps: int
    activation: Callable[[], nn.Module]
    pair_activation: Callable[[], nn.Module]
    matching_activation: Callable[[], nn.Module]
    generator_activation: tuple[Callable[[], nn.Module], Callable[[], nn.Module]]  # without and with classes
    penalty_is_divided: bool
    vera_warm_up: bool
    sources: Mapping[str, str]
    unstated: tuple[str, ...]


PAPER = Version(
    name="ebm/gamma_sweep",
    lr={"images": 1e-3, "tables": 1e-3},
    vera_rates=dict.fromkeys(("images", "tables", "tables with classes"), (3e-4, 6e-4)),
    energy_betas=(0.9, 0.999),
    noise_std=round(sqrt(0.1), 4),
    l2=1.0,
    entropy_weight=0.0,
    class_weight=1.0,
    matching_is_averaged=False,
    conditional=False,
    supervised_steps=100,
    activation=nn.ReLU,
    pair_activation=nn.ReLU,
    matching_activation=nn.SiLU,
    generator_activation=(LeakyReLU, LeakyReLU),
    penalty_is_divided=False,
    vera_warm_up=True,
    sources={
        "optimiser": "paper; betas (0, 0.9) for the generator only; the proposal's rate as released",
        "model.activation": "paper: ReLU for tables; released: LeakyReLU(0.2) for images",
        "model.energy.activation": "released",
        "model.generator_activation": "paper",
        "batches.transform.augment.noise_std": "paper: variance 0.1",
        "objective.generative.chain": "paper: 100 steps, step size 1, noise 0.01",
        "objective.generative.l2": "released; the loss as printed has no penalty, but figure 4 shows log-densities of data "
        "near 1/2, where this penalty puts them",
        "objective.generative.classes": "text: chains on the marginal density",
        "objective.generative.gradient_penalty": "released",
        "objective.entropy_weight": "the loss as printed has no such term",
        "warm_up": "released",
    },
    unstated=(
        "model.activation of SSM: the paper names ReLU, with which a single output has no second derivative and the loss "
        "is minimised by a constant; SiLU here, in networks of images too, and with classes as well, so that the curve "
        "over gamma is of one network",
    ),
)
RELEASED = Version(
    name="ebm/gamma_sweep_released",
    lr={"images": 1e-4, "tables": 1e-3},
    vera_rates={"images": (3e-5, 6e-5), "tables": (3e-5, 6e-5), "tables with classes": (1e-3, 1e-3)},
    energy_betas=(0.0, 0.9),
    noise_std=0.1,
    l2=1.0,
    entropy_weight=1e-4,
    class_weight=100.0,
    matching_is_averaged=True,
    conditional=True,
    supervised_steps=20,
    activation=nn.LeakyReLU,
    pair_activation=LeakyReLU,
    matching_activation=nn.LeakyReLU,
    generator_activation=(nn.LeakyReLU, nn.ReLU),
    penalty_is_divided=True,
    vera_warm_up=False,
    sources={
        "optimiser": "released",
        "model.activation": "released",
        "model.energy.activation": "released",
        "model.generator_activation": "released",
        "batches.transform.augment.noise_std": "released: standard deviation 0.1",
        "objective.generative.chain": "released: step size 1, noise 0.01, 100 steps; 20 in class-conditional chains",
        "objective.generative.l2": "released",
        "objective.generative.classes": "released: a supervised model's chains follow one class's logit",
        "objective.generative.gradient_penalty": "released: 0.1, divided by the squared batch size because the mean of "
        "the log-densities is differentiated",
        "objective.entropy_weight": "released: CD on images only",
        "objective.gamma": "figures 1, 6, 7, 8: 0.01 to 100; on images as released 100 times that in VERA, and channels times height times that in SSM, whose loss is averaged over those axes there",
        "warm_up": "released; its code for VERA never calls the warm-up",
    },
    unstated=(
        "SSM without classes is left out: the released network is piecewise linear with one output, and the objective "
        "refuses it",
    ),
)
SHARED_SOURCES = {
    "model.features": "the table's columns that vary",
    "model.hidden": "paper",
    "model.outputs": "one logit at gamma = 0, as the paper's unsupervised models; else one per class",
    "model.latent": "paper",
    "model.generator_hidden": "released",
    "model.std": "paper",
    "model.proposal_std": "released",
    "batches.batch_size": "released",
    "steps": "released",
    "objective.gamma": "figures 1, 6, 7, 8: 0.01 to 100",
    "objective.generative.capacity": "released, a multiple of the classes",
    "objective.generative.restart": "released",
    "objective.generative.low": "released",
    "objective.generative.high": "released",
    "objective.generative.shape": "the shape of an input",
    "objective.generative.projections": "released",
    "objective.generative.entropy_weight": "paper: smallest of the values searched",
    "objective.generative.proposals": "released",
    "objective.generative.std_bounds": "paper",
}
TABLE_SOURCES = {"batches.without": "text: the protocol"}
_NETWORK = {
    "channels": "the images'",
    "outputs": SHARED_SOURCES["model.outputs"],
    "depth": "released: WRN-10-2",
    "widen": "released: WRN-10-2",
    "width": "arXiv:1605.07146",
}
IMAGE_SOURCES = {
    **{f"{path}.{name}": why for name, why in _NETWORK.items() for path in ("model", "model.energy")},
    "model.generator": "released",
    "batches.n": "paper: 90 % of the training images",
    "batches.shape": "paper",
    "batches.transform.augment": "released: rotation by up to 15 degrees, flip, reflecting pad of 4 and random crop",
}
UNSTATED = (
    "batches.seed: the order of the batches is the same for all seeds of the weights",
    "VERA's players: here all three move at once, by gradients of the same weights; published they move one after the other",
    "optimiser: Adam, which AdamW without weight decay is; VERA's published decay of the rates (0.3 at epochs 15 and 18) is left out, as the released code never calls it",
    "batches.shape: images are resized bilinearly; the released code takes Lanczos's kernel",
)
