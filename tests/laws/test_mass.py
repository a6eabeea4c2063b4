"""Laws of the approximate mass: closed forms of the mass and of its penalty's optimum, and all three readings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import flow_of_images, flow_of_the_plane, gaussian_along_a_line, randomised
from torch import Tensor, nn

from oodlab import data
from oodlab.data import bin_center, dequantize
from oodlab.detectors import ApproximateMass, BatchMass, BitsPerDim, GroupMean, LogDensity, Typicality
from oodlab.metrics import bits_per_dim, rank_correlation
from oodlab.models import Density, Flow, approximate_mass, image_realnvp, stein_score
from oodlab.models.flows import FlowLayer, Logit, LogitNormal, log_prob_and_gradient
from oodlab.objectives import PenalisedLikelihood, cost_of_alpha, maximum_likelihood
from oodlab.training import Adam, fit
from oodlab.training.batches import Shuffled

ROUNDING = 1e-9  # float64
PIXEL = 255 / 256


class Affine(FlowLayer):
    """z = A x + b."""

    def __init__(self, matrix: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.matrix, self.shift = nn.Parameter(matrix), nn.Parameter(shift)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self.matrix.T + self.shift, torch.linalg.slogdet(self.matrix)[1].expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return torch.linalg.solve(self.matrix, (z - self.shift).T).T


class Isotropic(Density):
    """N(0, s^2 I) with s learned."""

    def __init__(self, dims: int, variance: float = 1.0) -> None:
        super().__init__()
        self.dims = dims
        self.log_variance = nn.Parameter(torch.tensor(math.log(variance), dtype=torch.float64))

    def log_prob(self, x: Tensor) -> Tensor:
        squares = x.square().sum(dim=1)
        return -0.5 * (squares * (-self.log_variance).exp() + self.dims * (self.log_variance + math.log(2 * math.pi)))

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        std = (0.5 * self.log_variance).exp()
        return std * torch.randn(n, self.dims, generator=generator, dtype=torch.float64)


@pytest.fixture
def gaussian(generator: torch.Generator) -> Flow:
    """Return a Gaussian in four dimensions as an affine flow."""
    matrix = torch.randn(4, 4, generator=generator, dtype=torch.float64) + 2 * torch.eye(4, dtype=torch.float64)
    return Flow((4,), [[Affine(matrix, torch.randn(4, generator=generator, dtype=torch.float64))]]).double()


def image_flow() -> Flow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return flow_of_images(logit=True).double()


def images(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, 2, 4, 4, generator=generator, dtype=torch.float64)


# ------------------------------------------------------------------------------------- what it is


def test_the_mass_of_a_gaussian_is_the_norm_of_its_precision_times_the_residual(
    gaussian: Flow, generator: torch.Generator
) -> None:
    """The mass |Sigma^-1 (x - mu)| equals |A^T z| for z = A x + b."""
    matrix, shift = gaussian.scales[0][0].matrix.detach(), gaussian.scales[0][0].shift.detach()
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    mean, precision = -torch.linalg.solve(matrix, shift), matrix.T @ matrix
    mass = approximate_mass(gaussian, x)
    assert mass == pytest.approx(((x - mean) @ precision).norm(dim=1), abs=ROUNDING)
    assert mass == pytest.approx((gaussian.forward_and_log_det(x)[0].detach() @ matrix).norm(dim=1), abs=ROUNDING)


def test_the_mass_is_the_norm_of_the_stein_score_and_carries_no_graph(generator: torch.Generator) -> None:
    flow, x = image_flow(), images(3, generator)
    mass = approximate_mass(flow, x)
    assert not mass.requires_grad
    assert torch.equal(mass, stein_score(flow, x).flatten(1).norm(dim=1))


def test_the_mass_of_a_flow_without_couplings_has_a_closed_form(generator: torch.Generator) -> None:
    """Per pixel, d log p / d pixel = (-l + 2p - 1) c (255/256) / (p (1 - p)), which is odd about mid-grey."""
    flow = image_realnvp((1, 4, 4), scales=2, blocks=1, width=4, couplings=0)
    w = torch.rand(5, 1, 4, 4, generator=generator, dtype=torch.float64)
    p = ((2 * w - 1) * 0.9 + 1) / 2
    exact = (-(p / (1 - p)).log() + 2 * p - 1) * 0.9 * PIXEL / (p * (1 - p))
    gradient = log_prob_and_gradient(flow, w, space="pixel")[1]
    assert gradient == pytest.approx(exact, abs=ROUNDING)
    assert log_prob_and_gradient(flow, 1 - w, space="pixel")[1] == pytest.approx(-exact, abs=ROUNDING)
    grey = torch.full_like(w, 0.5)
    assert approximate_mass(flow, grey) == pytest.approx(torch.zeros(5), abs=ROUNDING)
    black = torch.full((1, 1, 4, 4), 0.5 / 256, dtype=torch.float64)
    assert float(log_prob_and_gradient(flow, black, space="pixel")[1].mean()) == pytest.approx(36.7, abs=0.9)


def test_masses_in_input_pixel_and_logit_space_differ_by_the_chain_rule(generator: torch.Generator) -> None:
    flow, w = image_flow(), images(3, generator)
    gradient = log_prob_and_gradient(flow, w)[1]
    assert approximate_mass(flow, w, space="pixel") == pytest.approx(PIXEL * approximate_mass(flow, w), abs=ROUNDING)

    logits = Logit().forward_and_log_det(w)[0]
    slope = torch.autograd.functional.jacobian(lambda u: Logit().inverse(u).sum(), logits)  # dw / dl
    assert log_prob_and_gradient(flow, w, space="logit")[1] == pytest.approx(gradient * slope, abs=ROUNDING)
    with pytest.raises(ValueError, match="space input, pixel or logit, got 'grey'"):
        log_prob_and_gradient(flow, w, space="grey")


@pytest.mark.parametrize("factor", [0.1, 256.0])
def test_the_mass_of_inputs_scaled_by_a_factor_is_divided_by_the_factor(
    gaussian: Flow, factor: float, generator: torch.Generator
) -> None:
    """The density of a x is p(x) / a^D, and the gradient of its logarithm is that of log p over a."""
    layer = gaussian.scales[0][0]
    scaled = Flow((4,), [[Affine(layer.matrix.detach() / factor, layer.shift.detach())]]).double()
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    assert approximate_mass(scaled, factor * x) == pytest.approx(approximate_mass(gaussian, x) / factor, rel=1e-9)


def test_a_rotation_of_the_input_does_not_change_the_mass(gaussian: Flow, generator: torch.Generator) -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    layer = gaussian.scales[0][0]
    rotated = Flow((4,), [[Affine(layer.matrix.detach() @ rotation.T, layer.shift.detach())]]).double()
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    assert approximate_mass(rotated, x @ rotation.T) == pytest.approx(approximate_mass(gaussian, x), abs=ROUNDING)


def test_the_stein_score_has_mean_zero_and_the_fisher_information_as_mean_square(gaussian: Flow) -> None:
    """E[g] = 0 and E|g|^2 = tr Sigma^-1."""
    n = 20_000
    x = gaussian.sample(n, generator=torch.Generator().manual_seed(1))
    gradient = log_prob_and_gradient(gaussian, x)[1]
    matrix = gaussian.scales[0][0].matrix.detach()
    information = torch.trace(matrix.T @ matrix)
    five_standard_errors = 5 * gradient.std(dim=0) / math.sqrt(n)
    assert (gradient.mean(dim=0).abs() < five_standard_errors).all()
    squares = gradient.square().sum(dim=1)
    assert abs(squares.mean() - information) < 5 * squares.std() / math.sqrt(n)


def test_the_mass_of_an_isotropic_gaussian_ranks_inputs_as_the_likelihood_does(generator: torch.Generator) -> None:
    model = Isotropic(8, variance=0.3)
    x = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    mass, nll = approximate_mass(model, x), model.energy(x).detach()
    assert torch.equal(mass.argsort(), nll.argsort())
    assert rank_correlation(mass, nll) == pytest.approx(1.0)
    assert rank_correlation(mass, -nll) == pytest.approx(-1.0)


# --------------------------------------------------------------------- one input's gradient is its own


def cross_gradient(flow: Flow, x: Tensor) -> float:
    """Return the largest |d log p(x_i) / d x_j| for i != j."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(flow.log_prob(x)[0], x)
    return float(gradient[1:].abs().max())


