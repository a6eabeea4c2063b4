"""Laws of the norm-free wide residual network: size, order of its parts, rank of its bottlenecks, behaviour far away."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodlab.models import JointEnergy, WideResNet
from oodlab.models.wide_resnet import Bottleneck

ROUNDING = 1e-12  # float64, sums of a few thousand products near one


def network(**changes: object) -> WideResNet:
    """Build a network with the same weights at every call, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WideResNet(**{"channels": 1, "outputs": 1, "width": 4, **changes}).double()


@pytest.mark.parametrize(
    ("setting", "count"),
    [
        ({"channels": 3, "outputs": 1}, 302_305),
        ({"channels": 3, "outputs": 10}, 303_466),
        ({"channels": 1, "outputs": 1}, 302_017),
        ({"channels": 3, "outputs": 1, "bottleneck": 0.05}, 304_523),
        ({"channels": 3, "outputs": 1, "bottleneck": 0.1}, 306_582),
        ({"channels": 3, "outputs": 1, "bottleneck": 0.2}, 310_892),
    ],
)
def test_the_default_network_has_the_papers_number_of_parameters(setting: dict[str, float], count: int) -> None:
    assert sum(p.numel() for p in WideResNet(**setting).parameters()) == count


@pytest.mark.parametrize(("depth", "widen", "features"), [(10, 2, 128), (10, 10, 640), (16, 1, 64)])
@pytest.mark.parametrize("side", [32, 28, 7, 1])
def test_embeddings_and_outputs_have_their_shapes_at_every_size(
    depth: int, widen: int, features: int, side: int
) -> None:
    model = WideResNet(channels=3, outputs=10, depth=depth, widen=widen)
    x = torch.zeros(2, 3, side, side)
    with torch.no_grad():
        assert model.features(x).shape == (2, features)
        assert model(x).shape == (2, 10)


def by_hand(model: WideResNet, x: Tensor) -> Tensor:
    """What the architecture's description says, written with functions on the weights."""

    def act(h: Tensor) -> Tensor:
        return torch.where(h > 0, h, 0.2 * h)

    first, *blocks, _ = model.stages
    h = F.conv2d(x, first.weight, first.bias, padding=1)
    for block, stride in zip(blocks, (1, 2, 2), strict=True):
        weights = dict(block.named_parameters())
        inner = F.conv2d(act(h), weights["branch.1.weight"], weights["branch.1.bias"], padding=1)
        assert inner.shape[2:] == h.shape[2:]  # the stride is the second convolution's
        branch = F.conv2d(act(inner), weights["branch.3.weight"], weights["branch.3.bias"], padding=1, stride=stride)
        h = branch + F.conv2d(h, weights["shortcut.weight"], weights["shortcut.bias"], stride=stride)
    return F.linear(act(h).mean(dim=(2, 3)), model.head.weight, model.head.bias)


def test_wide_resnet_computes_as_by_hand_and_has_no_norm_layers(generator: torch.Generator) -> None:
    model = network(channels=3, outputs=4)
    x = torch.randn(5, 3, 9, 9, generator=generator, dtype=torch.float64)
    assert model(x).detach() == pytest.approx(by_hand(model, x).detach(), abs=ROUNDING)
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    assert not any(isinstance(module, norms) for module in model.modules())


def test_a_deeper_network_adds_blocks_with_identity_shortcuts() -> None:
    model = network(depth=16)
    assert sum(isinstance(module, nn.Identity) for module in model.modules()) == 3  # the second block of each stage


def test_convolutions_are_initialised_as_in_the_released_code() -> None:
    """Xavier-uniform weights of gain sqrt(2) have bound sqrt(2) * sqrt(6 / (fan in + fan out)); biases are zero."""
    for module in network(width=16, bottleneck=0.2).modules():
        if isinstance(module, nn.Conv2d):
            bound = (2 * 6 / ((module.in_channels + module.out_channels) * module.weight[0, 0].numel())) ** 0.5
            largest = float(module.weight.detach().abs().max())
            assert 0.8 * bound < largest <= bound
            assert not module.bias.any()


