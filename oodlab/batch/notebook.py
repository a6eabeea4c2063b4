"""Notebooks on disk: which there are, and what their parameters accept.

The notebook `<paper>/<notebook>` is the file `<folder>/<paper>/<notebook>.ipynb`.
Files at the top of the folder (index, template) and files or folders whose name
starts with `_` or `.` do not count. Its parameters are the literals of
the one cell tagged `parameters`, one assignment a line; the line's comment is
the help text and may restrict the value: `choices: a | b | c`, `range: 0..10`.

Notebooks are read as the JSON they are: nbformat takes a second to import.

Imports: the standard library.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROFILES = ("smoke", "quick", "long", "full")
TYPES = (bool, int, float, str, list, tuple)


class UsageError(ValueError):
    """A command's arguments or a notebook's declarations do not fit; nothing has run."""


@dataclass(frozen=True)
class Parameter:
    """One assignment of a parameters cell.

    Attributes:
        name: Variable the notebook reads.
        default: Literal of one of TYPES; its type is the parameter's type.
        comment: Help text, as written.
        choices: Allowed values as text, () for any; of a list, of each element.
        bounds: Smallest and largest allowed number, None for any; of a list, of each element.
    """

    name: str
    default: Any
    comment: str
    choices: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None

    @property
    def type(self) -> str:
        """Name of the type a value must have."""
        return type(self.default).__name__

    def convert(self, text: str) -> Any:
        """Turn text from a command line into a value of the default's type.

        Raises:
            ValueError: the text is no such value; the message says why.
        """
        kind = type(self.default)
        if kind is str:
            return text
        if kind is bool:
            if text.lower() not in ("true", "false"):
                raise ValueError("a bool is true or false")
            return text.lower() == "true"
        if kind in (int, float):
            value = kind(text)
            if not math.isfinite(value):
                raise ValueError("a number must be finite")
            return value
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = None
        if not isinstance(value, list | tuple):
            raise ValueError(f'a {self.type} is written like "[1, 2]", its strings in quotes')
        wanted = {type(element) for element in self.default}
        if float in wanted:
            value = [float(element) if type(element) is int else element for element in value]
        strange = [element for element in value if wanted and type(element) not in wanted]
        if strange:
            raise ValueError(f"its element {strange[0]!r} differs in type from those of {self.default!r}")
        return kind(value)

    def check(self, value: Any) -> None:
        """Raise ValueError, saying why, unless a value of the right type is allowed."""
        for element in value if isinstance(value, list | tuple) else [value]:
            if self.choices and str(element) not in self.choices:
                near = difflib.get_close_matches(str(element), self.choices, 1)
                hint = f" (the nearest is {near[0]})" if near else ""
                raise ValueError(f"the choices are {' | '.join(self.choices)}{hint}")
            if self.bounds and not self.bounds[0] <= element <= self.bounds[1]:
                raise ValueError(f"the range is {self.bounds[0]:g}..{self.bounds[1]:g}")


@dataclass(frozen=True)
class Notebook:
    """A notebook that draws figures, as its file declares it."""

    name: str  # <paper>/<notebook>
    path: Path
    title: str  # the first heading
    parameters: dict[str, Parameter]
    code: tuple[str, ...]  # sources of the code cells
    core: bool  # runs when no name is given
    figures: str  # figures of the paper that it draws
    estimate: dict[str, dict[str, float]]  # profile -> seconds, megabytes; measured on two cores

    def seconds(self, profile: str | None) -> float:
        """Return about how long a run takes on two cores, infinity where no one has measured it.

        Args:
            profile: Budget; None takes the notebook's own.
        """
        chosen = profile or self.parameters["profile"].default
        return self.estimate.get(chosen, {}).get("seconds", math.inf)


def find(folder: Path) -> list[Path]:
    """Return the files below a folder of notebooks, sorted by name."""
    hidden = ("_", ".")
    return [
        file
        for file in sorted(folder.glob("*/*.ipynb"))
        if not file.name.startswith(hidden) and not file.parent.name.startswith(hidden)
    ]


def name_of(path: Path) -> str:
    """Return the notebook's name, `<paper>/<notebook>`."""
    return f"{path.parent.name}/{path.stem}"


def choose(names: Iterable[str], folder: Path) -> list[Path]:
    """Find notebooks by full name, by the notebook's name if unique, or by paper key.

    Raises:
        UsageError: a name matches nothing (the nearest is named) or more than one paper.
    """
    files = {name_of(path): path for path in find(folder)}
    chosen: dict[str, Path] = {}
    for name in names:
        hits = [full for full in files if name in (full, full.split("/")[0])]
        hits = hits or [full for full in files if full.split("/")[1] == name]
        if not hits:
            known = [*files, *(part for full in files for part in full.split("/"))]
            what = _nearest(name, known) or f"see oodlab list --notebooks {folder}"
            raise UsageError(f"oodlab expects a notebook, got {name!r}: {folder} has none of this name; {what}.")
        if len(hits) > 1 and name not in (full.split("/")[0] for full in hits):
            raise UsageError(
                f"oodlab expects one notebook per name, got {name!r}: it stands for {' and '.join(hits)}; "
                "write the paper before it."
            )
        chosen |= {full: files[full] for full in hits}
    return list(chosen.values())


