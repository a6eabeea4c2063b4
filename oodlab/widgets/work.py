"""Run, Stop, progress and a word on how it goes: what panels have that work in the background.

Imports: none.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable

import ipywidgets as w


class Work:
    """Run and Stop, a bar and a status line, and the one thread behind them.

    Args:
        run: On the first button; what it does is its panel's.
        width: Width of the status line, pixels.
        more: Whether the first button may be pressed (again).

    Attributes:
        run_button, stop_button, bar, status: To be laid out by the panel.
    """

    def __init__(self, run: str, *, width: int, more: Callable[[], bool] = lambda: True) -> None:
        self._width, self._more = width, more
        self._stop, self._busy = threading.Event(), False
        self._thread: threading.Thread | None = None
        self.run_button = w.Button(description=run, button_style="primary", icon="play")
        self.stop_button = w.Button(description="Stop", disabled=True, icon="stop")
        self.bar = w.IntProgress(min=0, max=1, layout=w.Layout(width="220px"))
        self.status = w.HTML()
        self.stop_button.on_click(lambda _: self.stop())

    @property
    def running(self) -> bool:
        """Whether something is being done."""
        return self._busy

    def start(self, act: Callable[[Callable[[], bool]], str]) -> None:
        """Do act(should_stop) in a thread and say what it returns, or its error; while something is done, do nothing."""
        if self._busy:
            return
        self._busy = True
        self._stop.clear()
        self.run_button.disabled, self.stop_button.disabled = True, False
        self.bar.value, self.bar.bar_style = 0, ""
        self.say("starts ...")
        self._thread = threading.Thread(target=self._do, args=(act,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask what is done to stop."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end of what is done."""
        thread = self._thread
        if thread is not None:
            while thread.ident is None:  # another thread is just starting it
                time.sleep(0.001)
            thread.join(timeout)

    def say(self, what: str | Exception) -> None:
        """Write into the status line; an error in red."""
        text = html.escape(f"{type(what).__name__}: {what}" if isinstance(what, Exception) else what)
        text = f"<span style='color:#b00'>{text}</span>" if isinstance(what, Exception) else text
        self.status.value = f"<div style='width:{self._width}px'>{text}</div>"

    def _do(self, act: Callable[[Callable[[], bool]], str]) -> None:
        said, style = "", "danger"
        try:
            said = act(self._stop.is_set)
            style = "warning" if self._stop.is_set() else "success"
        except Exception as error:  # shown on the panel: a thread's traceback would go to the log
            said = error
        finally:
            self.bar.bar_style = style
            self.run_button.disabled, self.stop_button.disabled = not self._more(), True
            self._busy = False
            self.say(said)  # last: who reads it may press the button