@pytest.mark.parametrize("actnorm", [False, True])
def test_an_inputs_gradient_does_not_depend_on_other_inputs(actnorm: bool, generator: torch.Generator) -> None:
    flow = flow_of_images(actnorm=actnorm).double().train()
    x = torch.randn(4, 2, 4, 4, generator=generator, dtype=torch.float64)
    flow.log_prob(x)  # ActNorm's first batch
    assert cross_gradient(flow, x) == 0.0


def test_an_inputs_gradient_depends_on_other_inputs_for_batch_norm_in_train_mode(generator: torch.Generator) -> None:
    """The penalty of the released flow, which is in train mode, is therefore not a sum over images."""
    flow = flow_of_images(norm=nn.BatchNorm2d).double().train()
    x = torch.randn(4, 2, 4, 4, generator=generator, dtype=torch.float64)
    assert cross_gradient(flow, x) > 1e-3
    assert cross_gradient(flow.eval(), x) == 0.0


# ----------------------------------------------------------------------------------- the objective


def test_maximum_likelihood_has_the_mean_nll_in_nats_as_loss_and_reports_bits_per_dimension(
    generator: torch.Generator,
) -> None:
    flow, x = image_flow(), images(5, generator)
    parts = maximum_likelihood(flow, x, None, generator=None, should_stop=None)
    nll = -flow.log_prob(x).mean().detach()
    assert float(parts["loss"].detach()) == pytest.approx(float(nll), abs=ROUNDING)
    assert float(parts["bits_per_dim"]) == pytest.approx(float(bits_per_dim(-nll, 32)), abs=ROUNDING)
    assert parts["loss"].requires_grad and not parts["bits_per_dim"].requires_grad


