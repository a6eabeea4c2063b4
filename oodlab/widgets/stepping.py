"""Chains that are moved by hand or by play, over what a panel has trained.

The steps are those of samplers; here are only the buttons.

Imports: samplers, widgets.panel, widgets.walk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ipywidgets as w
import torch
from torch import Tensor

from oodlab.samplers import (
    Annealed,
    Box,
    ClipElements,
    ClipNorm,
    ClipRows,
    Sphere,
    effective_temperature,
)
from oodlab.widgets.panel import WIDE, RunPanel, slider
from oodlab.widgets.walk import Chain, Walk, visible_start

FRESH = "fresh codes"
TICK = 400  # milliseconds between two steps of play
NOISE = 1_000_003  # added to the seed: the noise has other random numbers than the start
CLIPS = {"by element": ClipElements, "by row": ClipRows, "by norm": ClipNorm}


class Stepper:
    """Buttons that move chains: again, one step, ten steps, play, and the whole way to samples.

    Settings of the chain act from the next step on, and every space keeps its own; another start or seed begins again, and
    another space goes on from where the chains are, so that a latent chain and then a visible one are on-manifold
    initialisation: the whole way, from fresh codes, with as many steps as the chains have.

    Args:
        panel: Its last result's model is walked on; after another run the walk begins again.
        chains: Settings to begin with, by space: "latent" and "visible".
        start_bounds: Bounds of the starts, as Walk takes them.
        starts: Further places where chains may begin, besides fresh codes, by name: generator -> inputs (B, *event).
        show: show(walk, text, at_once) draws the chains; not at_once: it may leave a drawing out.

    Attributes:
        controls: By name.
        walk: The chains; None before the first step.
    """

    def __init__(
        self,
        panel: RunPanel,
        *,
        chains: Mapping[str, Chain],
        start_bounds: Box | None,
        starts: Mapping[str, Callable[[torch.Generator], Tensor]],
        show: Callable[[Walk, str, bool], None],
    ) -> None:
        self.walk: Walk | None = None
        self._panel, self._chains, self._starts, self._show = panel, dict(chains), dict(starts), show
        self._start_bounds = start_bounds
        self.controls: dict[str, w.Widget] = {
            "space": w.Dropdown(options=list(chains), description="chain", style=WIDE),
            "start": w.Dropdown(options=[FRESH, *starts], description="from", style=WIDE),
            "step_size": w.FloatLogSlider(1.0, base=10, min=-4, max=2, description="step size", **slider()),
            "noise_std": w.FloatSlider(
                0.0, min=0, max=0.3, step=0.005, readout_format=".3f", description="noise (std)", **slider()
            ),
            "seed": w.IntSlider(0, min=0, max=99, description="seed of the chains", **slider()),
        }
        self._limits = [chain.clip.limit for chain in chains.values() if chain.clip is not None]
        if self._limits:
            self.controls["clip"] = w.Dropdown(options=["no", *CLIPS], description="gradient clipped", style=WIDE)
        if any(isinstance(chain.noise_std, Annealed) for chain in chains.values()):
            self.controls["annealed"] = w.Checkbox(False, description="noise annealed", style=WIDE)
        self.again_button, self.one_button, self.ten_button = (
            w.Button(description=text, icon=icon)
            for text, icon in (("Again", "undo"), ("1 step", "step-forward"), ("10 steps", "fast-forward"))
        )
        self.way_button = w.Button(description="z₀ → OMI → sample", icon="forward", layout=w.Layout(width="170px"))
        self.play = w.Play(min=0, max=10**6, interval=TICK, show_repeat=False)
        self._settings = {space: self._set_by(chain) for space, chain in chains.items()}
        self._take_settings()
        for name in self._settings[next(iter(chains))]:
            self.controls[name].observe(functools.partial(self._remember, name), names="value")
        self.again_button.on_click(lambda _: self.again())
        self.one_button.on_click(lambda _: self.step(1))
        self.ten_button.on_click(lambda _: self.step(10))
        self.way_button.on_click(lambda _: self.go_all_the_way())
        self.play.observe(self._tick, names="value")
        self.play.observe(lambda change: change.new or self._try(lambda: self._tell(at_once=True)), names="playing")
        self.controls["space"].observe(lambda _: self._turn(), names="value")
        for name in ("start", "seed"):
            self.controls[name].observe(lambda _: self.again(), names="value")
        rows = list(self.controls.values())
        self.widget = w.VBox(
            [
                w.HTML("<b>Chains on what was learned</b>, by hand or by play"),
                *(w.HBox(rows[i : i + 2]) for i in range(0, len(rows), 2)),
                w.HBox([self.again_button, self.one_button, self.ten_button, self.play]),
                w.HBox([self.way_button, w.Label("from fresh codes; Stop ends it")]),
            ]
        )

    @property
    def _present(self) -> Walk | None:
        """The walk, unless the panel has learned anew since."""
        return self.walk if self.walk is not None and self.walk.model is self._panel.result.model else None

    def again(self) -> None:
        """Begin again."""
        self._try(self._begin)

    def step(self, steps: int, *, at_once: bool = True) -> None:
        """Move the chains, from their start if there are none yet or the panel has learned anew."""

        def go() -> None:
            if self._present is None:
                self._begin()
            self.walk.turn(self.controls["space"].value)  # it may have been changed on the way to samples
            self.walk.go(self._chain(self.walk.space), steps)
            self._tell(at_once=at_once)

        self._try(go)

    def go_all_the_way(self) -> None:
        """Draw samples from fresh codes, state by state, in the panel's background."""
        self._try(lambda: self._panel.work.start(self._go_all_the_way))

    def _go_all_the_way(self, should_stop: Callable[[], bool]) -> str:
        self.controls["start"].value, self.controls["space"].value = FRESH, "latent"
        self._begin()
        bar = self._panel.bar
        bar.max = sum(chain.steps for chain in self._chains.values())
        for space in ("latent", "visible"):
            self.controls["space"].value = space
            self.walk.turn(space)
            for _ in range(self._chains[space].steps):
                if should_stop():
                    return f"stopped. {self._told()}"
                self.walk.go(self._chain(space), 1)
                bar.value += 1
                self._tell(at_once=True)
        return f"done. {self._told()}"

    def _begin(self) -> None:
        model, values = self._panel.result.model, self._values()
        place = model.log_temperature.device
        draws = torch.Generator().manual_seed(values["seed"])
        x = self._starts.get(values["start"], next(iter(self._starts.values())))(draws).to(place)
        with torch.no_grad():
            codes = model.encode(x)
            if values["start"] == FRESH:
                codes = model.latent_start(codes.cpu(), draws).to(place)
                x = visible_start(model, codes, self._start_bounds)
        state = codes if values["space"] == "latent" else x
        self.walk = Walk(model, values["space"], state, values["seed"] + NOISE, self._start_bounds)
        self._tell(at_once=True)

    def _turn(self) -> None:
        self._take_settings()

        def turn() -> None:
            if self._present is not None:
                self.walk.turn(self.controls["space"].value)
                self._tell(at_once=True)

        self._try(turn)

    def _set_by(self, chain: Chain) -> dict[str, Any]:
        """Return what the controls say of a chain."""
        falls = isinstance(chain.noise_std, Annealed)
        known = {kind: name for name, kind in CLIPS.items()}
        settings = {
            "step_size": chain.step_size,
            "noise_std": chain.noise_std.noise_std if falls else chain.noise_std,
            "annealed": falls,
            "clip": known.get(type(chain.clip), "no"),
        }
        return {name: value for name, value in settings.items() if name in self.controls}

    def _remember(self, name: str, change: dict[str, Any]) -> None:
        self._settings[self.controls["space"].value][name] = change["new"]

    def _take_settings(self) -> None:
        """Put the controls where this space has them: by its chain, or as they were last set by hand."""
        for name, value in list(self._settings[self.controls["space"].value].items()):
            self.controls[name].value = value

    def _chain(self, space: str) -> Chain:
        settings = self._settings[space]
        chain, noise_std = self._chains[space], settings["noise_std"]
        if space == "latent":
            chain = replace(chain, bounds=Sphere() if self.walk.model.sphere else None)
        if "clip" in settings:
            kind, limit = CLIPS.get(settings["clip"]), chain.clip.limit if chain.clip else self._limits[0]
            chain = replace(chain, clip=kind and kind(limit))
        if settings.get("annealed"):
            falls = chain.noise_std if isinstance(chain.noise_std, Annealed) else Annealed(0.0)
            noise_std = replace(falls, noise_std=noise_std)  # as the recipe's chain falls, at once or delayed
        return replace(chain, step_size=settings["step_size"], noise_std=noise_std)

    def _tick(self, change: dict[str, int]) -> None:
        if change["new"] > change["old"]:
            self.step(1, at_once=False)
        else:  # play's own stop button
            self.again()

    def _tell(self, *, at_once: bool) -> None:
        if self._present is not None:
            self._show(self.walk, self._told(), at_once)

    def _told(self) -> str:
        """Say where the chains are."""
        walk, settings = self.walk, self._settings[self.walk.space]
        energy = walk.energies[-1]
        temperature = effective_temperature(settings["step_size"], settings["noise_std"])
        now = f"temperature {temperature:.2g}{' at first' if settings.get('annealed') else ''}"
        low, high = energy.quantile(0.1), energy.quantile(0.9)
        return f"{walk.space} chain, step {walk.t}, {now}: energy {energy.mean():.4f} ({low:.4f} to {high:.4f}, 80 %)"

    def _values(self) -> dict[str, object]:
        return {name: widget.value for name, widget in self.controls.items()}

    def _try(self, act: Callable[[], object]) -> None:
        """Do it if there is something to walk on; what fails is said on the panel, and play ends."""
        if self._panel.running or self._panel.result is None or self._panel.snapshot is None:
            self.play.playing = False
            if not self._panel.running:  # else the training speaks
                self._panel.say("Press Run, and wait for its end: chains walk on what it has learned.")
            return
        try:
            act()
        except Exception as error:  # shown on the panel: the page's thread would log it
            self.play.playing = False
            self._panel.say(error)
