"""Convolutional encoders and decoders: sizes counted by hand, sides of feature maps, one image at a time."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from oodlab.models import (
    Autoencoder,
    Conv28Decoder,
    Conv28Encoder,
    Conv32BigDecoder,
    Conv32BigEncoder,
    Conv32Decoder,
    Conv32Encoder,
    Conv64Decoder,
    Conv64Encoder,
    SmallDecoder,
    SmallEncoder,
)
from oodlab.models.conv_autoencoder import ResidualAttention
from oodlab.models.resnet_autoencoder import PostActivationBlock
from oodlab.training.devices import is_small

PAIRS = {  # side: encoder and decoder, sides of the square layers, by the printed kernels and strides
    "14": (SmallEncoder, SmallDecoder, [14, 12, 10, 5, 1], [1, 5, 10, 12, 14]),
    "16": (partial(SmallEncoder, side=16), partial(SmallDecoder, side=16), [16, 14, 12, 6, 1], [1, 6, 12, 14, 16]),
    "28": (Conv28Encoder, Conv28Decoder, [28, 26, 24, 12, 10, 8, 4, 1], [1, 4, 8, 10, 12, 24, 26, 28]),
    "32": (Conv32Encoder, Conv32Decoder, [32, 15, 6, 2, 1], [1, 6, 14, 30, 32]),
    "32 big": (Conv32BigEncoder, Conv32BigDecoder, [32, 16, 8, 4, 1], [1, 4, 8, 16, 32]),
    "64": (Conv64Encoder, Conv64Decoder, [64, 30, 13, 5, 1], [1, 8, 16, 32, 64]),
}


def conv(before: int, after: int, kernel: int) -> int:
    """Weights and biases of a convolution, transposed or not."""
    return before * after * kernel**2 + after


def block(before: int, after: int) -> int:
    return conv(before, after, 3) + conv(after, after, 3)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ------------------------------------------------------------------------------------------ counts


def test_conv28_has_the_papers_number_of_parameters() -> None:
    assert size(Conv28Encoder(32)) == 2_260_576
    assert size(Conv28Decoder(32)) == 195_137


def test_small_encoder_and_decoder_have_the_number_of_parameters_counted_by_hand() -> None:
    encoder = conv(1, 16, 3) + conv(16, 32, 3) + conv(32, 1024, 5) + conv(1024, 16, 1)
    decoder = conv(16, 64, 5) + conv(64, 32, 3) + conv(32, 1, 3)
    assert (size(SmallEncoder(16)), size(SmallDecoder(16))) == (encoder, decoder)
    assert encoder + decoder == 885_841


def test_small_encoders_and_decoders_train_on_one_thread_and_larger_networks_do_not() -> None:
    small = nn.Sequential(SmallEncoder(4, width=4), SmallDecoder(4, width=4))
    assert is_small(small) and is_small(nn.Linear(3, 3))
    for model in (nn.Sequential(small, nn.Conv2d(1, 1, 1)), Conv32Encoder(4, width=4), nn.Linear(3000, 3000)):
        assert not is_small(model)


def test_conv32_has_the_layers_that_table_10_prints() -> None:
    attention = 2 * (conv(32, 1024, 1) + conv(1024, 32, 1))
    encoder = conv(3, 32, 4) + conv(32, 64, 4) + conv(64, 128, 4) + conv(128, 256, 2) + conv(256, 32, 1) + attention
    decoder = conv(32, 256, 6) + conv(256, 128, 4) + conv(128, 64, 4) + conv(64, 3, 3)
    assert (size(Conv32Encoder(32)), size(Conv32Decoder(32))) == (encoder, decoder) == (438_336, 952_451)
    assert [type(layer).__name__ for layer in Conv32Encoder(32)][-3:] == ["Conv2d", "ReLU", "ResidualAttention"]


def test_the_released_network_for_32_pixels_is_the_igebm_and_the_generator_of_sngan() -> None:
    halving = [
        block(128, 128) + conv(128, 128, 1),
        block(128, 256) + conv(128, 256, 1),
        block(256, 256) + conv(256, 256, 1),
    ]
    encoder = conv(3, 128, 3) + sum(halving) + block(128, 128) + 2 * block(256, 256) + conv(256, 32, 1)
    norm = 2 * 256  # a factor and a shift per channel
    first = 32 * 4 * 4 * 256 + 4 * 4 * 256
    decoder = first + 3 * (block(256, 256) + 2 * norm) + norm + conv(256, 3, 3)
    assert (size(Conv32BigEncoder(32)), size(Conv32BigDecoder(32))) == (encoder, decoder)


@pytest.mark.parametrize("width", [128, 256], ids=["released", "printed"])
def test_conv64_has_the_layers_of_either_source(width: int) -> None:
    widths = [width, 2 * width, 4 * width, 8 * width]
    norms = sum(2 * channels for channels in widths)
    encoder = sum(conv(a, b, 5) for a, b in itertools.pairwise([3, *widths])) + norms + conv(8 * width, 64, 1)
    decoder = (
        sum(conv(b, a, 4) for a, b in itertools.pairwise(widths)) + norms + conv(64, 8 * width, 8) + conv(width, 3, 1)
    )
    with torch.device("meta"):
        assert (size(Conv64Encoder(64, width=width)), size(Conv64Decoder(64, width=width))) == (encoder, decoder)


# ------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("channels", [1, 3])
def test_codes_images_and_feature_maps_have_the_stated_shapes(name: str, channels: int) -> None:
    encoder_of, decoder_of, down, up = PAIRS[name]
    encoder, decoder = encoder_of(5, channels=channels, width=8), decoder_of(5, channels=channels, width=8)
    sides: list[int] = []
    for layer in (*encoder, *decoder):
        layer.register_forward_hook(lambda layer, _, y: sides.append(y.shape[-1]) if y.ndim == 4 else None)
    x = torch.rand(2, channels, down[0], down[0], generator=torch.Generator().manual_seed(0))
    z = encoder(x)
    assert z.shape == (2, 5, 1, 1)
    assert list(dict.fromkeys([down[0], *sides])) == down
    sides.clear()
    y = decoder(z).detach()
    assert y.shape == x.shape
    assert list(dict.fromkeys([1, *sides])) == up
    assert 0 < float(y.min()) <= float(y.max()) < 1


@pytest.mark.parametrize("name", PAIRS)
def test_an_images_error_does_not_depend_on_other_images_and_no_layer_keeps_statistics(name: str) -> None:
    encoder_of, decoder_of, down, _ = PAIRS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Autoencoder(encoder_of(5, width=8), decoder_of(5, width=8), latent=5, sphere=True).double()
    x = torch.rand(3, 1 if down[0] < 32 else 3, down[0], down[0], dtype=torch.float64)
    together = model.train().reconstruction_error(x).detach()
    alone = torch.cat([model.eval().reconstruction_error(row[None]) for row in x]).detach()
    assert together == pytest.approx(alone, abs=1e-12)  # float64, sums of some thousand numbers below one
    assert len(together.unique()) == 3
    assert not list(model.buffers())


@pytest.mark.parametrize("name", PAIRS)
def test_far_out_along_a_ray_the_error_grows_as_the_square_of_the_distance(name: str) -> None:
    """Reconstructions stay in (0, 1): E(a x) / a^2 tends to |x|^2 / D, whatever the weights say."""
    encoder_of, decoder_of, down, _ = PAIRS[name]
    model = Autoencoder(encoder_of(5, channels=1, width=8), decoder_of(5, channels=1, width=8), latent=5)
    x = torch.rand(2, 1, down[0], down[0], generator=torch.Generator().manual_seed(0))
    wanted = x.square().mean(dim=(1, 2, 3))
    for a in (1e3, 1e6):
        off = (model.reconstruction_error(a * x).detach() / a**2 - wanted).abs() / wanted
        assert float(off.max()) < 4 / a + 1e-5  # the cross term 2 mean(x r) / a, and float32


@pytest.mark.parametrize("name", PAIRS)
def test_codes_and_images_are_float32_in_reduced_precision_too(name: str) -> None:
    encoder_of, decoder_of, down, _ = PAIRS[name]
    encoder, decoder = encoder_of(5, channels=1, width=8), decoder_of(5, channels=1, width=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = encoder(torch.zeros(2, 1, down[0], down[0]))
        y = decoder(z).detach()
    assert (z.dtype, y.dtype) == (torch.float32, torch.float32)


# -------------------------------------------------------------------------------------------- parts


def test_attention_multiplies_a_value_by_a_gate(generator: torch.Generator) -> None:
    x = torch.randn(2, 3, 1, 1, generator=generator)
    layer = ResidualAttention(3, 6)
    for part in (layer.value, layer.gate):
        part[-1].weight.data.zero_()
    layer.value[-1].bias.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    layer.gate[-1].bias.data.copy_(torch.tensor([0.0, 100.0, -100.0]))  # half open, open, shut
    added = (layer(x) - x).detach()
    assert added[:, :, 0, 0] == pytest.approx(torch.tensor([[0.5, 2.0, 0.0]] * 2), abs=1e-6)


def test_a_residual_block_adds_its_input_before_pooling_and_activation(generator: torch.Generator) -> None:
    x = torch.randn(2, 3, 4, 4, generator=generator)
    layer = PostActivationBlock(3, 3, halves=True)
    for part in (layer.branch, layer.shortcut):
        for parameter in part.parameters():
            parameter.data.zero_()
    layer.shortcut.weight.data.copy_(torch.eye(3)[:, :, None, None])

    def leaky(h: Tensor) -> Tensor:
        return torch.where(h > 0, h, 0.2 * h)

    means = x.reshape(2, 3, 2, 2, 2, 2).mean(dim=(3, 5))
    assert layer(x).detach() == pytest.approx(leaky(means), abs=1e-6)
    layer.branch[-1].bias.data.fill_(0.5)
    assert layer(x).detach() == pytest.approx(leaky(means + 0.5), abs=1e-6)


def test_group_norms_have_as_many_groups_as_printed_and_released() -> None:
    def groups(module: nn.Module) -> list[int]:
        return [layer.num_groups for layer in module.modules() if isinstance(layer, nn.GroupNorm)]

    assert groups(Conv32BigEncoder(4, width=2)) == []
    assert groups(Conv32BigDecoder(4, width=2)) == [1] * 6 + [2]
    assert groups(Conv64Encoder(4, width=8)) == groups(Conv64Decoder(4, width=8)) == [8] * 4


@pytest.mark.parametrize("half", [half for pair in PAIRS.values() for half in pair[:2] if isinstance(half, type)])
def test_invalid_widths_channels_and_code_sizes_are_refused(half: type[nn.Module]) -> None:
    for setting in ({"width": 0}, {"width": 2.5}, {"channels": 0}):
        with pytest.raises(ValueError, match=f"{half.__name__} expects {next(iter(setting))} >= 1"):
            half(4, **setting)
    with pytest.raises(ValueError, match=f"{half.__name__} expects latent >= 1, got 0"):
        half(0)


def test_a_width_not_divisible_into_eight_groups_is_refused_with_one_that_is() -> None:
    with pytest.raises(ValueError, match=r"Conv64Encoder expects a width that is a multiple of 8, got 20: .* take 16"):
        Conv64Encoder(4, width=20)
    with pytest.raises(ValueError, match=r"Conv64Decoder expects a width that is a multiple of 8, got 3: .* take 8"):
        Conv64Decoder(4, width=3)


@pytest.mark.parametrize("half", [SmallEncoder, SmallDecoder])
def test_an_image_side_that_pooling_cannot_halve_is_refused(half: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=f"{half.__name__} expects an even side, got 15: .*; take 16"):
        half(4, side=15)
    with pytest.raises(ValueError, match=f"{half.__name__} expects side >= 6, got 4: two 3x3 convolutions"):
        half(4, side=4)
