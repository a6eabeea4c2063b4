"""What a notebook shows besides figures: tables, and the gallery of figures on disk.

Imports: workspace, plotting.saving.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oodlab import workspace
from oodlab.plotting.saving import read_figure


@dataclass(frozen=True)
class Table:
    """Rows of a table, as HTML in a notebook and aligned text elsewhere.

    Attributes:
        rows: One mapping per row with the same keys, which are the column titles;
            floats are shown with `digits` decimals, None and NaN as a dash.
        digits: Decimals of floats.
    """

    rows: Sequence[Mapping[str, Any]]
    digits: int = 3

    def _cell(self, value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        return f"{value:.{self.digits}f}" if isinstance(value, float) else str(value)

    def _cells(self) -> list[list[str]]:
        return [list(self.rows[0]), *([self._cell(value) for value in row.values()] for row in self.rows)]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)

    def _repr_html_(self) -> str:
        head, *body = (
            "".join(f"<{tag} style='text-align:left'>{html.escape(cell)}</{tag}>" for cell in row)
            for tag, row in zip(["th"] + ["td"] * len(self.rows), self._cells(), strict=True)
        )
        return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"


@dataclass(frozen=True)
class Gallery:
    """Every figure below a folder with its caption, headline and a link to its notebook.

    Attributes:
        folder: Written by save_figure.
    """

    folder: Path

    def _repr_html_(self) -> str:
        title = "Committed figures" if self.folder == workspace.reference_figures() else "Your own runs"
        files = [file for file in self.folder.rglob("*.json") if file.with_suffix(".png").exists()]
        entries = [f"<h2>{title}</h2>"]
        for file in sorted(files, key=lambda file: file.as_posix().removesuffix(".json")):
            try:
                record, content = read_figure(file)
            except ValueError as error:
                entries.append(f"<p>{html.escape(str(error))}</p>")
                continue
            picture = base64.b64encode(content).decode()
            name, headline = html.escape(record["figure"]), record["headline"]
            notebook = f"{record['figure'].split('-')[0]}.ipynb"
            if (workspace.checkout() or Path()).joinpath("notebooks", notebook).exists():
                name = f"<a href='{notebook}'>{name}</a>"
            number = f"{headline['name']}: {headline['value']:.3g} {headline['unit']}. " if headline else ""
            entries.append(
                f"<h3>{name}, profile {record['profile']}</h3>"
                f"<img src='data:image/png;base64,{picture}' style='max-width:900px;width:100%'>"
                f"<p>{html.escape(number)}{record['seconds']:.0f} s of training in all.</p>"
            )
        empty = f"<p>No figure in {html.escape(self.folder.name)} yet: run <code>make figures</code>.</p>"
        return "".join(entries) if files else empty


def gallery() -> list[Gallery]:
    """Return the galleries of the committed figures and of the user's own, as far as there are any."""
    folders = [workspace.reference_figures(), workspace.runs_folder() / "figures"]
    return [Gallery(folder) for folder in folders if folder is not None and folder.is_dir()]
