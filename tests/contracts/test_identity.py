"""Keys of trainings and rows: which changes of a copy of the source void a result, and which do not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import oodlab
from oodlab import data, identity
from oodlab.batch import notebook, record
from oodlab.data import MinMax, Stored, digests
from oodlab.detectors import ApproximateMass, LogDensity, Typicality
from oodlab.models import Autoencoder, JointEnergy, vector_realnvp
from oodlab.objectives import PenalisedLikelihood, reconstruction
from oodlab.studies.ebm.gamma_sweep.setting import STUDY as SWEEP
from oodlab.studies.ebm.gamma_sweep.setting import Energies
from oodlab.study import Budget, Made, Method, Study, Task
from oodlab.study.evaluate import _wanted
from oodlab.training import Adam, Recipe, Shuffled
from oodlab.training.loop import fit

PACKAGE = Path(oodlab.__file__).parent
NOTEBOOKS = PACKAGE.parent / "notebooks"

# ------------------------------------------------------------------------ a study to be voided in parts


@dataclass(frozen=True)
class TableBatches:
    """Scaled rows of a table."""

    stored: Stored

    def begin(self) -> Shuffled:
        x = self.stored.load().x
        return Shuffled(MinMax.fit(x)(x), None, 16, 0)


def flow() -> nn.Module:
    return vector_realnvp(5, couplings=2, hidden=(4,))


def autoencoder() -> nn.Module:
    return Autoencoder(nn.Linear(5, 2), nn.Linear(2, 5), latent=2)


def by_flow(task: Task) -> dict[str, Recipe]:
    batches = TableBatches(task.training())
    return {"flow": Recipe("flow", flow, PenalisedLikelihood(1.0, space="input"), batches, Adam(lr=1e-3), steps=2)}


def by_autoencoder(task: Task) -> dict[str, Recipe]:
    batches = TableBatches(task.training())
    return {"autoencoder": Recipe("autoencoder", autoencoder, reconstruction, batches, Adam(lr=1e-3), steps=2)}


def scaled(inputs, models):
    return MinMax.fit(inputs.train.x)


def flow_scores(models):
    of = models["flow"]
    return {"log p": LogDensity(of), "mass": ApproximateMass(of, space="input"), "typicality": Typicality(of)}


def autoencoder_scores(models):
    return {"energy": LogDensity(models["autoencoder"])}


def noise(n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(n, *shape, generator=generator)


TASK = Task("inner", ("outer", Made("noise", noise)))
METHODS = (Method("flow", by_flow, scaled, flow_scores), Method("ae", by_autoencoder, scaled, autoencoder_scores))
STUDY = Study("mass/toy", (TASK,), lambda budget, source: METHODS, {"quick": Budget(seeds=1)}, profile="quick")


def write_set(root: Path, name: str, seed: int) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    np.savez(root / name / "all.npz", x=random.normal(size=(100, 5)), y=np.arange(100) % 4)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a copy of the package's source, which is what keys are made of here, beside two small tables."""
    for number, name in enumerate(("inner", "outer")):
        write_set(tmp_path / "data", name, number)
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path / "data"))
    copy = tmp_path / "oodlab"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "trained"))
    monkeypatch.setattr(identity, "FOLDER", copy)
    identity.look_again()
    yield copy
    monkeypatch.undo()
    identity.look_again()


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new), encoding="utf-8")
    identity.look_again()


def training_keys() -> dict[str, str]:
    identity.look_again()
    return {role: recipe.key for method in METHODS for role, recipe in method.recipes(TASK).items()}


def row_keys() -> dict[tuple[str, str], str]:
    return {(one.score, one.out_set): one.key for one in _wanted(STUDY, TASK, METHODS)}


def voided(before: dict, after: dict) -> set:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


EVERY_ROW = {(score, out) for score in ("log p", "mass", "typicality", "energy") for out in ("outer", "noise")}


def rows_of(*scores: str) -> set[tuple[str, str]]:
    return {row for row in EVERY_ROW if row[0] in scores}


# ---------------------------------------------------------------------------------------- what voids nothing


