"""Trainings that are kept: train a recipe, go on with it, or load what it has become.

A training lies below the runs folder under its recipe's key and its seed, so whoever asks
for the same training finds it, whatever they call it.

Imports: checks, identity, workspace, its own folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from torch import nn

from oodlab import checks, identity, workspace
from oodlab.training import parallel
from oodlab.training.batches import Batch
from oodlab.training.checkpoints import CHECKPOINT, read_checkpoint
from oodlab.training.devices import GRAPHS, PRECISIONS, is_small, own_randomness, pick_device, pick_precision
from oodlab.training.loop import OnStep, Result, fit
from oodlab.training.progress import Progress
from oodlab.training.recipe import Recipe, built, weights_that_fit

WORTH_A_PROCESS = 1000  # updates in all; below it starting processes costs more than they save
RAN = "ran.json"  # beside a checkpoint: what it was made on
UNUSUAL = ("diverged", "continues", "begins with")  # what a worker's output is searched for

Pair = tuple[Recipe, int]  # a training: a recipe and a seed


def train_or_load(
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    graph: str = "auto",
    anew: bool | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_step: OnStep | None = None,
) -> Result:
    """Train a recipe, go on with its unfinished training, or load the finished one.

    What it needs is trained or loaded first, and kept in the same way for all that need it.

    Args:
        recipe: See training.Recipe.
        seed: Seed of the initial weights and of the run, also of what it needs.
        anew: Train again what is finished, but not what it needs; None asks workspace.trains_anew.
        device, precision, graph, should_stop, on_step: The arguments of fit; on_step is of this training only.

    Returns:
        The training's result, or, where should_stop ended one that it needs, that one's.
    """
    check_recipe("train_or_load", recipe, seed, precision, graph)
    given = {"device": device, "precision": precision, "graph": graph, "should_stop": should_stop}
    if workspace.trains_anew() if anew is None else anew:
        parallel.from_first(partial(forget, recipe, seed))
    finished = parallel.from_first(partial(is_finished, recipe, seed))
    needs: dict[str, nn.Module] = {}
    if recipe.needs and (recipe.takes_needs or not finished):
        for role, need in recipe.needs.items():
            found = train_or_load(need, seed=seed, anew=False, **given)
            if not found.finished:
                return found
            needs[role] = found.model
    model = built(recipe, needs, seed, pick_device(device))
    folder = folder_of(recipe, seed)
    if recipe.begins_with and not parallel.from_first((folder / CHECKPOINT).exists):
        said = copy_weights(needs[recipe.begins_with], model, recipe)
        if said and parallel.rank() == 0:
            print(said)
    result = fit(
        model,
        recipe.begin(model, needs),
        _not_needed if finished else recipe.feed(needs),
        optimiser=recipe.optimiser,
        steps=recipe.steps,
        warm_up=recipe.warm_up,
        schedule=recipe.schedule,
        probe=recipe.probe() if recipe.probe else None,
        probes=recipe.probes,
        snapshots=recipe.snapshots,
        seed=seed,
        folder=folder,
        identity=recipe.text,
        on_step=on_step,
        label=f"{recipe.name} seed {seed}",
        **given,
    )
    if not finished and parallel.rank() == 0:
        place = pick_device(device)
        name = str(place) if place.type == "cpu" else torch.cuda.get_device_name(place)
        said = {"device": name, "precision": str(pick_precision(precision, model, place)).removeprefix("torch.")}
        workspace.write_json(folder / RAN, said)
    return result


def ran(recipe: Recipe, seed: int) -> dict[str, str]:
    """Return the device and the precision that a kept training ran with, its last part if it was interrupted."""
    file = folder_of(recipe, seed) / RAN
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"device": "", "precision": ""}


def _not_needed(step: int, generator: torch.Generator) -> Batch:
    """Stand in for the batches of a finished training, whose data may be absent."""
    raise RuntimeError(f"a finished training expects no further batch, got one asked for at step {step}.")


def copy_weights(source: nn.Module, model: nn.Module, recipe: Recipe) -> str:
    """Copy weights whose names and shapes match into a model, and return which did not match, "" if all did.

    Raises:
        ValueError: None match.
    """
    given, own = source.state_dict(), model.state_dict()
    fits = weights_that_fit(given, own)
    if not fits:
        raise ValueError(
            f"{recipe.name} expects to begin with weights of {recipe.needs[recipe.begins_with].name}, got none whose name and "
            f"shape match: it has {', '.join(list(own)[:3])}, the other {', '.join(list(given)[:3])}; leave begins_with empty, "
            "or name another role."
        )
    model.load_state_dict({**own, **fits})
    fresh, left = [name for name in own if name not in fits], [name for name in given if name not in fits]
    if not fresh and not left:
        return ""
    return (
        f"{recipe.name} begins with {len(fits)} of the tensors of {recipe.needs[recipe.begins_with].name}; "
        f"fresh: {', '.join(fresh) or 'none'}; not used: {', '.join(left) or 'none'}"
    )


def train_or_load_all(
    recipes: Mapping[str, Recipe],
    seeds: Mapping[str, Sequence[int]],
    *,
    device: str = "auto",
    precision: str = "auto",
    graph: str = "auto",
) -> dict[str, list[Result]]:
    """Train or load several recipes for several seeds each; see train_each.

    Args:
        recipes: Recipes by name.
        seeds: Seeds by the same names.
        device, precision, graph: The arguments of fit.
    """
    for name, recipe in recipes.items():
        if not isinstance(seeds.get(name), Sequence) or not len(seeds[name]):
            raise ValueError(
                f"train_or_load_all expects seeds for {name!r}, got {seeds.get(name)!r}: give a sequence such as range(3)."
            )
        for seed in seeds[name]:
            check_recipe("train_or_load_all", recipe, seed, precision, graph)
    given = {"device": device, "precision": precision, "graph": graph}
    pairs = [(recipe, seed) for name, recipe in recipes.items() for seed in seeds[name]]
    for _ in train_each(pairs, **given):
        pass
    return {
        name: [train_or_load(recipe, seed=seed, anew=False, **given) for seed in seeds[name]]
        for name, recipe in recipes.items()
    }


def train_each(
    pairs: Sequence[Pair], *, device: str = "auto", precision: str = "auto", graph: str = "auto"
) -> Generator[Pair, None, None]:
    """Train what is not finished of these, and what it needs first; yield each of them once it is finished.

    Small networks use one core each (see fit); on a CPU they train side by side, in as many
    processes as this one has threads, through their checkpoints. Those processes train while
    the caller works on what was yielded, and end when the iterator is closed.

    Args:
        pairs: Trainings; those that are finished are yielded first.
        device, precision, graph: The arguments of fit.
    """
    asked = {folder_of(*pair): pair for pair in pairs}
    if workspace.trains_anew():
        for recipe, seed in asked.values():
            forget(recipe, seed)
    done = {folder for folder, pair in asked.items() if is_finished(*pair)}
    yield from (asked[folder] for folder in done)
    waves = _waves([pair for folder, pair in asked.items() if folder not in done])
    workers = min(torch.get_num_threads(), max(map(len, waves), default=0)) if pick_device(device).type == "cpu" else 1
    worth_it = sum(recipe.steps for wave in waves for recipe, _ in wave) >= WORTH_A_PROCESS
    typed = any(_is_typed_here(recipe) for wave in waves for recipe, _ in wave)  # other processes cannot import it
    side_by_side = (
        workers > 1 and worth_it and not typed and all(_builds_small(recipe) for wave in waves for recipe, _ in wave)
    )
    for wave in waves:
        if side_by_side:
            finished = _side_by_side(wave, workers, precision, graph)
        else:
            finished = _one_by_one(wave, device, precision, graph)
        with contextlib.closing(finished):  # the traceback of an interrupt right here would keep it, and its processes
            yield from (pair for pair in finished if folder_of(*pair) in asked)


def _one_by_one(pairs: Sequence[Pair], device: str, precision: str, graph: str) -> Generator[Pair, None, None]:
    for recipe, seed in pairs:
        train_or_load(recipe, seed=seed, device=device, precision=precision, graph=graph, anew=False)
        yield recipe, seed


def check_recipe(who: str, recipe: Recipe, seed: int, precision: str, graph: str) -> None:
    """Refuse what is no recipe, seed, precision or graph option."""
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"{who} expects a recipe, got {type(recipe).__name__}: a study's trainings are in its "
            "`recipes`; pass one of them, at a profile."
        )
    checks.whole(who, "seed", seed, least=0)
    checks.one_of("precision", "one of", precision, PRECISIONS)  # as fit says it
    checks.one_of(who, "graph", graph, GRAPHS)


def _is_typed_here(recipe: Recipe) -> bool:
    return any(found.__module__ == "__main__" for found in identity.definitions_in(recipe)) and not hasattr(
        sys.modules["__main__"], "__file__"
    )


def _builds_small(recipe: Recipe) -> bool:
    with own_randomness(0, torch.device("cpu")):  # building a model draws its weights
        return is_small(untrained(recipe))


def untrained(recipe: Recipe) -> nn.Module:
    """Build a recipe's network with random weights, and in the same way what it is built from."""
    return recipe.build({role: untrained(need) for role, need in recipe.needs.items()} if recipe.takes_needs else {})


