"""Samples of a normalized autoencoder, their measures, and chains advanced by hand; on the embedded digits."""

from __future__ import annotations

import math
import urllib.error
from typing import Any

import numpy as np
import pytest
import torch
from test_stepping import run
from torch import Tensor, nn

from oodlab import data, metrics, plotting, training, widgets
from oodlab.models import Autoencoder, inception_features
from oodlab.plotting.sets import HELD_OUT, KNOWN
from oodlab.samplers import Annealed, Box, ClipElements, LangevinChain, Sphere
from oodlab.studies.nae import images
from oodlab.studies.nae.eight_gaussians.panel import eight_gaussians_panel
from oodlab.studies.nae.holdout_digits.setting import STUDY as HOLDOUT_DIGITS
from oodlab.studies.nae.images import digits_task, unit_pixels
from oodlab.studies.nae.ood_detection.setting import STUDY as OOD_DETECTION
from oodlab.studies.nae.samples import chains as sample_chains
from oodlab.studies.nae.samples import compared
from oodlab.studies.nae.samples.chains import FreshChains, OnManifoldSamples
from oodlab.studies.nae.samples.compared import SampleNumbers, features, likeness, nearest_images, way
from oodlab.studies.nae.samples.panel import samples_panel
from oodlab.studies.nae.samples.setting import CLAIMS, STUDY, numbers_at, printed, table_of
from oodlab.studies.nae.shipped import quick_recipe
from oodlab.study import Measured, decide

LATENT = LangevinChain(steps=3, step_size=0.2, noise_std=0.05, bounds=Sphere())
WITHIN = Box(0.45, 0.55)  # so narrow that every decoded code leaves it
VISIBLE = LangevinChain(steps=4, step_size=5.0, noise_std=Annealed(0.05), clip=ClipElements(0.01), bounds=Box(0.0, 1.0))


