"""Synthetic sets: exact densities, moments up to sampling error alone, and seeds."""

import math

import pytest
import torch

from oodlab import data


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(half: float, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the points of a square grid over [-half, half]^2 and their trapezoid weights."""
    axis = torch.linspace(-half, half, points, dtype=torch.float64)
    weight = torch.full_like(axis, 2 * half / (points - 1))
    weight[0] = weight[-1] = weight[0] / 2
    return torch.cartesian_prod(axis, axis), torch.outer(weight, weight).flatten()


def test_eight_gaussians_have_the_released_peak_mass_and_entropy() -> None:
    """The peak is 1 / (8 * 2 pi / 8) = .15915 up to neighbours; a covariance of sqrt(2)/4 would have .056."""
    centers = data.eight_centers(torch.float64)
    assert (data.eight_gaussians_log_prob(centers).exp() - 0.15915).abs().max() < 2e-5

    x, weight = grid(4, 401)
    assert abs((weight * data.eight_gaussians_log_prob(x).exp()).sum() - 0.99977) < 5e-6

    x, weight = grid(6, 481)
    log_prob = data.eight_gaussians_log_prob(x)
    assert abs((weight * log_prob.exp()).sum() - 1) < 1e-8
    assert abs((weight * log_prob.exp() * x.square().sum(dim=1)).sum() - 8.25) < 1e-6
    entropy = -(weight * log_prob.exp() * log_prob).sum()
    assert abs(entropy - 2.83158) < 1e-5  # papers and notes cut it to 2.831


def test_cells_of_the_released_grid_are_8_over_99_wide() -> None:
    """100 lines over [-4, 4] have 99 gaps: the released code takes 8 / 100, which makes densities 2 % too high."""
    axis = torch.linspace(-4, 4, 100, dtype=torch.float64)
    total = data.eight_gaussians_log_prob(torch.cartesian_prod(axis, axis)).exp().sum()
    assert total * (8 / 99) ** 2 == pytest.approx(0.9999, abs=5e-5)
    assert total * (8 / 100) ** 2 == pytest.approx(0.9800, abs=5e-5)


def test_eight_gaussians_samples_have_the_density_s_moments() -> None:
    n = 100_000
    x = data.eight_gaussians(n, generator()).double()

    square = x.square().sum(dim=1)
    assert abs(square.mean() - 8.25) < 5 * square.std() / math.sqrt(n)  # 8 + 2 / 8
    nll = -data.eight_gaussians_log_prob(x)
    assert abs(nll.mean() - 2.83158) < 5 * nll.std() / math.sqrt(n)
    nearest = torch.cdist(x, data.eight_centers(torch.float64)).argmin(dim=1).bincount(minlength=8)
    assert (nearest - n / 8).abs().max() < 5 * math.sqrt(n * 7 / 64)


def test_eight_gaussians_are_symmetric_under_45_degrees() -> None:
    x = 3 * torch.randn(200, 2, generator=generator(), dtype=torch.float64)
    s = math.sqrt(0.5)
    turned = x @ torch.tensor([[s, s], [-s, s]], dtype=torch.float64)

    assert (data.eight_gaussians_log_prob(turned) - data.eight_gaussians_log_prob(x)).abs().max() < 1e-10


def test_two_uniforms_fill_two_separate_squares() -> None:
    x = data.two_uniforms(20_000, generator()).double()

    assert x[:, 1].abs().max() <= 1
    assert ((x[:, 0].abs() >= 1) & (x[:, 0].abs() <= 3)).all()
    assert abs((x[:, 0] > 0).double().mean() - 1 / 2) < 5 * 0.5 / math.sqrt(20_000)
    assert abs(x[:, 1].var() - 1 / 3) < 0.01


def test_the_exact_gaussian_has_exactly_the_given_moments() -> None:
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    for n in (3, 1000):
        x = data.exact_gaussian(n, covariance, generator())
        assert x.shape == (n, 2) and x.dtype == torch.float64
        assert x.mean(dim=0).abs().max() < 1e-12
        assert (x.T @ x / n - covariance).abs().max() < 1e-9  # of three points the scatter may be ill-conditioned
    square = (x @ torch.linalg.inv(covariance) * x).sum(dim=1)  # for a Gaussian chi squared: mean 2, variance 4
    assert abs(square.var() - 4) < 5 * math.sqrt(80 / n)  # fourth central moment 96 less 4^2
    with pytest.raises(ValueError, match="fewer points do not span 2 dimensions"):
        data.exact_gaussian(2, covariance)


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_average_pooling_divides_the_variance_by_k_squared(k: int) -> None:
    """The mean stays 1/2 (max pooling has k^2 / (k^2 + 1)), and the variance is 1 / (12 k^2)."""
    n = 400
    x = data.smoothness_images(n, (1, 32, 32), k, generator()).double()

    blocks = n * (32 // k) ** 2
    variance = 1 / (12 * k**2)
    assert x.shape == (n, 1, 32, 32)
    assert abs(x.mean() - 1 / 2) < 5 * math.sqrt(variance / blocks)
    assert abs(x.var() - variance) < 5 * variance * math.sqrt(2 / blocks)


def test_smoothness_blocks_are_constant_also_where_k_does_not_divide_the_side() -> None:
    x = data.smoothness_images(2, (3, 32, 32), 4, generator())
    assert torch.equal(x, x[:, :, ::4, ::4].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))

    x = data.smoothness_images(2, (3, 32, 32), 3, generator())
    assert x.shape == (2, 3, 32, 32)
    assert all(len(image.unique()) == 100 for image in x.flatten(0, 1))  # 10 x 10 blocks
    with pytest.raises(ValueError, match="k <= 32, got 33"):
        data.smoothness_images(1, (1, 32, 32), 33)


def test_noise_of_the_released_code_wraps_at_the_pixel_range_and_the_kits_noise_clips() -> None:
    """A share P(N(127.5, 60) outside 0..255) = .0336 moves to the two ends, or to the other side of the range."""
    n = 400
    clipped = data.noise_normal(n, (1, 32, 32), generator()).double()
    wrapped = data.noise_normal_released(n, (1, 32, 32), generator()).double()

    ends = ((clipped == 0) | (clipped == 255)).double().mean()
    assert abs(ends - 0.0343) < 0.002  # rounding adds half a level
    assert ((wrapped == 0) | (wrapped == 255)).double().mean() < 0.005
    different = (clipped - wrapped).abs() > 1  # same draws; rounding and truncation differ by at most 1
    assert abs(different.double().mean() - 0.0336) < 0.002
    scaled = data.scale_signed(wrapped.to(torch.uint8)).std().item()
    assert abs(scaled - 0.4465) < 0.003  # 60 / 127.5 = .4706 before the wrap


def test_noise_of_the_paper_is_half_normal_half_uniform() -> None:
    x = data.noise_printed(7, (3, 32, 32), generator())

    assert x.shape == (7, 3, 32, 32)
    assert [bool(image.abs().max() > 1) for image in x] == [True] * 4 + [False] * 3
    assert abs(x[:4].std() - 1) < 0.03
    assert abs(x[4:].std() - math.sqrt(1 / 3)) < 0.03
    assert data.noise_printed(6, (18,), generator()).shape == (6, 18)
    normal, uniform = data.noise_table_released(5_000, 4, generator())
    assert normal.abs().max() < 7
    assert 4.9 < uniform.abs().max() <= 5
    uniform = data.noise_uniform(100, (1, 32, 32), generator())
    assert len(uniform.unique()) == 256


def test_constant_inputs_have_one_value_per_item() -> None:
    printed = data.constant_printed(50, (3, 8, 8), generator())
    assert (printed.flatten(1).amin(1) == printed.flatten(1).amax(1)).all()
    assert 0.5 < printed.abs().max() <= 1
    assert 2 < data.constant_printed(50, (18,), generator(), bound=5).abs().max() <= 5

    gray = data.constant_gray(500, (3, 8, 8), generator())
    assert gray.dtype == torch.uint8
    assert gray.shape == (500, 3, 8, 8)
    assert (gray.flatten(1).amin(1) == gray.flatten(1).amax(1)).all()
    assert len(gray.unique()) > 200

    color = data.constant_color(500, (3, 8, 8), generator())
    assert (color.flatten(2).amin(2) == color.flatten(2).amax(2)).all()
    assert (color[:, 0] != color[:, 1]).any()


def test_oodomain_keeps_the_stored_pixel_values() -> None:
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)

    assert data.oodomain(x).dtype == torch.float32
    assert data.oodomain(x).flatten().tolist() == list(range(256))


def test_half_digits_blank_the_top_of_even_and_the_bottom_of_odd_images() -> None:
    x = torch.full((3, 1, 28, 28), 9, dtype=torch.uint8)

    halves = data.half_digits(x)

    assert [halves[i, 0, :14].sum().item() for i in range(3)] == [0, 9 * 14 * 28, 0]
    assert [halves[i, 0, 14:].sum().item() for i in range(3)] == [9 * 14 * 28, 0, 9 * 14 * 28]
    assert (x == 9).all()  # the stored images stay


def test_chimeras_take_the_top_of_the_next_image_of_another_class() -> None:
    x = torch.arange(1, 6, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 28, 28)
    y = torch.tensor([0, 0, 1, 1, 0])

    chimeras = data.chimera_digits(x, y)

    assert chimeras[:, 0, 0, 0].tolist() == [
        3,
        3,
        5,
        5,
        3,
    ]  # cyclic: after the last comes image 3, the first 1
    assert chimeras[:, 0, 10, 0].tolist() == [3, 3, 5, 5, 3]
    assert chimeras[:, 0, 17, 0].tolist() == [1, 2, 3, 4, 5]
    assert (chimeras[:, :, 11:17] == 0).all()
    assert torch.equal(chimeras[:, :, 17:], x[:, :, 17:])
    with pytest.raises(ValueError, match=r"at least two classes, got labels \[0\]"):
        data.chimera_digits(x, torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize(
    "make",
    [
        data.eight_gaussians,
        data.two_uniforms,
        lambda n, g: data.exact_gaussian(n, torch.eye(2), g),
        lambda n, g: data.noise_printed(n, (3, 8, 8), g),
        lambda n, g: data.noise_uniform(n, (3, 8, 8), g),
        lambda n, g: data.noise_normal(n, (3, 8, 8), g),
        lambda n, g: data.noise_normal_released(n, (3, 8, 8), g),
        lambda n, g: data.noise_table_released(n, 5, g)[1],
        lambda n, g: data.constant_printed(n, (3, 8, 8), g),
        lambda n, g: data.constant_gray(n, (3, 8, 8), g),
        lambda n, g: data.constant_color(n, (3, 8, 8), g),
        lambda n, g: data.smoothness_images(n, (3, 8, 8), 2, g),
    ],
)
def test_the_generator_is_the_only_source_of_randomness(make) -> None:
    torch.manual_seed(1)
    first = make(16, generator(5))
    torch.manual_seed(2)

    assert torch.equal(first, make(16, generator(5)))
    assert not torch.equal(first, make(16, generator(6)))
