"""Tables in files: csv and parquet by pandas, npy by NumPy.

Imports: oodlab.data.arrays; pandas inside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from oodlab.data.arrays import LABELS

TABLES = (".csv", ".npy", ".parquet")


def read_table(file: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return the numbers of a table, its labels (None where it has none) and (); says which column is the label.

    The label is the column named y, label, target or class (in any case), else the only column that holds texts. A first
    column without a name that counts the rows is left out.

    Raises:
        ValueError: The file is damaged, has several columns of labels, or columns that hold neither numbers nor labels.
        ImportError: A parquet file is read without pyarrow.
    """
    import pandas as pd

    if file.suffix.lower() == ".npy":
        try:
            return np.load(file, allow_pickle=False), None, ()
        except (ValueError, EOFError) as error:
            raise ValueError(f"{file} cannot be read as an npy file ({error}): save an array by numpy.save.") from error
    try:
        frame = pd.read_csv(file) if file.suffix.lower() == ".csv" else pd.read_parquet(file)
    except ImportError as error:
        raise ImportError(
            f"{file} expects the package pyarrow, got none: run pip install pyarrow, or save a csv."
        ) from error
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise ValueError(
            f"{file} cannot be read as a table ({type(error).__name__}: {error}): check the file."
        ) from error
    first = frame.columns[0] if len(frame.columns) else ""
    if str(first).startswith("Unnamed") and list(frame[first]) == list(range(len(frame))):
        frame = frame.drop(columns=first)
    named = [name for name in frame if str(name).lower() in LABELS]
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name]) and name not in named]
    labels = named or texts
    if len(labels) > 1 or (named and texts):
        raise ValueError(
            f"{file} expects numbers and at most one column of labels, got {', '.join(map(str, dict.fromkeys(named + texts)))} "
            "as labels or texts: leave out columns that are no numbers, and name the labels y."
        )
    numbers = frame.drop(columns=labels)
    said = f"column {labels[0]!r} is the label" if labels else "no labels"
    print(f"{file.name}: {len(frame):,} rows, {numbers.shape[1]} columns of numbers, {said}")
    y = frame[labels[0]].to_numpy() if labels else None
    return numbers.to_numpy(), y, ()
