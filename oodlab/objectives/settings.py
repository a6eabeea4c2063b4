"""Objectives as settings, for those whose negatives have state.

A setting holds no tensor: `begin(model)` builds what a training steps with, a replay of earlier
chains among it.  Objectives without state (PenalisedLikelihood, MixtureLikelihood, ...) are
settings themselves.

Imports: models, samplers, its own folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from oodlab.models import Autoencoder, EncoderDecoder
from oodlab.objectives.autoencoding import NormalizedLikelihood, Parts, denoising, reconstruction
from oodlab.objectives.contrastive import ContrastiveDivergence
from oodlab.objectives.joint import Joint
from oodlab.objectives.negatives import Chain, FromData, FromReplay, OnManifold
from oodlab.objectives.score_matching import SlicedScoreMatching
from oodlab.objectives.vera import VariationalLikelihood
from oodlab.samplers import Box, LangevinChain, ReplayBuffer, Uniform

# ---------------------------------------------------------------------------- where negatives come from


@dataclass(frozen=True)
class DataChains:
    """Contrastive divergence: chains start at the data.

    Attributes:
        chain: Chain.
    """

    chain: Chain

    def begin(self, model: nn.Module) -> FromData:
        """Build the source of negatives."""
        return FromData(self.chain)


@dataclass(frozen=True)
class ReplayChains:
    """Persistent contrastive divergence: chains go on where earlier ones ended, the first from uniform noise.

    Attributes:
        chain: Chain.
        shape: Shape of an input, without the batch.
        capacity: States that are kept.
        restart: Probability that a chain starts from noise instead.
        low, high: Range of the noise.
        fifo: Whether the newest states push out the oldest; else each goes back to its slot.
        classes: Classes that the slots are divided into; 1 for chains of no class.
    """

    chain: Chain
    shape: tuple[int, ...]
    capacity: int
    restart: float
    low: float
    high: float
    fifo: bool
    classes: int = 1

    def begin(self, model: nn.Module) -> FromReplay:
        """Build the source of negatives with an empty replay."""
        start = Uniform(self.low, self.high)
        replay = ReplayBuffer(
            self.capacity, self.shape, start=start, restart=self.restart, fifo=self.fifo, classes=self.classes
        )
        return FromReplay(self.chain, replay)


@dataclass(frozen=True)
class ManifoldChains:
    """On-manifold initialisation: visible chains start where latent ones, decoded, end.

    Attributes:
        latent_chain, chain: Chains of codes and of inputs.
        capacity: Final codes that are kept.
        restart: Probability that a latent chain starts from a fresh code.
        start_bounds: Region that decoded starts are clamped to; None leaves them.
        places: Shape of a code after its `latent` numbers: () for vectors, (1, 1) for images.
    """

    latent_chain: LangevinChain
    chain: Chain
    capacity: int
    restart: float
    start_bounds: Box | None = None
    places: tuple[int, ...] = ()

    def begin(self, model: Autoencoder) -> OnManifold:
        """Build the source of negatives with an empty replay of the model's codes."""
        shape = (model.latent, *self.places)
        replay = ReplayBuffer(self.capacity, shape, start=model.latent_start, restart=self.restart, fifo=True)
        return OnManifold(self.latent_chain, self.chain, replay, start_bounds=self.start_bounds)


Chains = DataChains | ReplayChains | ManifoldChains

# ---------------------------------------------------------------------------------------- objectives


@dataclass(frozen=True)
class SquaredError:
    """Mean squared reconstruction error per dimension, of an input or of a noisy one.

    Attributes:
        noise_std: Standard deviation of the noise on what is encoded, 0 for the plain autoencoder.
        encoder_l2: Weight of the sum of squares of the encoder's parameters, without noise only.
    """

    noise_std: float = 0.0
    encoder_l2: float = 0.0

    def __post_init__(self) -> None:
        if self.noise_std and self.encoder_l2:
            raise ValueError(
                f"SquaredError expects noise_std or encoder_l2, got both ({self.noise_std:g}, {self.encoder_l2:g}): no paper "
                "trains a denoising autoencoder with the penalty; leave one out."
            )

    def __call__(self, model: EncoderDecoder, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
        """Return the loss and the error."""
        if self.noise_std:
            return denoising(model, x, y, noise_std=self.noise_std, **run)
        return reconstruction(model, x, y, encoder_l2=self.encoder_l2, **run)


@dataclass(frozen=True)
class Normalised:
    """Maximum likelihood of an autoencoder by sampled negatives; fields as in NormalizedLikelihood.

    Attributes:
        negatives: Source of the negatives.
        energy_penalty, latent_penalty, encoder_l2: Weights.
        penalise_data: Whether the energy penalty is on data, too.
    """

    negatives: Chains
    energy_penalty: float = 1.0
    penalise_data: bool = False
    latent_penalty: float = 0.0
    encoder_l2: float = 0.0

    def begin(self, model: Autoencoder) -> NormalizedLikelihood:
        """Build the objective with its chains as they begin."""
        return NormalizedLikelihood(
            self.negatives.begin(model),
            energy_penalty=self.energy_penalty,
            penalise_data=self.penalise_data,
            latent_penalty=self.latent_penalty,
            encoder_l2=self.encoder_l2,
        )


@dataclass(frozen=True)
class Contrastive:
    """Contrastive divergence of an energy; fields as in ContrastiveDivergence.

    Attributes:
        negatives: Source of the negatives.
        l2: Weight of the squared log-densities.
    """

    negatives: Chains
    l2: float = 0.0

    def begin(self, model: nn.Module) -> ContrastiveDivergence:
        """Build the objective with its chains as they begin."""
        return ContrastiveDivergence(self.negatives.begin(model), l2=self.l2)


@dataclass(frozen=True)
class ScoreMatching:
    """Sliced score matching; fields as in SlicedScoreMatching.

    Attributes:
        projections: Random directions per input.
    """

    projections: int = 1

    def begin(self, model: nn.Module) -> SlicedScoreMatching:
        """Build the objective."""
        return SlicedScoreMatching(projections=self.projections)


@dataclass(frozen=True)
class AgainstGenerator:
    """Variational training against a generator; fields as in VariationalLikelihood.

    Attributes:
        entropy_weight, proposals, gradient_penalty, std_bounds: The arguments of VariationalLikelihood.
    """

    entropy_weight: float
    proposals: int
    gradient_penalty: float
    std_bounds: tuple[float, float]

    def begin(self, model: nn.Module) -> VariationalLikelihood:
        """Build the objective."""
        return VariationalLikelihood(
            entropy_weight=self.entropy_weight,
            proposals=self.proposals,
            gradient_penalty=self.gradient_penalty,
            std_bounds=self.std_bounds,
        )


@dataclass(frozen=True)
class WithLabels:
    """A generative objective and gamma times classification; fields as in Joint.

    Attributes:
        generative: Setting of the generative objective.
        gamma: Weight of classification; 0 leaves the generative objective alone.
        entropy_weight: Weight of the negative entropy of predictions.
    """

    generative: Contrastive | ScoreMatching | AgainstGenerator
    gamma: float
    entropy_weight: float = 0.0

    def begin(self, model: nn.Module) -> Joint:
        """Build the objective with its chains as they begin."""
        return Joint(self.generative.begin(model), gamma=self.gamma, entropy_weight=self.entropy_weight)
