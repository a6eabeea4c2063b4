"""From a study to the rows of its tables: look up what is kept, train and score what is missing.

Imports: pandas, detectors, identity, metrics, workspace, training, its own folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from oodlab import identity, metrics, workspace
from oodlab.data import Stored
from oodlab.detectors import Detector, FeatureDetector, Features, GroupMean
from oodlab.study import rows as kept_rows
from oodlab.study.method import Method, Models
from oodlab.study.study import Study, Trained, with_weights
from oodlab.study.task import Inputs, Task, digest_of, read_by
from oodlab.training import Recipe, snapshot_steps
from oodlab.training.devices import own_randomness
from oodlab.training.stored import ran, untrained

SHOWN_FIRST = ("paper", "table", "method", "score", "in_set", "out_set", "seed", "step", "group", "auroc", "printed")
_MEASURES = (metrics.ood_row, metrics.auroc_standard_error)


@dataclass(frozen=True)
class Wanted:
    """A row that a study has, before it is looked up.

    Attributes:
        task, method, seed: What is trained.
        score: Title of the detector.
        out_set: Outside set.
        step: Updates after which the model is scored.
        group: Inputs that share one score.
        used: Roles of the trainings that the detector uses; they are scored after `step`.
        roles: Roles of the trainings behind it: these, and those that they need.
        training: Keys of these trainings, joined by +.
        key: What decides the numbers, hashed.
    """

    task: Task
    method: Method
    seed: int
    score: str
    out_set: str
    step: int
    group: int
    used: tuple[str, ...]
    roles: tuple[str, ...]
    training: str
    key: str


def evaluate(study: Study, trained: Trained | None = None) -> pd.DataFrame:
    """Return the rows of a study, each with the paper's number beside ours where it prints one.

    A row is looked up by its key among the kept ones; what is missing is computed and kept as
    soon as its training is finished, and a training is loaded or made only when a missing row
    asks for it. Without a set's files the kept rows of the real set are shown; where some are
    missing, the embedded stand-ins are played instead of what is missing.

    Args:
        study: A study at a profile.
        trained: Its trainings; None takes study.trained().

    Returns:
        One row per method, score, inside and outside set, seed, step and group. auroc and the other metrics are
        fractions; auroc_se is the standard error over test items; in_mean and the like describe the scores themselves;
        `kept` says whether the row was made before, `made` and `machine` when and where.
    """
    trained = trained or study.trained()
    found: list[pd.DataFrame] = []
    missing: list[Wanted] = []
    before = kept_rows.read(study.name, study.profile)
    if workspace.trains_anew():
        before = before[:0]
    methods = study.chosen
    for task in study.tasks:
        lacking, known = _look_up(study, task, methods, before, found)
        missing += [one for one in lacking if _playable(one)]
        if not task.is_here and (lacking or not known):
            instead = tuple(dict.fromkeys(one.method for one in lacking)) or methods
            missing += _look_up(study, task.with_stand_ins(), instead, before, found)[0]
    new = _computed(study, trained, missing)
    frames = [frame for frame in (*found, new) if len(frame)]
    rows = (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame(columns=[*kept_rows.COLUMNS, "kept", "differs"])
    )
    return _with_printed(study, _in_order(rows, methods))


def _in_order(rows: pd.DataFrame, methods: tuple[Method, ...]) -> pd.DataFrame:
    """Put the rows into the study's order: trainings end as they may."""
    place = {method.name: number for number, method in enumerate(methods)}
    order = pd.DataFrame({"method": rows["method"].map(place), "seed": rows["seed"], "step": rows["step"]})
    order["in_set"] = rows["in_set"].map({name: number for number, name in enumerate(dict.fromkeys(rows["in_set"]))})
    return rows.loc[order.sort_values(["in_set", "method", "seed", "step"], kind="stable").index].reset_index(drop=True)


def earlier(study: Study) -> pd.DataFrame:
    """Return the kept rows of a study that today's code no longer makes."""
    made = [dataclasses.replace(study, source=source) for source in study.sources]
    tasks = [task for one in study.tasks for task in (one, one.with_stand_ins())]
    wanted = {one.key for each in made for task in tasks for one in _wanted(each, task, each.chosen)}
    rows = kept_rows.read(study.name, study.profile)
    return rows[~rows["key"].isin(wanted)]


