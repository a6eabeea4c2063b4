"""Laws of the chains: stationary variances, Metropolis acceptance, bounds, noise schedules, stopping."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from oodlab.data import eight_gaussians, eight_gaussians_log_prob
from oodlab.samplers import (
    Annealed,
    Box,
    ChainRecord,
    ClipElements,
    ClipNorm,
    ClipRows,
    LangevinChain,
    MalaChain,
    RejectOutside,
    Sphere,
    Stopped,
    effective_temperature,
    langevin,
    mala,
    on_manifold_start,
)

N = 20_000


def five_standard_errors(variance: float, n: int = N) -> float:
    """Five times the standard error of a Gaussian's sample variance."""
    return 5 * variance * math.sqrt(2 / n)


def start(generator: torch.Generator, std: float = 1.0, n: int = N) -> Tensor:
    return std * torch.randn(n, 1, generator=generator, dtype=torch.float64)


def gaussian(variance: float) -> Callable[[Tensor], Tensor]:
    return lambda x: -x.flatten(1).square().sum(dim=1) / (2 * variance)


def asking(allowed: int) -> Callable[[], bool]:
    """Return a flag that says stop from its call number allowed + 1 on."""
    asked = iter(range(10**9))
    return lambda: next(asked) >= allowed


# ------------------------------------------------------------------------------ stationary laws


@pytest.mark.parametrize("step_size", [0.1, 0.5, 1.0])
def test_langevin_settles_at_the_exact_variance_of_its_recursion(step_size: float, generator: torch.Generator) -> None:
    """On N(0, 1) the variance has v = (1 - h)**2 v + 2 h, so v = 2 / (2 - h), not 1."""
    x = langevin(lambda x: -x, start(generator), steps=60, step_size=step_size, generator=generator)

    variance = 2 / (2 - step_size)
    assert abs(x.var().item() - variance) < five_standard_errors(variance)


@pytest.mark.parametrize(("s2", "step_size", "noise_std"), [(1.5, 1.0, 0.01), (0.3, 0.1, 0.5), (2.0, 0.5, 1.0)])
def test_langevin_with_separate_step_and_noise_has_the_variance_of_its_recursion(
    s2: float, step_size: float, noise_std: float, generator: torch.Generator
) -> None:
    """The variance is noise**2 / (1 - (1 - step / s2)**2); JEM's row has 1.125e-4 where the density has 1.5."""
    variance = noise_std**2 / (1 - (1 - step_size / s2) ** 2)
    x = start(generator, std=2 * math.sqrt(variance))
    x = langevin(lambda x: -x / s2, x, steps=60, step_size=step_size, noise_std=noise_std, generator=generator)
    assert abs(x.var().item() - variance) < five_standard_errors(variance)


def test_small_steps_sample_at_the_effective_temperature(generator: torch.Generator) -> None:
    """The density p^(1/T) of N(0, s2) has variance s2 T; the relative error left is step / (2 s2)."""
    s2, step_size, noise_std = 0.5, 0.01, 0.3
    temperature = effective_temperature(step_size, noise_std)
    assert temperature == pytest.approx(4.5)
    record = ChainRecord(every=1000)
    x = langevin(
        lambda x: -x / s2,
        start(generator, math.sqrt(s2 * temperature)),
        steps=150,
        step_size=step_size,
        noise_std=noise_std,
        generator=generator,
        record=record,
    )
    assert record.temperature == pytest.approx(temperature)
    bias = s2 * temperature * step_size / (2 * s2)
    assert abs(x.var().item() - s2 * temperature) < five_standard_errors(s2 * temperature) + 1.05 * bias


@pytest.mark.parametrize(
    ("variance", "step_size", "noise_std"),
    [
        (1.0, 0.8, None),
        (1.0, 0.05, None),
        (0.1, 0.08, None),
        (1.0, 0.8, 0.9),
        (1.0, 0.05, 0.9),
        (2.5, 0.3, 1.5),
    ],
)
def test_mala_has_the_exact_variance_at_any_step_and_noise(
    variance: float, step_size: float, noise_std: float | None, generator: torch.Generator
) -> None:
    """The Metropolis ratio corrects the discretisation: step 0.8 on N(0, 1), where langevin settles at 1.67."""
    x = start(generator, std=2 * math.sqrt(variance))
    x = mala(gaussian(variance), x, steps=100, step_size=step_size, noise_std=noise_std, generator=generator)
    assert abs(x.var().item() - variance) < five_standard_errors(variance)