def test_new_files_moved_files_and_changed_texts_change_no_key(source: Path) -> None:
    trainings, rows = training_keys(), row_keys()
    (source / "models" / "flows" / "glow.py").write_text("class Glow:\n    pass\n")
    edit(source / "models" / "flows" / "flow.py", "a density from invertible layers", "densities, of invertible layers")
    edit(source / "models" / "flows" / "flow.py", "Return the log-density in nats", "Say how likely x is")
    edit(source / "models" / "flows" / "flow.py", "it was built for that shape", "it is of that shape")
    edit(source / "training" / "progress.py", "step} of {self.total}", "step} out of {self.total}")
    edit(source / "training" / "loop.py", "continues at step", "goes on at step")
    edit(
        source / "objectives" / "likelihood.py",
        "Return the loss, bits per dimension and",
        "Give the loss, bits per dimension and",
    )
    edit(source / "data" / "sets.py", "Xiao et al. 2017", "Xiao and others 2017")
    edit(source / "studies/mass/epoch_curves/panel.py", "penalty weight", "weight of the penalty")
    (source / "metrics.py").write_text("# a comment\n" + (source / "metrics.py").read_text())
    # moved: the flow's class lies elsewhere, and whoever imports it says so
    shutil.move(source / "models" / "flows" / "flow.py", source / "models" / "flows" / "whole.py")
    for file in source.rglob("*.py"):
        file.write_text(file.read_text().replace("models.flows.flow import", "models.flows.whole import"))
    assert voided(trainings, training_keys()) == set()
    assert voided(rows, row_keys()) == set()


def test_code_that_copies_starting_weights_changes_only_keys_of_trainings_that_begin_so(source: Path) -> None:
    plain = by_flow(TASK)["flow"]
    begun = replace(plain, needs={"first": plain}, begins_with="first")
    keys = plain.key, begun.key
    edit(source / "training" / "recipe.py", "own[name].shape == value.shape", "own[name].ndim == value.ndim")
    assert plain.key == keys[0] and begun.key != keys[1]


def test_keys_follow_the_source_as_read_when_the_process_began(source: Path) -> None:
    before = by_flow(TASK)["flow"].key
    file = source / "objectives" / "likelihood.py"
    text = file.read_text().replace("squares.detach().sqrt()", "2 * squares.detach().sqrt()")
    file.write_text(text)
    assert by_flow(TASK)["flow"].key == before, "this process still runs the old formula"
    identity.look_again()
    assert by_flow(TASK)["flow"].key != before


def test_the_code_of_a_notebook_function_includes_the_functions_and_numbers_used_by_it() -> None:
    """IPython's shell keeps the source of its cells, as a notebook does."""
    script = r"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("from oodlab import identity\nWEIGHT = 1.0\ndef scale(x):\n    return WEIGHT * x\ndef mine(x):\n    return scale(x) + 1")
codes = []
for cell in ("1", "WEIGHT = 2.0", "def scale(x):\n    return WEIGHT * x * x", "WEIGHT = 1.0", "def scale(x):\n    return WEIGHT * x"):
    shell.run_cell(cell)
    codes.append(shell.run_cell("identity.digest(identity.code_of(mine))").result)
print(len(set(codes)), codes[0] == codes[-1])
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert said.stdout.splitlines()[-1] == "4 True", said.stdout + said.stderr


def test_the_name_of_a_recipe_does_not_enter_its_key(source: Path) -> None:
    recipe = by_flow(TASK)["flow"]
    assert replace(recipe, name="another").key == recipe.key
    assert replace(recipe, steps=3).key != recipe.key


# --------------------------------------------------------------------- when a notebook's figure is up to date


EVERY_NOTEBOOK = {notebook.name_of(path) for path in notebook.find(NOTEBOOKS)}


def notebook_keys() -> dict[str, list[str]]:
    return {notebook.name_of(path): record.code(notebook.read(path)) for path in notebook.find(NOTEBOOKS)}


