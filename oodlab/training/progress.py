"""Progress of a training: a bar, a few lines, or events, whoever watches.

Imports: workspace, training.parallel.
"""

from __future__ import annotations

import sys

from oodlab import workspace
from oodlab.training import parallel


class Progress:
    """A bar where someone watches, ten lines where nobody does, events for the batch runner.

    Of several processes that train together the first one speaks.
    """

    def __init__(self, label: str, total: int, shown: bool) -> None:
        self.label, self.total, self.shown, self.bar, self.said = label, total, shown, None, 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, step: int, numbers: dict[str, float]) -> None:
        """Show where the run stands, with the numbers that matter."""
        if parallel.rank():
            return
        workspace.report("step", label=self.label, step=step, steps=self.total, numbers=numbers)
        watched = not workspace.in_batch() and (sys.stderr.isatty() or _in_notebook())
        if self.bar is None and self.shown and watched:  # not before: a training that is only loaded shows none
            from tqdm.auto import tqdm  # here: importing it costs more than a batch run gains

            self.bar = tqdm(total=self.total, desc=self.label, unit="step", leave=False)
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in numbers.items()}, refresh=False)
        elif self.shown and step * 10 // self.total > self.said:
            self.said = step * 10 // self.total
            shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            print(f"{self.label}: step {step} of {self.total}  {shown}", flush=True)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if parallel.rank():
            return
        workspace.report("said", text=text)
        if self.bar is not None:
            self.bar.write(text)
        else:
            print(text, flush=True)


def _in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")
