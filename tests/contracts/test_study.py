"""Studies at the smallest size that shows each rule: what their methods, tasks and rows can be."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from oodlab import data, metrics, plotting, training, workspace
from oodlab.data import MinMax, Stored
from oodlab.detectors import (
    ApproximateMass,
    BatchMass,
    BitsPerDim,
    Detector,
    GroupMean,
    LogDensity,
    LogSumExp,
    Mahalanobis,
    MaxSoftmax,
    NearestNeighbour,
    Reconstruction,
)
from oodlab.models import MLP, Autoencoder, JointEnergy, image_realnvp, vector_realnvp
from oodlab.objectives import (
    ContrastiveDivergence,
    FromData,
    Joint,
    NormalizedLikelihood,
    PenalisedLikelihood,
    maximum_likelihood,
    reconstruction,
)
from oodlab.plotting.saving import read_figure
from oodlab.samplers import LangevinChain
from oodlab.study import (
    HELD_OUT,
    Budget,
    Claim,
    Made,
    Method,
    Study,
    Task,
    decide,
    earlier,
    evaluate,
    no_training,
    scores,
    verdicts,
)
from oodlab.study import (
    rows as kept_rows,
)
from oodlab.training import Adam, Beside, Recipe, Shuffled
from oodlab.training.sources import StoredBatches

COLUMNS, CLASSES = 13, 3  # of the embedded table wine
STEPS = 4


# ------------------------------------------------------------------------------------------- small parts


def noise(n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 1000 * torch.randn(n, *shape, generator=generator)


TABLE = Task("wine", (Made("noise", noise),), held_out=(0,))
IMAGES = Task("digits", ("photo_patches",), shape=(1, 8, 8))


@dataclass(frozen=True)
class Rows:
    """Scaled rows of a table, with labels 0, 1, ... of the classes that are trained on."""

    stored: Stored

    def begin(self) -> Shuffled:
        split = self.stored.load()
        classes = split.y.unique()
        return Shuffled(MinMax.fit(split.x)(split.x), torch.searchsorted(classes, split.y), 16, 0)


def scaled(inputs, models):
    return MinMax.fit(inputs.train.x)


class Classifier(nn.Module):
    """Features and logits of a table's rows."""

    def __init__(self, hidden: int = 6) -> None:
        super().__init__()
        self.body, self.head = MLP(COLUMNS, [hidden], hidden, nn.SiLU), nn.Linear(hidden, 2)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor | None = None, **run: Any) -> dict[str, Tensor]:
    return {"loss": nn.functional.cross_entropy(model(x), y)}


def recipe(name: str, model: Any, objective: Any, task: Task, **more: Any) -> Recipe:
    return Recipe(name, model, objective, more.pop("batches", Rows(task.training())), Adam(lr=1e-2), STEPS, **more)


def classifier(task: Task) -> Recipe:
    return recipe("classifier", Classifier, cross_entropy, task)


def study(*methods: Method, task: Task = TABLE, seeds: int = 1, **more: Any) -> Study:
    budgets = {profile: Budget(seeds=seeds) for profile in ("smoke", "quick")}
    return Study("mass/toy", (task,), lambda budget, source: methods, budgets, profile="smoke", **more)


def method(name: str, recipes: Any, detectors: Any, prepare: Any = scaled) -> Method:
    return Method(name, recipes, prepare, detectors)


# --------------------------------------------------------------- (a) two stages, another head, a second model


@dataclass(frozen=True)
class Pseudo:
    """Rows, and beside them rows that a trained generator makes: stage two's batches."""

    stored: Stored

    def begin(self, needs: dict[str, nn.Module]) -> Beside:
        rows = Rows(self.stored).begin()
        return Beside(rows, {"general": training.Fresh(partial(made_by, needs["generator"]), 16)})


def made_by(generator_model: nn.Module, n: int, generator: torch.Generator) -> Tensor:
    z = torch.randn(n, 2, generator=generator)
    with torch.no_grad():
        return generator_model.decode(z)


