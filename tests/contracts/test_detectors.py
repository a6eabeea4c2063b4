"""The contract of every detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import near_a_line, smooth_nae
from torch import Tensor, nn

from oodlab.detectors import Detector, LogDensity, NotFittedError, Reconstruction
from oodlab.metrics import auroc
from oodlab.models import EnergyModel

Case = tuple[Detector, Tensor, Tensor]

# ---------------------------------------------------------------------- what every detector keeps


def test_scores_are_high_for_in_distribution_inputs(detector_and_inputs: Case) -> None:
    detector, inside, outside = detector_and_inputs
    scores = detector.score_samples(inside)
    assert scores.shape == (50,)
    assert scores.dtype == np.float64
    assert auroc(scores, detector.score_samples(outside)) > 0.99  # an easy pair


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_the_batch_size_of_scoring_does_not_change_the_scores(detector_and_inputs: Case, batch_size: int) -> None:
    detector, inside, outside = detector_and_inputs
    x = torch.cat([inside, outside])
    wanted = detector.score_samples(x)
    assert detector.score_samples(x, batch_size=batch_size) == pytest.approx(wanted, rel=1e-5)  # float32 sums
    assert detector.score_samples(x.flip(0)) == pytest.approx(wanted[::-1], rel=1e-5)


def test_scoring_restores_the_models_train_modes_and_requires_grad_flags(detector_and_inputs: Case) -> None:
    detector, inside, _ = detector_and_inputs
    detector.model.train()
    detector.score_samples(inside)
    with pytest.raises(FloatingPointError):
        detector.score_samples(inside * float("nan"))
    assert all(module.training for module in detector.model.modules())
    assert all(p.requires_grad and p.grad is None for p in detector.model.parameters())


def test_scoring_leaves_the_global_random_state_unchanged(detector_and_inputs: Case) -> None:
    detector, inside, _ = detector_and_inputs
    before = torch.get_rng_state()
    assert np.array_equal(detector.score_samples(inside), detector.score_samples(inside))
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_or_infinite_inputs_raise_an_error_with_their_number_and_place(detector_and_inputs: Case) -> None:
    detector, inside, _ = detector_and_inputs
    inside = inside.clone()
    inside[[3, 40]] = torch.tensor(float("nan"))
    inside[41, 0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"3 of 50 inputs are not finite, the first at index 3"):
        detector.score_samples(inside)


def test_score_samples_refuses_inputs_of_wrong_type_or_shape_and_wrong_batch_sizes(detector_and_inputs: Case) -> None:
    detector, inside, _ = detector_and_inputs
    for wrong, text in [
        (inside.to(torch.uint8), "floating-point tensor, got torch.uint8"),
        (inside.numpy(), "got ndarray"),
        (inside[:0], "N >= 1"),
        (inside.flatten(), "expects x of shape"),
        (inside[:, None].expand(-1, 5, *inside.shape[1:]), "expects x of shape"),
    ]:
        with pytest.raises(ValueError, match=text):
            detector.score_samples(wrong)
    with pytest.raises(ValueError, match="batch_size >= 1, got 0"):
        detector.score_samples(inside, batch_size=0)


# ------------------------------------------------------------------------------- the contract itself


class Spoilt(Detector):
    """Return what a careless detector might."""

    def __init__(self, result: Tensor) -> None:
        super().__init__(nn.Linear(1, 1))
        self.result = result

    def _score_batch(self, x: Tensor) -> Tensor:
        return self.result


def test_a_detector_with_scores_of_wrong_shape_or_not_finite_raises_an_error_with_its_name() -> None:
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match=r"Spoilt._score_batch expects to return shape \(2,\), got \(2, 1\)"):
        Spoilt(torch.zeros(2, 1)).score_samples(x)
    with pytest.raises(FloatingPointError, match="Spoilt: 1 of 2 scores are not finite, the first at index 1"):
        Spoilt(torch.tensor([0.0, float("inf")])).score_samples(x)


def test_dropout_is_off_while_scoring() -> None:
    class Noisy(EnergyModel):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 30), nn.Dropout(0.5), nn.Linear(30, 1))

        def energy(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 0]

    detector = LogDensity(Noisy().train())
    x = torch.ones(5, 2)
    assert np.array_equal(detector.score_samples(x), detector.score_samples(x))


def test_log_density_and_reconstruction_rank_inputs_of_a_normalized_autoencoder_alike(
    generator: torch.Generator,
) -> None:
    model = smooth_nae(3, temperature=0.2)
    x = torch.randn(50, 2, generator=generator)
    by_density, by_error = LogDensity(model).score_samples(x), Reconstruction(model).score_samples(x)
    assert by_density == pytest.approx(by_error / 0.2, rel=1e-5)


class Centred(Detector):
    """Minus the distance to the training mean: a detector that learns something."""

    learned = ("mean_",)

    def fit(self, x: Tensor, y: Tensor | None = None) -> Centred:
        self.mean_ = x.mean(dim=0)
        return self

    def _score_batch(self, x: Tensor) -> Tensor:
        return -(x - self.mean_).norm(dim=1)


def test_a_detector_with_a_fit_method_must_be_fitted_first_and_scores_by_its_last_fit(
    generator: torch.Generator,
) -> None:
    detector, x = Centred(smooth_nae(2)), near_a_line(9, generator)
    with pytest.raises(NotFittedError, match="mean_"):
        detector.score_samples(x)
    first = detector.fit(torch.zeros(5, 2)).score_samples(x)
    second = detector.fit(torch.ones(5, 2)).score_samples(x)
    assert (first != second).any()