def test_mala_is_exact_in_more_than_one_dimension_and_with_a_clipped_gradient(
    generator: torch.Generator,
) -> None:
    x = torch.randn(N // 4, 2, 2, generator=generator, dtype=torch.float64)
    x = mala(gaussian(0.5), x, steps=60, step_size=0.3, clip=ClipElements(0.7), generator=generator)
    assert abs(x.var().item() - 0.5) < five_standard_errors(0.5)
    assert x.flatten(1).T.cov().fill_diagonal_(0).abs().max() < 5 * 0.5 / math.sqrt(N / 4)


def test_mala_is_in_detailed_balance_and_langevin_is_not(generator: torch.Generator) -> None:
    """One step from x ~ p to y has E[x^2 y] = E[x y^2] for a skewed density, x = log of an Exp(1) variable."""

    def log_density(x: Tensor) -> Tensor:
        return (x - x.exp()).sum(dim=1)

    x = torch.rand(200_000, 1, generator=generator, dtype=torch.float64).log().neg().log()
    step = {"steps": 1, "step_size": 0.4, "generator": generator}
    adjusted = mala(log_density, x, **step)
    plain = langevin(lambda x: 1 - x.exp(), x, **step)

    def imbalance(y: Tensor) -> float:
        """Mean of x^2 y - x y^2 in standard errors."""
        flow = x.square() * y - x * y.square()
        return float(flow.mean() / flow.std() * math.sqrt(len(x)))

    assert abs(imbalance(adjusted)) < 5
    assert abs(imbalance(plain)) > 5  # the law can see a chain that breaks it


def test_every_chain_is_accepted_by_its_own_metropolis_ratio() -> None:
    """The first chain must not affect the other chains, as a broadcast of (B, 1) + (B,) would let it."""
    first, second = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1)).unbind()
    second[1:] = first[1:]
    second[0] = 20.0

    ends = [
        mala(gaussian(1.0), x, steps=3, step_size=0.3, generator=torch.Generator().manual_seed(0))
        for x in (first, second)
    ]
    assert torch.equal(ends[0][1:], ends[1][1:])
    assert not torch.equal(ends[0][0], ends[1][0])


def test_mala_with_rejection_keeps_the_uniform_density_of_a_box(generator: torch.Generator) -> None:
    x = 2 * torch.rand(N, 1, generator=generator, dtype=torch.float64) - 1
    record = ChainRecord()
    x = mala(
        lambda x: 0 * x[:, 0],
        x,
        steps=30,
        step_size=0.1,
        bounds=RejectOutside(-1, 1),
        generator=generator,
        record=record,
    )
    assert max(float(state.abs().max()) for state in record.states) <= 1
    assert 0.5 < record.acceptance < 0.9
    kolmogorov_smirnov = float(
        ((x.flatten().sort().values + 1) / 2 - (torch.arange(N) + 0.5) / N).abs().max() + 0.5 / N
    )
    assert kolmogorov_smirnov < 2.2 / math.sqrt(N)  # exceeded by chance once in 8000 seeds


def test_mala_hardly_ever_rejects_with_the_papers_step_on_eight_gaussians(generator: torch.Generator) -> None:
    record = ChainRecord()
    x = eight_gaussians(500, generator)
    mala(eight_gaussians_log_prob, x, steps=30, step_size=0.005, generator=generator, record=record)
    moved = [(after != before).any(dim=1).double().mean() for before, after in pairwise(record.states)]
    assert record.acceptance == pytest.approx(float(torch.stack(moved).mean()), abs=1e-6)
    assert record.acceptance > 0.98


# -------------------------------------------------------------------- parts a chain is composed of


def test_without_noise_the_energy_never_rises(generator: torch.Generator) -> None:
    def log_density(x: Tensor) -> Tensor:
        return -(x.square() - 1).square().sum(dim=1)  # a double well in each coordinate

    record = ChainRecord(log_density)
    x = 0.8 * torch.randn(50, 3, generator=generator, dtype=torch.float64)
    LangevinChain(steps=40, step_size=0.01, noise_std=0.0)(log_density, x, record=record)
    values = torch.stack([log_density(state) for state in record.states])
    assert (values.diff(dim=0) >= 0).all()
    assert record.mean_log_density == pytest.approx(values.mean(dim=1).tolist())


