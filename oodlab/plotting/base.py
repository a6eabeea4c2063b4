"""The house's style: colours, fonts, an empty figure; object-oriented, so that threads may draw.

Imports: nothing local.
"""

from __future__ import annotations

import io

from matplotlib import rc_context
from matplotlib.figure import Figure

# Okabe & Ito's palette: eight colours that colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
DENSITY_MAP = "viridis"
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "savefig.dpi": 200,
}


def figure(width: float, height: float) -> Figure:
    """Return an empty figure of the house's style, inches."""
    with rc_context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained", dpi=STYLE["figure.dpi"])
        fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
        return fig


def to_png(fig: Figure) -> bytes:
    """Return the figure as PNG bytes at screen resolution."""
    stream = io.BytesIO()
    with rc_context(STYLE):
        fig.savefig(stream, format="png", dpi=STYLE["figure.dpi"])
    return stream.getvalue()
