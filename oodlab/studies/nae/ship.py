"""Write the trainings that come with the kit: `make trained`, after a recipe of studies.nae.shipped or its code changed.

What the run store lacks is trained there first, minutes each; files of other trainings are removed.

Imports: its own folder, training, widgets.kept.
"""

from __future__ import annotations

from oodlab import training
from oodlab.studies.nae import shipped
from oodlab.widgets import kept


def main() -> None:
    """Write all, and say what stands."""
    files = {
        kept.write_shipped(recipe, training.train_or_load(recipe, seed=seed, anew=False), seed=seed)
        for recipe, seed in shipped.SHIPPED
    }
    for file in set(kept.FOLDER.glob("*.pt")) - files:
        file.unlink()
    for file in sorted(files):
        print(f"{file.stat().st_size / 1e6:.2f} MB  {file}")


if __name__ == "__main__":
    main()