@pytest.mark.parametrize(
    ("file", "old", "new", "redrawn"),
    [
        ("studies/mass/epoch_curves/panel.py", "penalty weight", "weight of the penalty", set()),
        ("data/sets.py", "Xiao et al. 2017", "Xiao and others 2017", set()),
        ("batch/runner.py", "starts again", "begins again", set()),
        ("plotting/courses.py", "2.7 * len(pairs)", "2.9 * len(pairs)", {"mass/epoch_curves"}),
        ("plotting/images.py", "0.62 * columns", "0.63 * columns", {"ebm/smoothness", "nae/ood_detection"}),
        ("studies/nae/ood_detection/figure.py", "2.1 * len(errors)", "2.2 * len(errors)", {"nae/ood_detection"}),
        ("studies/ebm/smoothness/setting.py", "updates=250", "updates=260", {"ebm/smoothness"}),
        ("metrics.py", "np.trace(first)", "np.trace(first) * 1", {"nae/samples"}),
        ("data/arrays.py", "y.astype(np.int64)", "y.astype(np.int64) * 1", EVERY_NOTEBOOK),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(".py") else "",
)
def test_a_figure_is_out_of_date_when_code_used_by_its_notebook_changes(
    source: Path, file: str, old: str, new: str, redrawn: set
) -> None:
    before = notebook_keys()
    edit(source / file, old, new)
    assert voided(before, notebook_keys()) == redrawn


# --------------------------------------------------------------------------- what voids what it belongs to


@pytest.mark.parametrize(
    ("file", "old", "new", "trainings"),
    [
        ("models/flows/layers.py", "* s.exp(), s.flatten(1)", "* s.exp() * 1.0, s.flatten(1)", {"flow"}),
        ("objectives/likelihood.py", "squares.detach().sqrt()", "2 * squares.detach().sqrt()", {"flow"}),
        ("models/autoencoders.py", "(x - reconstruction).square()", "2 * (x - reconstruction).square()", {"autoencoder"}),
        ("models/energy.py", "return -self.energy(x)", "return 0 - self.energy(x)", {"flow", "autoencoder"}),
        ("training/run.py", '["loss"].backward()', '["loss"].mul(1).backward()', {"flow", "autoencoder"}),
        ("training/batches.py", "1_000_003 + epoch", "1_000_033 + epoch", {"flow", "autoencoder"}),
        ("data/transforms.py", "self.high - self.low)", "self.high - self.low) * 1", {"flow", "autoencoder"}),
        ("models/joint.py", "logsumexp", "sum", set()),
        ("samplers/chains.py", "return noise_std**2 / (2", "return 1 * noise_std**2 / (2", set()),
        ("data/rows.py", "RandomState(SPLIT_SEED)", "RandomState(1 * SPLIT_SEED)", {"flow", "autoencoder"}),
        ("training/recipe.py", "own[name].shape == value.shape", "own[name].ndim == value.ndim", set()),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(".py") else "",
)  # fmt: skip
def test_a_changed_formula_changes_exactly_the_keys_of_trainings_and_rows_that_use_the_formula(
    source: Path, file: str, old: str, new: str, trainings: set
) -> None:
    before, rows = training_keys(), row_keys()
    edit(source / file, old, new)
    assert voided(before, training_keys()) == trainings
    scores = {"flow": ("log p", "mass", "typicality"), "autoencoder": ("energy",)}
    assert voided(rows, row_keys()) >= rows_of(*(score for role in trainings for score in scores[role]))
    if not trainings:
        assert voided(rows, row_keys()) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "rows"),
    [
        ("detectors/densities.py", "return -(self.model.energy(x) - self", "return -2 * (self.model.energy(x) - self", rows_of("typicality")),
        ("detectors/densities.py", "return -approximate_mass(", "return -2 * approximate_mass(", rows_of("mass")),
        ("metrics.py", "(below + below_or_tied).mean()", "(below_or_tied + below).mean()", EVERY_ROW),
        ("metrics.py", "np.trace(first)", "np.trace(first) * 1", set()),
        ("study/task.py", "manual_seed(self.seed)", "manual_seed(1 + self.seed)", EVERY_ROW),
        ("study/evaluate.py", "else prepare(split.x)", "else prepare(split.x) * 1", EVERY_ROW),
    ],
    ids=["a detector", "another detector", "the AUROC", "a metric that no row has", "what is made", "how it is scored"],
)  # fmt: skip
def test_a_changed_detector_or_metric_voids_its_rows_and_no_training(
    source: Path, file: str, old: str, new: str, rows: set
) -> None:
    before, trainings = row_keys(), training_keys()
    edit(source / file, old, new)
    assert voided(before, row_keys()) == rows
    assert voided(trainings, training_keys()) == set()