def at_end(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows after the end of each training, of a control those that it has."""
    same = [name for name in ("method", "in_set", "score", "seed") if name in rows]
    return rows[rows["step"] == rows.groupby(same)["step"].transform("max")]


def scores(
    study: Study, trained: Trained, task: Task, method: Method, seed: int, step: int | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Return the scores themselves, by the detector's title, then by set; the inside set has the task's name.

    Args:
        study, trained: The arguments of evaluate.
        task, method, seed: What is trained; a task as it is played here, see Study.played.
        step: Updates after which a training with snapshots is scored; None takes its end.
    """
    return _scored(study, trained, task, _inputs(study, task), method, seed, step)


def _playable(one: Wanted) -> bool:
    """Say whether a missing row can be computed here: its sets are here."""
    here = one.task.here()
    return here.inside == one.task.inside and one.out_set in here.outsides()


def _look_up(
    study: Study, task: Task, methods: tuple[Method, ...], before: pd.DataFrame, found: list[pd.DataFrame]
) -> tuple[list[Wanted], bool]:
    """Append the kept rows of a task; return what is missing, and whether its data have known digests."""
    counted = kept_rows.counted(before) if len(before) else before
    places = {(key, seed): place for place, (key, seed) in enumerate(zip(counted["key"], counted["seed"], strict=True))}
    missing, hits, titles = [], [], []
    for one in _wanted(study, task, methods):
        place = places.get((one.key, one.seed))
        if place is None:
            missing.append(one)
        else:
            hits.append(place)
            titles.append(_titles(study, one))
    if hits:
        rows = counted.iloc[hits].reset_index(drop=True)
        found.append(rows.assign(**pd.DataFrame(titles).to_dict("list"), kept=True))
    return missing, bool(missing or hits)


def _titles(study: Study, one: Wanted) -> dict[str, Any]:
    return {
        "method": one.method.name,
        "score": one.score,
        "in_set": one.task.name,
        "out_set": one.out_set,
        "profile": study.profile,
        "source": study.source,
        "stand_in_for": one.task.stand_in_for,
    }


# --------------------------------------------------------------------------------------- what is wanted


def _wanted(study: Study, task: Task, methods: tuple[Method, ...]) -> Iterator[Wanted]:
    """Yield the rows of a task whose data have a known digest."""
    inside = _known_digest(task.test(n=study.budget.test_items, seed=study.draw_seed))
    train = _known_digest(task.training(n=study.budget.fit_items, seed=study.draw_seed))
    outsides = task.outsides(n=study.budget.test_items, seed=study.draw_seed)
    outside = {name: digest for name, one in outsides.items() if (digest := _known_digest(one))}
    if inside is None or train is None:
        return
    cut = (_as_many,) if task.equal_sizes else ()
    measures = identity.code_of(*_MEASURES, _described, with_weights, Inputs, _scored, *cut)
    validation = _known_digest(Stored(task.inside, "val"))  # preparation may be fitted on it
    shape = repr(task.shape)
    for method in [one for one in methods if one.plays(task)]:
        recipes = method.trainings(task)
        keys = {role: recipe.key for role, recipe in recipes.items()}
        with own_randomness(0, torch.device("cpu")):  # building a model draws its weights
            models = {role: untrained(recipe) for role, recipe in recipes.items()}
            detectors = method.detectors(models)
        prepared = [
            identity.describe(method.prepare),
            identity.code_of(method.prepare),
            train,
            *read_by(method.prepare),
        ]
        prepared += [validation] if validation else []
        prepared += [keys[role] for role in sorted(method.needs(task))]
        for score, detector in detectors.items():
            roles = _roles(detector, models)
            behind = _behind(recipes, roles)
            training = "+".join(keys[role] for role in behind)
            own = [*_identity(detector, models), training, *prepared, inside, shape, measures]
            for step in _steps(recipes, roles):
                for out_set, digest in outside.items():
                    key = identity.digest(*own, str(step), digest)[:16]
                    for seed in study.seeds if recipes else study.seeds[:1]:
                        used = tuple(sorted(roles))
                        yield Wanted(
                            task, method, seed, score, out_set, step, detector.group, used, behind, training, key
                        )


def _known_digest(one: Any) -> str | None:
    try:
        return digest_of(one)
    except FileNotFoundError:  # neither here nor in the table: such a row can be neither kept nor made
        return None


def _roles(detector: Detector, models: Models) -> set[str]:
    """Return the roles of the models that a detector uses, whole or in part."""
    parts = {id(part): role for role, model in models.items() for part in model.modules()}
    return {parts[id(part)] for part in _modules(detector) if id(part) in parts}


def _behind(recipes: Mapping[str, Recipe], roles: Collection[str]) -> tuple[str, ...]:
    """Return these roles and those of the trainings that theirs need, what is needed first."""
    found, waiting = set(), list(roles)
    while waiting:
        role = waiting.pop()
        if role not in found:
            found.add(role)
            waiting += recipes[role].needs
    return tuple(role for role in recipes if role in found)


def _modules(detector: Detector) -> Iterator[nn.Module]:
    for value in vars(detector).values():
        if isinstance(value, nn.Module):
            yield from value.modules()
        elif isinstance(value, Detector):
            yield from _modules(value)


def _identity(detector: Detector, models: Models) -> list[str]:
    """Return what decides a detector's scores besides its trainings: its class, settings, and models of its own."""
    places = {id(part): f"{role}.{path}" for role, model in models.items() for path, part in model.named_modules()}
    found = [type(detector).__qualname__, identity.code_of(type(detector))]
    for name, value in sorted(vars(detector).items()):
        if isinstance(value, Detector):
            found += [name, *_identity(value, models)]
        elif isinstance(value, nn.Module) and id(value) in places:
            found.append(f"{name} = {places[id(value)]}")
        elif isinstance(value, nn.Module):
            found += [name, *_model_identity(value, places)]
        else:
            found += [f"{name} = {identity.describe(value)}", *filter(None, [identity.code_of(value)]), *read_by(value)]
    return found


def _model_identity(model: nn.Module, places: Mapping[int, str]) -> list[str]:
    """Return what decides a detector's own model: classes, numbers, weights, and where a trained part has its place."""
    if id(model) in places:
        return [places[id(model)]]
    found = [type(model).__qualname__, identity.code_of(type(model))]
    for name, value in sorted(vars(model).items()):
        if not name.startswith("_") and name != "training":
            with contextlib.suppress(TypeError):  # no number, text or function: what it is made of is beyond a key
                found += [f"{name} = {identity.describe(value)}", identity.code_of(value)]
    own = [*model.named_parameters(recurse=False), *model.named_buffers(recurse=False)]
    for name, value in own:
        found.append(f"{name} {hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()}")
    for name, part in model.named_children():
        found += [name, *_model_identity(part, places)]
    return found


def _steps(recipes: Mapping[str, Recipe], roles: set[str]) -> list[int]:
    """Return the steps at which a detector's models are scored: all snapshots, or the end."""
    kept = {
        tuple(snapshot_steps(recipes[role].steps, recipes[role].snapshots)) for role in roles if recipes[role].snapshots
    }
    if len(kept) > 1:
        raise ValueError(
            f"evaluate expects trainings that one score uses to have snapshots at the same steps, got {sorted(kept)}: give them "
            "the same steps and number of snapshots."
        )
    return list(kept.pop()) if kept else [max((recipes[role].steps for role in roles), default=0)]


# ------------------------------------------------------------------------------------ what is computed


def _computed(study: Study, trained: Trained, missing: list[Wanted]) -> pd.DataFrame:
    """Train and score what is missing, and keep each training's rows before the next is scored."""
    places: dict[tuple[Task, Method, int], list[Wanted]] = {}
    for one in missing:
        places.setdefault((one.task, one.method, one.seed), []).append(one)
    loaded: dict[Task, Inputs] = {}
    every = []
    for place in trained.each(list(places)):
        task = place[0]
        if task not in loaded:
            loaded[task] = _inputs(study, task)
        made = list(_rows_of(study, trained, loaded[task], places[place]))
        kept_rows.write(study.name, study.profile, made, stand_in=bool(task.stand_in_for))
        every += made
    return pd.DataFrame(every, columns=list(kept_rows.COLUMNS)).assign(kept=False, differs=np.nan)


def _inputs(study: Study, task: Task) -> Inputs:
    """Return what of a task is on this machine."""
    used = task if task.stand_in_for else task.here()
    return used.load(n=study.budget.test_items, train_n=study.budget.fit_items, seed=study.draw_seed)


def _rows_of(study: Study, trained: Trained, inputs: Inputs, wanted: list[Wanted]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one method with one seed."""
    task, method, seed = wanted[0].task, wanted[0].method, wanted[0].seed
    results = trained.results(task, method, seed)
    recipes = method.trainings(task)
    common = {"seed": seed, "machine": kept_rows.machine(), "made": kept_rows.today()}
    for step, used in sorted({(one.step, one.used) for one in wanted}):
        asked = [one for one in wanted if (one.step, one.used) == (step, used)]
        titles = dict.fromkeys(one.score for one in asked)
        values = _scored(study, trained, task, inputs, method, seed, step, titles, used)
        for one in asked:
            inside, outside = values[one.score][inputs.task.name], values[one.score][one.out_set]
            if task.equal_sizes:
                inside, outside = _as_many(inside, outside, study.draw_seed)
            row = metrics.ood_row(inside, outside)
            made_by = [ran(recipes[role], seed) for role in one.used]
            seconds = [round(results[role].seconds, 1) for role in one.roles]
            yield {
                **common,
                **{name: "+".join(dict.fromkeys(part[name] for part in made_by)) for name in ("device", "precision")},
                **_titles(study, one),
                **{name: row[name] for name in ("n_in", "n_out", *kept_rows.METRICS)},
                "auroc_se": metrics.auroc_standard_error(inside, outside),
                **_described("in", inside),
                **_described("out", outside),
                "step": step,
                "group": one.group,
                "seconds": sum(seconds),
                "seconds_each": "+".join(map(str, seconds)),
                "training": one.training,
                "key": one.key,
            }


def _as_many(inside: np.ndarray, outside: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw from the larger of two sets as many scores as the smaller one has."""
    n = min(len(inside), len(outside))
    inside, outside = (
        one if len(one) == n else one[np.random.default_rng(seed).choice(len(one), n, replace=False)]
        for one in (inside, outside)
    )
    return inside, outside


def _described(side: str, values: np.ndarray) -> dict[str, float]:
    quantiles = np.quantile(values, (0.1, 0.5, 0.9))
    return {
        f"{side}_mean": values.mean(),
        **dict(zip((f"{side}_q10", f"{side}_q50", f"{side}_q90"), quantiles, strict=True)),
    }


def _scored(
    study: Study,
    trained: Trained,
    task: Task,
    inputs: Inputs,
    method: Method,
    seed: int,
    step: int | None,
    titles: Collection[str] | None = None,
    used: Collection[str] | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Score every set by a method's detectors, or by those with some titles.

    Inputs are prepared once per set, features computed once per model and set.
    """
    models = trained.models(task, method, seed, step, used)
    prepare = method.prepare(inputs, {role: models[role] for role in method.needs(task)})
    detectors = {title: one for title, one in method.detectors(models).items() if titles is None or title in titles}
    training = None
    features = Features()
    for detector in detectors.values():
        if detector.learned:
            training = prepare(inputs.train.x) if training is None else training
            _fit(detector, training, inputs.train.y, features)
    values: dict[str, dict[str, np.ndarray]] = {title: {} for title in detectors}
    for name, split in {inputs.task.name: inputs.test, **inputs.outside}.items():
        x = split.x.float() if name in inputs.prepared else prepare(split.x)
        shared: dict[int, np.ndarray] = {}
        for title, detector in detectors.items():
            values[title][name] = _score(detector, x, features, shared)
    return values


def _fit(detector: Detector, x: Tensor, y: Tensor, features: Features) -> None:
    inner = detector.detector if isinstance(detector, GroupMean) else detector
    if isinstance(inner, FeatureDetector):
        inner.fit_features(features.of(inner, x), y)
    else:
        inner.fit(x, y)


def _score(detector: Detector, x: Tensor, features: Features, shared: dict[int, np.ndarray]) -> np.ndarray:
    """Score one set; `shared` has the scores of this set by detectors that were asked before."""
    if id(detector) not in shared:
        if isinstance(detector, GroupMean):
            shared[id(detector)] = detector.pooled(_score(detector.detector, x, features, shared))
        elif isinstance(detector, FeatureDetector):
            shared[id(detector)] = detector.score_features(features.of(detector, x))
        else:
            shared[id(detector)] = detector.score_samples(x)
    return shared[id(detector)]


# --------------------------------------------------------------------------------- the printed number


def _with_printed(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Add paper, table and the printed number, and put first what one looks at first."""
    found = printed_numbers(study, rows)
    rows = rows.assign(
        paper=study.paper,
        table=[one.table if one else "" for one in found],
        printed=[one.value if one else np.nan for one in found],
        printed_std=[np.nan if one is None or one.std is None else one.std for one in found],
        printed_metric=[one.metric if one else "" for one in found],
    )
    shown = dict.fromkeys((*SHOWN_FIRST, *kept_rows.COLUMNS, "kept", "differs", "printed_std", "printed_metric"))
    return rows[list(shown)]


def printed_numbers(study: Study, rows: pd.DataFrame) -> list[metrics.Reported | None]:
    """Return for each row of a study the number that the paper prints of the same quantity, None where there is none.

    Raises:
        ValueError: The study names several printed numbers for one row.
    """
    last = rows.index.isin(at_end(rows).index)
    return [_printed(study, row) for row in rows.assign(last=last).to_dict("records")]


def _printed(study: Study, row: Mapping[str, Any]) -> metrics.Reported | None:
    if row["stand_in_for"]:
        return None
    named = study.printed(row)
    if named is None:
        return None
    fields = {"in_set": row["in_set"], "out_set": row["out_set"], "metric": study.metric, **named}
    found = metrics.find_reported(study.paper, **fields)
    if len(found) > 1:
        raise ValueError(
            f"{study.name} expects one printed number for a row, got {len(found)} for {fields}: name more of its fields."
        )
    return found[0] if found else None