def test_the_uniform_density_has_eight_bits_per_dimension() -> None:
    class Uniform(Isotropic):
        def log_prob(self, x: Tensor) -> Tensor:
            return 0 * x.sum(dim=1) + 0 * self.log_variance

    assert float(maximum_likelihood(Uniform(5), torch.rand(3, 5))["bits_per_dim"]) == 8.0


@pytest.mark.parametrize("squared", [False, True])
def test_the_penalty_per_sample_and_per_batch_has_the_values_of_its_two_readings(
    squared: bool, generator: torch.Generator
) -> None:
    """Per sample, the penalty is mean |g_i|; per batch, the norm of the gradient of the batch's mean log p."""
    flow, x = image_flow(), images(6, generator)
    nll = float(-flow.log_prob(x).mean().detach())
    leaf = x.clone().requires_grad_()
    (of_mean,) = torch.autograd.grad(flow.log_prob(leaf).mean(), leaf)
    norms = 6 * of_mean.flatten(1).norm(dim=1) * PIXEL
    power = 2 if squared else 1
    wanted = {"per_sample": (norms**power).mean(), "batch": (of_mean.norm() * PIXEL) ** power}
    for reduction, penalty in wanted.items():
        parts = PenalisedLikelihood(0.7, reduction, squared=squared)(flow, x)
        assert float(parts["loss"].detach()) == pytest.approx(nll + 0.7 * float(penalty), abs=1e-5)  # eps
        assert float(parts["mass"]) == pytest.approx(float(norms.mean()), abs=ROUNDING)
        assert not parts["mass"].requires_grad
    root_mean_square = norms.square().mean().sqrt() / math.sqrt(6)
    assert float(of_mean.norm() * PIXEL) == pytest.approx(float(root_mean_square), abs=ROUNDING)
    alone = [PenalisedLikelihood(2.0, r, squared=squared)(flow, x[:1])["loss"].detach() for r in wanted]
    assert float(alone[0]) == pytest.approx(float(alone[1]), abs=ROUNDING)


def test_the_released_penalty_is_the_mean_norm_over_images_of_the_batch_nlls_gradient(
    generator: torch.Generator,
) -> None:
    """nll + alpha mean_i |d nll / d x_i|, nll the batch's mean: also where an image's gradient depends on the others."""
    flow, x = flow_of_images(norm=nn.BatchNorm2d).double().train(), images(6, generator)
    leaf = x.clone().requires_grad_()
    nll = -flow.log_prob(leaf).mean()
    (slope,) = torch.autograd.grad(nll, leaf)
    wanted = nll.detach() + 0.7 * PIXEL * slope.flatten(1).norm(dim=1).mean()
    loss = PenalisedLikelihood(0.7, "released", eps=0.0)(flow, x)["loss"].detach()
    assert float(loss) == pytest.approx(float(wanted), abs=ROUNDING)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("size", [1, 4, 6])
