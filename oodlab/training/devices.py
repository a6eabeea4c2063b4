"""The place and manner of computing: device, precision, threads, random numbers.

Imports: checks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from oodlab import checks

PRECISIONS = ("auto", "float32", "bfloat16")
GRAPHS = ("auto", "off")
SMALL = 4_000_000  # parameters: four halves of the small image networks, as GANomaly has, among them


def pick_device(device: str = "auto") -> torch.device:
    """Return the device named, or for "auto" CUDA when there is a GPU and the CPU otherwise."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError):
        picked = None
    if picked is None or picked.type not in ("cpu", "cuda"):
        raise ValueError(f"device expects 'auto', 'cpu' or 'cuda', got {device!r}: training runs on these; use 'auto'.")
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device expects what this machine has, got {device!r}: no GPU here; use 'auto'.")
    return picked


def pick_precision(precision: str, model: nn.Module, device: torch.device) -> torch.dtype:
    """Return the type of the network's arithmetic; weights and chain states stay float32.

    "auto" is bfloat16 for convolutional networks where the hardware multiplies it
    (AMX or AVX512-BF16 on CPU, any recent GPU) and float32 otherwise: small dense
    networks gain nothing, and energies near each other collapse to a few bfloat16 values.
    """
    checks.one_of("precision", "one of", precision, PRECISIONS)
    if precision != "auto":
        return getattr(torch, precision)
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else bool(cpu_bfloat16())
    return torch.bfloat16 if _convolutional(model) and fast else torch.float32


def cpu_bfloat16() -> str:
    """Return the name of the processor's instructions that multiply bfloat16, or "" when it has none."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else ""


@contextlib.contextmanager
def own_threads(model: nn.Module, place: torch.device) -> Iterator[None]:
    """Train a small network on one CPU thread.

    Its matrices are too small for two to gain anything, and on a shared machine two
    threads that wait for each other at every layer crawl.
    """
    before = torch.get_num_threads()
    if place.type == "cpu" and is_small(model):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_small(model: nn.Module) -> bool:
    """Say whether a network has fewer than SMALL parameters, and convolutions only where a part's `one_thread` says that one does."""
    within = {id(module) for part in model.modules() if getattr(part, "one_thread", False) for module in part.modules()}
    large = any(_convolves(module) and id(module) not in within for module in model.modules())
    return sum(p.numel() for p in model.parameters()) < SMALL and not large


def _convolutional(model: nn.Module) -> bool:
    return any(map(_convolves, model.modules()))


def _convolves(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d)


@contextlib.contextmanager
def own_randomness(seed: int, place: torch.device) -> Iterator[None]:
    """Seed torch's global generators for what draws from them (dropout), and restore them."""
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
