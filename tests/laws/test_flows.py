"""Laws of the flows: inverses, log-determinants against the Jacobian, normalisation, scales."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import flow_of_images, flow_of_the_plane, randomised
from torch import Tensor, nn

from oodlab.grids import normalise
from oodlab.metrics import bits_per_dim
from oodlab.models import Flow, image_realnvp, vector_realnvp
from oodlab.models.flows import (
    ActNorm,
    ChannelCoupling,
    ConvConditioner,
    FlowLayer,
    Logit,
    MaskedCoupling,
    Squeeze,
    checkerboard,
    mlp_conditioner,
)

ROUNDING = 1e-9  # float64 through some tens of layers on numbers of order one
IMAGE = (2, 4, 4)


def trained_actnorm(channels: int) -> ActNorm:
    layer = ActNorm(channels).double().train()
    layer.forward_and_log_det(3 * torch.randn(20, channels, 2, 2).double() + 1)
    return layer


LAYERS: dict[str, tuple[Callable[[], FlowLayer], tuple[int, ...]]] = {
    "logit": (Logit, IMAGE),
    "squeeze": (Squeeze, IMAGE),
    "actnorm": (lambda: trained_actnorm(2), IMAGE),
    "checkerboard": (lambda: MaskedCoupling(checkerboard(4, 4), ConvConditioner(2, 4, 4, blocks=2), 2), IMAGE),
    "reversed checkerboard": (
        lambda: MaskedCoupling(checkerboard(4, 4, reverse=True), ConvConditioner(2, 4, 4, blocks=1), 2),
        IMAGE,
    ),
    "channels, first half": (lambda: ChannelCoupling(ConvConditioner(1, 4, 2, blocks=1), 2), IMAGE),
    "channels, second half": (lambda: ChannelCoupling(ConvConditioner(1, 4, 2, blocks=1), 2, second=True), IMAGE),
    "with batch norm": (
        lambda: ChannelCoupling(ConvConditioner(1, 4, 2, blocks=1, norm=nn.BatchNorm2d), 2).eval(),
        IMAGE,
    ),
    "vector": (
        lambda: MaskedCoupling(torch.tensor([1.0, 0.0, 1.0]), mlp_conditioner(3, (8,), nn.SiLU), 3),
        (3,),
    ),
}


@pytest.fixture(params=LAYERS)
def layer_and_input(request: pytest.FixtureRequest, generator: torch.Generator) -> tuple[FlowLayer, Tensor]:
    """Return each kind of layer with random weights, and five inputs in (0, 1)."""
    build, shape = LAYERS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = randomised(build().double(), 0.5)
    return layer, torch.rand(5, *shape, generator=generator, dtype=torch.float64)


def log_det_of_the_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return log abs det of d function / dx by autograd, one input at a time, (B,)."""
    size = x[0].numel()
    jacobians = [torch.autograd.functional.jacobian(lambda row: function(row[None])[0], row) for row in x]
    return torch.stack([torch.linalg.slogdet(jacobian.reshape(size, size))[1] for jacobian in jacobians])


# ------------------------------------------------------------------------------------------- layers


def test_the_log_det_of_a_flow_layer_is_that_of_its_jacobian(layer_and_input: tuple[FlowLayer, Tensor]) -> None:
    layer, x = layer_and_input
    z, log_det = layer.forward_and_log_det(x)
    assert tuple(z.shape[1:]) == layer.output_shape(tuple(x.shape[1:]))
    exact = log_det_of_the_jacobian(lambda x: layer.forward_and_log_det(x)[0], x)
    assert log_det.detach() == pytest.approx(exact, abs=ROUNDING)


def test_the_inverse_of_a_flow_layer_recovers_its_input(layer_and_input: tuple[FlowLayer, Tensor]) -> None:
    layer, x = layer_and_input
    z = layer.forward_and_log_det(x)[0].detach()
    assert layer.inverse(z).detach() == pytest.approx(x, abs=ROUNDING)
    other = 0.7 * z
    assert layer.forward_and_log_det(layer.inverse(other))[0].detach() == pytest.approx(other, abs=ROUNDING)


def test_squeeze_puts_each_channels_offsets_side_by_side() -> None:
    x = torch.arange(16.0).reshape(1, 2, 2, 4)
    z = Squeeze().forward_and_log_det(x)[0]
    for c, dy, dx in [(0, 0, 1), (0, 1, 0), (1, 1, 1)]:
        assert torch.equal(z[0, 4 * c + 2 * dy + dx, 0], x[0, c, dy, dx::2])
    with pytest.raises(ValueError, match="divisible by 2, got 3 x 4"):
        Squeeze().output_shape((1, 3, 4))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_checkerboard_mask_keeps_every_second_pixel(reverse: bool) -> None:
    mask = checkerboard(3, 4, reverse=reverse)
    assert mask.shape == (1, 3, 4)
    assert float(mask[0, 0, 0]) == float(reverse)
    assert torch.equal(mask[:, 1:] + mask[:, :-1], torch.ones(1, 2, 4))
    assert torch.equal(mask + checkerboard(3, 4, reverse=not reverse), torch.ones(1, 3, 4))