# ----------------------------------------------------------------------------------- bottleneck


@pytest.mark.parametrize(("share", "kept"), [(0.05, (1, 3, 6)), (0.1, (3, 6, 12)), (0.2, (6, 12, 25))])
def test_a_bottleneck_keeps_the_papers_number_of_channels(share: float, kept: tuple[int, ...]) -> None:
    bottlenecks = [m for m in network(width=16, bottleneck=share).modules() if isinstance(m, Bottleneck)]
    assert tuple(m[0].out_channels for m in bottlenecks) == kept
    for bottleneck, most in zip(bottlenecks, kept, strict=True):
        first, second = (layer.weight.detach()[:, :, 0, 0] for layer in bottleneck)
        assert first.shape == second.T.shape
        assert int(torch.linalg.matrix_rank(second @ first)) <= most
        x = torch.randn(2, first.shape[1], 3, 3, dtype=torch.float64)
        offset = second @ bottleneck[0].bias + bottleneck[1].bias
        wanted = torch.einsum("oc,nchw->nohw", second @ first, x) + offset[:, None, None]
        assert bottleneck(x).detach() == pytest.approx(wanted.detach(), abs=ROUNDING)  # nothing but linear


def test_a_network_without_a_bottleneck_has_no_bottleneck_layers() -> None:
    assert not any(isinstance(module, Bottleneck) for module in network().modules())
    for share in (1.0, 0.01, 0.0, -0.1):
        with pytest.raises(ValueError, match="None means no bottleneck"):
            network(bottleneck=share)


@pytest.mark.parametrize("depth", [4, 9, 12])
def test_depths_that_are_no_whole_number_of_blocks_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"(?=.*depth = 6 n \+ 4 with n >= 1)(?=.*got {depth})"):
        network(depth=depth)


# ------------------------------------------------------------------------------------ far away


def ray(model: JointEnergy, factor: float, x: Tensor) -> Tensor:
    return model.log_density(factor * x).detach() / factor


@pytest.mark.parametrize("outputs", [1, 5])
def test_a_piecewise_linear_energy_grows_linearly_along_rays(outputs: int, generator: torch.Generator) -> None:
    """f(a x) / a tends to a constant: far away the sign of a slope decides the order (OODomain)."""
    x = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    model = JointEnergy(network(outputs=outputs, bottleneck=0.3))
    nearer, near, far = (ray(model, factor, x) for factor in (1e3, 1e6, 1e7))
    assert near == pytest.approx(far, abs=1e-5)  # the intercept over a: biases of the head, of order one, times 1e-6
    assert float(far.abs().min()) > 1e-3
    assert (nearer.sign() == far.sign()).all()


def test_second_differences_vanish_for_leaky_relu_and_not_for_a_smooth_activation(generator: torch.Generator) -> None:
    """Differences are taken along a short segment between kinks; SiLU is the smooth activation."""
    x, v = torch.randn(2, 6, 1, 8, 8, generator=generator, dtype=torch.float64)
    step = 1e-6

    def bend(model: WideResNet) -> float:
        with torch.no_grad():
            below, here, above = (model(x + k * step * v) for k in (-1, 0, 1))
        return float(((above - 2 * here + below) / step**2).abs().median())

    assert bend(network()) < 1e-2  # rounding, 1e-16 / step^2, and no kink on most of six segments
    assert bend(network(activation=nn.SiLU)) > 0.1


def test_the_head_computes_in_float32_under_autocast(generator: torch.Generator) -> None:
    model = network().float()
    x = torch.randn(64, 1, 8, 8, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(x)
    assert outputs.dtype == model.features(x).dtype == torch.float32
    rounded = outputs.bfloat16().float()
    assert not torch.equal(outputs, rounded)  # more values than bfloat16 has
    assert outputs.detach() == pytest.approx(model(x).detach(), abs=0.05)  # bfloat16 keeps 8 bits
