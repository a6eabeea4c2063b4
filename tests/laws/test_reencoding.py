"""Laws of the adversarial autoencoder: the gradient of each network, and the score."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from conftest import near_a_line, reencoding_autoencoder
from torch import Tensor, nn

from oodlab.detectors import Reencoding
from oodlab.models import ReencodingAutoencoder
from oodlab.objectives import AdversarialReencoding
from oodlab.training import Adam, Shuffled, fit

PLAYERS = {"autoencoder": ("encoder", "decoder", "reencoder"), "discriminator": ("discriminator",)}


@pytest.fixture
def model() -> ReencodingAutoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return reencoding_autoencoder().double()


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return torch.randn(12, 2, generator=generator, dtype=torch.float64)


def own(model: nn.Module, player: str) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if name.split(".")[0] in PLAYERS[player]}


def losses(model: ReencodingAutoencoder, x: Tensor, weights: tuple[float, float, float]) -> dict[str, Tensor]:
    """Return both players' losses as their formulas say."""
    z = model.encoder(x)
    made = model.decoder(z)
    f_data, f_made = (model.discriminator["features"](inputs) for inputs in (x, made))
    terms = (f_data - f_made).square().mean(), (x - made).abs().mean(), (z - model.reencoder(made)).square().mean()
    p_data, p_made = (model.discriminator["head"](f).sigmoid() for f in (f_data, f_made))
    return {
        "autoencoder": sum(w * term for w, term in zip(weights, terms, strict=True)),
        "discriminator": -(p_data.log().mean() + (1 - p_made).log().mean()) / 2,
    }


@pytest.mark.parametrize("weights", [(1.0, 50.0, 1.0), (3.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 5.0)])
def test_autoencoder_and_discriminator_get_the_gradient_of_their_own_loss_only(
    weights: tuple[float, float, float], model: ReencodingAutoencoder, x: Tensor
) -> None:
    parts = AdversarialReencoding(*weights)(model, x)
    for player in PLAYERS:
        parameters = own(model, player)
        separate = losses(model, x, weights)
        options = {"allow_unused": True, "materialize_grads": True}
        wanted = torch.autograd.grad(separate[player], parameters.values(), **options)
        got = torch.autograd.grad(parts["loss"], parameters.values(), retain_graph=True, **options)
        for name, ours, alone in zip(parameters, got, wanted, strict=True):
            assert float((ours - alone).abs().max()) < 1e-12, name
        assert max(float(g.abs().max()) for g in got) > 1e-4


def test_the_adversarial_loss_has_the_autoencoders_value_and_its_parts_are_the_terms(
    model: ReencodingAutoencoder, x: Tensor
) -> None:
    parts = AdversarialReencoding()(model, x)
    separate = losses(model, x, (1.0, 50.0, 1.0))
    assert float(parts["loss"].detach()) == pytest.approx(float(separate["autoencoder"].detach()), rel=1e-12)
    assert float(parts["discriminator"]) == pytest.approx(float(separate["discriminator"].detach()), rel=1e-12)
    total = parts["adversarial"] + 50 * parts["context"] + parts["codes"]
    assert float(parts["loss"].detach()) == pytest.approx(float(total), rel=1e-12)
    assert [name for name, part in parts.items() if part.requires_grad] == ["loss"]


def test_a_gradient_step_lowers_the_losses_of_autoencoder_and_discriminator(
    model: ReencodingAutoencoder, x: Tensor
) -> None:
    """Each loss falls by the squared norm of its gradient times the step, when only its network moves."""
    weights = (1.0, 50.0, 1.0)
    for player in PLAYERS:
        model.zero_grad()
        AdversarialReencoding()(model, x)["loss"].backward()
        before, step = losses(model, x, weights)[player].detach(), 1e-6
        squares = 0.0
        with torch.no_grad():
            for parameter in own(model, player).values():
                squares += float(parameter.grad.square().sum())
                parameter -= step * parameter.grad
        after = losses(model, x, weights)[player].detach()
        assert float(before - after) / step == pytest.approx(squares, rel=1e-2)


def test_a_discriminator_with_zero_logits_has_a_loss_of_log_two(model: ReencodingAutoencoder, x: Tensor) -> None:
    for parameter in model.discriminator["head"].parameters():
        parameter.data.zero_()
    assert float(AdversarialReencoding()(model, x)["discriminator"]) == pytest.approx(math.log(2), rel=1e-12)


def test_the_score_is_minus_the_distance_between_the_codes_of_input_and_reconstruction(
    model: ReencodingAutoencoder, x: Tensor
) -> None:
    z = model.encoder(x)
    by_hand = (z - model.reencoder(model.decoder(z))).abs().sum(dim=1).detach()
    assert Reencoding(model.float()).score_samples(x.float()) == pytest.approx(-by_hand.numpy(), rel=1e-4)


def test_autoencoder_and_discriminator_train_in_one_optimiser_with_their_own_learning_rates() -> None:
    torch.manual_seed(0)
    model = reencoding_autoencoder()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = near_a_line(200, torch.Generator().manual_seed(0))
    result = fit(
        model,
        AdversarialReencoding(),
        Shuffled(data, None, 50, 0),
        optimiser=Adam(lr=3e-3, lr_of={"discriminator": 0.0}),
        steps=150,
        device="cpu",
        show_progress=False,
    )
    assert all(torch.equal(p, before[name]) for name, p in own(model, "discriminator").items())
    assert all(not torch.equal(p, before[name]) for name, p in own(model, "autoencoder").items())
    first, last = result.history[0], result.history[-1]
    assert last["context"] < 0.5 * first["context"]


def test_negative_weights_of_the_adversarial_autoencoder_are_refused() -> None:
    for name in ("adversarial_weight", "context_weight", "encoder_weight"):
        with pytest.raises(ValueError, match=f"AdversarialReencoding expects {name} >= 0, got -1"):
            replace(AdversarialReencoding(), **{name: -1.0})
    with pytest.raises(ValueError, match="ReencodingAutoencoder expects features >= 1, got 0"):
        ReencodingAutoencoder(nn.Identity(), nn.Identity(), nn.Identity(), nn.Identity(), features=0)
