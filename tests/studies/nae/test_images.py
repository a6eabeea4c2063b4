"""Recipes of nae's methods on images: printed and released, at every profile."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oodlab.objectives import Normalised, SquaredError
from oodlab.samplers import ClipElements, ClipRows
from oodlab.studies.nae.images import (
    COLOUR,
    FULL,
    GREY,
    METHODS,
    NORMALISING,
    SCORES,
    ImageScores,
    image_method,
    image_recipe,
    noisy_pixels,
    scale_of,
    shapes_at,
    unit_pixels,
)
from oodlab.study import Task
from oodlab.training import fit

SETS = {GREY: "mnist", COLOUR: "cifar10"}


def task(channels: int, profile: str = "full", held_out: tuple[int, ...] = ()) -> Task:
    name = SETS[channels]
    return Task(name, ("svhn",), held_out, shape=shapes_at(profile)[name], train="train-val", stand_in="digits")


def recipe(method: str, source: str = "printed", channels: int = GREY, held_out: tuple[int, ...] = ()):
    return image_recipe(method, task(channels, held_out=held_out), FULL[source, channels], source)


# ------------------------------------------------------------------------------- what the sources say


@pytest.mark.parametrize("channels", [GREY, COLOUR])
@pytest.mark.parametrize("method", ["AE", *NORMALISING])
def test_printed_recipes_have_the_encoder_penalty_and_noisy_pixels(method: str, channels: int) -> None:
    one = recipe(method, channels=channels)
    assert one.objective.encoder_l2 == 1e-4
    assert one.batches.transform is noisy_pixels
    assert getattr(one.objective, "penalise_data", False) is False


@pytest.mark.parametrize("method", ["AE", *NORMALISING])
def test_released_recipes_have_noisy_colour_images_and_the_encoder_penalty_on_grey_images(method: str) -> None:
    grey, colour = recipe(method, "released"), recipe(method, "released", COLOUR)
    assert (grey.batches.transform, colour.batches.transform) == (unit_pixels, noisy_pixels)
    assert (grey.objective.encoder_l2, colour.objective.encoder_l2) == (1e-4, 0.0)
    assert colour.model.halves.residual and not grey.model.halves.residual
    if method in ("NAE-CD", "NAE-PCD"):
        assert grey.objective.penalise_data and colour.objective.penalise_data


def test_chains_have_the_printed_numbers_and_the_released_clipping_and_noise() -> None:
    for channels, latent, noise, steps, visible in ((GREY, 0.2, 0.05, 10, 50), (COLOUR, 1.0, 0.02, 20, 40)):
        negatives = recipe("NAE-OMI", channels=channels).objective.negatives
        chain = negatives.latent_chain
        assert (chain.step_size, chain.noise_std, chain.steps) == (latent, noise, steps)
        assert (negatives.chain.step_size, negatives.chain.steps) == (10.0, visible)
        assert [negatives.chain.noise_std(t) for t in (0, 1, 3)] == [noise, noise / 2, noise / 4]
        assert negatives.chain.clip == ClipElements(0.01)
    assert recipe("NAE-OMI", "released").objective.negatives.chain.clip == ClipRows(0.01)
    delayed = recipe("NAE-OMI", "released").objective.negatives.chain.noise_std
    assert [delayed(t) for t in (0, 1, 2)] == [0.05, 0.05, 0.025]


def test_lengths_of_trainings_are_the_printed_epochs() -> None:
    """54,000 images in batches of 128 are 422 updates, nine tenths of them 380."""
    assert recipe("AE").steps == 100 * 422
    assert recipe("NAE-OMI").steps == 50 * 422
    assert recipe("NAE-OMI", held_out=(9,)).steps == 50 * 380
    assert recipe("AE", channels=COLOUR).steps == 120 * 352
    assert recipe("NAE-OMI", "released", COLOUR).steps == 10 * 352


# --------------------------------------------------------------------------------------- what is shared


def test_normalising_methods_begin_with_one_shared_training_of_the_plain_autoencoder() -> None:
    plain = recipe("AE", held_out=(9,))
    for method in NORMALISING:
        one = recipe(method, held_out=(9,))
        assert one.begins_with == "AE" and one.needs["AE"].key == plain.key
        assert one.optimiser.lr_of == {"log_temperature": 0.0}


def test_an_additional_outside_set_changes_no_key_of_a_training() -> None:
    one = task(GREY, held_out=(9,))
    more = replace(one, outside=("omniglot", "svhn"))
    made = [image_recipe("NAE-OMI", each, FULL["printed", GREY], "printed").key for each in (one, more)]
    assert made[0] == made[1]


@pytest.mark.parametrize("channels", [GREY, COLOUR])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_has_scores(method: str, channels: int) -> None:
    one = image_recipe(method, task(channels, "smoke"), scale_of("smoke", "printed", channels), "printed")
    torch.manual_seed(0)
    model = one.build({})
    x = torch.rand(16, *task(channels, "smoke").shape)
    result = fit(model, one.begin(model, {}), lambda step, generator: {"x": x}, optimiser=one.optimiser, steps=1)
    scores = ImageScores(method)({"model": result.model})
    assert set(scores) == set(SCORES.get(method, {method: None}))
    for detector in scores.values():
        assert len(detector.fit(x).score_samples(x)) == 16


def test_pixel_noise_stays_within_the_bin_of_a_stored_pixel_value() -> None:
    stored = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    noisy = noisy_pixels(stored, torch.Generator().manual_seed(0))
    assert torch.equal((256 * noisy).floor().to(torch.uint8), stored)
    assert not torch.equal(noisy, noisy_pixels(stored, torch.Generator().manual_seed(1)))


def test_all_profiles_keep_the_objectives_of_the_methods() -> None:
    """Small profiles have smaller networks and fewer steps; what differs are sizes, lengths and rates."""
    for profile in ("smoke", "quick", "long"):
        made = image_method("NAE-OMI", profile, "printed").trainings(task(GREY, profile, (9,)))
        objective, whole = made["model"].objective, recipe("NAE-OMI").objective
        assert isinstance(objective, Normalised) and isinstance(made["AE"].objective, SquaredError)
        assert replace(objective, negatives=whole.negatives) == whole
        assert made["model"].snapshots >= 3
