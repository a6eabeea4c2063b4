"""One notebook: methods x tasks x seeds, at a budget, as printed or as released.

Imports: pandas, checks, identity, metrics, workspace, study.claims, method, task, training.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import nn

from oodlab import checks, identity, workspace
from oodlab.metrics import Reported
from oodlab.study.claims import Claim
from oodlab.study.method import Method
from oodlab.study.task import Task
from oodlab.training import Recipe, Result, is_finished, read_snapshot, train_each, train_or_load
from oodlab.training.stored import Pair

PROFILES = ("smoke", "quick", "long", "full")
SOURCES = ("printed", "released")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a profile spends; a study adds its own numbers in a class of its own.

    Attributes:
        seeds: Number of seeds.
        test_items: Test items of each set at most; None takes all.
        fit_items: Training items at most that preprocessing and detectors are fitted on; None takes all.
        tasks: Tasks that are played unless one is named, by name or by inside set; () plays all.
        shapes: (C, H, W) that images of a task are brought to, by its inside set; others are as the task says.
    """

    seeds: int
    tasks: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    test_items: int | None = None
    fit_items: int | None = None

    def __post_init__(self) -> None:
        checks.whole("Budget", "seeds", self.seeds, least=1)


def nothing_printed(row: Mapping[str, Any]) -> None:
    """Say that the paper prints no number for a row."""


def nothing_derived(rows: pd.DataFrame) -> Iterable[tuple[Reported, pd.Series]]:
    """Return no number: the paper prints none that is computed from several rows."""
    return ()