@pytest.mark.parametrize("event", [(4,), (4, 1, 1), (3, 2, 2)])
def test_a_chain_on_the_sphere_stays_on_the_sphere(event: tuple[int, ...], generator: torch.Generator) -> None:
    record = ChainRecord()
    x = Sphere()(torch.randn(5, *event, generator=generator))
    langevin(lambda x: x.flip(1), x, steps=10, step_size=0.1, bounds=Sphere(), generator=generator, record=record)
    norms = torch.stack(record.states).norm(dim=2)
    assert norms == pytest.approx(torch.ones_like(norms), abs=1e-6)
    assert not torch.equal(record.states[0], record.states[-1])
    assert torch.equal(Sphere()(torch.zeros(2, 3)), torch.zeros(2, 3))  # not NaN


def test_a_clamped_chain_stays_in_its_box(generator: torch.Generator) -> None:
    record = ChainRecord()
    x = torch.rand(50, 3, generator=generator)
    langevin(lambda x: x, x, steps=10, step_size=0.5, bounds=Box(0, 1), generator=generator, record=record)
    states = torch.stack(record.states)
    assert states.min() == 0
    assert states.max() == 1


def test_a_proposal_outside_the_bounds_leaves_its_chain_where_it_was() -> None:
    x = torch.tensor([[0.9, 0.0], [0.0, 0.0]])
    moved = langevin(
        lambda x: torch.ones_like(x),
        x,
        steps=1,
        step_size=0.3,
        noise_std=0.0,
        bounds=RejectOutside(-1.0, 1.0),
    )
    assert torch.equal(moved, torch.tensor([[0.9, 0.0], [0.3, 0.3]]))


def test_clipping_works_by_element_or_by_norm_and_passes_zero_through() -> None:
    gradient = torch.tensor([[[3.0, 4.0]], [[0.3, -0.4]], [[0.0, 0.0]], [[0.6, 0.8]]])
    assert torch.equal(
        ClipElements(0.5)(gradient), torch.tensor([[[0.5, 0.5]], [[0.3, -0.4]], [[0.0, 0.0]], [[0.5, 0.5]]])
    )
    by_norm = torch.tensor([[[0.6, 0.8]], [[0.3, -0.4]], [[0.0, 0.0]], [[0.6, 0.8]]])
    assert ClipNorm(1.0)(gradient) == pytest.approx(by_norm)
    step = langevin(lambda x: gradient, torch.zeros(4, 1, 2), steps=1, step_size=2.0, noise_std=0.0, clip=ClipNorm(1.0))
    assert step == pytest.approx(2 * by_norm)