def test_a_masked_coupling_does_not_change_the_entries_kept_by_its_mask(generator: torch.Generator) -> None:
    mask = checkerboard(4, 4)
    layer = randomised(MaskedCoupling(mask, ConvConditioner(2, 4, 4, blocks=1), 2))
    x = torch.randn(3, *IMAGE, generator=generator)
    z = layer.forward_and_log_det(x)[0].detach()
    kept = mask.bool().expand_as(x)
    assert torch.equal(z[kept], x[kept])
    assert ((z - x).abs()[~kept] > 0).all()


def test_actnorm_standardises_the_first_training_batch_and_only_that(generator: torch.Generator) -> None:
    layer = ActNorm(3)
    x = 4 * torch.randn(50, 3, 5, 5, generator=generator) + torch.tensor([1.0, -2.0, 0.0])[:, None, None]
    with pytest.raises(RuntimeError, match=r"a training batch before it is used in eval mode"):
        layer.eval().forward_and_log_det(x)
    z = layer.train().forward_and_log_det(x)[0].detach()
    assert z.mean(dim=(0, 2, 3)) == pytest.approx(torch.zeros(3), abs=1e-5)  # float32 sums of 1,250 numbers
    assert z.std(dim=(0, 2, 3), correction=0) == pytest.approx(torch.ones(3), abs=1e-5)
    other = layer.forward_and_log_det(10 * x)[0].detach()
    assert other.std() > 5


def test_actnorm_keeps_its_flag_of_initialisation_in_the_state_dict(generator: torch.Generator) -> None:
    first, x = ActNorm(3), torch.randn(50, 3, generator=generator)
    untouched = copy.deepcopy(first.state_dict())
    first.forward_and_log_det(5 * x)
    loaded = ActNorm(3)
    loaded.load_state_dict(first.state_dict())
    assert torch.equal(loaded.forward_and_log_det(x)[0], first.forward_and_log_det(x)[0])
    loaded.load_state_dict(untouched)  # a roll-back to the start
    assert loaded.forward_and_log_det(x)[0].detach().std(correction=0) == pytest.approx(1.0, abs=1e-5)


def test_actnorm_survives_a_constant_channel() -> None:
    layer = ActNorm(2)
    z, log_det = layer.forward_and_log_det(torch.ones(4, 2, 3, 3))
    assert z.isfinite().all() and log_det.isfinite().all()


@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm2d])
def test_new_couplings_are_the_identity_and_have_nonzero_gradients(norm: Callable, generator: torch.Generator) -> None:
    flow = image_realnvp(IMAGE, scales=2, blocks=1, width=4, norm=norm, logit=False)
    x = torch.randn(5, *IMAGE, generator=generator)
    z, log_det = flow.forward_and_log_det(x)
    assert torch.equal(log_det, torch.zeros(5))
    assert z.detach().sort()[0] == pytest.approx(x.flatten(1).sort()[0], abs=1e-6)
    (-flow.log_prob(x).mean()).backward()
    heads = [module.head[-1] for module in flow.modules() if isinstance(module, ConvConditioner)]
    assert all(float(head.parametrizations.weight.original0.grad.abs().sum()) > 0 for head in heads)
    assert all(p.grad is None or p.grad.isfinite().all() for p in flow.parameters())


# --------------------------------------------------------------------------------------- whole flows

FLOWS: dict[str, tuple[Callable[[], Flow], float]] = {  # build, and how far inputs lie from 0 or 1
    "plane": (flow_of_the_plane, 3.0),
    "vector with actnorm": (lambda: vector_realnvp(5, couplings=3, hidden=(8,), actnorm=True), 3.0),
    "images": (flow_of_images, 3.0),
    "images in [0, 1]": (lambda: flow_of_images(logit=True), 0.0),
    "images, relu": (lambda: flow_of_images(activation=nn.ReLU), 3.0),
    "images, one scale": (lambda: flow_of_images(scales=1), 3.0),
    "images, actnorm": (lambda: flow_of_images(actnorm=True), 3.0),
    "images, three scales": (
        lambda: randomised(image_realnvp((3, 4, 4), scales=3, blocks=1, width=2, activation=nn.SiLU)),
        0.0,
    ),
    "no couplings": (lambda: image_realnvp(IMAGE, scales=2, blocks=1, width=4, couplings=0), 0.0),
}