@dataclass(frozen=True)
class Study:
    """The setting of one notebook.

    Attributes:
        name: `<paper>/<notebook>`.
        tasks: Tasks.
        methods: methods(budget, source) -> the methods that are compared.
        budgets: What each profile spends; "full" is the paper's size.
        claims: Claims of the paper that the rows decide.
        printed: printed(row) -> the fields of metrics.reported that name the paper's number for a row, or None;
            row["last"] says whether the row is of the end of its training.
        derived: derived(rows of one profile and source) -> printed numbers that are computed from several rows, each
            with ours by seed.
        metric: Name of that number's metric in `reported.csv`.
        sources: The sources it has: "printed", or also "released".
        unstated: What the paper leaves open, with our choice.
        draw_seed: Seed of the draw of test items.
        profile, source, first_seed: What `at` has chosen.
    """

    name: str
    tasks: tuple[Task, ...]
    methods: Callable[[Any, str], Sequence[Method]]
    budgets: Mapping[str, Budget]
    claims: tuple[Claim, ...] = ()
    printed: Callable[[Mapping[str, Any]], Mapping[str, str] | None] = nothing_printed
    derived: Callable[[pd.DataFrame], Iterable[tuple[Reported, pd.Series]]] = nothing_derived
    metric: str = "auroc"
    sources: tuple[str, ...] = ("printed",)
    unstated: tuple[str, ...] = ()
    draw_seed: int = 0
    profile: str = "full"
    source: str = "printed"
    first_seed: int = 0

    def __post_init__(self) -> None:
        for profile in self.budgets:
            checks.one_of(self.name, "budgets of", profile, PROFILES)
        checks.one_of(self.name, "profile", self.profile, tuple(self.budgets))
        checks.one_of(self.name, "source", self.source, self.sources)
        checks.whole(self.name, "first_seed", self.first_seed, least=0)
        tasks = [task.name for task in self.tasks]
        if len(set(tasks)) < len(tasks):
            raise ValueError(
                f"{self.name} expects tasks of different names, got {', '.join(tasks)}: rows are told apart by them."
            )
        names = [method.name for method in self.chosen]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name} expects methods of different names, got {', '.join(names)}.")

    def at(self, profile: str, source: str = "printed", dataset: str = "auto", first_seed: int = 0) -> Study:
        """Return the same study at another budget.

        Args:
            profile: One of its budgets.
            source: "printed" as in the paper's text, "released" as in the authors' code.
            dataset: "auto" plays the budget's tasks with what is on this machine, embedded sets standing in where its inside set
                is absent; the name of a task's inside set leaves that task alone; "embedded" takes the stand-ins.
            first_seed: First of the seeds, which count up.

        Raises:
            ValueError: An unknown profile, source or data set.
        """
        inside = {task.inside for task in self.tasks}
        checks.one_of(self.name, "dataset", dataset, ("auto", "embedded", *sorted(inside)))
        checks.one_of(self.name, "profile", profile, tuple(self.budgets))
        wanted = self.budgets[profile].tasks
        known = tuple(sorted({name for task in self.tasks for name in (task.inside, task.name)}))
        for one in wanted:
            checks.one_of(self.name, f"tasks of the budget {profile} among", one, known)
        for method in self.methods(self.budgets[profile], source):
            for one in method.tasks:
                checks.one_of(self.name, f"tasks of the method {method.name} among", one, known)
        tasks = tuple(task for task in self.tasks if not wanted or task.inside in wanted or task.name in wanted)
        if dataset == "embedded":
            tasks = tuple(dict.fromkeys(task.with_stand_ins() for task in tasks))
        elif dataset != "auto":
            whole = tuple(task for task in self.tasks if task.inside == dataset)
            tasks = tuple(task for task in tasks if task.inside == dataset) or whole
        chosen = dataclasses.replace(self, tasks=tasks, source=source, first_seed=first_seed)
        return chosen._spending(profile)

    def only(self, *names: str) -> Study:
        """Return the same study with some of its methods, named here.

        Raises:
            ValueError: The study has no method of a name.
        """
        for name in names:
            checks.one_of(self.name, "method", name, tuple(method.name for method in self.chosen))
        return dataclasses.replace(self, methods=partial(_named, self.methods, names))

    def _spending(self, profile: str) -> Study:
        """Return the study at another budget, its images as large as that says."""
        shapes = self.budgets[profile].shapes
        places = [shapes.get(task.stand_in_for or task.inside) for task in self.tasks]
        tasks = tuple(
            task if shape is None else dataclasses.replace(task, shape=shape)
            for task, shape in zip(self.tasks, places, strict=True)
        )
        return dataclasses.replace(self, tasks=tasks, profile=profile)

    @property
    def paper(self) -> str:
        """The paper's key."""
        return self.name.split("/")[0]

    @property
    def budget(self) -> Any:
        """What the profile spends."""
        return self.budgets[self.profile]

    @property
    def chosen(self) -> tuple[Method, ...]:
        """The methods at this budget and source."""
        return tuple(self.methods(self.budget, self.source))

    def on(self, task: Task) -> tuple[Method, ...]:
        """Return the methods that are trained on a task."""
        return tuple(method for method in self.chosen if method.plays(task))

    @property
    def seeds(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.budget.seeds)

    @property
    def recipes(self) -> dict[tuple[str, str, str], Recipe]:
        """Exactly what is trained here, by task, method and role, what trainings need among them."""
        return self._recipes_on(self.played)

    def _recipes_on(self, tasks: Sequence[Task]) -> dict[tuple[str, str, str], Recipe]:
        return {
            (task.name, method.name, role): recipe
            for task in tasks
            for method in self.on(task)
            for role, recipe in method.trainings(task).items()
        }

    def behind(self, rows: pd.DataFrame) -> dict[str, Recipe]:
        """Return the trainings behind rows by key, those of other profiles and of sets that are not here among them."""
        found = {}
        for profile, source in rows[["profile", "source"]].drop_duplicates().itertuples(index=False):
            other = dataclasses.replace(self, source=source)._spending(profile)
            shown = [task for task in dict.fromkeys((*other.played, *other.tasks)) if task.name in set(rows["in_set"])]
            recipes = [recipe for task in shown for one in other.on(task) for recipe in one.trainings(task).values()]
            found |= {recipe.key: recipe for recipe in recipes}
        return found

    @property
    def played(self) -> tuple[Task, ...]:
        """The tasks as they can be played on this machine."""
        return tuple(dict.fromkeys(task.here() for task in self.tasks))

    @property
    def shrinks(self) -> str:
        """What the profile makes smaller than the paper's size, derived from the two studies' recipes."""
        if self.profile == "full" or "full" not in self.budgets:
            return ""
        whole = self._spending("full")
        found: dict[str, set[tuple[Any, Any]]] = {}
        theirs = whole._recipes_on(whole.tasks)  # of the paper's sets, also where stand-ins are used
        for place, recipe in self._recipes_on(self.tasks).items():
            if place in theirs:
                for path, here, there in identity.differences(recipe, theirs[place]):
                    if not path.startswith("needs."):  # such a training is among the recipes itself
                        found.setdefault(path, set()).add((here, there))
        for path, here, there in identity.differences(self.budget, whole.budget):
            if path in ("seeds", "test_items"):
                found.setdefault(path.replace("_", " "), set()).add((here, there))
        said = []
        for path, pairs in sorted(found.items()):
            shown = ", ".join(f"{_number(here)} instead of {_number(there)}" for here, there in sorted(pairs, key=repr))
            said.append(f"{path} {shown}")
        return "; ".join(said)

    @property
    def sentence(self) -> str:
        """The data that are used here, in words."""
        return " ".join(task.sentence for task in self.tasks)

    def trained(self, *, device: str = "auto", precision: str = "auto", graph: str = "auto") -> Trained:
        """Return its trainings: loaded, or made, when first asked for."""
        return Trained(device, precision, graph)

    def _repr_markdown_(self) -> str:
        trained: dict[tuple[str, str], list[str]] = {}
        for task in self.played:
            for method in self.on(task):
                parts = [f"{role} {recipe.steps:,} updates" for role, recipe in method.trainings(task).items()]
                trained.setdefault((task.name, ", ".join(parts) or "no training"), []).append(method.name)
        lines = [
            f"**{self.name}**, profile `{self.profile}`, source `{self.source}`, seeds {list(self.seeds)}. {self.sentence}",
            "",
            *(f"- {task}: *{'*; *'.join(names)}* ({parts})" for (task, parts), names in trained.items()),
        ]
        if self.shrinks:
            lines += ["", f"Other than at the paper's size: {self.shrinks}."]
        if self.unstated:
            lines += ["", "What the paper leaves open, and what is taken here:", ""]
        return "\n".join([*lines, *(f"- {line}" for line in self.unstated)])


