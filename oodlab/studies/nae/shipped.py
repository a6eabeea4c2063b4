"""Trainings whose weights come with the kit, for panels to begin with: the one place that names them.

Figures never use them. `make trained` writes their files.

Imports: its own folder.
"""

from __future__ import annotations

from oodlab.studies.nae.images import GREY, digits_task, image_recipe, scale_of
from oodlab.study import Recipe, Task

HELD_OUT = 9  # tables 6 to 8


def quick_recipe(method: str, task: Task) -> Recipe:
    """Return the training of a method on a task of grey images at the quick profile, as printed."""
    return image_recipe(method, task, scale_of("quick", "printed", GREY), "printed")


SHIPPED: tuple[tuple[Recipe, int], ...] = tuple(  # with their seed; what the panels on digits need as they open
    (quick_recipe(method, digits_task(*held_out, profile="quick")), 0)
    for held_out in ((), (HELD_OUT,))
    for method in ("AE", "NAE-OMI")
)
