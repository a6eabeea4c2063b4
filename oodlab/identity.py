"""What made a number: canonical texts of settings, and the source code that they use.

`describe` writes a setting so that equal settings have equal texts in every process;
`code_of` collects the definitions (functions, classes, constants) that a setting's
functions and classes use, directly or through others, over all files of the package.
Docstrings, comments, type annotations, argument checks and the wording of errors are
left out, and so are the folders of files: none of them changes a number.

Sources are those of when this process first looked, which is when this file is imported: what runs
here is that code, whatever becomes of the files.

A definition is followed by the names in its source. What a definition calls by
attribute of an object that it is given (a model's `log_prob`) is not seen there: the
object's own class is part of the same setting, and is followed from it.

Imports: the standard library.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import fnmatch
import functools
import hashlib
import importlib.util
import inspect
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = "oodlab"
FOLDER = Path(__file__).resolve().parent

# What touches no number: checks of arguments, files, figures, panels, what a training tells; and how stored values come from
# files, for which their digest stands (see data.digests).
HARMLESS = (
    "checks",
    "workspace",
    "plotting",
    "widgets",
    "studies.*.figure",
    "studies.*.panel",
    "data.arrays",
    "data.digests",
    "data.download",
    "data.loading",
    "data.own",
    "data.pictures",
    "data.readers",
    "data.search",
    "data.sets",
    "data.split",
    "training.checkpoints",
    "training.inspection",
    "training.parallel",
    "training.progress",
)
# A figure also depends on how it is drawn, and on how values come from its files, which are compared by their sizes and
# times.
HARMLESS_FOR_FIGURES = tuple(
    name
    for name in HARMLESS
    if name in ("data.download", "data.search", "data.sets")
    or not (name.split(".")[0] in ("plotting", "data") or name == "studies.*.figure")
)
NOTES = "identity_notes"  # a class's attribute that names its fields that decide nothing

# ------------------------------------------------------------------------------------------ settings


def describe(value: Any) -> str:
    """Return a canonical text: equal settings give equal texts, in this process and in any other.

    Functions and classes are written by their qualified name, without the folders they lie in.

    Raises:
        TypeError: The value, or a part of it, is no number, text, class, named function, partial or dataclass.
    """
    if isinstance(value, functools.partial):
        arguments = [describe(a) for a in value.args]
        arguments += [f"{name}={describe(a)}" for name, a in sorted(value.keywords.items())]
        return f"{describe(value.func)}({', '.join(arguments)})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__qualname__}({', '.join(f'{name}={describe(part)}' for name, part in parts_of(value))})"
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) and "<" not in value.__qualname__:
        return value.__qualname__
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in sorted(value.items())) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(describe(item) for item in value) + ")"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise TypeError(
        f"describe expects numbers, text, classes, named functions, partials and dataclasses, got {value!r}: "
        "a setting must mean the same in every process."
    )


def lines_of(value: Any) -> list[str]:
    """Return a dataclass's text with a line for each field; fields that are such texts themselves are indented below."""
    lines = []
    for name, part in parts_of(value):
        if hasattr(type(part), NOTES):
            lines += [f"{name} =", *textwrap.indent("\n".join(lines_of(part)), "    ").splitlines()]
        elif isinstance(part, Mapping) and any(hasattr(type(item), NOTES) for item in part.values()):
            for key, item in part.items():
                lines += [f"{name}.{key} =", *textwrap.indent("\n".join(lines_of(item)), "    ").splitlines()]
        else:
            lines.append(f"{name} = {describe(part)}")
    return lines


def parts_of(value: Any) -> list[tuple[str, Any]]:
    """Return the fields of a dataclass that decide something, by name."""
    left_out = getattr(type(value), NOTES, ())
    return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in left_out]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers, texts, classes and functions that a setting is composed of, by path, e.g. model.width."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = parts_of(value)
    elif isinstance(value, functools.partial):
        items = [*((str(i), item) for i, item in enumerate(value.args)), *value.keywords.items()]
    elif isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, tuple | list) and any(dataclasses.is_dataclass(item) for item in value):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        yield path, value
        return
    for name, item in items:
        yield from leaves(item, f"{path}.{name}" if path else name)


def differences(value: Any, other: Any) -> list[tuple[str, Any, Any]]:
    """Return (path, here, there) where two settings of one composition differ."""
    here, there = dict(leaves(value)), dict(leaves(other))
    return [(path, here[path], there[path]) for path in here if path in there and here[path] != there[path]]