def small_model(seed: int = 0) -> Autoencoder:
    """Return an autoencoder of 1 x 4 x 4 images with codes (3, 1, 1) on the sphere, which differ from image to image."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Tanh())
    decoder = nn.Sequential(nn.ConvTranspose2d(3, 1, 4), nn.Sigmoid())
    for layer in (encoder[0], decoder[0]):
        nn.init.normal_(layer.weight, std=1.0)
    return Autoencoder(encoder, decoder, latent=3, sphere=True).eval()


def draw(model: Autoencoder, n: int = 6, **changes: Any) -> OnManifoldSamples:
    given = {"latent_chain": LATENT, "chain": VISIBLE, "start_bounds": Box(0.0, 1.0), "seed": 0, **changes}
    followed = given.pop("followed", n)
    return FreshChains(**given)(model, n, followed=followed)


# --------------------------------------------------------------------------------- the Fréchet distance


def with_moments(mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    """Return 200 points whose sample mean and covariance are exactly these."""
    x = np.random.default_rng(seed).normal(size=(200, len(mean)))
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_the_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    """In the plane tr (A B)^(1/2) = (tr AB + 2 (det AB)^(1/2))^(1/2), also where A and B do not commute."""
    a, b = np.array([[2.0, 0.7], [0.7, 0.5]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    shift = np.array([1.5, -2.0])
    product = a @ b
    shared = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    wanted = shift @ shift + np.trace(a) + np.trace(b) - 2 * shared
    x, y = with_moments(np.zeros(2), a, 0), with_moments(shift, b, 1)
    assert metrics.frechet_distance(x, y) == pytest.approx(wanted) == pytest.approx(metrics.frechet_distance(y, x))
    turned = np.linalg.qr(np.random.default_rng(2).normal(size=(2, 2)))[0]
    assert metrics.frechet_distance(x @ turned, y @ turned) == pytest.approx(wanted)


def test_the_frechet_distance_is_zero_for_equal_sets_and_the_squared_shift_for_shifted_ones() -> None:
    x = np.random.default_rng(0).normal(size=(50, 80))  # fewer points than dimensions: no covariance of full rank
    assert metrics.frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-5)  # roots of eigenvalues that rounding left
    assert metrics.frechet_distance(x, x + 3) == pytest.approx(9 * 80)
    assert metrics.frechet_distance(x[:, :1], 2 * x[:, :1]) == pytest.approx(
        x[:, 0].var(ddof=1) + x[:, 0].mean() ** 2
    )  # of standard deviations s and 2 s
    assert metrics.frechet_distance(torch.tensor(x), x) == pytest.approx(0, abs=1e-5)


def test_features_that_have_no_frechet_distance_are_refused() -> None:
    x = np.zeros((3, 2))
    for a, b in ((x, np.zeros((3, 4))), (x, x[:1]), (x[0], x)):
        with pytest.raises(ValueError, match=r"frechet_distance expects features \(N, D\) and \(M, D\)"):
            metrics.frechet_distance(a, b)
    with pytest.raises(FloatingPointError, match="1 features are not finite"):
        metrics.frechet_distance(x, np.array([[0.0, 1.0], [math.nan, 0.0]]))


# ------------------------------------------------------------------------------------ samples and the way


def test_recorded_energies_are_those_of_the_samples() -> None:
    model = small_model()
    of = draw(model, followed=4)
    assert of.first.shape == of.start.shape == of.x.shape == (6, 1, 4, 4)
    assert (of.latent_energies.shape, of.visible_energies.shape) == ((4, 4), (5, 4))
    with torch.no_grad():
        for energies, images in (
            (of.latent_energies[0], of.first),
            (of.latent_energies[-1], of.start),
            (of.visible_energies[0], of.start),
            (of.visible_energies[-1], of.x),
        ):
            assert torch.allclose(energies, model.energy(images[:4]))
    assert of.x.min() >= 0 and of.x.max() <= 1
    assert not torch.equal(of.first, of.start) and not torch.equal(of.start, of.x)
    assert not of.x.requires_grad and draw(model, followed=0).visible_energies.numel() == 0


def test_equal_seeds_begin_with_equal_codes_for_any_chains() -> None:
    model = small_model()
    one, longer, other = draw(model), draw(model, latent_chain=LATENT.part(0, 9)), draw(model, seed=1)
    assert torch.equal(one.first, longer.first) and not torch.equal(one.start, longer.start)
    assert not torch.equal(one.first, other.first)
    assert torch.equal(one.x, draw(model).x)
    still = draw(model, latent_chain=LATENT.part(0, 0))
    assert torch.equal(still.start, still.first)
    clamped = draw(model, start_bounds=Box(0.4, 0.6))
    assert clamped.start.min() == pytest.approx(0.4) and clamped.start.max() == pytest.approx(0.6)


def test_fresh_codes_cover_the_sphere_and_many_samples_are_drawn_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    codes = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda z: codes.append(z) or decode(z))
    monkeypatch.setattr(sample_chains, "BATCH", 100)
    of = draw(model, n=250, followed=7, latent_chain=LATENT.part(0, 0))
    assert [len(of.x), of.latent_energies.shape[1]] == [250, 7]
    assert max(map(len, codes)) == 100
    drawn = [z for z in codes if len(z) in (100, 50)][:1] + [z for z in codes if len(z) == 50][:1]
    for z in drawn:
        assert z.norm(dim=1).flatten().tolist() == pytest.approx([1.0] * len(z))
    assert torch.cat(drawn).mean(dim=0).norm() < 0.3
    assert len(of.first.flatten(1).unique(dim=0)) == 250


# ---------------------------------------------------------------------------------------- the setting


@pytest.mark.parametrize(("source", "longer"), [("printed", 8), ("released", 20)])
@pytest.mark.parametrize("profile", ["quick", "long", "full"])
def test_samples_without_replay_have_the_chains_of_the_training_and_longer_latent_ones(
    profile: str, source: str, longer: int
) -> None:
    study = STUDY.at(profile, source=source)
    measure = numbers_at(study)
    for (_, method, role), recipe in study.recipes.items():
        if (method, role) == ("NAE-OMI", "model"):
            assert measure.chains == FreshChains.of(recipe.objective.negatives)
            long = FreshChains.of(recipe.objective.negatives, longer=longer)
            assert long.latent_chain.steps == measure.longer * measure.chains.latent_chain.steps
    assert ("inception" in measure.spaces) == (profile == "full")


@pytest.mark.parametrize("source", ["printed", "released"])
@pytest.mark.parametrize("profile", ["quick", "long", "full"])
def test_the_trainings_of_samples_are_those_of_holdout_digits_and_ood_detection(profile: str, source: str) -> None:
    """The training without 9 is that of holdout_digits, those on all digits are of ood_detection; samples adds none."""
    own = {place: recipe.key for place, recipe in STUDY.at(profile, source=source).recipes.items()}
    others = {
        place: recipe.key
        for study in (HOLDOUT_DIGITS, OOD_DETECTION)
        for place, recipe in study.at(profile, source=source).recipes.items()
    }
    assert own.items() <= others.items() and len(own) == 6


def test_only_the_final_training_without_9_has_a_printed_number() -> None:
    row = {"in_set": "mnist without 9", "out_set": "held out", "score": "NAE-OMI", "last": True}
    assert metrics.find_reported("nae", **printed(row))[0].value == 0.934
    assert printed({**row, "last": False}) is None and printed({**row, "in_set": "mnist"}) is None


# -------------------------------------------------------------------------- what samples are compared by


def test_the_nearest_training_image_is_found_with_its_distance() -> None:
    among = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    x = among[[7, 3]] + torch.tensor([0.0, 0.1])[:, None, None, None]
    far, index = nearest_images(x, among)
    assert index.tolist() == [7, 3]
    assert far.tolist() == pytest.approx([0.0, 0.01], abs=1e-7)
    others = torch.rand(30, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    all_pairs = (others[:, None] - among[None]).square().mean(dim=(2, 3, 4))
    assert torch.allclose(nearest_images(others, among)[0], all_pairs.min(dim=1).values)


def test_likeness_measures_energies_spread_of_codes_and_number_of_classes() -> None:
    model = small_model()
    among, labels = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1, 2, 2])
    same = likeness(model, among[[4]].repeat(5, 1, 1, 1), among, labels)
    assert (same.classes, same.spread) == (1, pytest.approx(0, abs=1e-12)) and same.far.tolist() == [0.0] * 5
    every = likeness(model, among, among, labels)
    with torch.no_grad():
        codes = model.encode(among).flatten(1)
        assert torch.allclose(torch.tensor(every.energies), model.energy(among))
    assert every.spread == pytest.approx(1 - float(codes.mean(dim=0).square().sum()), abs=1e-6)  # codes of norm 1
    assert every.classes == 3


def test_the_figures_stages_of_samples_end_beside_the_nearest_training_images() -> None:
    drawn = draw(small_model())
    among = torch.cat([torch.ones(1, 1, 4, 4), drawn.x.flip(0)])
    rows = way(drawn, among, 5)
    assert [x.shape for x in rows.values()] == [(5, 4, 4)] * 4
    first, _, sample, nearest = rows.values()
    assert np.array_equal(sample, nearest) and np.array_equal(first, drawn.first[:5, 0])


def given_model(model: Autoencoder, train: Tensor, test: Tensor, seed: int = 0) -> Measured:
    task = digits_task(profile="smoke")
    labels = torch.arange(len(train)) % 2
    return Measured(task, {"model": model}, {}, train, test, unit_pixels, seed, torch.device("cpu"), labels=labels)


NUMBERS = SampleNumbers(FreshChains(LATENT, VISIBLE, Box(0.0, 1.0)), longer=2, n=30, followed=20, spaces=("pixels",))


def test_numbers_of_samples_are_those_of_short_and_long_chains_from_equal_codes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compared, "POOLED", 2)
    model = small_model()
    train, test = (torch.randint(256, (40, 1, 4, 4), dtype=torch.uint8) for _ in range(2))
    found = NUMBERS(given_model(model, train, test, seed=3))
    short = draw(model, 30, seed=3, followed=20)
    long = draw(model, 30, seed=3, followed=20, latent_chain=LATENT.part(0, 6))
    energies = {
        "fresh codes": short.first,
        "start, short": short.start,
        "sample, short": short.x,
        "sample, long": long.x,
    }
    with torch.no_grad():
        for name, x in {**energies, "test digits": unit_pixels(test)}.items():
            energy = model.energy(x[:20])
            assert found[f"{name}: energy"] == pytest.approx(float(energy.mean()), rel=1e-4), name
            assert found[f"{name}: energy, median"] == pytest.approx(float(np.median(energy)), rel=1e-4)
    lower = (long.latent_energies[-1] < short.latent_energies[-1]).float().mean()
    assert found["long chains: end lower"] == pytest.approx(float(lower))
    known = unit_pixels(train)
    distance = metrics.frechet_distance(compared.pooled_pixels(long.x), compared.pooled_pixels(known))
    assert found["sample, long: Fréchet distance, pixels"] == pytest.approx(distance)
    assert found["test digits: near copies"] == 0.05, "of 20 test digits one is nearer than 95 % of them"
    copies = NUMBERS(given_model(model, unit_uint8(long.x), test, seed=3))
    assert copies["sample, long: near copies"] == 1.0 and copies["test digits: near copies"] == 0.05


def unit_uint8(x: Tensor) -> Tensor:
    return (255 * x).round().to(torch.uint8)


def test_features_of_training_images_are_computed_once_for_all_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the paper's size the network reads 54,000 images of a task once and not for each row of the table."""
    seen: list[int] = []

    def counted(space: str, x: Tensor, device: torch.device) -> Tensor:
        seen.append(len(x))
        return x.flatten(1)

    monkeypatch.setattr(compared, "features", counted)
    train, test = (torch.randint(256, (n, 1, 4, 4), dtype=torch.uint8) for n in (40, 35))
    for seed in (0, 1):
        NUMBERS(given_model(small_model(seed), train, test, seed))
    assert seen.count(40) == 1 and seen.count(30) == 2 * 6, "and every set of samples or test digits once"


