"""oodlab: when can a learned energy or density tell that an input is out of distribution?

Importing it first lets OpenMP's waiting threads sleep (OMP_WAIT_POLICY=PASSIVE, read when torch
loads): beside another busy process threads that spin cost several times a step. A user's own value wins.

The public surface, loaded when first used:

data        data sets, synthetic inputs, preprocessing with exact log-determinants
metrics     AUROC, AUPR, TNR at TPR, bits per dimension, the papers' printed numbers
grids       densities of the plane, normalised on a box
samplers    Langevin and Metropolis-adjusted chains, on-manifold start
replay      replay buffers and fresh starts
models      energies and densities
objectives  training losses
training    one loop: budget, checkpoints, divergence guard
detectors   score_samples: high = in-distribution
study       Task, Method, Study, evaluate: from a setting to the rows of its tables
studies     the papers' settings
plotting    figures, save_figure
widgets     panels for notebooks
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads; processes started from here inherit it

__version__ = "0.1.0"
__all__ = [
    "data",
    "detectors",
    "grids",
    "metrics",
    "models",
    "objectives",
    "plotting",
    "replay",
    "samplers",
    "studies",
    "study",
    "training",
    "widgets",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"oodlab.{name}")
    raise AttributeError(f"oodlab has no {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