class ThreeLogits(Classifier):
    """The classifier with one logit more."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)


def with_pseudo(
    model: nn.Module, x: Tensor, y: Tensor | None = None, *, general: Tensor, **run: Any
) -> dict[str, Tensor]:
    outside = torch.full((len(general),), 2)
    loss = nn.functional.cross_entropy(model(torch.cat([x, general])), torch.cat([y, outside]))
    return {"loss": loss, "share": (model(general).argmax(dim=1) == 2).float().mean()}


def autoencoder() -> Autoencoder:
    return Autoencoder(nn.Linear(COLUMNS, 2), nn.Linear(2, COLUMNS), latent=2)


def two_stages(task: Task) -> dict[str, Recipe]:
    needs = {"classifier": classifier(task), "generator": recipe("generator", autoencoder, reconstruction, task)}
    second = recipe(
        "second", ThreeLogits, with_pseudo, task, batches=Pseudo(task.training()), needs=needs, begins_with="classifier"
    )
    return {"second": second}


def test_a_second_stage_begins_with_all_weights_of_the_first_but_the_exchanged_head(
    capsys: pytest.CaptureFixture,
) -> None:
    scored = study(method("two stages", two_stages, lambda models: {"max softmax": MaxSoftmax(models["second"])}))
    trained = scored.trained()
    rows = evaluate(scored, trained)
    assert rows["out_set"].tolist() == [HELD_OUT, "noise"] and rows["auroc"].between(0, 1).all()
    said = capsys.readouterr().out
    assert "second begins with 4 of the tensors of classifier; fresh: head.weight, head.bias; not used: head" in said
    assert {key for key, _ in trained.used} == {recipe.key for recipe in scored.recipes.values()}
    assert len(list((workspace.runs_folder() / "checkpoints").iterdir())) == 3, "each training is kept on its own"
    first, second = (r for r in scored.recipes.values() if r.name in ("classifier", "second"))
    other = replace(second, needs={**second.needs, "classifier": replace(first, steps=STEPS + 1)})
    assert other.key != second.key, "what a training needs is part of what it is"


# ----------------------------------------------------------------------- (b) a loss on two sets in one batch


def outlier_loss(
    model: nn.Module, x: Tensor, y: Tensor | None = None, *, general: Tensor, **run: Any
) -> dict[str, Tensor]:
    inside, outside = -model.log_prob(x).mean(), nn.functional.softplus(model.log_prob(general)).mean()
    return {"loss": inside + 0.1 * outside, "outside": outside}


@dataclass(frozen=True)
class WithGeneral:
    """Images of the task, and general ones beside them."""

    main: StoredBatches
    general: StoredBatches

    def begin(self) -> Beside:
        return Beside(self.main.begin(), {"general": self.general.begin()})


def unit(x: Tensor, generator: torch.Generator) -> Tensor:
    return data.dequantize(x, generator)


def small_flow() -> nn.Module:
    return image_realnvp((1, 8, 8), scales=1, blocks=0, width=2, couplings=1)


def stored_images(stored: Stored) -> StoredBatches:
    return StoredBatches(stored, 16, 0, unit, (1, 8, 8))


def flow_recipe(name: str, stored: Stored, objective: Any = maximum_likelihood, **more: Any) -> Recipe:
    return Recipe(name, small_flow, objective, stored_images(stored), Adam(lr=1e-3), STEPS, **more)


def by_outlier_loss(task: Task) -> dict[str, Recipe]:
    plain = flow_recipe("in", task.training())
    general = stored_images(Stored("photo_patches", n=200))
    return {"flow": replace(plain, objective=outlier_loss, batches=WithGeneral(plain.batches, general))}


def centres(inputs, models):
    return data.bin_center


def test_an_objective_with_batches_of_two_sets_has_both_sets_in_its_key() -> None:
    scored = study(
        method("outlier loss", by_outlier_loss, lambda m: {"log p": LogDensity(m["flow"])}, centres), task=IMAGES
    )
    trained = scored.trained()
    assert len(evaluate(scored, trained)) == 1
    (result,) = trained.used.values()
    assert "outside" in result.history[-1]
    own = by_outlier_loss(IMAGES)["flow"]
    assert {one.name for one in own.stored} == {"digits", "photo_patches"}
    fewer = replace(own, batches=replace(own.batches, general=stored_images(Stored("photo_patches", n=100))))
    assert fewer.key != own.key
    with pytest.raises(ValueError, match="maximum_likelihood expects batches of x, y, got 'general' as well"):
        training.train_or_load(replace(own, objective=maximum_likelihood))


# --------------------------------------------------------------- (c) a likelihood ratio of two trained densities


class LogRatio(Detector):
    """log p of one model less that of another."""

    def __init__(self, model: nn.Module, general: nn.Module) -> None:
        super().__init__(model)
        self.general = general

    def _score_batch(self, x: Tensor) -> Tensor:
        return self.model.log_prob(x) - self.general.log_prob(x)


def two_flows(task: Task) -> dict[str, Recipe]:
    return {
        "own": flow_recipe("own", task.training()),
        "general": flow_recipe("general", Stored("photo_patches", n=200)),
    }


def ratio_and_parts(models):
    return {
        "ratio": LogRatio(models["own"], models["general"]),
        "own": LogDensity(models["own"]),
        "general": LogDensity(models["general"]),
    }


def test_the_score_of_a_density_ratio_is_the_difference_of_two_trained_log_densities() -> None:
    ratio = method("ratio", two_flows, ratio_and_parts, centres)
    scored = study(ratio, task=IMAGES)
    trained = scored.trained()
    rows = evaluate(scored, trained).set_index("score")
    assert (
        rows.loc["ratio", "training"].count("+") == rows.loc["ratio", "seconds_each"].count("+") == 1
        and "+" not in rows.loc["own", "training"]
    )
    values = scores(scored, trained, IMAGES, ratio, 0)
    for name in ("digits", "photo_patches"):
        assert values["ratio"][name] == pytest.approx(values["own"][name] - values["general"][name], rel=1e-4, abs=1e-3)
    assert rows.loc["ratio", "auroc"] == metrics.auroc(values["ratio"]["digits"], values["ratio"]["photo_patches"])


# -------------------------------------------------- (d) three detectors that share features, one needs labels


def by_features(models):
    return {
        "Mahalanobis": Mahalanobis(models["classifier"]),
        "nearest": NearestNeighbour(models["classifier"], k=3),
        "in tenths": Mahalanobis(models["classifier"], shrinkage=0.1),
    }


def test_three_detectors_share_one_pass_of_features(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    plain = Classifier.features
    scored = study(method("features", lambda task: {"classifier": classifier(task)}, by_features))
    trained = scored.trained()
    trained.results(TABLE, scored.chosen[0], 0)
    monkeypatch.setattr(Classifier, "features", lambda self, x: (passes.append(len(x)), plain(self, x))[1])
    rows = evaluate(scored, trained)
    assert len(rows) == 6 and len(passes) == 1 + 3, "the training part once, and each of three sets once"
    inputs = TABLE.load()
    x = scaled(inputs, {})(inputs.train.x)
    with pytest.raises(ValueError, match="Mahalanobis expects a label for each of"):
        Mahalanobis(Classifier()).fit(x, None)
    alone = Mahalanobis(trained.models(TABLE, scored.chosen[0], 0)["classifier"]).fit(x, inputs.train.y)
    test = scaled(inputs, {})(inputs.test.x)
    assert alone.score_samples(test) == pytest.approx(
        scores(scored, trained, TABLE, scored.chosen[0], 0)["Mahalanobis"]["wine without 0"], rel=1e-6
    )


# ------------------------------------------------------------- (e) four papers' methods on the same task


CHAIN = LangevinChain(steps=2, step_size=0.01, noise_std=0.1)


@dataclass(frozen=True)
class NormalisedByContrast:
    """An NAE's likelihood with chains from data: its modules are made when a training begins."""

    chain: LangevinChain

    def begin(self, model: nn.Module) -> NormalizedLikelihood:
        return NormalizedLikelihood(FromData(self.chain))


