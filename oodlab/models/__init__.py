"""Neural networks, and the density models and autoencoders built on them."""

from oodlab.models.autoencoders import Autoencoder, EncoderDecoder, VariationalAutoencoder
from oodlab.models.conv_autoencoder import (
    Conv28Decoder,
    Conv28Encoder,
    Conv32Decoder,
    Conv32Encoder,
    Conv64Decoder,
    Conv64Encoder,
    SmallDecoder,
    SmallEncoder,
)
from oodlab.models.energy import Density, EnergyModel, frozen, stein_score
from oodlab.models.flows import Flow, approximate_mass, image_realnvp, vector_realnvp
from oodlab.models.generators import EnergyWithGenerator, ImageGenerator, NoisyGenerator, TableGenerator
from oodlab.models.inception import inception_features
from oodlab.models.joint import JointEnergy
from oodlab.models.linear_nae import LinearNAE, LinearOptimum, linear_autoencoder, most_likely_linear_nae
from oodlab.models.mixture_autoencoder import GaussianMixture, MixtureAutoencoder
from oodlab.models.nets import MLP, ResidualBlock, ResidualMLP
from oodlab.models.reencoding_autoencoder import ReencodingAutoencoder
from oodlab.models.resnet_autoencoder import Conv32BigDecoder, Conv32BigEncoder
from oodlab.models.vector_quantised import VectorQuantisedAutoencoder
from oodlab.models.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "Autoencoder",
    "Conv28Decoder",
    "Conv28Encoder",
    "Conv32BigDecoder",
    "Conv32BigEncoder",
    "Conv32Decoder",
    "Conv32Encoder",
    "Conv64Decoder",
    "Conv64Encoder",
    "Density",
    "EncoderDecoder",
    "EnergyModel",
    "EnergyWithGenerator",
    "Flow",
    "GaussianMixture",
    "ImageGenerator",
    "JointEnergy",
    "LinearNAE",
    "LinearOptimum",
    "MixtureAutoencoder",
    "NoisyGenerator",
    "ReencodingAutoencoder",
    "ResidualBlock",
    "ResidualMLP",
    "SmallDecoder",
    "SmallEncoder",
    "TableGenerator",
    "VariationalAutoencoder",
    "VectorQuantisedAutoencoder",
    "WideResNet",
    "approximate_mass",
    "frozen",
    "image_realnvp",
    "inception_features",
    "linear_autoencoder",
    "most_likely_linear_nae",
    "stein_score",
    "vector_realnvp",
]