def test_new_values_of_a_set_change_the_keys_of_trainings_and_rows_that_use_the_set(
    source: Path, tmp_path: Path
) -> None:
    rows, trainings = row_keys(), training_keys()
    write_set(tmp_path / "data", "outer", seed=7)
    assert voided(rows, row_keys()) == {row for row in EVERY_ROW if row[1] == "outer"}
    assert voided(trainings, training_keys()) == set()
    write_set(tmp_path / "data", "inner", seed=8)
    assert voided(trainings, training_keys()) == {"flow", "autoencoder"}
    assert voided(rows, row_keys()) == EVERY_ROW
    write_set(tmp_path / "data", "outer", seed=1)
    write_set(tmp_path / "data", "inner", seed=0)
    assert (rows, trainings) == (row_keys(), training_keys()), "the old values are the old keys"


def test_new_values_of_a_table_change_the_key_of_its_training(source: Path, tmp_path: Path) -> None:
    """The features of segment were once exchanged, and its trainings were not repeated."""
    recipe = Energies("CD", 0.0, SWEEP.at("smoke").budget, "printed")(SWEEP.tasks[0])["energy"]
    (shape,) = data.sets.entry("segment").shape
    (tmp_path / "data" / "segment").mkdir()
    file = tmp_path / "data" / "segment" / "all.npz"
    x, y = np.random.default_rng(0).normal(size=(100, shape)).astype(np.float32), np.arange(100) % 7
    keys = []
    for values in (x, x + 1, x):
        np.savez(file, x=values, y=y)
        keys.append(recipe.key)
    assert keys[0] == keys[2] != keys[1]


def test_a_part_stored_in_several_files_has_the_digest_of_one_file(source: Path, tmp_path: Path) -> None:
    folder, whole = tmp_path / "data" / "split", digests.digest("inner", "all")
    folder.mkdir()
    with np.load(tmp_path / "data" / "inner" / "all.npz") as file:
        for name, rows in {"all": slice(0, 30), "all-part2": slice(30, 31), "all-part3": slice(31, None)}.items():
            np.savez(folder / f"{name}.npz", x=file["x"][rows], y=file["y"][rows])
    assert digests.digest("split", "all") == whole
    (folder / "all-part3.npz").unlink()
    assert digests.digest("split", "all") != whole
    (folder / "all-part2.npz").rename(folder / "all-part3.npz")
    with pytest.raises(ValueError, match=r"numbered from 2 without a gap, got \[3\]"):
        digests.digest("split", "all")


def test_labels_enter_the_digest_of_a_set(source: Path, tmp_path: Path) -> None:
    before = digests.digest("inner", "train")
    with np.load(tmp_path / "data" / "inner" / "all.npz") as file:
        np.savez(tmp_path / "data" / "inner" / "all.npz", x=file["x"], y=file["y"][::-1])
    assert digests.digest("inner", "train") != before