def test_clipping_by_rows_shortens_each_row_alone_and_keeps_zeros_and_the_bound() -> None:
    gradient = torch.tensor([[[3.0, 4.0], [0.3, -0.4]], [[0.0, 0.0], [0.6, 0.8]], [[0.0, -2.0], [1e-30, 0.0]]])
    clipped = ClipRows(1.0)(gradient)
    wanted = torch.tensor([[[0.6, 0.8], [0.3, -0.4]], [[0.0, 0.0], [0.6, 0.8]], [[0.0, -1.0], [1e-30, 0.0]]])
    assert clipped == pytest.approx(wanted, abs=1e-7)
    assert ClipRows(1.0)(gradient[:1])[0, 1] == pytest.approx(ClipNorm(1.0)(gradient[:1, 1])[0])
    images = torch.randn(2, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    norms = ClipRows(0.5)(images).norm(dim=-1)
    assert norms == pytest.approx(images.norm(dim=-1).clamp_max(0.5))
    step = langevin(lambda x: gradient, torch.zeros(3, 2, 2), steps=1, step_size=2.0, noise_std=0.0, clip=ClipRows(1.0))
    assert step == pytest.approx(2 * wanted, abs=1e-7)


def test_annealed_noise_has_the_papers_and_the_released_form(generator: torch.Generator) -> None:
    assert [Annealed(0.6)(t) for t in range(4)] == pytest.approx([0.6, 0.3, 0.2, 0.15])
    assert [Annealed(0.6, delayed=True)(t) for t in range(4)] == pytest.approx([0.6, 0.6, 0.3, 0.2])

    record = ChainRecord()
    x = torch.zeros(N, 1, dtype=torch.float64)
    langevin(
        torch.zeros_like,
        x,
        steps=4,
        step_size=0.1,
        noise_std=Annealed(0.6),
        generator=generator,
        record=record,
    )
    for t, (before, after) in enumerate(pairwise(record.states)):
        variance = Annealed(0.6)(t) ** 2
        assert abs((after - before).var().item() - variance) < five_standard_errors(variance)


# ------------------------------------------------------------------------------- how a chain runs


CHAINS = {
    "langevin": lambda x, **run: langevin(lambda x: -x, x, step_size=0.2, **run),
    "mala": lambda x, **run: mala(gaussian(1.0), x, step_size=0.2, **run),
}


@pytest.fixture(params=CHAINS)
def chain(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    return CHAINS[request.param]


@pytest.mark.parametrize("steps", [0, 5])
def test_a_chain_leaves_its_start_unchanged_and_returns_no_graph(chain: Callable[..., Tensor], steps: int) -> None:
    x = torch.ones(3, 2, requires_grad=True)
    end = chain(x, steps=steps)
    assert torch.equal(x, torch.ones(3, 2))
    assert x.grad is None
    assert end.shape == x.shape
    assert not end.requires_grad
    assert torch.equal(end.detach(), torch.ones(3, 2)) == (steps == 0)


def test_a_chain_is_a_function_of_its_generator(chain: Callable[..., Tensor]) -> None:
    x = torch.ones(3, 2)
    before = torch.get_rng_state()
    first, second, other = (chain(x, steps=3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_chain_stops_before_the_step_at_which_should_stop_is_true(chain: Callable[..., Tensor]) -> None:
    record = ChainRecord()
    with pytest.raises(Stopped, match="after 3 of 8 steps"):
        chain(torch.ones(3, 2), steps=8, should_stop=asking(3), record=record)
    assert record.steps == [0, 1, 2, 3]
    chain(torch.ones(3, 2), steps=8, should_stop=asking(8))


def test_a_chain_record_has_the_start_the_end_and_every_kth_state(chain: Callable[..., Tensor]) -> None:
    record = ChainRecord(log_density=gaussian(1.0), every=3)
    x = torch.ones(4, 2)
    end = chain(x, steps=7, generator=torch.Generator().manual_seed(0), record=record)
    assert record.steps == [0, 3, 6, 7]
    assert torch.equal(record.states[0], x)
    assert torch.equal(record.states[-1], end)
    assert record.mean_log_density == pytest.approx([float(gaussian(1.0)(state).mean()) for state in record.states])
    assert 0 < record.acceptance <= 1
    plain = chain(x, steps=7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain, end)  # looking changes nothing


def test_an_error_counts_the_chains_that_became_nan_or_infinite() -> None:
    x = torch.tensor([[0.1], [0.2], [3.0], [4.0], [0.0]])
    with pytest.raises(FloatingPointError, match=r"langevin: 2 of 5 chains .* 10 steps; lower step_size"):
        langevin(lambda x: x**9, x, steps=20, step_size=0.5, noise_std=0.0)
    with pytest.raises(FloatingPointError, match="langevin"):  # clipping must not hide an infinite gradient
        langevin(lambda x: x + math.inf, x, steps=1, step_size=0.5, clip=ClipElements(0.01))
    with pytest.raises(FloatingPointError, match="mala"):
        mala(lambda x: (x.sqrt() - 1)[:, 0], -x, steps=1, step_size=0.5)
    with pytest.raises(FloatingPointError, match="mala"):
        mala(lambda x: x.sqrt()[:, 0], 0 * x, steps=1, step_size=0.5, clip=ClipElements(0.01))


def test_mala_rejects_a_proposal_of_zero_density_and_raises_an_error_for_nan(generator: torch.Generator) -> None:
    """Outside its domain a density is zero, log p = -inf: chains of Gamma(2) stay positive.  NaN is an error."""

    def gamma(x: Tensor) -> Tensor:
        return torch.where(x > 0, x.clamp_min(1e-9).log() - x, -math.inf)[:, 0]

    x = torch.rand(500, 1, generator=generator, dtype=torch.float64) + 0.5
    end = mala(gamma, x, steps=100, step_size=0.3, generator=generator)
    assert (end > 0).all()
    assert abs(end.mean().item() - 2) < 5 * math.sqrt(2 / 500)  # Gamma(2): mean 2, variance 2
    with pytest.raises(FloatingPointError, match="mala"):
        mala(lambda x: (x.log() - x)[:, 0], x, steps=100, step_size=0.3, generator=generator)


def test_on_manifold_start_decodes_the_end_of_a_latent_chain(generator: torch.Generator) -> None:
    """For the decoder z -> (z, z^2) every start lies on the parabola, at the density's end of the parabola."""

    def decode(z: Tensor) -> Tensor:
        return torch.cat([z, z.square()], dim=1)

    def log_density(x: Tensor) -> Tensor:
        return -(x - 1).square().sum(dim=1)

    z = torch.randn(200, 1, generator=generator, dtype=torch.float64) + 2
    chain = LangevinChain(steps=100, step_size=0.02, noise_std=0.01)
    record = ChainRecord()
    end, x = on_manifold_start(log_density, decode, z, chain, generator=generator, record=record)
    assert torch.equal(x, decode(end))
    assert not x.requires_grad
    assert log_density(x).mean() > -0.01 > log_density(decode(z)).mean()
    assert len(record.states) == 101
    with pytest.raises(Stopped):
        on_manifold_start(log_density, decode, z, chain, should_stop=asking(50))


def test_langevin_chain_and_mala_chain_run_langevin_and_mala_with_their_settings(generator: torch.Generator) -> None:
    x = torch.randn(6, 2, generator=generator)
    options = {
        "steps": 4,
        "step_size": 0.1,
        "noise_std": 0.2,
        "clip": ClipNorm(0.5),
        "bounds": RejectOutside(-2.0, 2.0),
    }
    seeded = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    assert LangevinChain(**options)(gaussian(1.0), x, generator=seeded()) == pytest.approx(
        langevin(lambda x: -x, x, generator=seeded(), **options)
    )
    assert torch.equal(
        MalaChain(**options)(gaussian(1.0), x, generator=seeded()),
        mala(gaussian(1.0), x, generator=seeded(), **options),
    )


@pytest.mark.parametrize(
    ("kind", "noise_std"),
    [
        *((LangevinChain, noise_std) for noise_std in (0.2, None, Annealed(0.6), Annealed(0.6, delayed=True))),
        *((MalaChain, noise_std) for noise_std in (0.2, None)),
    ],
)
def test_parts_of_a_chain_run_in_succession_give_the_states_of_the_whole_chain(
    kind: type, noise_std: object, generator: torch.Generator
) -> None:
    """States agree bit for bit, with one generator for both; annealed noise continues across the parts."""
    whole = kind(7, 0.1, noise_std=noise_std, clip=ClipNorm(0.5), bounds=RejectOutside(-2.0, 2.0))
    x = torch.randn(6, 2, generator=generator).clamp(-2, 2)
    end = whole(gaussian(1.0), x, generator=torch.Generator().manual_seed(3))
    for lengths in ([1] * 7, [2, 5], [0, 7]):
        own, state, t = torch.Generator().manual_seed(3), x, 0
        for steps in lengths:
            state = whole.part(t, steps)(gaussian(1.0), state, generator=own)
            t += steps
        assert torch.equal(state, end), lengths
    with pytest.raises(ValueError, match=rf"{kind.__name__}.part expects first >= 0, got -1"):
        whole.part(-1, 1)


def test_chains_refuse_invalid_steps_step_sizes_and_noise(chain: Callable[..., Tensor]) -> None:
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="steps >= 0, got -1"):
        chain(x, steps=-1)
    with pytest.raises(ValueError, match="noise_std >= 0, got -1"):
        chain(x, steps=1, noise_std=-1.0)
    for step_size in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="step_size > 0"):
            langevin(lambda x: -x, x, steps=1, step_size=step_size)
    with pytest.raises(ValueError, match="noise_std > 0"):
        mala(gaussian(1.0), x, steps=1, step_size=0.1, noise_std=0.0)
    with pytest.raises(ValueError, match="type RejectOutside, got Box"):
        mala(gaussian(1.0), x, steps=1, step_size=0.1, bounds=Box(0, 1))


def test_a_chain_that_starts_outside_its_box_takes_the_first_step_that_leads_inside(
    generator: torch.Generator,
) -> None:
    """The target is zero outside, so every proposal inside is accepted, and the chain does not stay at its start."""
    x = torch.full((100, 1), 1.05, dtype=torch.float64)
    end = mala(
        lambda x: -x.square()[:, 0], x, steps=300, step_size=0.01, bounds=RejectOutside(-1, 1), generator=generator
    )
    assert (end.abs() <= 1).all()


@pytest.mark.parametrize("bounds", [Box(-1, 1), RejectOutside(-1, 1)])
def test_bounds_do_not_hide_a_proposal_that_overflows(bounds: Box | RejectOutside) -> None:
    with pytest.raises(FloatingPointError, match="langevin"):
        langevin(lambda x: x * 3e38, torch.ones(2, 1), steps=1, step_size=10.0, bounds=bounds)