def definitions_in(value: Any) -> Iterator[Any]:
    """Yield the functions and classes that a setting is composed of."""
    if isinstance(value, functools.partial):
        parts = (value.func, *value.args, *value.keywords.values())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        parts = tuple(part for _, part in parts_of(value))
    elif isinstance(value, type | types.FunctionType):
        yield value
        parts = ()
    elif isinstance(value, Mapping):
        parts = tuple(value.values())
    else:
        parts = tuple(value) if isinstance(value, tuple | list) else ()
    for part in parts:
        yield from definitions_in(part)


def digest(*texts: str) -> str:
    """Return the SHA-256 of some texts, in hexadecimal."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


# ----------------------------------------------------------------------------------------------- code


def code_of(*values: Any) -> str:
    """Return the source of all that settings' functions and classes use, stripped of what changes no number.

    Of the package, of the files that the functions and classes themselves lie in, and not of other libraries.

    Args:
        *values: Settings, functions or classes.
    """
    texts: set[str] = set()
    roots = []
    seen, waiting = set(), [item for value in values for item in definitions_in(value)]
    while waiting:
        found = waiting.pop()
        name = found.__qualname__.split(".")[0]
        if found in seen:
            continue
        seen.add(found)
        if name in _module(found.__module__).bindings:
            roots.append((found.__module__, name))
        elif _own(found.__module__):  # typed in a notebook's cell
            texts.add(_source_of(found))
            for name, used in _used_by(found):
                definitions = list(definitions_in(used))
                waiting += definitions
                if not definitions and not isinstance(used, types.ModuleType):
                    texts.add(f"{name} = {describe(used)}")
    return "\n".join(sorted(texts | set(_closure(roots, HARMLESS))))


def look_again() -> None:
    """Forget all sources: those of now count from here on, as in a new process."""
    for remembered in (_sources, _definition, _module, _origin):
        remembered.cache_clear()


def code_of_cells(cells: Iterable[str]) -> str:
    """Return the stripped source of a notebook's code cells and of all that they use of the package."""
    tree = ast.parse("\n".join(map(_python, cells)))
    module = _Module("", tree)
    roots = [use for node in tree.body for use in module.uses(node)]
    return "\n".join([_plain(tree), *sorted(set(_closure(roots, HARMLESS_FOR_FIGURES)))])


def _python(cell: str) -> str:
    """Return a cell as Python, its magics (%, !) as calls of IPython; one that is neither as a text."""
    try:
        ast.parse(cell)
        return cell
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager  # not above: it takes half a second

    transformed = TransformerManager().transform_cell(cell)
    try:
        ast.parse(transformed)
        return transformed
    except SyntaxError:
        return f"CELL = {cell!r}"


def modules_behind(*values: Any) -> set[str]:
    """Return the package's modules whose source belongs to code_of, by their names below the package."""
    roots = [
        (found.__module__, found.__qualname__.split(".")[0]) for value in values for found in definitions_in(value)
    ]
    return {module.removeprefix(f"{PACKAGE}.") for module, _ in _followed(roots, HARMLESS)}


_Use = tuple  # (module, name or None, attributes of it): what a definition refers to


@dataclass(frozen=True)
class _Imported:
    """A name that an import binds: a module (name None), or a name of a module."""

    origin: tuple[str, str | None]


