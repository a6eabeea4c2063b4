"""Laws of the Gaussian mixture over codes: its density, its estimation, and the scores of its detector."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import mixture_autoencoder, near_a_line
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from oodlab.detectors import MixtureLogDensity, NotFittedError, Reconstruction
from oodlab.models import GaussianMixture, MixtureAutoencoder
from oodlab.objectives import MixtureLikelihood


def some_features(generator: torch.Generator, n: int = 60, dims: int = 3, components: int = 2) -> tuple[Tensor, Tensor]:
    features = torch.randn(n, dims, generator=generator, dtype=torch.float64)
    memberships = torch.randn(n, components, generator=generator, dtype=torch.float64).softmax(dim=1)
    return features, memberships


def reference(mixture: GaussianMixture) -> MixtureSameFamily:
    return MixtureSameFamily(
        Categorical(logits=mixture.log_weights), MultivariateNormal(mixture.means, scale_tril=mixture.factors)
    )


# --------------------------------------------------------------------------------------- the mixture


@pytest.mark.parametrize("components", [1, 2, 5])
def test_the_energy_is_minus_the_log_of_the_mixtures_density(components: int, generator: torch.Generator) -> None:
    mixture = GaussianMixture.of(*some_features(generator, components=components))
    x = 3 * torch.randn(20, 3, generator=generator, dtype=torch.float64)
    assert mixture.energy(x) == pytest.approx(-reference(mixture).log_prob(x), abs=1e-10)
    assert float(mixture.log_weights.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_a_component_has_the_mean_and_covariance_of_its_member_points(generator: torch.Generator) -> None:
    features, _ = some_features(generator)
    first = torch.arange(60) < 20
    mixture = GaussianMixture.of(features, torch.stack([first, ~first], dim=1).double(), ridge=0.0)
    assert mixture.log_weights.exp() == pytest.approx(torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))
    for k, own in enumerate((features[first], features[~first])):
        assert mixture.means[k] == pytest.approx(own.mean(dim=0), abs=1e-12)
        covariance = mixture.factors[k] @ mixture.factors[k].T
        assert covariance == pytest.approx(own.T.cov(correction=0), abs=1e-12)
    variances = torch.cat([own.var(dim=0, correction=0) for own in (features[first], features[~first])])
    assert float(mixture.inverse_variances()) == pytest.approx(float((1 / variances).sum()), rel=1e-12)


def test_a_mixture_of_one_component_is_the_most_likely_gaussian(generator: torch.Generator) -> None:
    """The mean energy is the entropy bound (logdet S + D + D log 2 pi) / 2."""
    features, _ = some_features(generator)
    mixture = GaussianMixture.of(features, torch.ones(60, 1, dtype=torch.float64), ridge=0.0)
    bound = 0.5 * (float(features.T.cov(correction=0).logdet()) + 3 + 3 * math.log(2 * math.pi))
    assert float(mixture.energy(features).mean()) == pytest.approx(bound, abs=1e-10)


def test_the_mean_energys_gradient_by_features_and_memberships_passes_gradcheck(generator: torch.Generator) -> None:
    features, memberships = some_features(generator, n=8, dims=2)

    def energy(features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        mixture = GaussianMixture.of(features, logits.softmax(dim=1))
        return mixture.energy(features).mean(), mixture.inverse_variances()

    assert torch.autograd.gradcheck(energy, (features.requires_grad_(), memberships.log().requires_grad_()))


def test_a_singular_covariance_gives_nan_and_a_ridge_makes_the_energy_finite(generator: torch.Generator) -> None:
    flat = torch.randn(20, 2, generator=generator, dtype=torch.float64) @ torch.tensor([[1.0, 1.0]]).double().T
    features = flat.expand(-1, 2).contiguous()
    alone = torch.ones(20, 1, dtype=torch.float64)
    spoilt = GaussianMixture.of(features, alone, ridge=-1e-12)
    assert spoilt.factors.isnan().all()
    assert not spoilt.energy(features).isfinite().any()
    assert not spoilt.inverse_variances().isfinite()
    assert GaussianMixture.of(features, alone).energy(features).isfinite().all()


def test_a_component_without_members_does_not_change_the_other_components(generator: torch.Generator) -> None:
    features, _ = some_features(generator)
    alone = torch.ones(60, 1, dtype=torch.float64)
    with_empty = GaussianMixture.of(features, torch.cat([alone, 0 * alone], dim=1))
    assert with_empty.energy(features) == pytest.approx(GaussianMixture.of(features, alone).energy(features), abs=1e-6)


# ------------------------------------------------------------------------------------------ the model


def test_features_are_the_code_the_relative_error_and_the_cosine(generator: torch.Generator) -> None:
    """The model keeps the first coordinate only: |x - x'| / |x| is the sine of the angle to the axis."""
    model, x = mixture_autoencoder(), torch.randn(9, 2, generator=generator)
    features = model.features(x).detach()
    angle = torch.atan2(x[:, 1], x[:, 0])
    assert features[:, 0] == pytest.approx(x[:, 0], abs=1e-6)
    assert features[:, 1] == pytest.approx(angle.sin().abs(), abs=1e-5)
    assert features[:, 2] == pytest.approx(angle.cos().abs(), abs=1e-5)
    assert model.reconstruction_error(x).detach() == pytest.approx(x[:, 1].square() / 2, abs=1e-6)
    memberships = model.memberships(features).detach()
    assert memberships.sum(dim=1) == pytest.approx(torch.ones(9))
    assert memberships == pytest.approx(model.estimator(features).softmax(dim=1).detach())


