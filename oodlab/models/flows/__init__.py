"""Normalising flows (RealNVP), and the approximate mass from their input gradients."""

from oodlab.models.flows.conditioners import ConvConditioner, mlp_conditioner
from oodlab.models.flows.flow import Flow, LogitNormal
from oodlab.models.flows.layers import (
    ActNorm,
    ChannelCoupling,
    FlowLayer,
    Logit,
    MaskedCoupling,
    Squeeze,
    checkerboard,
)
from oodlab.models.flows.mass import approximate_mass, log_prob_and_gradient
from oodlab.models.flows.realnvp import image_realnvp, vector_realnvp

__all__ = [
    "ActNorm",
    "ChannelCoupling",
    "ConvConditioner",
    "Flow",
    "FlowLayer",
    "Logit",
    "LogitNormal",
    "MaskedCoupling",
    "Squeeze",
    "approximate_mass",
    "checkerboard",
    "image_realnvp",
    "log_prob_and_gradient",
    "mlp_conditioner",
    "vector_realnvp",
]