def folder_of(recipe: Recipe, seed: int) -> Path:
    """Return where a training's files lie; other code, another setting or other data have another folder."""
    return workspace.runs_folder() / "checkpoints" / f"{recipe.key}-seed{seed}"


def forget(recipe: Recipe, seed: int) -> None:
    """Delete a finished training; an unfinished one goes on, as it belongs to a run that was interrupted."""
    if is_finished(recipe, seed):
        for file in folder_of(recipe, seed).glob("*.pt"):
            file.unlink()


def is_finished(recipe: Recipe, seed: int) -> bool:
    """Return whether train_or_load would load this training whole."""
    file = folder_of(recipe, seed) / CHECKPOINT
    return file.exists() and read_checkpoint(file, recipe.text)["step"] == recipe.steps


def _waves(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Put these trainings, and the unfinished ones that they need, behind what they need."""
    chosen: dict[Path, Pair] = {}
    waiting = list(pairs)
    while waiting:
        recipe, seed = waiting.pop(0)
        chosen.setdefault(folder_of(recipe, seed), (recipe, seed))
        waiting += [(need, seed) for need in recipe.needs.values() if not is_finished(need, seed)]
    waves: dict[int, list[Pair]] = {}
    for recipe, seed in chosen.values():
        waves.setdefault(_depth(recipe), []).append((recipe, seed))
    return [wave for _, wave in sorted(waves.items())]


def _depth(recipe: Recipe) -> int:
    return 1 + max(map(_depth, recipe.needs.values())) if recipe.needs else 0


def _side_by_side(pairs: Sequence[Pair], workers: int, precision: str, graph: str) -> Generator[Pair, None, None]:
    spawn = multiprocessing.get_context("spawn")  # fork would copy a process whose threads hold locks
    stop = spawn.Event()
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(stop, os.getpid()))
    try:
        with Progress(f"{len(pairs)} trainings, {workers} at a time", len(pairs), True) as progress:
            futures = {
                pool.submit(_train_one, recipe, seed, precision, graph): (recipe, seed) for recipe, seed in pairs
            }
            for done, future in enumerate(as_completed(futures), 1):
                said = future.result()
                progress.show(done, {})
                for line in said:
                    progress.say(line)
                yield futures[future]
    finally:  # after an error or an interrupt the workers write their checkpoints and end
        stop.set()
        pool.shutdown(cancel_futures=True)  # waits: whoever runs the cell again finds nobody writing


# ------------------------------------------------------------------------- in a worker process

_stop: Event | None = None


def _start_worker(stop: Event, parent: int) -> None:
    """Keep the worker on one thread, and let it end with the process that started it."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent turns it into stop
    torch.set_num_threads(1)
    parallel.end_with(parent)


def _train_one(recipe: Recipe, seed: int, precision: str, graph: str) -> list[str]:
    """Train; the result reaches the caller as a checkpoint, what is unusual as text."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        train_or_load(recipe, seed=seed, device="cpu", precision=precision, graph=graph, should_stop=_stop.is_set)
    return [line for line in said.getvalue().splitlines() if any(word in line for word in UNUSUAL)]