@pytest.fixture(params=FLOWS)
def flow_and_input(request: pytest.FixtureRequest, generator: torch.Generator) -> tuple[Flow, Tensor]:
    """Return each kind of flow, ready for use, and four inputs."""
    build, spread = FLOWS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = build().double()
    shape = (4, *flow.event_shape)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    x = spread * (x - 0.5) if spread else 0.05 + 0.9 * x
    flow.train().log_prob(x)  # what ActNorm starts from
    return flow.eval(), x


def test_a_flows_log_det_is_that_of_its_jacobian(flow_and_input: tuple[Flow, Tensor]) -> None:
    flow, x = flow_and_input
    z, log_det = flow.forward_and_log_det(x)
    assert z.shape == (4, x[0].numel())
    exact = log_det_of_the_jacobian(lambda x: flow.forward_and_log_det(x)[0], x)
    assert log_det.detach() == pytest.approx(exact, abs=ROUNDING)


def test_a_flow_is_invertible_both_ways(flow_and_input: tuple[Flow, Tensor], generator: torch.Generator) -> None:
    flow, x = flow_and_input
    z = flow.forward_and_log_det(x)[0]
    assert flow.inverse(z).detach() == pytest.approx(x, abs=ROUNDING)
    z = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    x = flow.inverse(z)
    assert flow.forward_and_log_det(x)[0].detach() == pytest.approx(z, abs=ROUNDING)
    log_normal = (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(dim=1)
    log_prob = (log_normal + flow.forward_and_log_det(x)[1]).detach()
    assert flow.log_prob(x).detach() == pytest.approx(log_prob, abs=ROUNDING)


def test_contributions_of_the_scales_sum_to_log_prob(flow_and_input: tuple[Flow, Tensor]) -> None:
    flow, x = flow_and_input
    shares = flow.contributions(x).detach()
    assert shares.shape == (4, len(flow.scales))
    assert shares.sum(dim=1) == pytest.approx(flow.log_prob(x).detach(), abs=ROUNDING)
    if any(True for _ in flow.scales[-1].parameters()):
        randomised(flow.scales[-1], 0.5)
        changed = flow.contributions(x).detach()
        assert torch.equal(changed[:, :-1], shares[:, :-1])
        assert (changed[:, -1] != shares[:, -1]).all()


def test_a_sample_of_a_flow_is_the_inverse_of_a_normal_draw(flow_and_input: tuple[Flow, Tensor]) -> None:
    flow, _ = flow_and_input
    first, again = (flow.sample(3, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.shape == (3, *flow.event_shape)
    assert torch.equal(first, again)
    assert not first.requires_grad
    z = torch.randn(3, first[0].numel(), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert flow.forward_and_log_det(first)[0].detach() == pytest.approx(z, abs=ROUNDING)


def test_every_input_of_a_new_realnvp_is_changed_by_some_coupling() -> None:
    """Masks and halves of the channels alternate: no coordinate is copied through all layers of its scale."""
    for flow in (flow_of_images(), vector_realnvp(5, couplings=2, hidden=(8,))):
        randomised(flow, 0.5)
        x = torch.zeros(1, *flow.event_shape)
        assert (flow.forward_and_log_det(x)[0] != 0).all()


def test_masks_and_halves_of_the_channels_alternate_between_couplings() -> None:
    """Two couplings of one kind in a row never keep the same inputs."""
    flow = image_realnvp((1, 4, 4), scales=2, blocks=0, width=2)
    for layers in flow.scales:
        masks = [layer.mask for layer in layers if isinstance(layer, MaskedCoupling)]
        assert all(torch.equal(a + b, torch.ones_like(a)) for a, b in itertools.pairwise(masks))
        halves = [layer.second for layer in layers if isinstance(layer, ChannelCoupling)]
        assert all(a != b for a, b in itertools.pairwise(halves))
    assert len(masks) == 4
    assert [layer.second for layer in flow.scales[0] if isinstance(layer, ChannelCoupling)] == [False, True, False]


@pytest.mark.parametrize("seed", range(3))
def test_a_random_flow_of_the_plane_integrates_to_one(seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow = randomised(vector_realnvp(2, couplings=3, hidden=(16,)), 0.3).double()
    grid = normalise(lambda x: flow.log_prob(x.double()), half_width=8.0, points=401)
    assert grid.log_normaliser == pytest.approx(0, abs=1e-3)


def test_a_flow_without_couplings_gives_w_the_density_of_a_normal_logit() -> None:
    """The integral over the interval that c shrinks into is 1, without a factor 255/256."""
    flow = Flow((1,), [[Logit(c=0.9)]])
    w = torch.linspace(0.5 - 0.5 / 0.9 + 1e-6, 0.5 + 0.5 / 0.9 - 1e-6, 200_001, dtype=torch.float64)
    assert float(torch.trapezoid(flow.log_prob(w[:, None]).exp(), w)) == pytest.approx(1, abs=1e-6)
    deep = image_realnvp((1, 4, 4), scales=2, blocks=1, width=4, couplings=0)
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert deep.log_prob(x) == pytest.approx(Flow((1, 4, 4), [[Logit()]]).log_prob(x), abs=ROUNDING)
    assert not list(deep.parameters())


def test_bits_per_dim_at_mid_grey_have_a_closed_form_for_a_flow_without_couplings() -> None:
    """At w = 1/2 the logit is 0 and dl/dw = 4c: log p = log(4 c / sqrt(2 pi)) per dimension."""
    flow = image_realnvp((1, 4, 4), scales=1, blocks=1, width=4, couplings=0)
    log_prob = flow.log_prob(torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64))
    wanted = 8 - math.log2(4 * 0.9 / math.sqrt(2 * math.pi))
    assert bits_per_dim(log_prob.numpy(), 16) == pytest.approx(np.array([wanted]), abs=1e-12)


# ------------------------------------------------------------------------------- sizes and refusals


@pytest.mark.parametrize(
    ("shape", "scales", "blocks", "norm", "parameters"),
    [
        ((1, 28, 28), 2, 4, nn.BatchNorm2d, 9_862_664),
        ((1, 28, 28), 2, 4, nn.Identity, 9_843_046),
        ((3, 32, 32), 3, 6, nn.BatchNorm2d, 66_174_472),
        ((3, 32, 32), 3, 6, nn.Identity, 66_102_662),
    ],
)
def test_the_papers_flows_have_the_released_number_of_parameters(
    shape: tuple[int, int, int], scales: int, blocks: int, norm: Callable, parameters: int
) -> None:
    with torch.device("meta"):  # shapes only
        flow = image_realnvp(shape, scales=scales, blocks=blocks, width=64, norm=norm)
    assert sum(p.numel() for p in flow.parameters()) == parameters
    couplings = [m for m in flow.modules() if isinstance(m, MaskedCoupling | ChannelCoupling)]
    assert len(couplings) == {2: 10, 3: 16}[scales]


def test_every_scale_factors_out_as_many_latents_as_in_the_paper() -> None:
    grey = image_realnvp((1, 28, 28), scales=2, blocks=0, width=2)
    colour = image_realnvp((3, 32, 32), scales=3, blocks=0, width=2)
    assert [math.prod(shape) for shape in grey.latent_shapes] == [392, 392]
    assert [math.prod(shape) for shape in colour.latent_shapes] == [1536, 768, 768]


def test_sizes_that_build_no_flow_and_inputs_of_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"divisible by 2\*\*\(scales - 1\) = 4, got 28 x 30.*crop or pad"):
        image_realnvp((1, 28, 30), scales=3, blocks=1, width=4)
    with pytest.raises(ValueError, match="scales >= 1"):
        image_realnvp((1, 28, 28), scales=0, blocks=1, width=4)
    with pytest.raises(ValueError, match="dims >= 2, got 1"):
        vector_realnvp(1, couplings=2, hidden=(4,))
    with pytest.raises(ValueError, match=r"Flow expects x of shape \(B, 2, 4, 4\), got \(3, 1, 4, 4\)"):
        flow_of_images().log_prob(torch.zeros(3, 1, 4, 4))
    with pytest.raises(ValueError, match=r"got \(2, 4, 4\)"):
        flow_of_images().log_prob(torch.zeros(2, 4, 4))


# ------------------------------------------------------------------------------------------ precision


def test_under_autocast_only_the_conditioners_compute_in_bfloat16(generator: torch.Generator) -> None:
    flow = flow_of_images(logit=True)
    x = torch.rand(3, *IMAGE, generator=generator)
    seen = []
    for module in flow.modules():
        if isinstance(module, ConvConditioner):
            module.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        shares = flow.contributions(x)
        z, log_det = flow.forward_and_log_det(x)
    assert set(seen) == {torch.bfloat16}
    assert shares.dtype == z.dtype == log_det.dtype == torch.float32
    # s and t differ by 2**-8 of themselves; with sizes below one and 32 inputs the sum differs by less than one
    assert shares.sum(dim=1).detach() == pytest.approx(flow.log_prob(x).detach(), abs=1.0)


@pytest.mark.parametrize("name", ["checkerboard", "channels, first half"])
def test_under_autocast_scales_are_computed_in_float32(name: str, generator: torch.Generator) -> None:
    build, shape = LAYERS[name]
    layer, outputs = randomised(build(), 0.5), []
    layer.conditioner.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    with torch.autocast("cpu", torch.bfloat16):
        log_det = layer.forward_and_log_det(torch.rand(3, *shape, generator=generator))[1]
    raw = outputs[0].float().chunk(2, dim=1)[0]
    s = layer.scale(raw.tanh()) * (1 - layer.mask if name == "checkerboard" else 1)
    assert torch.equal(log_det, s.flatten(1).sum(dim=1))