@dataclass(frozen=True)
class JointByContrast:
    """Class-conditional likelihood and that of the inputs."""

    chain: LangevinChain
    gamma: float

    def begin(self, model: nn.Module) -> Joint:
        return Joint(ContrastiveDivergence(FromData(self.chain)), gamma=self.gamma)


def four_methods() -> tuple[Method, ...]:
    def normalised(task: Task) -> dict[str, Recipe]:
        first = recipe("ae", autoencoder, reconstruction, task)
        own = NormalisedByContrast(CHAIN)
        return {"nae": replace(first, name="nae", objective=own, needs={"ae": first}, begins_with="ae")}

    def penalised(task: Task) -> dict[str, Recipe]:
        flow = partial(vector_realnvp, COLUMNS, couplings=2, hidden=(4,))
        return {"flow": recipe("flow", flow, PenalisedLikelihood(2.0, space="input"), task)}

    def supervised(task: Task) -> dict[str, Recipe]:
        energy = partial(energy_of, 6)
        return {"energy": recipe("energy", energy, JointByContrast(CHAIN, 1.0), task)}

    return (
        method("NAE", normalised, lambda m: {"error": Reconstruction(m["nae"])}),
        method("flow", penalised, lambda m: {"mass": ApproximateMass(m["flow"], space="input")}),
        method("energy", supervised, lambda m: {"log density": LogDensity(m["energy"])}),
        method("softmax", lambda task: {"c": classifier(task)}, lambda m: {"max softmax": MaxSoftmax(m["c"])}),
    )


def energy_of(hidden: int) -> JointEnergy:
    return JointEnergy(Classifier(hidden))


def test_a_study_of_four_methods_has_a_row_per_method_outside_set_and_seed() -> None:
    rows = evaluate(study(*four_methods(), seeds=2))
    assert all(seeds == [0, 1] for seeds in rows.groupby(["method", "out_set"])["seed"].apply(list))
    assert set(rows["method"]) == {"NAE", "flow", "energy", "softmax"} and len(rows) == 4 * 2 * 2
    assert (rows["auroc"] - rows["auroc"].clip(0, 1)).abs().max() == 0 and rows["auroc_se"].notna().all()
    assert set(rows["in_set"]) == {"wine without 0"} and (rows["group"] == 1).all() and (rows["step"] == STEPS).all()


# ------------------------------------------------------------------ (f) a campaign that loses its trainings


