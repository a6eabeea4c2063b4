"""Networks and the densities built on them."""

from oodlab.models.autoencoders import NormalizedAutoencoder, VariationalAutoencoder
from oodlab.models.conv_autoencoder import Conv28Decoder, Conv28Encoder
from oodlab.models.energy import Density, EnergyModel, frozen, stein_score
from oodlab.models.flows import Flow, approximate_mass, image_realnvp, vector_realnvp
from oodlab.models.generators import EnergyWithGenerator, ImageGenerator, NoisyGenerator, TableGenerator
from oodlab.models.joint import JointEnergy
from oodlab.models.linear_nae import LinearNAE, LinearOptimum, linear_autoencoder, most_likely_linear_nae
from oodlab.models.nets import MLP, ResidualBlock, ResidualMLP
from oodlab.models.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "Conv28Decoder",
    "Conv28Encoder",
    "Density",
    "EnergyModel",
    "EnergyWithGenerator",
    "Flow",
    "ImageGenerator",
    "JointEnergy",
    "LinearNAE",
    "LinearOptimum",
    "NoisyGenerator",
    "NormalizedAutoencoder",
    "ResidualBlock",
    "ResidualMLP",
    "TableGenerator",
    "VariationalAutoencoder",
    "WideResNet",
    "approximate_mass",
    "frozen",
    "image_realnvp",
    "linear_autoencoder",
    "most_likely_linear_nae",
    "stein_score",
    "vector_realnvp",
]
