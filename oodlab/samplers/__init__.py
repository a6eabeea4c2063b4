"""Markov chains on unnormalised densities, their initial states, and the replay buffer of earlier states."""

from oodlab.samplers.chains import (
    ChainRecord,
    LangevinChain,
    LogDensityFunction,
    MalaChain,
    StopFlag,
    Stopped,
    effective_temperature,
    langevin,
    mala,
    noise,
    on_manifold_start,
    value_and_grad,
)
from oodlab.samplers.parts import Annealed, Box, ClipElements, ClipNorm, ClipRows, RejectOutside, Sphere, per_chain
from oodlab.samplers.replay import Normal, ReplayBuffer, Uniform

__all__ = [
    "Annealed",
    "Box",
    "ChainRecord",
    "ClipElements",
    "ClipNorm",
    "ClipRows",
    "LangevinChain",
    "LogDensityFunction",
    "MalaChain",
    "Normal",
    "RejectOutside",
    "ReplayBuffer",
    "Sphere",
    "StopFlag",
    "Stopped",
    "Uniform",
    "effective_temperature",
    "langevin",
    "mala",
    "noise",
    "on_manifold_start",
    "per_chain",
    "value_and_grad",
]
