"""Train one of the kit's recipes, alone or as one of torchrun's processes.

    python -m oodlab.batch.train nae/eight_gaussians/NAE-CD --profile quick --seed 0
    python -m oodlab.batch.train "mass/epoch_curves/fashion_mnist: ReLU, vanilla" --profile long
    torchrun --standalone --nproc-per-node 2 -m oodlab.batch.train nae/eight_gaussians/NAE-CD

The notebook then loads what was trained. An interrupted or terminated training ends
after its step, and the same command continues it.

Exit status: 0 trained; 1 failed; 2 the arguments do not fit and nothing ran; 130
interrupted, 143 terminated. torchrun itself answers a failure of any process with 1.

Imports: checks, workspace, runner, training, study, studies.
"""

from __future__ import annotations

import argparse
import difflib
import os
import pickle
import signal
import sys
import traceback
from pathlib import Path

import torch

from oodlab import checks, study, workspace
from oodlab.batch.environment import cores
from oodlab.studies import studies
from oodlab.training import Recipe, parallel, pick_device, train_or_load
from oodlab.training.devices import GRAPHS, PRECISIONS


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.list:
            print("\n".join(_trainings(arguments)))
            return 0
        recipe = _named(arguments) if arguments.pickled is None else None
        pick_device(arguments.device)
    except ValueError as error:
        if os.environ.get("RANK", "0") == "0":  # one process prints it
            print(error, file=sys.stderr)
        return 2
    try:
        return _train(recipe or pickle.loads(arguments.pickled.read_bytes()), arguments)
    except BaseException:
        workspace.report("error", text="\n".join(traceback.format_exc().splitlines()[-12:]))
        raise


def _train(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Train, as one of torchrun's processes if it started this one, and return the exit status."""
    if "WORLD_SIZE" in os.environ:
        parallel.end_with(os.getppid(), *([arguments.owner] if arguments.owner else []))
    torch.set_num_threads(arguments.threads or max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        if len(heard) > 1:  # the second signal does not wait for the end of the step
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hear)
    device = parallel.join_group(arguments.device)
    result = train_or_load(
        recipe,
        seed=arguments.seed,
        device=device,
        precision=arguments.precision,
        graph=arguments.graph,
        should_stop=lambda: bool(heard),
    )
    if parallel.rank() == 0:
        state = "trained" if result.finished else "stopped; the same command continues"
        print(
            f"{recipe.name} seed {arguments.seed}: step {result.step} of {recipe.steps}, {result.seconds:.1f} s, {state}"
        )
    parallel.leave_group()
    return 0 if result.finished else 128 + (heard[0] if heard else signal.SIGTERM)  # another process got the signal


def _named(arguments: argparse.Namespace) -> Recipe:
    """Return the recipe that the arguments name.

    Raises:
        ValueError: There is none of that name, or no such profile.
    """
    every, name = _trainings(arguments), arguments.recipe
    if name not in every:
        near = difflib.get_close_matches(str(name), every, n=1, cutoff=0.0)[0]
        shown = [other for other in every if other.startswith(f"{near.rsplit('/', 1)[0]}/")]
        raise ValueError(
            f"oodlab.batch.train expects the name of a training, got {name!r}; at profile {arguments.profile} the nearest is {near}, of\n  "
            + "\n  ".join(shown)
            + "\n--list names all."
        )
    return every[name]


def _trainings(arguments: argparse.Namespace) -> dict[str, Recipe]:
    """Return every training of the kit at a profile and as a source has it, by its name."""
    profile, source = arguments.profile, arguments.source
    checks.one_of("oodlab.batch.train", "profile", profile, study.PROFILES)
    recipes: list[Recipe] = []
    for one in studies().values():
        if profile in one.budgets and source in one.sources:
            recipes += one.at(profile, source).recipes.values()
    return {recipe.name: recipe for recipe in recipes}


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m oodlab.batch.train", description="Train one recipe, alone or as one of torchrun's processes."
    )
    parser.add_argument("recipe", nargs="?", metavar="NAME", help="<paper>/<notebook>/...; see --list")
    parser.add_argument("--profile", default="quick", help="budget, one of the notebook's; default: quick")
    parser.add_argument(
        "--source", default="printed", choices=study.SOURCES, help="the paper's text, or the authors' code"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial weights and of the run; default: 0")
    parser.add_argument(
        "--device", default="auto", help="cpu or cuda, one GPU for each process; default: cuda if there"
    )
    parser.add_argument(
        "--precision", default="auto", choices=PRECISIONS, help="number format of the network's arithmetic"
    )
    parser.add_argument("--graph", default="auto", choices=GRAPHS, help="off: no step becomes a CUDA graph")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of each process; default: the cores, divided by the processes"
    )
    parser.add_argument("--list", action="store_true", help="print the names at this profile and end")
    for name, kind in {"--pickled": Path, "--owner": int}.items():  # training.launch hands over a recipe
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
