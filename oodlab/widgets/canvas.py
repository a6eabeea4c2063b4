"""A grey picture to draw on with the mouse, of ipywidgets alone.

The page half is a canvas inside an HTML widget, whose handlers are attributes.  It sends the picture
by typing it into a hidden text field, so that the way back is ipywidgets' own.  The kernel holds the picture:
whatever it changes is drawn anew under a new turn, and what the page still sends of an earlier turn is dropped,
so that page and kernel never show two pictures.

Imports: widgets.panel.
"""

from __future__ import annotations

import base64
import html
import uuid
from collections.abc import Callable

import ipywidgets as w
import numpy as np

from oodlab.widgets.panel import WIDE

SIDE = 28  # pixels of the picture
SCREEN = 280  # pixels of the page
SEND_EVERY = 60  # milliseconds, while the mouse moves

# Ink falls off over one pixel at the edge of the brush, as the strokes of mnist do.
_PAGE = """
const canvas = this.previousElementSibling, given = canvas.dataset, side = canvas.width;
const pixels = Uint8Array.from(atob(given.pixels), (c) => c.charCodeAt(0));
const context = canvas.getContext('2d'), radius = given.brush / 2, erases = given.erases === 'true';
let last = null, waiting = null;
const show = () => {
  const shown = context.createImageData(side, side);
  pixels.forEach((v, i) => shown.data.set([v, v, v, 255], 4 * i));
  context.putImageData(shown, 0, 0);
};
const send = () => {
  waiting = null;
  const field = document.querySelector('.' + given.field + ' input');
  field.value = given.turn + ' ' + btoa(String.fromCharCode(...pixels));
  field.dispatchEvent(new Event('input', {bubbles: true}));
};
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * side / box.width, (event.clientY - box.top) * side / box.height];
};
const dab = (x, y) => {
  for (let i = 0; i < pixels.length; i++) {
    const away = Math.hypot(i % side + 0.5 - x, Math.floor(i / side) + 0.5 - y);
    const ink = Math.round(255 * Math.min(1, Math.max(0, radius + 0.5 - away)));
    pixels[i] = erases ? Math.min(pixels[i], 255 - ink) : Math.max(pixels[i], ink);
  }
};
const stroke = (event) => {
  const to = place(event), from = last || to;
  const dabs = Math.ceil(4 * Math.hypot(to[0] - from[0], to[1] - from[1])) || 1;
  for (let k = 1; k <= dabs; k++) {
    dab(from[0] + (to[0] - from[0]) * k / dabs, from[1] + (to[1] - from[1]) * k / dabs);
  }
  last = to;
  show();
  if (waiting === null) waiting = setTimeout(send, SEND_EVERY);
};
canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); event.preventDefault(); stroke(event); };
canvas.onpointermove = (event) => { if (last) stroke(event); };
canvas.onpointerup = canvas.onpointercancel = () => { last = null; };
show();
""".replace("SEND_EVERY", str(SEND_EVERY))
_NOTHING = (
    "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="  # an image whose loading runs _PAGE
)
_STYLE = f"width:{SCREEN}px;height:{SCREEN}px;image-rendering:pixelated;touch-action:none;cursor:crosshair;outline:1px solid #888"


class Canvas:
    """A black square that is drawn on in white, with a brush, an eraser and a button that clears it.

    Args:
        changed: Called with the picture after every change, by hand or by `put`.

    Attributes:
        picture: Picture as it stands, (28, 28) uint8; never changed in place.
        tool, brush, clear: The tools.
        widget: All of it.
    """

    def __init__(self, changed: Callable[[np.ndarray], None]) -> None:
        self._changed = changed
        self._turn = 0
        self._field_name = f"oodlab-canvas-{uuid.uuid4().hex}"  # a page may show canvases of several kernels
        self.picture = np.zeros((SIDE, SIDE), dtype=np.uint8)
        self.tool = w.ToggleButtons(options=["brush", "eraser"], style={"button_width": "70px"})
        self.brush = w.FloatSlider(
            2.0, min=1, max=8, step=0.5, description="width (pixels)", readout_format=".1f", style=WIDE
        )
        self.clear = w.Button(description="Clear", layout=w.Layout(width="70px"))
        self._page, self._field = w.HTML(), w.Text(layout=w.Layout(display="none"))
        self._field.add_class(self._field_name)
        self._field.observe(lambda change: self._receive(change["new"]), names="value")
        for tool in (self.tool, self.brush):
            tool.observe(lambda _: self._draw(), names="value")
        self.clear.on_click(lambda _: self.put(np.zeros((SIDE, SIDE), dtype=np.uint8)))
        self.widget = w.VBox([self._page, self._field, w.HBox([self.tool, self.clear]), self.brush])
        self._draw()

    def put(self, picture: np.ndarray) -> None:
        """Show another picture, (28, 28) uint8.

        Raises:
            ValueError: It has another shape or type.
        """
        if picture.shape != (SIDE, SIDE) or picture.dtype != np.uint8:
            raise ValueError(
                f"Canvas.put expects a picture of shape ({SIDE}, {SIDE}) and type uint8, got {picture.shape} {picture.dtype}: "
                "bring it to that shape by data.as_shape."
            )
        self.picture = picture.copy()
        self._draw()
        self._changed(self.picture)

    def _draw(self) -> None:
        self._turn += 1
        given = {
            "pixels": base64.b64encode(self.picture.tobytes()).decode(),
            "turn": self._turn,
            "field": self._field_name,
            "brush": self.brush.value,
            "erases": str(self.tool.value == "eraser").lower(),
        }
        told = " ".join(f'data-{name}="{value}"' for name, value in given.items())
        self._page.value = (
            f'<canvas width="{SIDE}" height="{SIDE}" style="{_STYLE}" {told}></canvas>'
            f'<img src="{_NOTHING}" style="display:none" onload="{html.escape(_PAGE)}">'
        )

    def _receive(self, text: str) -> None:
        turn, _, pixels = text.partition(" ")
        if turn != str(self._turn):
            return
        self.picture = np.frombuffer(base64.b64decode(pixels), dtype=np.uint8).reshape(SIDE, SIDE).copy()
        self._changed(self.picture)