def test_the_released_penalty_is_the_per_sample_penalty_with_alpha_over_the_batch_size(
    size: int, squared: bool, generator: torch.Generator
) -> None:
    """This holds for the loss and all its gradients."""
    flow, x = image_flow(), images(size, generator)
    released, per_sample = (
        PenalisedLikelihood(alpha, reduction, squared=squared)(flow, x)
        for alpha, reduction in ((3.0, "released"), (3.0 / size, "per_sample"))
    )
    assert float(released["loss"].detach()) == pytest.approx(float(per_sample["loss"].detach()), rel=1e-12)
    assert torch.equal(released["mass"], per_sample["mass"])
    slopes = [parameter_gradient(flow, parts["loss"]) for parts in (released, per_sample)]
    assert float((slopes[0] - slopes[1]).norm()) < ROUNDING * float(slopes[1].norm())


@pytest.mark.parametrize("reduction", ["per_sample", "batch", "released"])
def test_a_penalty_states_whether_slices_of_a_batch_have_its_value_on_average(
    reduction: str, generator: torch.Generator
) -> None:
    """Halves of a batch have its per-sample penalty on average; the batch's grows up to sqrt(2), the released by 2."""
    flow, x = image_flow(), images(6, generator)

    def penalty(part: Tensor) -> float:
        parts = PenalisedLikelihood(1.0, reduction)(flow, part)
        return float((parts["loss"] - maximum_likelihood(flow, part)["loss"]).detach())

    ratio = (penalty(x[:3]) + penalty(x[3:])) / 2 / penalty(x)
    if reduction == "batch":
        assert 1.1 < ratio <= math.sqrt(2) + ROUNDING  # sqrt(2) where both halves are as steep
    else:
        assert ratio == pytest.approx({"per_sample": 1, "released": 2}[reduction], abs=ROUNDING)
    assert PenalisedLikelihood(1.0, reduction).couples_batch == (reduction != "per_sample")
    assert not PenalisedLikelihood(0.0, reduction).couples_batch


def test_the_penalty_uses_the_mass_in_the_given_space(generator: torch.Generator) -> None:
    flow, x = image_flow(), images(3, generator)
    for space in ("input", "pixel", "logit"):
        mass = PenalisedLikelihood(1.0, space=space)(flow, x)["mass"]
        assert float(mass) == pytest.approx(float(approximate_mass(flow, x, space=space).mean()), abs=ROUNDING)


def test_alpha_zero_computes_no_gradient_by_the_inputs(generator: torch.Generator) -> None:
    assert PenalisedLikelihood(0.0)(image_flow(), images(2, generator)).keys() == {"loss", "bits_per_dim"}


def test_alpha_zero_trains_as_maximum_likelihood_does_bit_by_bit(generator: torch.Generator) -> None:
    batches = Shuffled(images(40, generator).float(), None, batch_size=8, seed=0)
    trained = []
    for objective in (maximum_likelihood, PenalisedLikelihood(0.0)):
        flow = image_flow().float()
        fit(flow, objective, batches, optimiser=Adam(lr=1e-2), steps=6, device="cpu", show_progress=False)
        trained.append(flow.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def parameter_gradient(flow: Flow, loss: Tensor) -> Tensor:
    gradients = torch.autograd.grad(loss, list(flow.parameters()), allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(flow.parameters(), gradients, strict=True)
        ]
    )


def test_the_penaltys_gradient_by_weights_agrees_with_a_finite_difference_along_the_stein_score(
    generator: torch.Generator,
) -> None:
    """grad_theta |g| is the derivative of grad_theta log p(x + h v) in h, v = g / |g|."""
    flow, x = image_flow(), images(3, generator)
    exact = parameter_gradient(flow, PenalisedLikelihood(1.0, space="input")(flow, x)["loss"])
    exact = exact - parameter_gradient(flow, maximum_likelihood(flow, x)["loss"])
    gradient = log_prob_and_gradient(flow, x)[1]
    direction = gradient / gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    h = 1e-5
    above, below = (parameter_gradient(flow, flow.log_prob(x + s * h * direction).mean()) for s in (1, -1))
    difference = (above - below) / (2 * h)
    assert float((exact - difference).norm()) < 1e-4 * float(difference.norm())
    assert float(difference.norm()) > 1e-3