@dataclass(frozen=True)
class Shifted:
    """Items of a set, moved."""

    stored: Stored

    def __call__(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return self.stored.load().x[:n] + 1


@dataclass(frozen=True)
class ScaledBy:
    """The scale of a third set."""

    stored: Stored

    def __call__(self, inputs, models):
        return MinMax.fit(self.stored.load().x)


class Own(nn.Module):
    """A detector's own model, of a number that is no weight."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def log_density(self, x: Tensor) -> Tensor:
        return -x.abs().pow(self.power).sum(dim=1)

    def energy(self, x: Tensor) -> Tensor:
        return -self.log_density(x)


def test_sets_read_by_made_inputs_and_by_prepare_enter_the_keys_of_rows(source: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "data", "third", 3)
    made = replace(TASK, outside=("outer", Made("shifted", Shifted(Stored("third")))))
    prepared = tuple(replace(one, prepare=ScaledBy(Stored("third"))) for one in METHODS)

    def keys(task: Task, methods: tuple[Method, ...]) -> dict[tuple[str, str], str]:
        return {(one.score, one.out_set): one.key for one in _wanted(STUDY, task, methods)}

    before = keys(made, METHODS), keys(TASK, prepared)
    write_set(tmp_path / "data", "third", 4)
    after = keys(made, METHODS), keys(TASK, prepared)
    assert voided(before[0], after[0]) == {(score, out) for score, out in before[0] if out == "shifted"}
    assert voided(before[1], after[1]) == EVERY_ROW


def test_numbers_and_functions_of_a_detectors_own_model_are_in_its_rows_keys(source: Path) -> None:
    def keys(power: float) -> set[str]:
        def detectors(models):
            return {"own": LogDensity(Own(power)), "log p": LogDensity(models["flow"])}

        method = Method("flow", by_flow, scaled, detectors)
        return {one.key for one in _wanted(STUDY, TASK, (method,)) if one.score == "own"}

    assert keys(2.0) == keys(2.0) and not keys(2.0) & keys(0.5)


# ------------------------------------------------------------------------------------------ the loop's modules


def test_every_key_contains_exactly_the_listed_modules_of_the_training_loop(source: Path) -> None:
    """A change in a listed module voids all trainings; a change in a module that has left the list does not."""
    assert identity.modules_behind(fit) == {
        "graphs",
        "samplers.chains",
        "samplers.parts",
        "samplers.replay",
        "training.devices",
        "training.loop",
        "training.run",
        "training.team",
    }


# ------------------------------------------------------------------------------------- a committed table of sets


def test_the_table_has_the_digests_of_the_available_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded sets are checked everywhere, other sets where they are those that the rows were made of."""
    rows = digests.committed()
    assert len(rows) > 20 and all(re.fullmatch("[0-9a-f]{64}", row["digest"]) for row in rows)
    for row in rows:
        if row["origin"] == "embedded":
            assert digests.digest(row["set"], row["part"]) == row["digest"], row["set"]


def test_an_absent_set_has_the_digest_of_the_table_and_an_unknown_set_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path))
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    (known,) = [row for row in digests.committed() if (row["set"], row["part"]) == ("mnist", "train")]
    assert digests.digest("MNIST", "train") == digests.digest("mnist", "val") == known["digest"]
    assert not digests.differs("mnist", "train")
    with pytest.raises(FileNotFoundError):
        digests.digest("lsun", "test")
    x = np.zeros((20, 28, 28), dtype=np.uint8)
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "mnist" / "train.npz", x=x, y=np.arange(20) % 10)
    assert digests.differs("mnist", "train") and digests.digest("mnist", "train") != known["digest"]


# ----------------------------------------------------------------------------------- the same text everywhere


def test_keys_do_not_depend_on_the_version_of_python_or_the_process() -> None:
    """The canonical tree of a sample is written in the test; ast's unparse and dump differ from 3.11 to 3.13."""
    sample = 'def f(x: int, *, y=(1, 2)) -> str:\n    """Doc."""\n    return f"{x!r:>{y}}" + "a" \'b\'  # why\n'
    import ast

    found = identity._plain(ast.parse(sample))
    assert identity.digest(found)[:16] == SAMPLE
    script = "from oodlab.studies.nae.eight_gaussians.setting import STUDY; print(*(r.key for r in STUDY.at('smoke').recipes.values()))"
    keys = {subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout for _ in range(2)}
    assert len(keys) == 1 and keys.pop().strip()


SAMPLE = "fcbd6653aabb4f63"


def test_describe_refuses_a_lambda_that_may_differ_between_processes() -> None:
    with pytest.raises(TypeError, match="must mean the same in every process"):
        identity.describe(lambda x: x)
    assert identity.describe(partial(JointEnergy, classifier=None)) == "JointEnergy(classifier=None)"
