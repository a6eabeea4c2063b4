"""Preprocessing: exact log-determinants, exact integers, exact inverses."""

import math

import pytest
import torch

from oodlab import data


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_floor_recovers_every_stored_value_after_dequantisation() -> None:
    """2.6 million draws: a continuous u in float32 rounds some of them up into the next bin."""
    x = torch.arange(256, dtype=torch.uint8).repeat(10_000, 1)

    w = data.dequantize(x, generator())

    assert w.dtype == torch.float32
    assert w.min() >= 0
    assert w.max() < 1
    assert torch.equal((256 * w).floor(), x.float())
    assert torch.equal(data.to_uint8(w), x)


def test_dequantisation_noise_is_uniform_in_the_bin() -> None:
    n = 400_000
    u = 256 * data.dequantize(torch.zeros(n, dtype=torch.uint8), generator()).double()

    assert abs(u.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
    assert abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)  # Var((u - 1/2)^2) = 1/80 - 1/144 = 1/180


def test_dequantisation_is_decided_by_its_seed() -> None:
    x = torch.full((4, 1, 8, 8), 7, dtype=torch.uint8)

    assert torch.equal(data.dequantize(x, generator(3)), data.dequantize(x, generator(3)))
    assert not torch.equal(data.dequantize(x, generator(3)), data.dequantize(x, generator(4)))


def test_bin_center_and_from_pixels_give_the_same_w() -> None:
    x = torch.arange(256, dtype=torch.uint8)

    assert torch.equal(256 * data.bin_center(x), x.float() + 0.5)
    assert torch.equal(data.to_uint8(data.bin_center(x)), x)
    torch.testing.assert_close(data.from_pixels(data.scale_unit(x).double()), data.bin_center(x).double())


def test_to_uint8_clips_and_never_wraps() -> None:
    w = torch.tensor([-0.2, -1e-9, 0.0, 0.5, 1.0, 1.3])

    assert data.to_uint8(w).tolist() == [0, 0, 0, 128, 255, 255]
    with pytest.raises(FloatingPointError, match="1 of 2"):
        data.to_uint8(torch.tensor([0.5, math.nan]))


def test_pixel_scales_reach_both_ends_of_their_range_exactly() -> None:
    ends = torch.tensor([0, 255], dtype=torch.uint8)

    assert data.scale_unit(ends).tolist() == [0, 1]
    assert data.scale_signed(ends).tolist() == [-1, 1]


