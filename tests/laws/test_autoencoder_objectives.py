"""Laws of the autoencoder family's losses: denoising, penalties, and the VAE of images."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from conftest import (
    conv28,
    conv_vae,
    mixture_autoencoder,
    reencoding_autoencoder,
    smooth_nae,
    vector_quantised,
)
from torch import Tensor, nn

from oodlab.detectors import LogDensity, Reconstruction
from oodlab.models import (
    Autoencoder,
    SmallDecoder,
    SmallEncoder,
    VariationalAutoencoder,
    linear_autoencoder,
)
from oodlab.objectives import (
    AdversarialReencoding,
    MixtureLikelihood,
    Negatives,
    NormalizedLikelihood,
    VectorQuantisation,
    WassersteinMMD,
    denoising,
    kl_to_standard_normal,
    negative_elbo,
    reconstruction,
)


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return dict(zip(names, found, strict=True))


def number(value: Tensor) -> float:
    return float(value.detach())


# ---------------------------------------------------------------------------------------- denoising


def test_denoising_without_noise_is_reconstruction(generator: torch.Generator) -> None:
    model, x = conv28(), torch.rand(4, 1, 28, 28, generator=generator)
    plain, noiseless = (f(model, x)["loss"] for f in (reconstruction, lambda *a: denoising(*a, noise_std=0.0)))
    assert torch.equal(plain, noiseless)
    wanted, got = gradients(plain, model), gradients(noiseless, model)
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


@pytest.mark.parametrize("noise_std", [0.3, 1.0])
def test_denoising_adds_a_ridge_penalty_to_the_loss_of_a_linear_autoencoder(
    noise_std: float, generator: torch.Generator
) -> None:
    """For x^ = A (x + std xi) the expected loss is |x - A x|^2 / D + std^2 |A|^2 / D, whose last term is the penalty."""
    weight = 0.7 * torch.randn(2, 3, generator=generator, dtype=torch.float64)
    model, n = linear_autoencoder(weight), 100_000
    x = torch.randn(1, 3, generator=generator, dtype=torch.float64).repeat(n, 1)
    gain = weight.T @ weight
    wanted = number(model.reconstruction_error(x[:1])) + noise_std**2 * float(gain.square().sum()) / 3
    # each error is a quadratic in Gaussians of mean `wanted` at most: its std is below sqrt(2) times that
    assert number(denoising(model, x, noise_std=noise_std, generator=generator)["loss"]) == pytest.approx(
        wanted, abs=5 * math.sqrt(2 / n) * wanted
    )


def test_denoising_draws_from_its_generator_alone_and_has_the_papers_noise(generator: torch.Generator) -> None:
    model, x = smooth_nae(3), torch.randn(9, 2, generator=generator)
    before = torch.get_rng_state()
    losses = [number(denoising(model, x, generator=torch.Generator().manual_seed(s))["loss"]) for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.get_rng_state(), before)
    xi = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    by_hand = (x - model.decode(model.encode(x + 0.3 * xi))).square().mean()
    assert losses[0] == pytest.approx(number(by_hand), rel=1e-6)
    with pytest.raises(ValueError, match=r"denoising expects noise_std >= 0, got -1\."):
        denoising(model, x, noise_std=-1.0)


# ---------------------------------------------------------------------------------------- penalties


class Given(nn.Module):
    """Negatives that were drawn before."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, model: nn.Module, x: Tensor, **run: object) -> Negatives:
        return Negatives(self.x, start=self.x)


@pytest.mark.parametrize("name", ["reconstruction", "likelihood"])
def test_the_encoder_l2_penalty_is_added_with_its_weight_and_has_gradients_in_the_encoder_only(
    name: str, generator: torch.Generator
) -> None:
    model = smooth_nae(3).double()
    x, negatives = torch.randn(2, 8, 2, generator=generator, dtype=torch.float64)

    def loss(weight: float) -> Tensor:
        if name == "reconstruction":
            return reconstruction(model, x, encoder_l2=weight)["loss"]
        return NormalizedLikelihood(Given(negatives), encoder_l2=weight)(model, x)["loss"]

    squares = sum(float(p.detach().square().sum()) for p in model.encoder.parameters())  # biases too
    assert number(loss(0.5) - loss(0.0)) == pytest.approx(0.5 * squares, rel=1e-12)
    without, with_it = gradients(loss(0.0), model), gradients(loss(0.5), model)
    for key, parameter in model.named_parameters():
        pull = parameter.detach() if key.startswith("encoder.") else 0 * parameter.detach()
        assert float((with_it[key] - without[key] - pull).abs().max()) < 1e-12
    for wrong in (-1e-4, math.nan):
        with pytest.raises(ValueError, match="encoder_l2"):
            loss(wrong)


def test_the_reported_reconstruction_error_excludes_the_encoder_penalty(generator: torch.Generator) -> None:
    model, x = smooth_nae(3), torch.randn(8, 2, generator=generator)
    parts = reconstruction(model, x, encoder_l2=1.0)
    assert number(parts["error"]) == pytest.approx(number(model.reconstruction_error(x).mean()), rel=1e-6)
    assert not parts["error"].requires_grad