def test_an_evaluation_keeps_existing_rows_and_trains_only_the_missing_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = four_methods()
    half = study(*methods[:2])
    first = evaluate(half)
    shutil.rmtree(workspace.runs_folder() / "checkpoints")
    whole = study(*methods)
    trained = whole.trained()
    rows = evaluate(whole, trained)
    assert rows.groupby("method")["kept"].all().to_dict() == {
        "NAE": True,
        "flow": True,
        "energy": False,
        "softmax": False,
    }
    assert [trained.is_here(TABLE, one, 0) for one in methods] == [False, False, True, True]
    assert {recipe.name for recipe in whole.recipes.values() if (recipe.key, 0) in trained.used} == {
        "energy",
        "classifier",
    }
    both = rows.merge(first, on=["method", "out_set"], suffixes=("", "_before"))
    assert both["auroc"].tolist() == pytest.approx(both["auroc_before"].tolist(), rel=1e-6)
    again = evaluate(whole)
    assert again["kept"].all() and len(again) == len(rows)
    monkeypatch.setenv("OODLAB_ANEW", "1")
    assert not evaluate(whole)["kept"].any(), "fresh rows on request"


def test_a_row_states_the_precision_its_training_ran_with_and_not_the_one_requested_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored = study(four_methods()[3])
    evaluate(scored, scored.trained(precision="float32"))
    monkeypatch.setenv("OODLAB_ROWS", str(workspace.runs_folder() / "other"))
    rows = evaluate(scored, scored.trained(precision="bfloat16"))
    assert not rows["kept"].any() and set(rows["precision"]) == {"float32"} and set(rows["device"]) == {"cpu"}


