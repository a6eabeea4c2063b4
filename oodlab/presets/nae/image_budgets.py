"""What the profiles spend on trainings on images: the one place to tune them.

Imports: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

GREY_IMAGES = 54_000  # mnist's training images less those for validation


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
        n=GREY_IMAGES,
        steps=600,
        steps_of={"AE": 3000, "NAE-CD": 150, "NAE-PCD": 150, "NAE-OMI": 500, "IGEBM": 100},
        lr=1e-3,
        normalising_lr=7e-4,
        normalising_tail=0.5,
        latent_steps=5,
        latent_step_size=3.0,
        visible_steps=10,
        visible_step_size=30.0,
        igebm_steps=20,
        importance_samples=10,
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
    "28 x 28 pixels, 32 channels, 32 numbers in a code (released), 38,000 updates and 19,000 of normalising (a ninth more with no digit "
    "held out), batches of 128, rates (released) of 1e-4 and 1e-5, chains of 10 latent steps of size 0.2 and 50 visible ones of 10"
)
LONG = replace(  # the small networks of quick, for hours instead of minutes
    BUDGETS["quick"],
    steps=3000,
    steps_of={"AE": 10_000, "NAE-CD": 1000, "NAE-PCD": 1000, "NAE-OMI": 4000, "IGEBM": 500},
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
