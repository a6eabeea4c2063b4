"""One notebook in one kernel: a process with a folder and an environment of its own.

papermill runs the cells; this module adds what papermill does not do: parameters, progress and the end of a kernel. On Linux and
macOS the kernel is reached by sockets in a temporary folder of its own, so that
many can start at once without racing for ports; elsewhere by TCP.

Importing this takes two seconds (papermill), so the runner does it late.

Imports: papermill, nbformat, jupyter_client.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError, strip_color

logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the runner prints its errors once
SOCKETS = sys.platform != "win32"


class ExplainedError(RuntimeError):
    """A notebook failed; the text is the whole explanation for the user."""


class Kernel:
    """Runs one notebook; another thread may kill it.

    Args:
        folder: The kernel's working folder, which must exist; what the process itself
            prints goes to kernel.log in it.
        environment: The kernel's whole environment.
    """

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        self.environment = environment
        self._manager: AsyncKernelManager | None = None

    def execute(
        self,
        path: Path,
        output: Path,
        *,
        parameters: dict[str, Any],
        on_start: Callable[[], None],
        on_cell: Callable[[int, int], None],
    ) -> None:
        """Run the notebook to its end.

        Args:
            path: The notebook; left unchanged.
            output: Where the executed notebook goes; saved with every cell and every 5 s.
            parameters: Values of a cell inserted after the parameters cell.
            on_start: Called when the work begins.
            on_cell: Called with (number from 1, of how many) when a code cell starts.

        Raises:
            Exception: Any error of papermill, nbclient or jupyter_client; see `explain`.
        """
        on_start()
        notebook = nbformat.read(path, as_version=4)
        # Not through papermill's own parameters: it turns a tuple into a string and
        # warns of parameters whose line it cannot parse.
        source = "".join(f"{name} = {value!r}\n" for name, value in parameters.items())
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
        tags = [other.metadata.get("tags", []) for other in notebook.cells]
        notebook.cells.insert(1 + next(i for i, names in enumerate(tags) if "parameters" in names), cell)
        code = [i for i, other in enumerate(notebook.cells) if other.cell_type == "code"]

        def started(cell_index: int, **_: Any) -> None:
            if cell_index in code:
                on_cell(code.index(cell_index) + 1, len(code))

        # A socket's path may have about 100 characters, so a long TMPDIR will not do.
        short = None if len(tempfile.gettempdir()) < 60 or not SOCKETS else "/tmp"
        sockets = Path(tempfile.mkdtemp(prefix="oodlab-", dir=short))
        try:
            with open(self.folder / "kernel.log", "wb") as log:
                papermill.execute_notebook(
                    notebook,
                    str(output),
                    kernel_name="python3",
                    kernel_manager_class=self._manager_class(sockets, log),
                    resources={"metadata": {"path": str(self.folder)}},  # never cwd=: it moves all threads
                    on_cell_start=started,
                    autosave_cell_every=5,
                    progress_bar=False,
                )
        finally:
            self.kill()
            shutil.rmtree(sockets, ignore_errors=True)

    def kill(self) -> None:
        """End the kernel and the processes it started, if it runs."""
        provisioner = self._manager.provisioner if self._manager else None
        process: subprocess.Popen | None = getattr(provisioner, "process", None)
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it may end at this very moment
                if SOCKETS:
                    os.killpg(process.pid, signal.SIGKILL)  # a kernel leads a group of its own
                else:
                    process.kill()

    def _manager_class(self, sockets: Path, log: Any) -> type[AsyncKernelManager]:
        """Return the class that nbclient makes this kernel's manager from."""
        kernel = self

        class Manager(AsyncKernelManager):
            def __init__(self, **options: Any):
                # "ip" of sockets: the common beginning of their paths
                place = {"transport": "ipc", "ip": str(sockets / "s")} if SOCKETS else {}
                super().__init__(
                    connection_file=str(sockets / "kernel.json"),
                    kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # python3 is this interpreter
                    **place,
                    **options,
                )
                kernel._manager = self

            async def start_kernel(self, **options: Any) -> None:
                await super().start_kernel(env=kernel.environment, stdout=log, stderr=log, **options)

        return Manager


def explain(error: Exception, log: Path, *, lines: int = 12) -> str:
    """Return the last lines that tell a user why `execute` failed.

    Args:
        error: What `execute` raised.
        log: The kernel's kernel.log.
        lines: How many lines at most.
    """
    if isinstance(error, ExplainedError):
        text = str(error)
    elif isinstance(error, PapermillExecutionError):
        text = strip_color("\n".join(error.traceback)).lstrip("-") or f"{error.ename}: {error.evalue}"
    elif isinstance(error, DeadKernelError):
        printed = log.read_text(encoding="utf-8", errors="replace")
        text = f"{printed}\nThe kernel died; the usual reason is that the machine ran out of memory."
    else:
        text = f"{type(error).__name__}: {error}"
    return "\n".join(text.strip().splitlines()[-lines:])