# -------------------------------------------------------------------------------------------------- the claims


def made_numbers(**changes: float) -> Any:
    """Return numbers that hold every claim, with changes, as the notebook has them."""
    import pandas as pd

    good = {
        "sample, long: energy, median": 2.0,
        "test digits: energy, 10 %": 1.0,
        "test digits: energy, 90 %": 2.5,
        "long chains: end lower": 0.7,
        "sample, long: near copies": 0.02,
        "sample, long: spread of codes": 0.95,
        "test digits: spread of codes": 1.0,
        "sample, long: classes": 10,
        "test digits: classes": 10,
        "sample, long: Fréchet distance, pixels": 3.0,
    }
    both = {"NAE-OMI": {**good, **changes}, "AE": {"sample, long: Fréchet distance, pixels": 3.5}}
    rows = [(method, name, value) for method, numbers in both.items() for name, value in numbers.items()]
    return pd.DataFrame(rows, columns=["method", "quantity", "value"]).assign(seed=0, in_set="mnist", profile="quick")


def test_claims_about_samples_have_the_thresholds_stated_in_their_texts() -> None:
    numbers = [decide(claim, made_numbers()).numbers.item() for claim in CLAIMS]
    assert numbers == pytest.approx([0.5, 0.1, 0.08, 0.05, 0.5, 0.5])
    bad = {
        "sample, long: energy, median": 0.9,
        "long chains: end lower": 0.6,
        "sample, long: near copies": 0.1,
        "sample, long: spread of codes": 0.9,
        "sample, long: classes": 9,
        "sample, long: Fréchet distance, pixels": 3.5,
    }
    for claim, (name, value) in zip(CLAIMS, bad.items(), strict=True):
        words = {one.sentence: decide(one, made_numbers(**{name: value})).word for one in CLAIMS}
        assert words.pop(claim.sentence) == "Not reproduced" and set(words.values()) == {"Partly"}


