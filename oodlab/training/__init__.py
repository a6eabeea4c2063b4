"""One training loop for every objective, and trainings kept on disk."""

from oodlab.training.batches import Batch, Batches, Fresh, Shuffled, Transformed
from oodlab.training.checkpoints import read_checkpoint, write_checkpoint
from oodlab.training.devices import pick_device, pick_precision
from oodlab.training.launch import train_or_load_in_parallel
from oodlab.training.loop import HISTORY_ROWS, Guard, LinearTail, Result, adam, fit
from oodlab.training.stored import DECIDES_A_TRAINING, Trainable, is_finished, train_or_load, train_or_load_all

__all__ = [
    "DECIDES_A_TRAINING",
    "HISTORY_ROWS",
    "Batch",
    "Batches",
    "Fresh",
    "Guard",
    "LinearTail",
    "Result",
    "Shuffled",
    "Trainable",
    "Transformed",
    "adam",
    "fit",
    "is_finished",
    "pick_device",
    "pick_precision",
    "read_checkpoint",
    "train_or_load",
    "train_or_load_all",
    "train_or_load_in_parallel",
    "write_checkpoint",
]