def test_a_black_image_has_finite_features_and_gradients() -> None:
    model = MixtureAutoencoder(nn.Linear(4, 2), nn.Linear(2, 4), nn.Linear(4, 2))
    features, error = model.features_and_error(torch.zeros(3, 4))
    assert features.isfinite().all()
    (features.log1p().sum() + error.sum()).backward()
    assert all(p.grad.isfinite().all() for p in [*model.encoder.parameters(), *model.decoder.parameters()])


# ---------------------------------------------------------------------------------------- the objective


def test_the_mixture_loss_is_the_weighted_sum_of_error_energy_and_penalty(generator: torch.Generator) -> None:
    model, x = mixture_autoencoder(seed=1).double(), torch.randn(30, 2, generator=generator, dtype=torch.float64)
    features = model.features(x)
    mixture = GaussianMixture.of(features, model.memberships(features))
    terms = model.reconstruction_error(x).mean(), mixture.energy(features).mean(), mixture.inverse_variances()
    for objective, weights in [(MixtureLikelihood(), (1, 0.1, 0.005)), (MixtureLikelihood(2.0, 3.0), (1, 2, 3))]:
        parts = objective(model, x)
        wanted = sum(w * float(t.detach()) for w, t in zip(weights, terms, strict=True))
        assert float(parts["loss"].detach()) == pytest.approx(wanted, rel=1e-12)
        assert [name for name, part in parts.items() if part.requires_grad] == ["loss"]
    named = zip(("error", "energy", "penalty"), terms, strict=True)
    assert all(float(parts[name]) == pytest.approx(float(term.detach())) for name, term in named)
    for name in ("energy_weight", "covariance_weight"):
        with pytest.raises(ValueError, match=f"MixtureLikelihood expects {name} >= 0, got -1"):
            replace(MixtureLikelihood(), **{name: -1.0})


def test_the_mixture_losss_gradient_agrees_with_finite_differences_in_all_three_networks(
    generator: torch.Generator,
) -> None:
    """The encoder's weights are included, on which the memberships depend through the features."""
    model, x = mixture_autoencoder(seed=1).double(), torch.randn(30, 2, generator=generator, dtype=torch.float64)
    objective, h = MixtureLikelihood(), 1e-5
    objective(model, x)["loss"].backward()
    for network in (model.encoder, model.decoder, model.estimator):
        weight = network[0].weight
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            weight += h * direction
            above = float(objective(model, x)["loss"])
            weight -= 2 * h * direction
            below = float(objective(model, x)["loss"])
            weight += h * direction
        assert float((weight.grad * direction).sum()) == pytest.approx((above - below) / (2 * h), rel=1e-5)