def test_the_released_energy_penalty_is_on_energies_of_data_and_negatives(generator: torch.Generator) -> None:
    """The released code has gamma (E+^2 + E-^2) instead of gamma E-^2."""
    model = smooth_nae(3).double()
    x, negatives = torch.randn(2, 8, 2, generator=generator, dtype=torch.float64)
    printed, released = (
        NormalizedLikelihood(Given(negatives), energy_penalty=2.0, penalise_data=p)(model, x)["loss"]
        for p in (False, True)
    )
    assert number(released - printed) == pytest.approx(2 * number(model.reconstruction_error(x).square().mean()))
    off = NormalizedLikelihood(Given(negatives), energy_penalty=0.0, penalise_data=True)(model, x)["loss"]
    assert number(off) == number(NormalizedLikelihood(Given(negatives), energy_penalty=0.0)(model, x)["loss"])


# ---------------------------------------------------------------------------------- a VAE of images


def as_vectors(model: VariationalAutoencoder) -> VariationalAutoencoder:
    """Return the same network of flattened images, with codes (B, latent)."""
    encoder = nn.Sequential(nn.Unflatten(1, (1, 14, 14)), model.encoder, nn.Flatten())
    decoder = nn.Sequential(nn.Unflatten(1, (model.latent, 1, 1)), model.decoder, nn.Flatten())
    flat = VariationalAutoencoder(encoder, decoder, latent=model.latent, samples=model.samples).double()
    flat.log_std.data.copy_(model.log_std.data)
    return flat


def test_a_vae_of_images_has_the_densities_of_a_vae_of_their_flattened_pixels(generator: torch.Generator) -> None:
    model = conv_vae().double()
    flat = as_vectors(model)
    x = torch.rand(4, 1, 14, 14, generator=generator, dtype=torch.float64)
    pixels = x.flatten(1)
    assert model.encode(x).shape == (4, 3, 1, 1)
    assert model.decode(model.encode(x)).shape == x.shape
    for ours, theirs in [
        (model.log_prob(x), flat.log_prob(pixels)),
        (model.reconstruction_error(x), flat.reconstruction_error(pixels)),
        (model.log_likelihood(x, model.encode(x)), flat.log_likelihood(pixels, flat.encode(pixels))),
    ]:
        assert ours.shape == (4,)
        assert ours.detach() == pytest.approx(theirs.detach(), rel=1e-12)
    assert kl_to_standard_normal(*model.posterior(x)).shape == (4,)
    elbos = [
        negative_elbo(m, data, generator=torch.Generator().manual_seed(1)) for m, data in ((model, x), (flat, pixels))
    ]
    for part in ("loss", "misfit", "kl"):
        assert number(elbos[0][part]) == pytest.approx(number(elbos[1][part]), rel=1e-12)
    drawn = [m.sample(5, generator=torch.Generator().manual_seed(2)) for m in (model.float(), flat.float())]
    assert drawn[0].shape == (5, 1, 14, 14)
    assert drawn[0].flatten(1) == pytest.approx(drawn[1], abs=1e-6)


def test_the_vaes_two_scores_are_its_error_at_the_posterior_mean_and_its_marginal(generator: torch.Generator) -> None:
    model, x = conv_vae(), torch.rand(4, 1, 14, 14, generator=generator)
    mean, _ = model.posterior(x)
    by_hand = (x - model.decoder(mean)).square().mean(dim=(1, 2, 3))
    assert Reconstruction(model).score_samples(x) == pytest.approx(-by_hand.detach().numpy(), rel=1e-5)
    assert LogDensity(model).score_samples(x) == pytest.approx(model.log_prob(x).detach().numpy(), rel=1e-5)


def test_a_code_shape_whose_sizes_do_not_multiply_to_latent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"code_shape whose sizes multiply to latent = 3, got \(6, 1, 1\)"):
        VariationalAutoencoder(SmallEncoder(6), SmallDecoder(3), latent=3, code_shape=(6, 1, 1))


def test_a_vae_and_a_plain_autoencoder_differ_only_in_the_encoders_last_layer() -> None:
    """The encoder of a VAE has twice the code's channels in its last layer; nothing else differs."""
    plain = Autoencoder(SmallEncoder(3, width=2), SmallDecoder(3, width=2), latent=3)
    vae = conv_vae()
    shapes = [{name: tuple(p.shape) for name, p in m.named_parameters()} for m in (plain, vae)]
    differ = {name for name in shapes[0].keys() & shapes[1].keys() if shapes[0][name] != shapes[1][name]}
    assert differ == {"encoder.7.weight", "encoder.7.bias"}


# ------------------------------------------------------------------------------ means over inputs or not


@pytest.mark.parametrize(
    ("build", "objective"),
    [
        (lambda: smooth_nae(3), reconstruction),
        (vector_quantised, VectorQuantisation()),
        (reencoding_autoencoder, AdversarialReencoding()),
        (lambda: smooth_nae(3), WassersteinMMD(0.1)),
        (lambda: mixture_autoencoder(seed=1), MixtureLikelihood()),
    ],
    ids=["reconstruction", "codebook", "adversarial", "WAE", "mixture"],
)
def test_an_objective_states_whether_its_loss_is_a_mean_over_inputs(
    build: Callable[[], nn.Module], objective: Callable[..., dict[str, Tensor]], generator: torch.Generator
) -> None:
    """If slices of a batch do not have the batch's loss on average, training on several processes is refused."""
    model, x = build().double(), torch.randn(40, 2, generator=generator, dtype=torch.float64)
    whole, *halves = (
        number(objective(model, part, generator=torch.Generator().manual_seed(0))["loss"])
        for part in (x, x[:20], x[20:])
    )
    is_mean = abs(sum(halves) / 2 - whole) < 1e-12
    assert is_mean != getattr(objective, "couples_batch", False)