def read(path: Path) -> Notebook:
    """Read one notebook file.

    Raises:
        UsageError: it is not a notebook, or its parameters are not declared as they must be.
    """
    name = name_of(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = [(cell["cell_type"], "".join(cell["source"]), cell["metadata"]) for cell in content["cells"]]
        declared = content["metadata"].get("oodlab", {})
        estimate = {key: dict(cost) for key, cost in declared.get("estimate", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{name} expects a notebook of format 4, got {path}: {error!r}; open and save it in JupyterLab."
        ) from error
    code = [(source, meta.get("tags", [])) for kind, source, meta in cells if kind == "code"]
    tagged = [source for source, tags in code if "parameters" in tags]
    if len(tagged) != 1:
        raise UsageError(
            f"{name} expects one code cell tagged parameters, got {len(tagged)}: values given to a run "
            f"replace those of this cell; tag it in {path}."
        )
    headings = [line for kind, source, _ in cells if kind == "markdown" for line in source.splitlines()]
    return Notebook(
        name=name,
        path=path,
        title=next((line.lstrip("# ").strip() for line in headings if line.startswith("#")), path.stem),
        parameters=_parameters(tagged[0], name),
        code=tuple(source for source, _ in code),
        core=bool(declared.get("core")),
        figures=declared.get("figures", ""),
        estimate=estimate,
    )


def resolve(notebook: Notebook, given: Iterable[str]) -> dict[str, Any]:
    """Return the value of every parameter for a run, checked.

    Args:
        notebook: What is to run.
        given: Texts "NAME=VALUE"; the last of a name counts.

    Raises:
        UsageError: every unknown name, wrong type, value out of range or no choice.
    """
    values = {name: parameter.default for name, parameter in notebook.parameters.items()}
    wrong = []
    for pair in given:
        name, equals, text = pair.partition("=")
        parameter = notebook.parameters.get(name)
        if not equals:
            wrong.append(f"{notebook.name} expects NAME=VALUE, got {pair!r}: it has no =; add one.")
        elif parameter is None:
            known = ", ".join(notebook.parameters)
            what = _nearest(name, notebook.parameters) or "leave it out"
            wrong.append(f"{notebook.name} expects a parameter of its own, got {name!r}: it has {known}; {what}.")
        else:
            try:
                values[name] = parameter.convert(text)
                parameter.check(values[name])
            except ValueError as error:
                wrong.append(
                    f"{notebook.name} expects {name} of type {parameter.type}, got {text!r}: {error}; "
                    f"write for example {name}={parameter.default}."
                )
    if wrong:
        raise UsageError("\n".join(wrong))
    return values


def _parameters(source: str, name: str) -> dict[str, Parameter]:
    """Parse the parameters cell of notebook `name`."""
    lines = source.splitlines()
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise UsageError(
            f"{name} expects a parameters cell in Python, got {error.text!r}: {error.msg}; correct the cell."
        ) from error
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ").strip()
    found: dict[str, Parameter] = {}
    for statement in statements:
        line = lines[statement.lineno - 1]
        try:
            targets = [statement.target] if isinstance(statement, ast.AnnAssign) else statement.targets
            (target,), default = targets, ast.literal_eval(statement.value)
            whole_line = statement.end_lineno == statement.lineno and statement.col_offset == 0
            if type(default) not in TYPES or not whole_line or target.id in found:
                raise ValueError
            comment = comments.get(statement.lineno, "")
            parameter = Parameter(target.id, default, comment, *_limits(target.id, comment))
        except (AttributeError, ValueError, TypeError) as error:
            kinds = ", ".join(kind.__name__ for kind in TYPES)
            raise UsageError(
                f"{name} expects parameters of the form NAME = LITERAL, one a line, got {line!r}: values are "
                f"checked before a run without running code; write a literal ({kinds})."
            ) from error
        try:
            parameter.check(default)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{name} expects a default that its comment allows, got {line!r}: {error}; change one."
            ) from error
        found[target.id] = parameter
    if "profile" not in found:
        raise UsageError(
            f"{name} expects a parameter profile, got {', '.join(found) or 'none'}: every notebook has its "
            f'budgets {" | ".join(PROFILES)}; add profile = "quick".'
        )
    return found


def _limits(name: str, comment: str) -> tuple[tuple[str, ...], tuple[float, float] | None]:
    """Read the choices and the range that a parameter's comment declares."""
    choices = re.search(r"choices: *([^;]+)", comment)
    bounds = re.search(r"range: *(\S+?)\.\.([^\s;,]+)", comment)
    named = tuple(choice.strip() for choice in choices[1].split("|")) if choices else ()
    if name == "profile":
        return named or PROFILES, None
    return named, (float(bounds[1]), float(bounds[2])) if bounds else None


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return "write X" for the known word that is nearest to an unknown one, or ""."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff=0.5)
    return f"write {near[0]}" if near else ""
