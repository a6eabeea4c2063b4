"""Cores of this machine, and the environment of a kernel that may use some of them.

Imports: workspace; data when a kernel is to start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from oodlab import workspace


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(inherited: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the environment of a kernel that may use so many threads; all folders are absolute."""
    from oodlab.data.search import cache_folder, search_path  # not above: importing torch takes a second

    environment = dict(inherited)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # torch reads them when it starts
        named = environment.get(name, "")
        environment[name] = str(min(threads, int(named)) if named.isdigit() else threads)
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a notebook may load torch before it loads oodlab
    environment["OODLAB_RUNS"] = str(workspace.runs_folder())
    if environment.get("OODLAB_ROWS"):
        environment["OODLAB_ROWS"] = str(workspace.rows_folders()[0])
    environment["OODLAB_CACHE"] = str(cache_folder())
    environment["OODLAB_DATA"] = os.pathsep.join(str(folder) for folder in search_path())
    return environment