def test_rows_are_written_after_every_training(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    plain = kept_rows.write
    monkeypatch.setattr(
        kept_rows,
        "write",
        lambda name, profile, rows, **more: (written.append(len(rows)), plain(name, profile, rows, **more)),
    )
    evaluate(study(*four_methods()[2:], seeds=2))
    assert written == [2, 2, 2, 2]


# ----------------------------------------------------------- (g) a method on another trained model's features


@dataclass(frozen=True)
class FeatureRows:
    """What a trained classifier says of the rows."""

    stored: Stored

    def begin(self, needs: dict[str, nn.Module]) -> Shuffled:
        rows = Rows(self.stored).begin()
        with torch.no_grad():
            return Shuffled(needs["classifier"].features(rows.x), rows.y, 16, 0)


def on_embeddings(task: Task) -> dict[str, Recipe]:
    flow = partial(vector_realnvp, 6, couplings=2, hidden=(4,))
    own = recipe("on features", flow, maximum_likelihood, task, batches=FeatureRows(task.training()))
    return {"flow": replace(own, needs={"classifier": classifier(task)})}


def to_features(inputs, models):
    assert set(models) == {"classifier"}, "what the recipes need, and nothing else"
    return partial(features_of, MinMax.fit(inputs.train.x), models["classifier"])


def features_of(scale: MinMax, model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.features(scale(x))


def test_prepare_may_use_the_features_of_a_model_that_is_needed() -> None:
    rows = evaluate(
        study(method("on features", on_embeddings, lambda m: {"log p": LogDensity(m["flow"])}, to_features))
    )
    assert len(rows) == 2 and rows["n_in"].eq(len(TABLE.load().test)).all()


# ---------------------------------------------------------------- (h) scores at several steps of one training


def at_steps(task: Task) -> dict[str, Recipe]:
    return {"flow": flow_recipe("steps", task.training(), snapshots=2)}


def test_rows_have_a_step_and_the_first_rows_are_of_the_untrained_model() -> None:
    by_step = method(
        "steps", at_steps, lambda m: {"bits": BitsPerDim(m["flow"]), "log p": LogDensity(m["flow"])}, centres
    )
    scored = study(by_step, task=IMAGES)
    trained = scored.trained()
    rows = evaluate(scored, trained)
    assert rows.groupby("score")["step"].apply(list).to_dict() == {"bits": [0, 2, 4], "log p": [0, 2, 4]}
    untrained = training.stored.untrained
    with training.devices.own_randomness(0, torch.device("cpu")):
        fresh = untrained(at_steps(IMAGES)["flow"])
    first = trained.models(IMAGES, by_step, 0, 0)["flow"].state_dict()
    assert all(torch.equal(value, first[name]) for name, value in fresh.state_dict().items())
    last, end = trained.models(IMAGES, by_step, 0, 4), trained.models(IMAGES, by_step, 0)
    assert all(torch.equal(a, b) for a, b in zip(last["flow"].parameters(), end["flow"].parameters(), strict=True))
    assert rows["key"].nunique() == len(rows)
    with pytest.raises(ValueError, match=r"one of its snapshots, after \[0, 2, 4\] updates, got 3"):
        trained.models(IMAGES, by_step, 0, 3)


# ----------------------------------------------------------------------- (i) scores of groups and of a batch


def grouped(models):
    mass = ApproximateMass(models["flow"])
    return {"mass": mass, "mass of 8": GroupMean(mass, 8), "released": BatchMass(models["flow"], group=16)}


def test_rows_have_the_group_size_and_count_groups() -> None:
    scored = study(
        method("groups", lambda task: {"flow": flow_recipe("flow", task.training())}, grouped, centres), task=IMAGES
    )
    rows = evaluate(scored).set_index("score")
    assert rows["group"].to_dict() == {"mass": 1, "mass of 8": 8, "released": 16}
    n = rows.loc["mass", "n_in"]
    assert rows["n_in"].tolist() == [n, -(-n // 8), -(-n // 16)]


# ------------------------------------------------------------------- (j) rows of two profiles in one table


def test_a_study_of_some_methods_has_their_rows_with_the_same_keys() -> None:
    whole = study(*four_methods()[2:])
    one = whole.only("energy")
    assert [method.name for method in one.chosen] == ["energy"]
    keys = evaluate(one)["key"]
    rows = evaluate(whole)
    assert set(keys) == set(rows.loc[rows["method"] == "energy", "key"])
    assert rows.loc[rows["method"] == "energy", "kept"].all(), "they were made before and are looked up"
    with pytest.raises(ValueError, match="expects method energy or softmax, got 'softmx'"):
        whole.only("softmx")


def test_rows_of_two_profiles_are_in_one_table_labelled_by_profile() -> None:
    methods = four_methods()[2:]
    small = study(*methods)
    rows = pd.concat([evaluate(small), evaluate(replace(study(*methods[:1]), profile="quick"))], ignore_index=True)
    assert set(rows["profile"]) == {"smoke", "quick"}
    assert {key for joined in rows["training"] for key in joined.split("+")} == set(small.behind(rows))
    with pytest.raises(ValueError, match="expects rows of one profile, got quick, smoke"):
        decide(Claim("c", lambda rows: rows.set_index("seed")["auroc"]), rows)


# ------------------------------------------------------------------------------------------- kept rows


def changed(name: str, **columns: Any) -> None:
    file = kept_rows.files("mass/toy", "smoke")[0]
    frame = pd.read_csv(file, keep_default_na=False)
    for column, value in columns.items():
        frame[column] = value
    frame.to_csv(file.with_name(name), index=False)


def test_a_second_machines_rows_stay_in_their_own_file_and_the_difference_in_auroc_is_shown() -> None:
    scored = study(four_methods()[3])
    rows = evaluate(scored)
    changed("toy.smoke.gpu.csv", machine="another", auroc=rows["auroc"].iloc[0] - 0.25)
    again = evaluate(scored)
    assert again["auroc"].tolist() == pytest.approx(rows["auroc"].tolist(), rel=1e-6) and again["kept"].all()
    assert again["differs"].iloc[0] == pytest.approx(0.25, rel=1e-5)


def test_rows_copied_from_another_machine_are_used_without_training() -> None:
    scored = study(four_methods()[3])
    rows = evaluate(scored)
    changed("toy.smoke.gpu.csv", machine="a GPU")
    kept_rows.files("mass/toy", "smoke")[0].unlink()
    shutil.rmtree(workspace.runs_folder() / "checkpoints")
    again = evaluate(scored)
    assert again["kept"].all() and set(again["machine"]) == {"a GPU"}
    assert again["auroc"].tolist() == pytest.approx(rows["auroc"].tolist(), rel=1e-6)
    assert not list((workspace.runs_folder()).glob("checkpoints/*")), "nothing was trained"


def test_rows_of_other_code_are_kept_in_their_file_and_left_out_of_the_table() -> None:
    scored = study(four_methods()[3])
    evaluate(scored)
    changed("toy.smoke.old.csv", key="0123456789abcdef")
    assert len(evaluate(scored)) == 2
    old = earlier(scored)
    assert len(old) == 2 and set(old["key"]) == {"0123456789abcdef"}


def test_a_damaged_file_of_rows_raises_an_error() -> None:
    scored = study(four_methods()[3])
    evaluate(scored)
    (file,) = kept_rows.files("mass/toy", "smoke")
    file.write_text("method,score\na,b\n")
    with pytest.raises(ValueError, match="expects the columns of a study's rows, got none named in_set"):
        evaluate(scored)


def test_a_set_without_files_shows_its_kept_rows_and_uses_a_stand_in_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).normal(size=(90, COLUMNS))
    (tmp_path / "data" / "mine").mkdir(parents=True)
    np.savez(tmp_path / "data" / "mine" / "all.npz", x=x, y=np.arange(90) % 3)
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path / "data"))
    task = Task("mine", (Made("noise", noise),), stand_in="wine", stand_in_outside=())
    other, flow = four_methods()[0], four_methods()[1]
    first = evaluate(study(flow, task=task))
    assert set(first["in_set"]) == {"mine"}
    known = data.digests.digest("mine", "train")
    monkeypatch.setattr(data.digests, "committed", lambda: [{"set": "mine", "part": "all", "digest": known}])
    monkeypatch.setattr(
        data.digests,
        "find_entry",
        lambda name: (
            type("Entry", (), {"name": name, "embedded": None}) if name == "mine" else data.sets.find_entry(name)
        ),
    )
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(workspace.runs_folder() / "checkpoints")
    both = study(flow, other, task=task)
    rows = evaluate(both)
    real = rows[rows["in_set"] == "mine"]
    assert real["kept"].all() and set(real["method"]) == {"flow"}
    instead = rows[rows["in_set"] != "mine"]
    assert set(instead["in_set"]) == {"wine for mine"} and set(instead["stand_in_for"]) == {"mine"}
    assert "embedded stand-in for mine" in both.sentence
    keys = {key for joined in rows["training"] for key in joined.split("+")}
    assert keys <= both.behind(rows).keys(), "also of the set that is not here"
    record = json.loads(plotting.save_figure(Figure(), both, rows).json.read_text(encoding="utf-8"))
    assert {one["key"] for one in record["trainings"]} == keys and all(one["recipe"] for one in record["trainings"])
    assert record["stand_in"]


# --------------------------------------------------------------------------------- printed numbers, claims


def printed(row):
    return {"table": "table1", "method": "Vanilla RealNVP", "in_set": "cifar10", "out_set": "svhn"}


def test_rows_have_the_printed_number_beside_the_measured_auroc() -> None:
    rows = evaluate(study(four_methods()[3], printed=printed))
    (known,) = metrics.reported("mass", table="table1", method="Vanilla RealNVP", in_set="cifar10", out_set="svhn")
    assert (rows["printed"] == known.value).all() and set(rows["printed_metric"]) == {"auroc"}
    assert set(rows["table"]) == {"table1"} and set(rows["paper"]) == {"mass"}
    with pytest.raises(ValueError, match="expects one printed number for a row"):
        evaluate(
            study(four_methods()[3], printed=lambda row: {"table": "table1", "in_set": "cifar10", "out_set": "svhn"})
        )


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ({0: 0.2, 1: 0.3, 2: 0.25}, "Reproduced"),
        ({0: 0.2, 1: 0.3}, "Partly"),
        ({0: 0.2, 1: -0.01, 2: 0.25}, "Partly"),
        ({0: 0.01, 1: 0.9, 2: 0.01}, "Partly"),
        ({0: -0.2, 1: 0.1, 2: 0.1}, "Not reproduced"),
        ({0: 0.0}, "Not reproduced"),
        ({}, "Not tested"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_a_verdict_compares_the_mean_over_seeds_with_the_standard_deviation(
    numbers: dict[int, float], word: str
) -> None:
    """The fourth case has a mean of 0.31 below its standard deviation of 0.51."""
    rows = pd.DataFrame({"seed": list(numbers), "auroc": list(numbers.values()), "profile": "quick"})
    verdict = decide(Claim("It holds.", lambda rows: rows.set_index("seed")["auroc"], "table 1"), rows)
    assert (verdict.word, verdict.seeds) == (word, len(numbers))
    assert verdict.sentence.startswith(f"**{word}.** It holds (table 1).")
    found = verdicts([verdict.claim], rows)
    assert found.table["verdict"].tolist() == [word]
    assert found._repr_markdown_() == f"- {verdict.sentence}"


def test_a_verdict_over_seeds_and_partitions_counts_seeds_and_refuses_infinite_aurocs() -> None:
    rows = pd.DataFrame({"seed": [0, 0, 1, 1], "part": [0, 1, 0, 1], "auroc": 0.1, "profile": "long"})
    claim = Claim("c", lambda rows: rows.set_index(["seed", "part"])["auroc"])
    assert decide(claim, rows).word == "Partly" and decide(claim, rows).seeds == 2
    with pytest.raises(ValueError, match="expects numbers by seed"):
        decide(Claim("c", lambda rows: rows["auroc"]), rows)
    with pytest.raises(FloatingPointError, match="expects finite AUROCs for"):
        decide(claim, rows.assign(auroc=[0.1, 0.1, 0.1, np.inf]))


# ------------------------------------------------------------------------------------ studies and records


def test_a_task_refuses_colliding_names_of_sets_and_accepts_lists() -> None:
    with pytest.raises(ValueError, match="got it among them"):
        Task("fashion_mnist", ("FashionMNIST",))
    with pytest.raises(ValueError, match="got it among them"):
        Task("wine", (Made("wine", noise),))
    with pytest.raises(ValueError, match="every outside set once"):
        Task("wine", ("digits", Made("digits", noise)))
    assert Task("wine", [Made("noise", noise)], held_out=[0]) == TABLE
    with pytest.raises(ValueError, match="tasks of different names"):
        Study(
            "mass/toy",
            (IMAGES, replace(IMAGES, shape=(1, 4, 4))),
            lambda *_: (),
            {"quick": Budget(seeds=1)},
            profile="quick",
        )
    with pytest.raises(ValueError, match="tasks of the budget quick among"):
        Study("mass/toy", (TABLE,), lambda *_: (), {"quick": Budget(seeds=1, tasks=("vine",))}, profile="quick").at(
            "quick"
        )


def test_a_task_without_its_inside_set_uses_stand_ins_and_an_unknown_set_raises_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path))
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    absent = Task(
        "imagenet32",
        (Made("noise", noise),),
        stand_in="wine",
        stand_in_outside=(),
        held_out=(7,),
        stand_in_held_out=(0,),
    )
    rows = evaluate(study(four_methods()[3], task=absent))
    assert set(rows["in_set"]) == {"wine without 0 for imagenet32"} and set(rows["out_set"]) == {HELD_OUT, "noise"}
    assert "imagenet32" in absent.sentence
    own = Task("of_my_own", (Made("noise", noise),), stand_in="wine", stand_in_outside=())
    assert "save of_my_own below a folder of OODLAB_DATA" in own.sentence
    nothing = evaluate(study(method("none", no_training, lambda models: {}), task=TABLE))
    assert len(nothing) == 0 and {"auroc", "kept", "differs", "printed"} <= set(nothing.columns)


