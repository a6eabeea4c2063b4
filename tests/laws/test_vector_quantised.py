"""Laws of the autoencoder with a codebook: nearest entries, and the gradients of encoder, decoder and codebook."""

from __future__ import annotations

import pytest
import torch
from conftest import vector_quantised
from torch import Tensor, nn

from oodlab.models import VectorQuantisedAutoencoder
from oodlab.models.autoencoders import error_per_dimension
from oodlab.objectives import VectorQuantisation


@pytest.fixture
def setting(generator: torch.Generator) -> tuple[VectorQuantisedAutoencoder, Tensor, Tensor]:
    """Return a model in float64, inputs, and what its encoder says of them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = vector_quantised().double()
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    return model, x, model.encoder(x).detach()


def gradient(model: nn.Module, loss: Tensor, name: str) -> Tensor:
    parameters = [p for key, p in model.named_parameters() if key.startswith(name)]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True, retain_graph=True)
    return torch.cat([g.flatten() for g in found])


@pytest.mark.parametrize("places", [(), (1, 1), (2, 3)])
def test_each_place_of_a_code_gets_the_codebook_entry_at_the_smallest_distance(
    places: tuple[int, ...], generator: torch.Generator
) -> None:
    model = VectorQuantisedAutoencoder(nn.Identity(), nn.Identity(), latent=4, codes=50)
    model.codebook.data = torch.randn(50, 4, generator=generator)
    z = torch.randn(6, 4, *places, generator=generator)
    entries = model.nearest(z).detach()
    assert entries.shape == z.shape
    for vector, entry in zip(z.movedim(1, -1).reshape(-1, 4), entries.movedim(1, -1).reshape(-1, 4), strict=True):
        wanted = min(model.codebook.detach(), key=lambda code: float((code - vector).square().sum()))
        assert torch.equal(entry, wanted)


def test_there_are_no_more_distinct_reconstructions_than_codebook_entries(
    setting: tuple[VectorQuantisedAutoencoder, Tensor, Tensor],
) -> None:
    model, x, _ = setting
    entries = model.encode(x).detach()
    assert 1 < len(entries.unique(dim=0)) <= len(model.codebook)
    assert model.reconstruction_error(x).detach() == pytest.approx(
        (x - model.decoder(entries)).square().mean(dim=1).detach()
    )


def test_the_errors_gradient_passes_straight_through_to_the_encoder(
    setting: tuple[VectorQuantisedAutoencoder, Tensor, Tensor],
) -> None:
    """The encoder gets the decoder's gradient at the entry, as if the encoder had output the entry."""
    model, x, z = setting
    entry = model.nearest(z).detach().requires_grad_()
    error = error_per_dimension(x, model.decoder(entry)).mean()
    (at_entry,) = torch.autograd.grad(error, entry)
    parts = VectorQuantisation(commitment=0.0)(model, x)
    wanted = gradient(model, (model.encoder(x) * at_entry).sum(), "encoder")
    assert gradient(model, parts["loss"], "encoder") == pytest.approx(wanted, abs=1e-12)
    assert float(wanted.abs().max()) > 1e-3
    decoders = gradient(model, error_per_dimension(x, model.decoder(entry.detach())).mean(), "decoder")
    assert gradient(model, parts["loss"], "decoder") == pytest.approx(decoders, abs=1e-12)
    assert float(parts["error"]) == pytest.approx(float(model.reconstruction_error(x).mean().detach()), rel=1e-12)


@pytest.mark.parametrize("commitment", [0.0, 0.25, 3.0])
def test_the_codebooks_gradient_is_that_of_its_own_term_and_vanishes_at_the_means(
    commitment: float, setting: tuple[VectorQuantisedAutoencoder, Tensor, Tensor]
) -> None:
    """Entry k gets 2 (n_k e_k - sum of its z) / (N D), zero at the mean of its z; an unused entry gets nothing."""
    model, x, z = setting
    entries = model.nearest(z).detach()
    wanted = torch.zeros_like(model.codebook)
    for k, code in enumerate(model.codebook.detach()):
        own = z[(entries == code).all(dim=1)]
        wanted[k] = 2 * (len(own) * code - own.sum(dim=0)) / z.numel()
    got = gradient(model, VectorQuantisation(commitment)(model, x)["loss"], "codebook")
    assert got == pytest.approx(wanted.flatten(), abs=1e-12)
    assert (wanted == 0).all(dim=1).any()  # an unused one is among them


def test_the_commitment_term_pulls_the_code_towards_its_codebook_entry(
    setting: tuple[VectorQuantisedAutoencoder, Tensor, Tensor],
) -> None:
    model, x, z = setting
    entries = model.nearest(z).detach()
    weak, strong = (gradient(model, VectorQuantisation(c)(model, x)["loss"], "encoder") for c in (0.0, 2.0))
    wanted = gradient(model, 2 * (model.encoder(x) - entries).square().mean(), "encoder")
    assert strong - weak == pytest.approx(wanted, abs=1e-12)


def test_the_vector_quantised_loss_is_the_error_plus_the_weighted_distance_to_the_entries(
    setting: tuple[VectorQuantisedAutoencoder, Tensor, Tensor],
) -> None:
    model, x, z = setting
    parts = VectorQuantisation()(model, x)
    distance = float((z - model.nearest(z)).square().mean().detach())
    assert float(parts["distance"]) == pytest.approx(distance)
    assert float(parts["loss"].detach()) == pytest.approx(float(parts["error"]) + 1.25 * distance)
    assert [name for name, part in parts.items() if part.requires_grad] == ["loss"]
    with pytest.raises(ValueError, match="VectorQuantisation expects commitment >= 0, got -1"):
        VectorQuantisation(-1.0)
    with pytest.raises(ValueError, match="VectorQuantisedAutoencoder expects codes >= 1, got 0"):
        VectorQuantisedAutoencoder(nn.Identity(), nn.Identity(), latent=1, codes=0)


def test_the_codebook_begins_near_zero_as_published() -> None:
    model = VectorQuantisedAutoencoder(nn.Identity(), nn.Identity(), latent=8)
    assert model.codebook.shape == (512, 8)
    assert float(model.codebook.detach().abs().max()) <= 1 / 512
    assert float(model.codebook.detach().std()) == pytest.approx(1 / 512 / 3**0.5, rel=0.1)