def test_numbers_of_samples_become_a_table_with_a_line_per_kind_of_images() -> None:
    table = table_of(made_numbers())
    assert table.loc[(0, "mnist", "NAE-OMI", "sample, long"), "classes"] == 10
    assert table.loc[(0, "mnist", "NAE-OMI", "test digits"), "energy, 90 %"] == 2.5
    assert list(table.columns)[:2] == ["energy, median", "energy, 10 %"]


def test_pooled_pixels_are_means_of_squares_of_pixels() -> None:
    x = torch.rand(3, 1, 14, 14)
    pooled = features("pixels", x, torch.device("cpu"))
    assert pooled.shape == (3, 49)
    assert pooled[1, 8] == pytest.approx(float(x[1, 0, 2:4, 2:4].mean()))
    with pytest.raises(ValueError, match="got 'inceptoin': did you mean 'inception'"):
        features("inceptoin", x, torch.device("cpu"))


def test_an_error_of_missing_inception_weights_says_how_to_get_the_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    def no_network(*arguments: object, **given: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(
        FileNotFoundError, match=r"inception_features expects the weights of Inception-v3 in .*\.pth"
    ) as told:
        inception_features()
    assert str(tmp_path) in str(told.value) and "curl --create-dirs" in str(told.value)


def test_inception_gives_2048_features_and_takes_grey_as_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import Inception_V3_Weights, inception_v3

    torch.manual_seed(0)
    state = inception_v3(weights=None, init_weights=False).state_dict()
    monkeypatch.setattr(Inception_V3_Weights, "get_state_dict", lambda *arguments, **given: state)
    features, grey = inception_features(), torch.rand(2, 1, 8, 8)
    found = features(grey)
    assert found.shape == (2, 2048) and not found.requires_grad
    assert not torch.allclose(found[0], found[1])
    assert torch.allclose(features(grey.repeat(1, 3, 1, 1)[:1]), found[:1], atol=1e-5)  # alone as beside others


# ----------------------------------------------------------------------------------------- the figures


def test_blocks_of_images_are_filled_row_by_row_with_a_gap_between_images() -> None:
    rows = {"start": np.full((3, 2, 2), 0.25), "sample": np.full((2, 2, 2), 0.75)}
    rows["start"][1] = 0.5
    fig = plotting.image_blocks({"a": rows, "b": rows, "c": rows}, columns=3)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["a", "b", "c", ""]
    picture = np.ma.filled(fig.axes[0].images[0].get_array().astype(float), np.nan)
    assert picture.shape == (6, 9)
    assert picture[0, [0, 3, 6]].tolist() == [0.25, 0.5, 0.25]
    assert picture[3, [0, 3]].tolist() == [0.75, 0.75] and np.isnan(picture[3:, 6:]).all()
    assert np.isnan(picture[2]).all() and np.isnan(picture[:, 2]).all()
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["start", "sample"]
    assert fig.axes[0].get_yticks().tolist() == [0.5, 3.5]
    assert not any(label.get_text() for label in fig.axes[1].get_yticklabels())


def test_energies_of_chains_are_drawn_as_mean_and_band_beside_energies_of_data() -> None:
    energies = np.linspace(1, 2, 33).reshape(3, 11)
    kinds = {kind: {"short": energies[:2], "long": energies} for kind in ("latent", "visible")}
    fig = plotting.energies_along_chains(
        {"m": kinds}, {"m": {"data": np.linspace(3, 4, 11), "held out": np.full(5, 6.0)}}
    )
    latent, visible = fig.axes
    assert (latent.get_xlabel(), visible.get_xlabel()) == ("step of the latent chain", "step of the visible chain")
    assert latent.get_yscale() == "log"
    lines = {line.get_label(): line for line in latent.lines}
    assert lines["long"].get_ydata() == pytest.approx(energies.mean(axis=1)) and len(lines["short"].get_ydata()) == 2
    assert lines["data"].get_ydata() == pytest.approx([3.5, 3.5]) and lines["held out"].get_ydata()[0] == 6
    assert lines["short"].get_color() != lines["long"].get_color()
    assert (lines["data"].get_color(), lines["held out"].get_color()) == (KNOWN["color"], HELD_OUT), "as in code_sizes"
    assert latent.lines[-1].get_label() == "short", "drawn over the long one, which begins alike"
    band = latent.collections[-2].get_paths()[0].vertices
    at_end = band[band[:, 0] == 2][:, 1]
    assert [at_end.min(), at_end.max()] == pytest.approx(np.quantile(energies[2], [0.1, 0.9]).tolist())


def test_the_live_figure_shows_images_and_energies_of_the_chains_so_far() -> None:
    images = {"start": np.zeros((5, 3, 3)), "now": np.ones((5, 3, 3))}
    energies = np.random.default_rng(0).random((13, 5)) + 0.1
    snapshot = plotting.ChainSnapshot(images, energies, "step", ((0, "latent"), (4, "visible")), np.full(9, 0.3))
    whole, each = (plotting.live_chains(snapshot, shown=4, each=each) for each in (False, True))
    picture, trace = whole.axes
    assert picture.images[0].get_array().shape == (8, 16)
    assert any(np.array_equal(line.get_ydata(), energies.mean(axis=1)) for line in trace.lines)
    assert [text.get_text().strip() for text in trace.texts] == ["latent", "visible"]
    assert [
        line.get_ydata().tolist() for line in each.axes[1].lines if len(line.get_ydata()) == 13
    ] == energies.T.tolist()
    assert trace.get_xlim()[1] > 12
    empty = plotting.ChainSnapshot({}, np.empty((0, 5)), "step", reference=np.full(9, 0.3))
    told = plotting.live_chains(empty, shown=4, each=False).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in told] == ["data"]
    for fig in (
        whole,
        each,
        plotting.live_chains(empty, shown=4, each=False),
        plotting.live_chains(empty, shown=4, each=True),
    ):
        assert plotting.to_png(fig).startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------ the panels


