"""The grammar of studies: Task, Method, Study, evaluate; it knows no paper.

study = STUDY.at("quick")
trained = study.trained()
rows = evaluate(study, trained)
"""

from oodlab.study.claims import Claim, Verdict, Verdicts, decide, overall, verdicts
from oodlab.study.evaluate import at_end, earlier, evaluate, printed_numbers, scores
from oodlab.study.measures import Measured, measured
from oodlab.study.method import Method, Models, no_training
from oodlab.study.study import PROFILES, SOURCES, Budget, Study, Trained
from oodlab.study.task import HELD_OUT, Drawn, Inputs, Made, Sample, Task
from oodlab.training import Recipe

__all__ = [
    "HELD_OUT",
    "PROFILES",
    "SOURCES",
    "Budget",
    "Claim",
    "Drawn",
    "Inputs",
    "Made",
    "Measured",
    "Method",
    "Models",
    "Recipe",
    "Sample",
    "Study",
    "Task",
    "Trained",
    "Verdict",
    "Verdicts",
    "at_end",
    "decide",
    "earlier",
    "evaluate",
    "measured",
    "no_training",
    "overall",
    "printed_numbers",
    "scores",
    "verdicts",
]