def test_a_needed_model_is_used_with_its_final_weights_at_every_scored_step() -> None:
    """A flow on a classifier's features is trained on the final classifier's, whatever step of the flow is scored."""

    def by_snapshots(task: Task) -> dict[str, Recipe]:
        own = on_embeddings(task)["flow"]
        needs = {"classifier": replace(own.needs["classifier"], snapshots=4)}
        return {"flow": replace(own, needs=needs, snapshots=2)}

    one = method("on features", by_snapshots, lambda m: {"log p": LogDensity(m["flow"])}, to_features)
    scored = study(one)
    trained = scored.trained()
    assert sorted(set(evaluate(scored, trained)["step"])) == [0, 2, 4]
    end = trained.results(TABLE, one, 0)["classifier"].model.state_dict()
    for step in (0, 2, 4):
        taken = trained.models(TABLE, one, 0, step)
        assert all(torch.equal(value, end[name]) for name, value in taken["classifier"].state_dict().items())
    early = trained.models(TABLE, one, 0, 0, roles=("classifier",))["classifier"].state_dict()
    assert not all(torch.equal(value, end[name]) for name, value in early.items())


def test_rows_of_another_source_or_of_a_stand_in_are_not_rows_of_earlier_code() -> None:
    def by_source(budget: Budget, source: str) -> tuple[Method, ...]:
        return (
            four_methods()[3]
            if source == "printed"
            else method("other", lambda t: {"classifier": classifier(t)}, by_features),
        )

    budgets = {"smoke": Budget(seeds=1)}
    printed = Study("mass/toy", (TABLE,), by_source, budgets, sources=("printed", "released"), profile="smoke")
    evaluate(printed)
    evaluate(printed.at("smoke", source="released"))
    assert len(earlier(printed)) == len(earlier(printed.at("smoke", source="released"))) == 0


