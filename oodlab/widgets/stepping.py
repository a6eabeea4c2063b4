"""Chains that are moved by hand or by play, over what a panel has trained.

The steps are those of samplers; here are only the buttons, and where chains are.

Imports: models, samplers, widgets.panel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import ipywidgets as w
import torch
from torch import Tensor

from oodlab.models import NormalizedAutoencoder, frozen
from oodlab.samplers import (
    Annealed,
    ChainRecord,
    ClipElements,
    ClipNorm,
    ClipRows,
    LangevinChain,
    MalaChain,
    Sphere,
    effective_temperature,
)
from oodlab.widgets.panel import WIDE, RunPanel, slider

Chain = LangevinChain | MalaChain
FRESH = "fresh codes"
TICK = 400  # milliseconds between two steps of play
NOISE = 1_000_003  # added to the seed: the noise has other random numbers than the start
CLIPS = {"by element": ClipElements, "by row": ClipRows, "by norm": ClipNorm}


class Walk:
    """Chains in the middle of their way over an autoencoder's density.

    Args:
        model: Whose density; a latent chain walks on that of its decoded codes.
        space: "latent" or "visible".
        state: Codes or inputs, (B, *event).
        seed: Of the noise.

    Attributes:
        energies: After every step so far, the start included, nats, each (B,) on the CPU.
        turns: Numbers of steps at which the walk went on in another space, with its name; the first is (0, space).
        t: Steps in this space.
        start: Where the chains came from, visible, (B, *event) on the CPU.
    """

    def __init__(self, model: NormalizedAutoencoder, space: str, state: Tensor, seed: int) -> None:
        self.model, self.space, self.state, self.t = model, space, state, 0
        self._generator = torch.Generator(state.device).manual_seed(seed)
        self.turns = [(0, space)]
        self.start = self.points
        self.energies = [self._energy(state)]

    @property
    @torch.no_grad()
    def points(self) -> Tensor:
        """Where the chains are, visible, (B, *event) on the CPU."""
        return (self.model.decode(self.state) if self.space == "latent" else self.state).cpu()

    def go(self, chain: Chain, steps: int) -> None:
        """Take some steps more; noise that falls goes on falling."""
        record = ChainRecord()
        with frozen(self.model):
            part = chain.part(self.t, steps)
            self.state = part(self._log_density, self.state, generator=self._generator, record=record)
        self.energies += [self._energy(state) for state in record.states[1:]]
        self.t += steps

    @torch.no_grad()
    def turn(self, space: str) -> None:
        """Go on in the other space: from codes to what they decode to, or from inputs to their codes."""
        if space != self.space:
            self.state = self.model.encode(self.state) if space == "latent" else self.model.decode(self.state)
            self.space, self.t = space, 0
            self.turns.append((len(self.energies), space))
            self.energies.append(self._energy(self.state))

    def _log_density(self, state: Tensor) -> Tensor:
        return self.model.log_density(self.model.decode(state) if self.space == "latent" else state)

    @torch.no_grad()
    def _energy(self, state: Tensor) -> Tensor:
        return -self._log_density(state).cpu()


class Stepper:
    """Buttons that move chains: again, one step, ten steps, play.

    Settings of the chain act from the next step on; another start or seed begins again, and another space goes on from
    where the chains are, so that a latent chain and then a visible one are on-manifold initialisation.

    Args:
        panel: Its last result's model is walked on; after another run the walk begins again.
        chains: Settings to begin with, by space: "latent" and "visible".
        starts: Where chains may begin besides fresh codes, by name: generator -> inputs (B, *event).
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
        starts: Mapping[str, Callable[[torch.Generator], Tensor]],
        show: Callable[[Walk, str, bool], None],
    ) -> None:
        self.walk: Walk | None = None
        self._panel, self._chains, self._starts, self._show = panel, dict(chains), dict(starts), show
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
        self.play = w.Play(min=0, max=10**6, interval=TICK, show_repeat=False)
        self._take_settings()
        self.again_button.on_click(lambda _: self.again())
        self.one_button.on_click(lambda _: self.step(1))
        self.ten_button.on_click(lambda _: self.step(10))
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
            self.walk.go(self._chain(), steps)
            self._tell(at_once=at_once)

        self._try(go)

    def _begin(self) -> None:
        model, values = self._panel.result.model, self._values()
        place = model.log_temperature.device
        draws = torch.Generator().manual_seed(values["seed"])
        x = self._starts.get(values["start"], next(iter(self._starts.values())))(draws)
        with torch.no_grad():
            codes = model.encode(x.to(place))
            if values["start"] == FRESH:
                codes = model.latent_start(codes.cpu(), draws).to(place)
                x = model.decode(codes)
        self.walk = Walk(
            model, values["space"], codes if values["space"] == "latent" else x.to(place), values["seed"] + NOISE
        )
        self._tell(at_once=True)

    def _turn(self) -> None:
        self._take_settings()

        def turn() -> None:
            if self._present is not None:
                self.walk.turn(self.controls["space"].value)
                self._tell(at_once=True)

        self._try(turn)

    def _take_settings(self) -> None:
        """Put the controls where the chain of this space has them."""
        chain = self._chains[self.controls["space"].value]
        falls = isinstance(chain.noise_std, Annealed)
        self.controls["step_size"].value = chain.step_size
        self.controls["noise_std"].value = chain.noise_std.noise_std if falls else chain.noise_std
        if "annealed" in self.controls:
            self.controls["annealed"].value = falls
        if "clip" in self.controls:
            known = {kind: name for name, kind in CLIPS.items()}
            self.controls["clip"].value = known.get(type(chain.clip), "no")

    def _chain(self) -> Chain:
        values = self._values()
        chain, noise_std = self._chains[values["space"]], values["noise_std"]
        if values["space"] == "latent":
            chain = replace(chain, bounds=Sphere() if self.walk.model.sphere else None)
        if "clip" in values:
            kind, limit = CLIPS.get(values["clip"]), chain.clip.limit if chain.clip else self._limits[0]
            chain = replace(chain, clip=kind and kind(limit))
        if values.get("annealed"):
            falls = chain.noise_std if isinstance(chain.noise_std, Annealed) else Annealed(0.0)
            noise_std = replace(falls, noise_std=noise_std)  # as the preset's chain falls, at once or delayed
        return replace(chain, step_size=values["step_size"], noise_std=noise_std)

    def _tick(self, change: dict[str, int]) -> None:
        if change["new"] > change["old"]:
            self.step(1, at_once=False)
        else:  # play's own stop button
            self.again()

    def _tell(self, *, at_once: bool) -> None:
        walk, values = self._present, self._values()
        if walk is None:
            return
        energy = walk.energies[-1]
        temperature = effective_temperature(values["step_size"], values["noise_std"])
        now = f"temperature {temperature:.2g}{' at first' if values.get('annealed') else ''}"
        low, high = energy.quantile(0.1), energy.quantile(0.9)
        text = f"{walk.space} chain, step {walk.t}, {now}: energy {energy.mean():.4f} ({low:.4f} to {high:.4f}, 80 %)"
        self._show(walk, text, at_once)

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