Place = tuple[Task, Method, int]  # a method's trainings on a task with one seed


class Trained:
    """The trainings of a study, loaded or made when first asked for.

    Attributes:
        device, precision, graph: The arguments of training.fit.
        used: What was loaded or made so far: recipe and seed, each once.
    """

    def __init__(self, device: str, precision: str, graph: str) -> None:
        self.device, self.precision, self.graph = device, precision, graph
        self.used: dict[tuple[str, int], Result] = {}

    def each(self, places: Sequence[Place]) -> Iterator[Place]:
        """Train what is not finished of these, and yield each place as soon as all its trainings are finished."""
        waiting = {place: self._pairs(place) for place in places}
        yield from [place for place, pairs in waiting.items() if not pairs]
        pairs = [pair for pairs in waiting.values() for pair in pairs.values()]
        unique = {(recipe.key, seed): (recipe, seed) for recipe, seed in pairs}
        if workspace.trains_anew():
            self.used.clear()
        for recipe, seed in train_each(list(unique.values()), **self._given):
            finished = (recipe.key, seed)
            for place, pairs in waiting.items():
                if finished in pairs:
                    del pairs[finished]
                    if not pairs:
                        yield place

    def is_here(self, task: Task, method: Method, seed: int) -> bool:
        """Say whether a method's trainings on a task are finished on this machine: kept rows can be all there is."""
        return all(is_finished(*pair) for pair in self._pairs((task, method, seed)).values())

    def results(self, task: Task, method: Method, seed: int) -> dict[str, Result]:
        """Return the trainings of a method on a task by role, those that others need among them."""
        found = {}
        for role, recipe in method.trainings(task).items():
            place = (recipe.key, seed)
            if place not in self.used:
                self.used[place] = train_or_load(recipe, seed=seed, anew=False, **self._given)
            found[role] = self.used[place]
        return found

    def models(
        self, task: Task, method: Method, seed: int, step: int | None = None, roles: Collection[str] | None = None
    ) -> dict[str, nn.Module]:
        """Return the models by role, in eval mode.

        Args:
            task, method, seed: What is trained.
            step: Updates after which the models of some roles are taken, where their training has snapshots.
            roles: These roles; None takes all but what others need. All others are as they ended.

        Raises:
            ValueError: No weights were kept at that step.
        """
        results, recipes = self.results(task, method, seed), method.trainings(task)
        models = {role: result.model for role, result in results.items()}
        chosen = set(recipes) - set(method.needs(task)) if roles is None else set(roles)
        for role, recipe in recipes.items():
            if role in chosen and step is not None and recipe.snapshots and step != recipe.steps:
                kept = results[role].snapshots
                if step not in kept:
                    raise ValueError(
                        f"{recipe.name} expects one of its snapshots, after {sorted(kept)} updates, got {step}."
                    )
                models[role] = with_weights(models[role], read_snapshot(kept[step], recipe.text))
        return models

    @property
    def _given(self) -> dict[str, str]:
        return {"device": self.device, "precision": self.precision, "graph": self.graph}

    def _pairs(self, place: Place) -> dict[tuple[str, int], Pair]:
        task, method, seed = place
        return {(recipe.key, seed): (recipe, seed) for recipe in method.trainings(task).values()}


def _named(
    methods: Callable[[Any, str], Sequence[Method]], names: tuple[str, ...], budget: Any, source: str
) -> list[Method]:
    return [method for method in methods(budget, source) if method.name in names]


def with_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of a model with other weights, on the same device."""
    other = copy.deepcopy(model)
    other.load_state_dict(weights)
    return other.eval()


def _number(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