@pytest.mark.parametrize("value", ["nan", "inf", ""])
def test_a_kept_row_that_is_nan_or_infinite_raises_an_error(value: str) -> None:
    scored = study(four_methods()[3])
    evaluate(scored)
    changed("toy.smoke.gpu.csv", auroc=value)
    with pytest.raises(ValueError, match="expects finite numbers, got others in auroc"):
        evaluate(scored)


def test_group_mean_of_a_fitted_detector_is_the_mean_of_its_scores(generator: torch.Generator) -> None:
    x, model = torch.randn(60, COLUMNS, generator=generator), Classifier()
    alone, grouped = NearestNeighbour(model, k=3).fit(x), GroupMean(NearestNeighbour(model, k=3), 5).fit(x)
    values = alone.score_samples(x[:20])
    assert grouped.score_samples(x[:20]) == pytest.approx(values.reshape(4, 5).mean(axis=1), rel=1e-6)
    flow = small_flow()
    images = torch.rand(16, 1, 8, 8, generator=generator)
    bits = BitsPerDim(flow).score_samples(images).reshape(2, 8).mean(axis=1)
    assert GroupMean(BitsPerDim(flow), 8).score_samples(images) == pytest.approx(bits, rel=1e-6)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        grouped.nothing  # noqa: B018


def test_nan_or_infinite_features_are_refused() -> None:
    class Broken(Classifier):
        def features(self, x: Tensor) -> Tensor:
            return super().features(x).where(x[:, :1] < 0, torch.nan)

    with pytest.raises(FloatingPointError, match="NearestNeighbour: 7 of 20 features"):
        NearestNeighbour(Broken(), k=3).fit(torch.cat([torch.ones(7, COLUMNS), -torch.ones(13, COLUMNS)]))