def test_every_weight_matrix_has_a_nonzero_gradient_of_the_mixture_loss(generator: torch.Generator) -> None:
    model, x = mixture_autoencoder(seed=1), torch.randn(30, 2, generator=generator)
    MixtureLikelihood()(model, x)["loss"].backward()
    assert all(float(p.grad.abs().max()) > 0 for p in model.parameters() if p.ndim > 1)


def test_codes_that_fall_onto_a_line_have_a_finite_loss(generator: torch.Generator) -> None:
    """Long trainings reach such codes, whose likelihood is bounded by the ridge alone."""
    model, x = mixture_autoencoder(seed=1), torch.randn(64, 2, generator=generator)
    model.encoder = nn.Linear(2, 3, bias=False)
    model.decoder, model.estimator = nn.Linear(3, 2), nn.Linear(5, 2)
    with torch.no_grad():
        model.encoder.weight.copy_(torch.tensor([[100.0, 0.0], [100.0, 1e-4], [50.0, 0.0]]))
    features = model.features(x).detach()
    in_float32 = GaussianMixture.of(features, model.memberships(features).detach())
    assert in_float32.factors.isnan().any()  # the law can see what it is for
    parts = MixtureLikelihood()(model, x)
    parts["loss"].backward()
    assert all(part.isfinite() for part in parts.values())
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_mixture_computes_in_float32_under_autocast(generator: torch.Generator) -> None:
    model, x = mixture_autoencoder(seed=1), torch.randn(64, 2, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = model.features(x)
        memberships = model.memberships(features)
        energy = GaussianMixture.of(features, memberships).energy(features).detach()
    assert features.dtype == memberships.dtype == energy.dtype == torch.float32
    exact = GaussianMixture.of(features.double(), memberships.double()).energy(features.double()).detach()
    assert energy == pytest.approx(exact.float(), abs=1e-2)  # float32 through covariances near singular


# ----------------------------------------------------------------------------------------- the detector


def test_scores_are_log_densities_under_the_mixture_of_the_training_data(generator: torch.Generator) -> None:
    model = mixture_autoencoder(seed=1)
    train, x = near_a_line(2300, generator), near_a_line(20, generator)  # in parts, when fitted
    detector = MixtureLogDensity(model, event_shape=(2,))
    with pytest.raises(NotFittedError, match="log_weights_, means_, factors_"):
        detector.score_samples(x)
    scores = detector.fit(train).score_samples(x)
    features = model.features(train).detach()
    mixture = GaussianMixture.of(features.double(), model.memberships(features).detach().double())
    wanted = reference(mixture).log_prob(model.features(x).detach().double())
    assert scores == pytest.approx(wanted.numpy(), rel=1e-6)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    other = detector.fit(train[:100]).score_samples(x)
    assert not np.allclose(scores, other)


def test_fitting_the_mixture_uses_the_model_in_eval_mode_as_scoring_does(generator: torch.Generator) -> None:
    """Dropout is off, no graph is kept, and the mode is restored."""
    model, train = mixture_autoencoder(seed=1), near_a_line(200, generator).requires_grad_()
    model.estimator = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2))
    model.train()
    first, second = (MixtureLogDensity(model).fit(train) for _ in range(2))
    for name in MixtureLogDensity.learned:
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert not getattr(first, name).requires_grad
    assert all(module.training for module in model.modules())


def test_training_data_without_a_finite_mixture_are_refused() -> None:
    holed = torch.full((5, 2), math.nan)
    with pytest.raises(
        FloatingPointError, match=r"MixtureLogDensity.fit: the mixture of the training data is not finite"
    ):
        MixtureLogDensity(mixture_autoencoder()).fit(holed)


def test_the_reconstruction_error_of_a_mixture_autoencoder_is_a_score(generator: torch.Generator) -> None:
    x = torch.randn(9, 2, generator=generator)
    assert Reconstruction(mixture_autoencoder()).score_samples(x) == pytest.approx(
        -(x[:, 1].square() / 2).numpy(), abs=1e-6
    )
