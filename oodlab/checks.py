"""What arguments must be, and the one wording of a refusal: who expects what, got what, why.

Called where a value enters, before anything is computed with it.

Imports: the standard library.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_SHAPE_WORDS = ("shape", "size", "elements not")  # of torch's errors when a layer cannot take its input


def number(
    who: str,
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    why: str = "",
) -> None:
    """Refuse what is not a finite number in a range.

    Args:
        who: Function or class that was called.
        name: Its argument.
        value: What was given.
        least, above: Smallest value allowed, or the largest that is too small.
        most, below: Largest value allowed, or the smallest that is too large.
        why: What a value outside would mean, and what to do.

    Raises:
        ValueError: value is no number, not finite or out of range.
    """
    wanted = _range(name, least, above, most, below)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{who} expects {wanted}, got {value!r}: {_no_number(value)}.")
    if not math.isfinite(value):
        raise ValueError(f"{who} expects {wanted}, got {_text(value)}: {why or 'a finite number is needed'}.")
    fits = (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )
    if not fits:
        raise ValueError(f"{who} expects {wanted}, got {_text(value)}{f': {why}' if why else ''}.")


def whole(who: str, name: str, value: Any, *, least: int, most: int | None = None, why: str = "") -> None:
    """Refuse what is not a whole number in a range; 2.0 is none. Arguments as in `number`.

    Raises:
        ValueError: value is no whole number or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        wanted = _range(name, least, None, most, None)
        reason = "a whole number is needed" if isinstance(value, numbers.Real) else _no_number(value)
        raise ValueError(f"{who} expects {wanted}, got {value!r}: {reason}.")
    number(who, name, value, least=least, most=most, why=why)


def layers(who: str, sizes: Mapping[str, Any], hidden: Iterable[Any] = ()) -> None:
    """Refuse a network with a layer of no units: sizes by the argument's name, and widths of hidden layers.

    Raises:
        ValueError: a size is no whole number above 0.
    """
    if not isinstance(hidden, Iterable) or isinstance(hidden, str):
        raise ValueError(f"{who} expects hidden to be the widths of its layers, got {hidden!r}: write [{hidden!r}].")
    for name, size in (*sizes.items(), *(("widths in hidden", width) for width in hidden)):
        whole(who, name, size, least=1)


def image_shape(who: str, shape: Any) -> tuple[int, int, int]:
    """Return a shape (C, H, W), or refuse what is none.

    Raises:
        ValueError: shape is not three whole numbers above 0.
    """
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:
        raise ValueError(f"{who} expects a shape (C, H, W), got {shape!r}: grey images have C = 1, colour images 3.")
    for size in shape:
        whole(who, "sizes in shape", size, least=1)
    return tuple(shape)


def one_of(who: str, name: str, value: Any, choices: Sequence[str], *, why: str = "") -> None:
    """Refuse what is none of the choices, and name the nearest.

    Raises:
        ValueError: value is another one.
    """
    if isinstance(value, str) and value in choices:
        return
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    reason = "; ".join(filter(None, [why, f"did you mean {near[0]!r}?" if near else ""]))
    raise ValueError(
        f"{who} expects {name} {', '.join(choices[:-1])} or {choices[-1]}, got {value!r}"
        + (f": {reason}" if reason else "")
        + ("" if near else ".")
    )


def function(who: str, name: str, value: Any, *, instead: str) -> None:
    """Refuse what cannot be called; `instead` says what to pass.

    Raises:
        ValueError: value cannot be called.
    """
    if not callable(value):
        raise ValueError(f"{who} expects {name} to be a function, got {type(value).__name__}: pass {instead}.")


@contextlib.contextmanager
def inputs_fit(who: str, model: Any, shape: Sequence[int], *, instead: str) -> Iterator[None]:
    """Say of torch's error about a shape, raised below this, that the model does not take the inputs.

    Args:
        who: Function or class that was called.
        model: What is called with the inputs.
        shape: Shape of one input.
        instead: What to do.

    Raises:
        ValueError: Instead of that error; all others (memory, the device, the model's own) pass as they are.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if type(error) is not RuntimeError or "CUDA" in said or not any(word in said for word in _SHAPE_WORDS):
            raise
        raise ValueError(
            f"{who} expects inputs that {type(model).__name__} takes, got {tuple(shape)} for each: {said}; {instead}."
        ) from error


def _range(name: str, least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    low = f"{_text(least)} <= " if least is not None else f"{_text(above)} < " if above is not None else ""
    high = f" <= {_text(most)}" if most is not None else f" < {_text(below)}" if below is not None else ""
    if low and not high:
        return f"{name} >= {_text(least)}" if least is not None else f"{name} > {_text(above)}"
    return f"{low}{name}{high}" if low or high else f"a finite {name}"


def _text(value: Any) -> str:
    return str(value) if isinstance(value, numbers.Integral) else f"{value:g}"


def _no_number(value: Any) -> str:
    if isinstance(value, str):
        return "text is no number; write it without quotes"
    return f"{type(value).__name__} is no number"
