"""Networks and the densities built on them."""

from oodlab.models.autoencoders import NormalizedAutoencoder, VariationalAutoencoder
from oodlab.models.energy import Density, EnergyModel, frozen, stein_score
from oodlab.models.nets import MLP, ResidualBlock, ResidualMLP

__all__ = [
    "MLP",
    "Density",
    "EnergyModel",
    "NormalizedAutoencoder",
    "ResidualBlock",
    "ResidualMLP",
    "VariationalAutoencoder",
    "frozen",
    "stein_score",
]