@pytest.mark.parametrize("latent", [0, 3])
def test_points_move_over_the_learned_density_of_the_plane(latent: int) -> None:
    panel = eight_gaussians_panel()
    for name, value in {"updates": 50, "chain": 1, "latent": latent}.items():
        panel.controls[name].value = value
    run(panel)
    learned = panel.snapshot
    (stepper,) = panel.parts
    stepper.step(4)
    moved = panel.snapshot
    assert moved.log_density is learned.log_density
    assert moved.negatives.shape == (100, 2) and not torch.equal(moved.negatives, moved.starts)
    norms: Tensor = stepper.walk.state.norm(dim=1)
    assert torch.allclose(norms, torch.ones(100), atol=1e-5) == (latent == 0), "only the circle is kept to"
    stepper.controls["space"].value = "visible"
    stepper.controls["start"].value = "data"
    began = panel.snapshot.starts
    assert torch.equal(began, data.eight_gaussians(100, torch.Generator().manual_seed(0)))
    picture = bytes(panel.image.value)
    stepper.step(10)
    assert torch.equal(panel.snapshot.starts, began) and not torch.equal(panel.snapshot.negatives, began)
    assert bytes(panel.image.value) != picture and "visible chain, step 10" in panel.status.value


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Have no mnist on this machine, and a quick profile that is done at once."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(images, "QUICK", images.SMOKE)


