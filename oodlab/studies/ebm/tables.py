"""Tables with held-out classes, their energies, and energies with a generator, as the studies of `ebm` share them.

Imports: data, models, study, training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oodlab.data import DropConstant, MinMax, Stored
from oodlab.models import MLP, EnergyWithGenerator, JointEnergy, NoisyGenerator
from oodlab.study import Inputs, Models
from oodlab.training import Shuffled


@dataclass(frozen=True, eq=False)
class Scaling:
    """Stored rows without the columns that are constant in the training part, whose others fill [-1, 1] there.

    Attributes:
        vary: Choice of columns.
        ranges: Their scaling.
    """

    vary: DropConstant
    ranges: MinMax

    @classmethod
    def fit(cls, x: Tensor) -> Scaling:
        """Learn columns and ranges from the training part, (N, D)."""
        vary = DropConstant.fit(x)
        return cls(vary, MinMax.fit(vary(x)))

    def __call__(self, x: Tensor) -> Tensor:
        """Scale stored rows, (B, D)."""
        return self.ranges(self.vary(x))


def scaled(inputs: Inputs, models: Models) -> Callable[[Tensor], Tensor]:
    """Prepare rows for scores: scaled as the training part is."""
    return Scaling.fit(inputs.train.x)


@dataclass(frozen=True)
class TableRows:
    """Shuffled batches of a table's scaled rows, the classes that are trained on renumbered 0, 1, ...

    Attributes:
        stored: Rows.
        batch_size: Rows per step; a table with fewer is one batch.
        seed: Seed of the order of every epoch.
    """

    stored: Stored
    batch_size: int
    seed: int

    def begin(self) -> Shuffled:
        """Load and scale the rows."""
        split = self.stored.load()
        labels = torch.searchsorted(split.y.unique(), split.y)
        return Shuffled(Scaling.fit(split.x)(split.x), labels, min(self.batch_size, len(split)), self.seed)


@dataclass(frozen=True)
class TableEnergy:
    """An energy of table rows: called, it builds one; the fields are MLP's arguments."""

    features: int
    hidden: Sequence[int]
    outputs: int
    activation: Callable[[], nn.Module]

    def __call__(self) -> JointEnergy:
        """Build the energy with fresh weights."""
        return JointEnergy(MLP(self.features, self.hidden, self.outputs, self.activation))


@dataclass(frozen=True)
class WithGenerator:
    """An energy and the generator that it is trained against: called, it builds both.

    Attributes:
        energy: energy() builds the energy.
        generator: generator(latent=) builds the network from noise to inputs.
        latent, std, proposal_std: The arguments of NoisyGenerator.
    """

    energy: Callable[[], JointEnergy]
    generator: Callable[..., nn.Module]
    latent: int
    std: float
    proposal_std: float

    def __call__(self) -> EnergyWithGenerator:
        """Build both with fresh weights."""
        network = self.generator(latent=self.latent)
        noisy = NoisyGenerator(network, self.latent, std=self.std, proposal_std=self.proposal_std)
        return EnergyWithGenerator(self.energy(), noisy)