def test_the_gradient_by_inputs_carries_a_graph_only_with_create_graph(generator: torch.Generator) -> None:
    flow, x = image_flow(), images(3, generator)
    assert not log_prob_and_gradient(flow, x)[1].requires_grad
    assert log_prob_and_gradient(flow, x, create_graph=True)[1].requires_grad


@pytest.mark.filterwarnings("ignore:.*Input #0 requires gradient:UserWarning")
def test_second_derivatives_of_a_smooth_flow_pass_gradgradcheck(generator: torch.Generator) -> None:
    flow, x = flow_of_the_plane().double(), torch.randn(2, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(flow.log_prob, (x.requires_grad_(),))


@pytest.mark.parametrize(
    ("reduction", "squared"), [("per_sample", False), ("batch", False), ("released", False), ("per_sample", True)]
)
def test_the_penalised_variance_of_a_gaussian_has_a_closed_form(reduction: str, squared: bool) -> None:
    """For N(0, s^2 I) on data of variance v, the norm of weight alpha adds alpha E|x| / s^2 to the NLL.

    Its optimum is s^2 = v + 2 alpha E|x| / D, with E|X|_F / (B D) for the batch and E|x| / (B D)
    as released; squared, s^2 = (v + sqrt(v^2 + 16 alpha v)) / 2. Here of the data at hand, so it is exact.
    """
    dims, alpha, size = 8, 2.0, 16
    x = math.sqrt(0.5) * torch.randn(size, dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = float(x.square().mean())
    if squared:
        wanted = (v + math.sqrt(v**2 + 16 * alpha * v)) / 2
    elif reduction == "batch":
        wanted = v + 2 * alpha * float(x.norm()) / (size * dims)
    else:
        share = size if reduction == "released" else 1
        wanted = v + 2 * alpha * float(x.norm(dim=1).mean()) / (dims * share)
    model = Isotropic(dims)
    objective = PenalisedLikelihood(alpha, reduction, space="input", squared=squared)
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective(model, x)["loss"]
        loss.backward()
        return loss

    optimiser.step(closure)
    assert float(model.log_variance.detach().exp()) == pytest.approx(wanted, rel=1e-4)  # LBFGS's own tolerance


def test_penalised_likelihood_refuses_negative_or_nan_alpha_and_unknown_reductions() -> None:
    with pytest.raises(ValueError, match=r"alpha >= 0, got -1: a negative weight rewards steep densities"):
        PenalisedLikelihood(-1.0)
    with pytest.raises(ValueError, match="alpha >= 0, got nan"):
        PenalisedLikelihood(math.nan)
    with pytest.raises(ValueError, match="per_sample, batch or released, got 'sum'"):
        PenalisedLikelihood(1.0, "sum")


def test_the_penalty_is_finite_where_the_gradient_vanishes() -> None:
    """At mid-grey a flow without couplings is flat, where a bare norm has no slope."""
    flow = randomised(image_realnvp((1, 4, 4), scales=1, blocks=1, width=2, couplings=0)).double()
    x = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    gradient = log_prob_and_gradient(flow, x, create_graph=True)[1]
    assert float(gradient.detach().abs().max()) == 0.0
    model = Isotropic(4)
    model.zero_grad()
    PenalisedLikelihood(1.0)(model, torch.zeros(3, 4, dtype=torch.float64))["loss"].backward()
    assert model.log_variance.grad.isfinite()


# ---------------------------------------------------------------------------------------- detectors


def test_the_mass_detectors_score_is_minus_the_norm_per_pixel(generator: torch.Generator) -> None:
    flow, x = image_flow().float(), images(5, generator).float()
    scores = ApproximateMass(flow).score_samples(x, batch_size=2)
    assert scores == pytest.approx(-approximate_mass(flow, x).double().numpy() * PIXEL, rel=1e-5)
    plain = ApproximateMass(flow, space="input").score_samples(x)
    assert plain == pytest.approx(-approximate_mass(flow, x).double().numpy(), rel=1e-5)


def test_typicality_is_low_on_both_sides_of_the_training_mean() -> None:
    """The origin is the likeliest point of N(0, I) but not a typical one."""
    flow, dims = Flow((50,), [[]]), 50
    x = torch.randn(500, dims, generator=torch.Generator().manual_seed(0))
    detector = Typicality(flow).fit(x)
    nll = -LogDensity(flow).score_samples(x)
    assert detector.mean_nll_ == pytest.approx(float(nll.mean()), rel=1e-6)
    assert detector.score_samples(x) == pytest.approx(-np.abs(nll - nll.mean()), abs=1e-3)
    origin = detector.score_samples(torch.zeros(1, dims))
    assert LogDensity(flow).score_samples(torch.zeros(1, dims)) > -nll.min()
    assert float(origin[0]) < detector.score_samples(x).min()


def test_a_flow_without_parameters_can_be_scored() -> None:
    flow = image_realnvp((1, 4, 4), scales=2, blocks=1, width=4, couplings=0)
    assert ApproximateMass(flow).score_samples(torch.rand(3, 1, 4, 4)).shape == (3,)


def test_mass_and_log_density_rank_points_off_a_narrow_gaussian_alike() -> None:
    model = gaussian_along_a_line()
    points = torch.tensor([[0.0, 0.05], [0.0, 0.5], [0.0, 5.0]])
    assert list(ApproximateMass(model).score_samples(points).argsort()) == [2, 1, 0]
    assert list(LogDensity(model).score_samples(points).argsort()) == [2, 1, 0]


# ------------------------------------------------------------------------------ what the penalty costs


@pytest.mark.parametrize(("reduction", "share"), [("per_sample", 1.0), ("batch", 2.0), ("released", 4.0)])
@pytest.mark.parametrize("std", [0.01, 0.05])
def test_the_predicted_cost_of_the_penalty_is_exact_for_an_isotropic_gaussian(
    std: float, reduction: str, share: float
) -> None:
    """The cost is the NLL at the penalised optimum less the NLL at the data's own variance, in bits per dimension."""
    dims, alpha, batch_size, units = 3000, 2.0, 4, 255 / 256  # std in pixels; w is 255/256 of a pixel
    length = std * math.sqrt(dims)  # E|x| of so many dimensions
    variance = std**2 + 2 * alpha * length / (dims * share)
    nats = [0.5 * (math.log(2 * math.pi * s2 * units**2) + std**2 / s2) for s2 in (std**2, variance)]
    bits = [float(bits_per_dim(-n, 1)) for n in nats]
    cost = cost_of_alpha(bits[0], alpha=alpha, dims=dims, reduction=reduction, batch_size=batch_size)
    assert cost == pytest.approx(bits[1] - bits[0], rel=1e-9)
    assert cost > 0.02


def test_the_papers_alpha_has_the_predicted_costs_in_bits_per_dimension() -> None:
    """At 3.5 bits per dimension on 3 x 32 x 32 the cost is 0.85 per sample, 0.17 and 0.11 for batches of 32 and 64."""
    for batch_size, cost in {1: 0.85, 32: 0.17, 64: 0.11}.items():
        predicted = cost_of_alpha(3.5, alpha=2.0, dims=3072, reduction="batch", batch_size=batch_size)
        assert predicted == pytest.approx(cost, abs=0.01)
    assert cost_of_alpha(3.5, alpha=2.0, dims=3072, batch_size=32) == pytest.approx(0.85, abs=0.01)
    assert cost_of_alpha(3.5, alpha=0.0, dims=3072) == 0.0


# ---------------------------------------------------------------------------------- rank correlation


def test_tied_scores_share_their_mean_rank() -> None:
    """Ranks (1.5, 1.5, 3, 4) and (1, 2, 3, 4) have Pearson's correlation 4.5 / sqrt(4.5 * 5)."""
    assert rank_correlation([0.0, 0.0, 1.0, 9.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(4.5 / math.sqrt(22.5))
    assert math.isnan(rank_correlation([1.0, 1.0], [1.0, 2.0]))
    with pytest.raises(ValueError, match="the same inputs, got 2 and 3"):
        rank_correlation([1.0, 2.0], [1.0, 2.0, 3.0])


def test_monotone_transforms_do_not_change_the_rank_correlation() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 200))
    value = rank_correlation(a, a + b)
    assert 0.3 < value < 0.9
    assert rank_correlation(np.exp(3 * a), (a + b) ** 3) == pytest.approx(value)


# ------------------------------------------------------------------- groups, bits, and the released score


def pixels(n: int) -> Tensor:
    return torch.randint(256, (n, 2, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_bits_per_dim_of_the_uniform_density_are_eight() -> None:
    """The bits per dimension of a flow are minus its score, at one noise sample."""
    flow, x = flow_of_images(logit=True), pixels(20)
    noisy = dequantize(x, torch.Generator().manual_seed(3))
    wanted = bits_per_dim(LogDensity(flow).score_samples(noisy), 32)
    assert -BitsPerDim(flow, noise_seed=3).score_samples(bin_center(x)) == pytest.approx(wanted, rel=1e-5)

    class Uniform(Isotropic):
        def log_prob(self, x: Tensor) -> Tensor:
            return x.new_zeros(len(x)) + 0 * self.log_variance

    assert BitsPerDim(Uniform(32)).score_samples(bin_center(x)) == pytest.approx(-8)


def test_a_groups_score_is_the_mean_of_its_inputs_scores_for_every_batch_size() -> None:
    flow, x = flow_of_images(logit=True), bin_center(pixels(41))
    single = ApproximateMass(flow).score_samples(x)
    for batch_size in (5, 8, 1000):
        grouped = GroupMean(ApproximateMass(flow), 8).score_samples(x, batch_size=batch_size)
        assert grouped == pytest.approx([*single[:40].reshape(5, 8).mean(axis=1), single[40]], rel=1e-5)
    assert GroupMean(ApproximateMass(flow), 8).pooled(single) == pytest.approx(grouped, rel=1e-5)


@pytest.mark.parametrize("train_mode", [False, True])
def test_a_groups_mass_is_minus_its_size_times_the_released_score(train_mode: bool) -> None:
    """This also holds for the last batch, of factor 1 / 9, at the same mode and noise and before rounding."""
    flow = flow_of_images(logit=True, norm=nn.BatchNorm2d)
    x = dequantize(pixels(41), torch.Generator().manual_seed(5))
    released = BatchMass(flow, group=16, whole=False, train_mode=train_mode, noise_seed=None).score_samples(x)
    flow.train(train_mode)
    own = [approximate_mass(flow, part, space="pixel").mean() for part in x.split(16)]
    assert -released * [16, 16, 9] == pytest.approx([float(mass) for mass in own], rel=1e-4)


def test_batch_mass_in_train_mode_keeps_running_statistics_and_cuts_scores_to_whole_numbers() -> None:
    flow, x = flow_of_images(logit=True, norm=nn.BatchNorm2d), bin_center(pixels(32))
    before = [value.clone() for value in flow.buffers()]
    cut = BatchMass(flow, group=16).score_samples(x)
    assert all(torch.equal(a, b) for a, b in zip(before, flow.buffers(), strict=True))
    exact = BatchMass(flow, group=16, whole=False).score_samples(x)
    assert cut.tolist() == np.ceil(exact).tolist() and np.array_equal(cut, BatchMass(flow, group=16).score_samples(x))


def test_a_flow_without_couplings_is_the_normal_on_logits(generator: torch.Generator) -> None:
    flow, x = image_realnvp((2, 4, 4), scales=1, blocks=0, width=1, couplings=0), bin_center(pixels(7))
    assert LogitNormal().log_prob(x) == pytest.approx(flow.log_prob(x))
    samples = LogitNormal((2, 4, 4)).sample(500, generator=generator)
    assert float(data.logit_forward(samples)[0].var()) == pytest.approx(1, abs=5 * math.sqrt(2 / 16_000))
    with pytest.raises(ValueError, match="expects an event_shape to sample"):
        LogitNormal().sample(1)


def test_the_released_optimiser_decays_only_norms_of_weights_and_clips_each_group() -> None:
    flow = flow_of_images()
    optimiser = Adam(lr=1e-3, weight_decay=0.1, decayed=".original0", clip=1e-3, clip_groups=True)(flow)
    decayed, other = optimiser.param_groups
    assert decayed["weight_decay"] == 0.1 and other["weight_decay"] == 0
    norms = [p for name, p in flow.named_parameters() if name.endswith("original0")]
    assert {id(p) for p in decayed["params"]} == {id(p) for p in norms}
    assert len(decayed["params"]) + len(other["params"]) == len(list(flow.parameters()))
    (1e3 * flow.log_prob(torch.ones(2, 2, 4, 4)).sum()).backward()
    optimiser.step()
    for group in optimiser.param_groups:
        gradients = torch.cat([p.grad.flatten() for p in group["params"]])
        assert float(gradients.norm()) == pytest.approx(1e-3, rel=1e-3)