def watched(panel: widgets.RunPanel) -> list[tuple[int, str]]:
    """Run to the end, and return what was published: updates so far and the text."""
    seen: list[tuple[int, str]] = []
    publish = panel._publish
    panel._publish = lambda snapshot, done, total, text: (
        seen.append((done, text)),
        publish(snapshot, done, total, text),
    )
    run(panel)
    panel._publish = publish
    return seen


@pytest.mark.parametrize(("method", "updates"), [("NAE-OMI", 6), ("AE", 3)])
def test_the_samples_panel_trains_once_and_runs_chains_on_digits(embedded: None, method: str, updates: int) -> None:
    panel = samples_panel()
    assert panel.controls["without"].label == "none", "a menu that shows what is chosen"
    panel.controls["method"].value, panel.controls["without"].value = method, 9
    seen = watched(panel)
    assert "done. Now move chains below." in panel.status.value, panel.status.value
    assert [done for done, _ in seen] == [*range(1, updates + 1), updates]
    assert (panel.bar.value, panel.bar.max) == (updates, updates)
    assert [done for done, _ in watched(panel)] == [updates], "what is trained is kept"
    wanted = quick_recipe(method, digits_task(9, profile="quick").here())
    kept = training.train_or_load(wanted, device="cpu").model.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in panel.result.model.state_dict().items())
    (stepper,) = panel.parts
    stepper.step(2)
    snapshot = panel.snapshot
    assert snapshot.energies.shape == (3, 16) and len(snapshot.reference) == len(data.load("digits", "test"))
    assert snapshot.images["start"].shape == snapshot.images["now"].shape == (16, 14, 14)
    stepper.controls["space"].value = "visible"
    stepper.controls["start"].value = "test digits"
    every = data.as_shape(data.load("digits", "test").x, (1, 14, 14)) / 255
    drawn = torch.tensor(panel.snapshot.images["start"])[:, None]
    assert nearest_images(drawn, every)[0].max() < 1e-10 and len(drawn.flatten(1).unique(dim=0)) == 16
    picture = bytes(panel.image.value)
    panel.views["each"].value = True
    assert bytes(panel.image.value) != picture
