"""Images beside what trained autoencoders make of them, and which of these they take for the wrong kind.

Imports: metrics, study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from oodlab import metrics
from oodlab.study import HELD_OUT, Study, Trained, scores


@dataclass(frozen=True)
class Reconstructed:
    """Some test images of every task, by a title: those of the digit held out, and known ones of the first task.

    Attributes:
        images: By title, (N, H, W) in [0, 1].
        made: Reconstructions by method and title, shaped as the images.
        wrong: By method and title, whether the method takes an image for the wrong kind, (N,).
    """

    images: dict[str, np.ndarray] = field(default_factory=dict)
    made: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    wrong: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


def reconstructed(study: Study, trained: Trained, methods: Sequence[str], *, seed: int, shown: int) -> Reconstructed:
    """Reconstruct the first images of each kind, and compare their errors with a threshold.

    The threshold accepts 95 % of the known test images.

    Args:
        study: Study at a profile, of tasks with classes held out.
        trained: Its trainings.
        methods: Names of its methods whose scores are reconstruction errors.
        seed: Seed of the trainings.
        shown: Images of each kind.
    """
    found = Reconstructed(made={name: {} for name in methods}, wrong={name: {} for name in methods})
    for task in study.played:
        inputs = task.load(n=study.budget.test_items, train_n=study.budget.fit_items, seed=study.draw_seed)
        digit = "+".join(map(str, task.held_out))
        kinds = {HELD_OUT: (f"{digit}, held out", inputs.outside[HELD_OUT].x)}
        if task == study.played[0]:
            kinds[task.name] = (f"known, without {digit}", inputs.test.x)
        for method in (one for one in study.chosen if one.name in methods):
            model = trained.models(task, method, seed)["model"].cpu()
            ((_, values),) = scores(study, trained, task, method, seed).items()
            threshold = metrics.threshold_at_tpr(values[task.name])
            for kind, (title, stored) in kinds.items():
                x = method.prepare(inputs, {})(stored[:shown])
                with torch.no_grad():
                    made = model.decode(model.encode(x))
                found.images[title] = x[:, 0].numpy()
                found.made[method.name][title] = made[:, 0].numpy()
                found.wrong[method.name][title] = (values[kind][:shown] >= threshold) == (kind == HELD_OUT)
    return found
