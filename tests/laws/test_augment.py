"""Laws of augmentation: exact shifts, mirrors and quarter turns; randomness of the generator alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from oodlab import data
from oodlab.data.augment import Augment, augmented_signed, moved

ROUNDING = 1e-12  # float64 coordinates of a 9-pixel image


def images(generator: torch.Generator, height: int = 9, width: int = 9) -> Tensor:
    return torch.randn(4, 2, height, width, generator=generator, dtype=torch.float64)


def move(x: Tensor, *, turn: float = 0.0, mirror: bool = False, right: int = 0, down: int = 0) -> Tensor:
    moves = torch.tensor([[right, down]], dtype=x.dtype).repeat(len(x), 1)
    return moved(x, torch.full((len(x),), turn, dtype=x.dtype), torch.full((len(x),), mirror), moves)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, 0), (0, -2), (-1, 4)])
def test_a_shift_equals_a_crop_of_the_reflection_padded_image(
    right: int, down: int, generator: torch.Generator
) -> None:
    x = images(generator, 9, 7)
    padded = F.pad(x, (4, 4, 4, 4), mode="reflect")
    wanted = padded[:, :, 4 - down : 13 - down, 4 - right : 11 - right]
    assert move(x, right=right, down=down) == pytest.approx(wanted, abs=ROUNDING)


def test_mirrors_and_quarter_turns_are_exact(generator: torch.Generator) -> None:
    x = images(generator)
    assert move(x, mirror=True) == pytest.approx(x.flip(3), abs=ROUNDING)
    assert move(x, turn=math.pi / 2) == pytest.approx(torch.rot90(x, 1, (2, 3)), abs=ROUNDING)
    wanted = torch.rot90(x, 1, (2, 3)).flip(3)  # turned first, then mirrored, then moved
    assert move(x, turn=math.pi / 2, mirror=True) == pytest.approx(wanted, abs=ROUNDING)
    assert move(x, turn=math.pi / 2, mirror=True, right=1)[..., 1:] == pytest.approx(wanted[..., :-1], abs=ROUNDING)


def test_a_rotation_of_a_non_square_image_is_a_rotation_in_pixels(generator: torch.Generator) -> None:
    """A small disc around the centre stays in place: angles are those of pixels, not of the image's sides."""
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(31.0), indexing="ij")
    disc = (-((rows - 4) ** 2 + (columns - 15) ** 2) / 4).exp()[None, None].double()
    middle = slice(12, 19)  # further out, the turned image shows the disc's reflection
    turned = move(disc, turn=0.7)
    assert turned[..., middle] == pytest.approx(disc[..., middle], abs=0.1)  # bilinear reading of a bump of width 1.4
    x = images(generator, 9, 31)
    assert move(x, turn=math.pi) == pytest.approx(x.flip(2, 3), abs=ROUNDING)


def test_every_image_of_a_batch_gets_its_own_random_augmentation(generator: torch.Generator) -> None:
    x = images(generator)[:1].repeat(600, 1, 1, 1)
    mirrored = Augment(flip=0.25)(x, generator)
    share = (mirrored - x.flip(3)).abs().amax((1, 2, 3)) < ROUNDING
    assert abs(float(share.double().mean()) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 600)  # five standard errors
    centred = torch.zeros(2000, 1, 9, 9, dtype=torch.float64)
    centred[:, :, 4, 4] = 1
    shifted = Augment(shift=2)(centred, generator)
    where = shifted.mean(dim=(0, 1))[2:7, 2:7]
    assert float(where.sum()) == pytest.approx(1, abs=ROUNDING)
    assert where == pytest.approx(torch.full((5, 5), 1 / 25), abs=5 * math.sqrt(1 / 25 / 2000))  # uniform over 25 moves
    turned = Augment(degrees=15.0)(x, generator)
    assert len(turned.flatten(1)[:, 0].unique()) == 600


def test_augmentation_noise_has_its_standard_deviation(generator: torch.Generator) -> None:
    x = images(generator).repeat(500, 1, 1, 1)
    noise = Augment(noise_std=0.3)(x, generator) - x
    assert float(noise.std()) == pytest.approx(0.3, abs=5 * 0.3 / math.sqrt(2 * noise.numel()))


def test_augment_without_arguments_returns_its_input_and_draws_only_from_the_generator(
    generator: torch.Generator,
) -> None:
    x = images(generator)
    assert Augment()(x, generator) is x
    augment, before = Augment(15.0, 0.5, 4, 0.1), torch.get_rng_state()
    first, again, other = (augment(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.dtype, first.shape) == (x.dtype, x.shape)
    assert torch.equal(torch.get_rng_state(), before)


def test_stored_images_are_scaled_before_noise_is_added() -> None:
    stored = torch.tensor([0, 255], dtype=torch.uint8).repeat_interleave(64).reshape(2, 1, 8, 8)
    assert torch.equal(augmented_signed(stored, augment=Augment()), data.scale_signed(stored))
    rotated = augmented_signed(stored, torch.Generator().manual_seed(0), augment=Augment(degrees=15.0, shift=4))
    assert rotated == pytest.approx(data.scale_signed(stored), abs=1e-5)  # constant images stay constant