def test_a_study_refuses_unknown_profiles_sources_and_sets_and_repeated_method_names() -> None:
    scored = study(four_methods()[3])
    with pytest.raises(ValueError, match="expects profile"):
        scored.at("full")
    with pytest.raises(ValueError, match="expects source"):
        scored.at("quick", source="released")
    with pytest.raises(ValueError, match="expects dataset"):
        scored.at("quick", dataset="cifar10")
    with pytest.raises(ValueError, match="methods of different names"):
        study(four_methods()[3], four_methods()[3])
    assert list(scored.at("quick", first_seed=5).seeds) == [5]


def test_shrinks_lists_the_differences_between_a_profile_and_full() -> None:
    def by_budget(budget: Budget, source: str) -> tuple[Method, ...]:
        steps = 3 if budget.seeds == 1 else 900
        recipes = lambda task: {"c": replace(classifier(task), steps=steps)}  # noqa: E731
        return (method("softmax", recipes, lambda m: {"max softmax": MaxSoftmax(m["c"])}),)

    budgets = {"quick": Budget(seeds=1, test_items=20), "full": Budget(seeds=5)}
    scored = Study("mass/toy", (TABLE,), by_budget, budgets)
    assert scored.shrinks == ""
    assert scored.at("quick").shrinks == "seeds 1 instead of 5; steps 3 instead of 900; test items 20 instead of all"


def test_a_figures_record_lists_every_training_behind_its_rows() -> None:
    scored = study(*four_methods(), seeds=2)
    trained = scored.trained()
    rows = evaluate(scored, trained)
    figure = plotting.courses(rows, ["mass", "error", "log density", "max softmax"], {})
    saved = plotting.save_figure(figure, scored, rows, part="all")
    record = json.loads(saved.json.read_text(encoding="utf-8"))
    listed = {(one["key"], one["seed"]) for one in record["trainings"]}
    assert listed == set(trained.used) and len(listed) == 2 * 5, "an NAE's autoencoder is behind it, too"
    for one in record["trainings"]:
        assert one["seconds"] == round(trained.used[one["key"], one["seed"]].seconds, 1)
    assert record["seconds"] == pytest.approx(sum(one["seconds"] for one in record["trainings"]), abs=0.06)
    texts = {recipe.key: recipe.text.splitlines() for recipe in scored.recipes.values()}
    assert all(one["recipe"] == texts[one["key"]] for one in record["trainings"])
    assert record["seeds"] == [0, 1] and len(record["rows"]) == 1 + len(rows)
    assert read_figure(saved.json) == (record, saved.png.read_bytes())


def test_a_method_without_training_has_rows_of_seed_zero_only() -> None:
    class Norm(Detector):
        def _score_batch(self, x: Tensor) -> Tensor:
            return -x.flatten(1).norm(dim=1)

    def controls(models):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return {"norm": Norm(nn.Linear(1, 1)), "free": LogSumExp(nn.Linear(COLUMNS, 2))}

    rows = evaluate(study(method("control", no_training, controls), seeds=3))
    assert rows["seed"].tolist() == [0] * 4 and set(rows["training"]) == {""}


# ------------------------------------------------------------------------- methods of some tasks, made sets of a size


def test_a_method_is_evaluated_on_its_own_tasks_only() -> None:
    """Tasks are named by name or inside set; a stand-in is evaluated with the methods of the set it replaces."""
    scores = {"free": LogSumExp(nn.Linear(COLUMNS, 2))}
    own = replace(method("own", no_training, lambda models: scores), tasks=("wine without 0",))
    every = replace(own, name="every", tasks=())
    tables = (TABLE, replace(TABLE, held_out=(1,), stand_in="wine", stand_in_outside=()))
    budgets = {"smoke": Budget(seeds=1)}
    both = Study("mass/toy", tables, lambda budget, source: (own, every), budgets, profile="smoke")
    assert [[one.name for one in both.on(task)] for task in tables] == [["own", "every"], ["every"]]
    assert not own.plays(tables[1]) and replace(own, tasks=("wine",)).plays(tables[1])
    stand_in = replace(tables[1], inside="digits", held_out=(), stand_in_for="wine")
    assert replace(own, tasks=("wine",)).plays(stand_in) and not replace(own, tasks=("digits",)).plays(stand_in)
    played = evaluate(both).groupby("in_set")["method"].unique().map(list).to_dict()
    assert played == {"wine without 0": ["own", "every"], "wine without 1": ["every"]}
    assert "- wine without 1: *every*" in both._repr_markdown_()
    missing = replace(both, methods=lambda budget, source: (replace(own, tasks=("vine",)),))
    with pytest.raises(ValueError, match=r"tasks of the method own among .*'vine'.*did you mean 'wine'"):
        missing.at("smoke")


def test_a_made_set_may_have_fewer_items_than_the_test_set() -> None:
    few = replace(TABLE, held_out=(), outside=(Made("noise", noise, n=4), Made("more", noise)))
    assert [len(split) for split in few.load(n=9).outside.values()] == [4, 9]
    assert [len(split) for split in few.load(n=3).outside.values()] == [3, 3]
