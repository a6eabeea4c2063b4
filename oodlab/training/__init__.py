"""One training loop for every objective, and trainings kept on disk."""

from oodlab.training.batches import Batch, Batches, Beside, Fresh, Shuffled, Transformed
from oodlab.training.checkpoints import read_checkpoint, read_snapshot, write_checkpoint
from oodlab.training.devices import pick_device, pick_precision
from oodlab.training.launch import train_or_load_in_parallel
from oodlab.training.loop import HISTORY_ROWS, Result, fit, snapshot_steps
from oodlab.training.optimisers import Adam, LinearTail
from oodlab.training.recipe import Recipe
from oodlab.training.run import Guard
from oodlab.training.stored import is_finished, train_each, train_or_load, train_or_load_all

__all__ = [
    "HISTORY_ROWS",
    "Adam",
    "Batch",
    "Batches",
    "Beside",
    "Fresh",
    "Guard",
    "LinearTail",
    "Recipe",
    "Result",
    "Shuffled",
    "Transformed",
    "fit",
    "is_finished",
    "pick_device",
    "pick_precision",
    "read_checkpoint",
    "read_snapshot",
    "snapshot_steps",
    "train_each",
    "train_or_load",
    "train_or_load_all",
    "train_or_load_in_parallel",
    "write_checkpoint",
]
