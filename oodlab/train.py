"""Train one of the kit's presets, alone or as one of torchrun's processes.

    python -m oodlab.train nae/eight_gaussians/omi-3 --profile quick --seed 0
    torchrun --standalone --nproc-per-node 2 -m oodlab.train nae/eight_gaussians/omi-3

The notebook then loads what was trained. An interrupted or terminated training ends
after its step, and the same command continues it.

Exit status: 0 trained; 1 failed; 2 the arguments do not fit and nothing ran; 130
interrupted, 143 terminated. torchrun itself answers a failure of any process with 1.

Imports: workspace, runner, training, presets.
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

from oodlab import presets, workspace
from oodlab.presets import Preset
from oodlab.runner import cores
from oodlab.training import parallel, pick_device, train_or_load
from oodlab.training.devices import GRAPHS, PRECISIONS


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        print("\n".join(f"{name:55}  {title}" for name, (_, title) in _trainings().items()))
        return 0
    try:
        preset = _named(arguments) if arguments.pickled is None else None
        pick_device(arguments.device)
    except ValueError as error:
        if os.environ.get("RANK", "0") == "0":  # once, not by every process
            print(error, file=sys.stderr)
        return 2
    try:
        return _train(preset or pickle.loads(arguments.pickled.read_bytes()), arguments)
    except BaseException:
        workspace.report("error", text="\n".join(traceback.format_exc().splitlines()[-12:]))
        raise


def _train(preset: Preset, arguments: argparse.Namespace) -> int:
    """Train, as one of torchrun's processes if it started this one, and return the exit status."""
    if "WORLD_SIZE" in os.environ:
        parallel.end_with(os.getppid(), *([arguments.owner] if arguments.owner else []))
    torch.set_num_threads(arguments.threads or max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        if len(heard) > 1:  # once more: not even this step
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hear)
    device = parallel.join_group(arguments.device)
    result = train_or_load(
        preset,
        seed=arguments.seed,
        device=device,
        precision=arguments.precision,
        graph=arguments.graph,
        should_stop=lambda: bool(heard),
    )
    if parallel.rank() == 0:
        state = "trained" if result.finished else "stopped; the same command continues"
        print(
            f"{preset.name} seed {arguments.seed}: step {result.step} of {preset.steps}, {result.seconds:.1f} s, {state}"
        )
    parallel.leave_group()
    return 0 if result.finished else 128 + (heard[0] if heard else signal.SIGTERM)  # another process was told


def _named(arguments: argparse.Namespace) -> Preset:
    """Return the preset that the arguments name, at its profile.

    Raises:
        ValueError: There is none of that name or no such profile.
    """
    every, name = _trainings(), arguments.preset
    if name not in every:
        near = difflib.get_close_matches(str(name), every, n=1, cutoff=0.0)[0]
        shown = [other for other in every if other.startswith(f"{near.rsplit('/', 1)[0]}/")]
        raise ValueError(
            f"oodlab.train expects a preset <paper>/<notebook>/<variant>, got {name!r}; the nearest is {near}, of\n  "
            + "\n  ".join(shown)
            + "\n--list names those of all experiments."
        )
    return every[name][0].at(arguments.profile)


def _trainings() -> dict[str, tuple[Preset, str]]:
    """Return every training of the kit by its name, with what its experiment calls it."""
    runs = [run for experiment in presets.experiments().values() for run in experiment.runs.items()]
    return {preset.name: (preset, title) for title, preset in runs}


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m oodlab.train", description="Train one preset, as torchrun's too.")
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="<paper>/<notebook>/<variant>; see --list")
    parser.add_argument("--profile", default="quick", help="budget: smoke, quick or paper; default: quick")
    parser.add_argument("--seed", type=int, default=0, help="of weights and run; default: 0")
    parser.add_argument(
        "--device", default="auto", help="cpu or cuda, one GPU for each process; default: cuda if there"
    )
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of the network's arithmetic")
    parser.add_argument("--graph", default="auto", choices=GRAPHS, help="off: no step becomes a CUDA graph")
    parser.add_argument("--threads", type=int, metavar="N", help="of each process; default: the cores, shared out")
    parser.add_argument("--list", action="store_true", help="print the presets and end")
    for name, kind in {"--pickled": Path, "--owner": int}.items():  # training.launch hands over a preset object
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
