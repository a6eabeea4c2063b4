"""Write the trainings that come with the kit: `make trained`, after a preset of presets.nae.SHIPPED or its code changed.

What the run store lacks is trained there first, minutes each; files of other settings are removed.

Imports: presets, training, widgets.kept.
"""

from __future__ import annotations

from oodlab import presets, training
from oodlab.widgets import kept


def main() -> None:
    """Write all, and say what stands."""
    files = {
        kept.write_shipped(preset, training.train_or_load(preset, seed=seed, anew=False), seed=seed)
        for preset, seed in presets.nae.SHIPPED
    }
    for file in set(kept.FOLDER.glob("*.pt")) - files:
        file.unlink()
    for file in sorted(files):
        print(f"{file.stat().st_size / 1e6:.2f} MB  {file}")


if __name__ == "__main__":
    main()