@pytest.mark.parametrize("apply", [data.dequantize, data.bin_center, data.scale_unit, data.scale_signed])
def test_scaling_pixels_twice_is_refused(apply) -> None:
    with pytest.raises(ValueError, match=r"expects stored uint8 values, got torch.float32"):
        apply(torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize("c", [0.9, 0.5])
def test_logit_log_det_is_the_autograd_jacobian(c: float) -> None:
    w = torch.rand(5, 2, 2, 3, generator=generator(), dtype=torch.float64)

    _, log_det = data.logit_forward(w, c)

    assert log_det.shape == (5,)
    for one, expected in zip(w, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: data.logit_forward(v[None], c)[0][0], one)
        assert abs(torch.linalg.slogdet(jacobian.reshape(12, 12)).logabsdet - expected) < 1e-10


def test_logit_and_its_inverse_cancel() -> None:
    w = torch.linspace(0, 1, 2001, dtype=torch.float64)[None]
    logit, _ = data.logit_forward(w)

    assert logit.abs().max() < 2.95  # log(.95 / .05): c = .9 keeps the ends finite
    assert (data.logit_inverse(logit) - w).abs().max() < 1e-12
    assert (data.logit_forward(data.logit_inverse(logit))[0] - logit).abs().max() < 1e-12


def test_stored_images_survive_the_way_to_logits_and_back() -> None:
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    logit, _ = data.logit_forward(data.bin_center(x))

    assert torch.equal(data.to_uint8(data.logit_inverse(logit)), x)


def test_gradient_of_an_identity_flow_has_its_closed_form() -> None:
    """For log p = log N(l; 0, 1) + log dl/dw, the factor 255/256 enters once by pixels."""
    c = 0.9
    pixels = torch.linspace(0, 1, 256, dtype=torch.float64)[:, None].requires_grad_()
    logit, log_det = data.logit_forward(data.from_pixels(pixels), c)
    log_prob = (-0.5 * logit**2).sum(dim=1) + log_det
    (gradient,) = torch.autograd.grad(log_prob.sum(), pixels)

    with torch.no_grad():
        p = ((2 * data.from_pixels(pixels) - 1) * c + 1) / 2
        closed = (-(p / (1 - p)).log() + 2 * p - 1) * c * (255 / 256) / (p * (1 - p))
    assert (gradient - closed).abs().max() < 1e-11
    assert (gradient + gradient.flip(0)).abs().max() < 1e-10  # odd about the middle grey
    assert abs(gradient[0].item() - 36.7) < 0.1  # at grey level 0


def test_a_uniform_density_on_w_costs_eight_bits_per_dimension() -> None:
    """Through the logit and back the log-determinants cancel, without a factor 255/256."""
    w = data.dequantize(torch.randint(256, (3, 1, 4, 4), dtype=torch.uint8), generator()).double()
    logit, log_det = data.logit_forward(w)
    p = torch.sigmoid(logit)
    log_prob_logit = (p * (1 - p) / 0.9).log().flatten(1).sum(dim=1)  # w uniform, seen in l

    bits = -(log_prob_logit + log_det - 16 * math.log(256)) / (16 * math.log(2))

    torch.testing.assert_close(bits, torch.full((3,), 8.0, dtype=torch.float64), rtol=1e-12, atol=0)


def test_min_max_scaling_fills_its_range_on_the_training_part_only() -> None:
    train = torch.randn(100, 3, generator=generator(), dtype=torch.float64) * torch.tensor([1.0, 10.0, 0.1])
    scaler = data.MinMax.fit(train, low=-1, high=1)

    scaled = scaler(train)

    torch.testing.assert_close(scaled.amin(dim=0), torch.full((3,), -1.0, dtype=torch.float64))
    torch.testing.assert_close(scaled.amax(dim=0), torch.full((3,), 1.0, dtype=torch.float64))
    assert (scaler(10 * train).abs() > 1).any()  # other data is not clipped
    torch.testing.assert_close(scaler.inverse(scaled), train)
    jacobian = torch.autograd.functional.jacobian(lambda v: scaler(v[None])[0], train[0])
    assert abs(torch.linalg.slogdet(jacobian).logabsdet - scaler.log_det) < 1e-12


def test_constant_columns_are_found_in_training_and_dropped_everywhere() -> None:
    train = torch.tensor([[1.0, 9.0, 2.0], [3.0, 9.0, 4.0]])
    with pytest.raises(ValueError, match=r"constant columns \[1\]: apply DropConstant first"):
        data.MinMax.fit(train)

    drop = data.DropConstant.fit(train)

    assert drop.columns == (0, 2)
    assert drop(torch.tensor([[5.0, 8.0, 7.0]])).tolist() == [[5.0, 7.0]]


def test_as_shape_keeps_constants_and_means_and_repeats_grey() -> None:
    x = torch.randint(256, (5, 3, 8, 12), generator=generator(), dtype=torch.uint8)
    assert data.as_shape(x, (3, 8, 12)) is x
    grey = data.as_shape(x, (1, 8, 12))
    weights = torch.tensor([0.299, 0.587, 0.114])
    assert torch.equal(grey[:, 0], (x.float() * weights[:, None, None]).sum(dim=1).round().to(torch.uint8))
    assert torch.equal(data.as_shape(grey, (3, 8, 12)), grey.expand(-1, 3, -1, -1))
    flat = torch.full((2, 1, 28, 28), 77, dtype=torch.uint8)
    for size in (7, 14, 32, 40):
        assert torch.equal(data.as_shape(flat, (1, size, size)), torch.full((2, 1, size, size), 77, dtype=torch.uint8))
    halved = data.as_shape(x, (3, 4, 6)).float().mean(dim=(2, 3))
    assert (halved - x.float().mean(dim=(2, 3))).abs().max() < 8  # edges weigh a little differently in the wide kernel


@pytest.mark.parametrize(
    ("shape", "wanted"), [((2, 2, 4, 4), (1, 4, 4)), ((2, 3, 4, 4), (2, 4, 4)), ((2, 16), (1, 4, 4))]
)
def test_as_shape_refuses_inputs_that_are_no_images(shape: tuple[int, ...], wanted: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="as_shape expects images with 1 or 3 channels"):
        data.as_shape(torch.zeros(shape, dtype=torch.uint8), wanted)