class _Module:
    """The definitions of a file, and the names that each uses.

    Attributes:
        bindings: What each name at the top of the file stands for: its definitions, or where it is imported from.
        loose: Statements that bind no name; they act when the file is imported, so they belong to each definition.
    """

    def __init__(self, name: str, tree: ast.Module, *, package: bool = False) -> None:
        self.name, self.package = name, package
        self.bindings: dict[str, _Imported | list[ast.stmt]] = {}
        self.loose: list[ast.stmt] = []
        for node in tree.body:
            self._bind(node)

    def _bind(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.bindings.update(self._imports(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._define(node.name, node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        self._define(part.id, node)
        elif isinstance(node, ast.If | ast.Try):
            inner = [*node.body, *node.orelse, *(s for h in getattr(node, "handlers", ()) for s in h.body)]
            for statement in inner:
                self._bind(statement)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            self.loose.append(node)

    def _define(self, name: str, node: ast.stmt) -> None:
        bound = self.bindings.setdefault(name, [])
        if isinstance(bound, list):
            bound.append(node)
        else:
            self.bindings[name] = [node]

    def _imports(self, node: ast.Import | ast.ImportFrom) -> dict[str, _Imported]:
        if isinstance(node, ast.Import):
            return {
                alias.asname or alias.name.split(".")[0]: _Imported(
                    (alias.name if alias.asname else alias.name.split(".")[0], None)
                )
                for alias in node.names
            }
        origin = node.module or ""
        if node.level:
            parts = self.name.split(".")
            parts = parts[: len(parts) - node.level + (1 if self.package else 0)]
            origin = ".".join([*parts, node.module] if node.module else parts)
        return {alias.asname or alias.name: _Imported((origin, alias.name)) for alias in node.names}

    def uses(self, node: ast.AST) -> Iterator[_Use]:
        """Yield all that a stripped definition refers to by a name of this file or an import."""
        local = {}
        for part in ast.walk(node):
            if isinstance(part, ast.Import | ast.ImportFrom):
                local.update(self._imports(part))
        bindings = {**self.bindings, **local}
        attributes = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute):
                chain = _chain(part)
                if chain and isinstance(bound := bindings.get(chain[0]), _Imported):
                    attributes.add(chain[0])
                    yield *bound.origin, *chain[1:]
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in bindings and part.id not in attributes:
                bound = bindings[part.id]
                yield bound.origin if isinstance(bound, _Imported) else (self.name, part.id)


def _chain(node: ast.Attribute) -> list[str]:
    """Return a.b.c as its names, [] where it does not begin with a name."""
    names: list[str] = []
    here: ast.expr = node
    while isinstance(here, ast.Attribute):
        names.append(here.attr)
        here = here.value
    return [here.id, *reversed(names)] if isinstance(here, ast.Name) else []


def _defined(use: _Use) -> tuple[str, str] | None:
    """Return where what is used is defined, (module, name); None for other libraries and for modules."""
    module, name, *attributes = use
    if name is not None:
        home = _home(module, name)
        if home is None:
            return None
        module, name = home
    while name is None and attributes:  # a module: its attribute is a name of it
        home = _home(module, attributes.pop(0))
        if home is None:
            return None
        module, name = home
    return None if name is None else (module, name)


def _home(module: str, name: str) -> tuple[str, str | None] | None:
    """Return where a module's name is defined, (module, None) if it is a module, None outside of the package."""
    if not _own(module) or _file(module) is None:
        return None
    bound = _module(module).bindings.get(name)
    if isinstance(bound, _Imported) and bound.origin != (module, name):
        origin, inner = bound.origin
        if inner is not None:
            return _home(origin, inner)
        return (origin, None) if _own(origin) else None
    if isinstance(bound, list):
        return module, name
    if _file(f"{module}.{name}") is not None:
        return f"{module}.{name}", None
    beside = [file for file in _sources() if file.parent == _file(module).parent]
    for file in beside if _file(module).name == "__init__.py" else ():
        if file.stem != "__init__" and name in _module(f"{module}.{file.stem}").bindings:
            return _home(f"{module}.{file.stem}", name)  # a lazy public surface
    return None


def _closure(roots: Iterable[_Use], harmless: tuple[str, ...]) -> Iterator[str]:
    """Yield the stripped text of definitions and of all they use."""
    for here in _followed(roots, harmless):
        yield from _definition(*here)[0]


def _followed(roots: Iterable[_Use], harmless: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of definitions and of all they use."""
    asked, seen, waiting = set(), set(), list(roots)
    while waiting:
        use = waiting.pop()
        if use in asked:
            continue
        asked.add(use)
        here = _defined(use)
        if here is None or here in seen or _lies_in(here[0], harmless):
            continue
        seen.add(here)
        yield here
        waiting += _definition(*here)[1]


@functools.cache
def _definition(module: str, name: str) -> tuple[tuple[str, ...], tuple[_Use, ...]]:
    """Return a definition's stripped texts and what it uses."""
    of = _module(module)
    nodes = of.bindings.get(name, [])
    stripped = [_stripped(node) for node in (*nodes, *of.loose)]
    texts = tuple(_canonical(node) for node in stripped)
    return texts, tuple(dict.fromkeys(use for node in stripped for use in of.uses(node)))


@functools.cache
def _module(name: str) -> _Module:
    file = _file(name)
    if file is None:
        return _Module(name, ast.Module([], []))
    source = _sources().get(file) or file.read_bytes()  # a user's own file: as it is when it is first needed
    return _Module(name, ast.parse(source), package=file.name == "__init__.py")


@functools.cache
def _sources() -> dict[Path, bytes]:
    """Return the source of each of the package's files."""
    return {file: file.read_bytes() for file in sorted(FOLDER.rglob("*.py"))}


def _file(module: str) -> Path | None:
    """Return a module's source file, if it has one and it is ours to follow."""
    if module == PACKAGE or module.startswith(f"{PACKAGE}."):
        path = FOLDER.joinpath(*module.split(".")[1:])
        for file in (path.with_suffix(".py") if path != FOLDER else None, path / "__init__.py"):
            if file in _sources():
                return file
        return None
    return Path(_origin(module)) if _own(module) and _origin(module).endswith(".py") else None


def _own(module: str) -> bool:
    """Say whether a module is the package's or a user's own: neither a library's nor Python's."""
    if module == PACKAGE or module.startswith(f"{PACKAGE}."):
        return True
    if module.split(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return False
    if module in sys.modules and not _origin(module):
        return True  # typed where there are no files
    return bool(_origin(module)) and "site-packages" not in Path(_origin(module)).parts


@functools.cache
def _origin(module: str) -> str:
    """Return the file that a module comes from, "" where there is none; it need not be imported yet."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None) or ""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # of a module that is none of its package's
        return ""
    return (found.origin or "") if found else ""


def _lies_in(module: str, names: tuple[str, ...]) -> bool:
    below = module.removeprefix(f"{PACKAGE}.")
    return module != below and any(fnmatch.fnmatchcase(f"{below}.", f"{name}.*") for name in names)


def _source_of(found: Any) -> str:
    """Return the stripped source of what lies in no file, as in a notebook's cell."""
    try:
        return _plain(ast.parse(textwrap.dedent(inspect.getsource(found))))
    except (OSError, TypeError) as error:
        raise TypeError(
            f"a setting expects functions and classes whose source is kept, got {found.__qualname__}, typed where none is: write "
            "it into a file or a notebook's cell."
        ) from error


def _used_by(found: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function or class without a file uses of the names beside it."""
    beside = vars(sys.modules[found.__module__])
    functions = (
        [found]
        if isinstance(found, types.FunctionType)
        else [f for f in vars(found).values() if hasattr(f, "__code__")]
    )
    codes = [function.__code__ for function in functions]
    while codes:
        code = codes.pop()
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
        yield from ((name, beside[name]) for name in code.co_names if name in beside and beside[name] is not found)


def _plain(tree: ast.Module) -> str:
    return _canonical(_stripped(tree))


def _stripped(node: ast.AST) -> ast.AST:
    return _Strip().visit(copy.deepcopy(node))


def _canonical(node: Any) -> str:
    """Write a syntax tree so that all versions of Python write the same, which ast.unparse and ast.dump do not."""
    if isinstance(node, ast.AST):
        parts = [f"{name}={_canonical(value)}" for name, value in ast.iter_fields(node) if name not in _OF_A_VERSION]
        return (
            f"{type(node).__name__}({','.join(part for part in parts if part[-5:] != '=None' and part[-3:] != '=[]')})"
        )
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)


_OF_A_VERSION = ("ctx", "kind", "type_comment", "type_params")


class _Strip(ast.NodeTransformer):
    """Removes what changes no number: docstrings, annotations, checks of arguments, the wording of errors and of news."""

    def _body(self, node: Any) -> Any:
        self.generic_visit(node)
        node.body = [item for item in node.body if not _is_text(item)] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = _body

    def _function(self, node: Any) -> Any:
        node.returns = None
        for argument in (
            *node.args.posonlyargs,
            *node.args.args,
            *node.args.kwonlyargs,
            node.args.vararg,
            node.args.kwarg,
        ):
            if argument is not None:
                argument.annotation = None
        return self._body(node)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        node.annotation = ast.Name("object", ast.Load())
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(node.exc.func, None) if isinstance(node.exc, ast.Call) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        chain = (
            _chain(node.value.func)
            if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
            else []
        )
        if chain[:1] == ["checks"] or chain[-1:] == ["say"]:
            return ast.Pass()
        return self.generic_visit(node)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


_sources()  # now: what this process runs is what it has imported by the time it has begun
