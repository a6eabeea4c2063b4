"""Chains that a panel advances by buttons or by play: every advance is a step of the chain."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from oodlab import plotting, widgets
from oodlab.models import Autoencoder
from oodlab.samplers import Annealed, Box, ClipElements, ClipRows, LangevinChain, MalaChain, RejectOutside, Sphere
from oodlab.studies.nae.samples.chains import FreshChains, OnManifoldSamples
from oodlab.widgets import Stepper, Walk
from oodlab.widgets.stepping import NOISE

LATENT = LangevinChain(steps=3, step_size=0.2, noise_std=0.05, bounds=Sphere())
WITHIN = Box(0.45, 0.55)  # so narrow that every decoded code leaves it
VISIBLE = LangevinChain(steps=4, step_size=5.0, noise_std=Annealed(0.05), clip=ClipElements(0.01), bounds=Box(0.0, 1.0))


def small_model(seed: int = 0) -> Autoencoder:
    """Return an autoencoder of 1 x 4 x 4 images with codes (3, 1, 1) on the sphere, which differ from image to image."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Tanh())
    decoder = nn.Sequential(nn.ConvTranspose2d(3, 1, 4), nn.Sigmoid())
    for layer in (encoder[0], decoder[0]):
        nn.init.normal_(layer.weight, std=1.0)
    return Autoencoder(encoder, decoder, latent=3, sphere=True).eval()


def draw(model: Autoencoder, n: int = 6, **changes: Any) -> OnManifoldSamples:
    given = {"latent_chain": LATENT, "chain": VISIBLE, "start_bounds": Box(0.0, 1.0), "seed": 0, **changes}
    followed = given.pop("followed", n)
    return FreshChains(**given)(model, n, followed=followed)


def stepped(chains: dict[str, Any] | None = None) -> tuple[widgets.RunPanel, Stepper, list[str]]:
    """Return a panel whose run gives a model, its stepper, and what was drawn."""
    drawn: list[str] = []
    given = {"latent": LATENT, "visible": VISIBLE} if chains is None else chains

    def task(values: dict[str, Any], should_stop: Callable[[], bool], publish: widgets.Publish) -> object:
        publish("trained", 1, 1, "trained")
        return SimpleNamespace(model=small_model())

    panel = widgets.RunPanel(
        {},
        {},
        task=task,
        draw=lambda snapshot, views: (drawn.append(snapshot), plotting.figure(1, 1))[1],
        name=lambda values: "",
    )

    def show(walk: Walk, text: str, at_once: bool) -> None:
        panel.show_state(f"{walk.space} {walk.t}", text, at_once=at_once)

    starts = {
        "data": lambda generator: torch.rand(5, 1, 4, 4, generator=generator),
        "noise": lambda generator: torch.full((5, 1, 4, 4), 0.5),
    }
    panel.add(Stepper(panel, chains=given, start_bounds=WITHIN, starts=starts, show=show))
    return panel, panel.parts[0], drawn


def run(panel: widgets.RunPanel) -> None:
    panel.run()
    panel.wait(60)


def test_chains_do_not_step_before_a_model_is_trained() -> None:
    panel, stepper, drawn = stepped()
    for act in (lambda: stepper.step(1), stepper.again, lambda: setattr(stepper.controls["space"], "value", "visible")):
        act()
        assert "Press Run" in panel.status.value
    stepper.play.value += 1
    assert stepper.walk is None and drawn == []
    assert stepper.widget in panel.widget.children


@pytest.mark.parametrize("space", ["latent", "visible"])
def test_steps_by_button_and_by_play_give_the_states_of_one_uninterrupted_chain(space: str) -> None:
    """One step, ten steps and ticks of play draw the states of one chain of all steps, annealed noise included."""
    panel, stepper, _ = stepped()
    run(panel)
    stepper.controls["space"].value = space
    stepper.again()
    model, walk = panel.result.model, stepper.walk
    began = walk.state.clone()
    stepper.one_button.click()
    for _ in range(3):
        stepper.play.value += 1
    stepper.ten_button.click()
    assert stepper.walk is walk and walk.t == 14
    chain, density = {
        "latent": (LATENT, lambda z: model.log_density(model.decode(z))),
        "visible": (VISIBLE, model.log_density),
    }[space]
    whole = dataclasses.replace(chain, steps=14)
    end = whole(density, began, generator=torch.Generator().manual_seed(NOISE))
    assert torch.equal(walk.state, end)
    assert len(walk.energies) == 15
    with torch.no_grad():
        assert torch.allclose(walk.energies[-1], -density(end)) and torch.allclose(walk.energies[0], -density(began))
        assert torch.equal(walk.points, model.decode(end) if space == "latent" else end)
        assert torch.equal(walk.start, model.decode(began) if space == "latent" else began)
    assert f"{space} chain, step 14" in panel.status.value
    assert f"energy {float(walk.energies[-1].mean()):.4f}" in panel.status.value


def test_the_last_state_is_drawn_when_play_pauses_and_plays_stop_restarts_the_chains() -> None:
    panel, stepper, drawn = stepped()
    run(panel)
    stepper.step(1)
    panel._drawing_took = 1e9  # a machine on which drawing takes for ever
    stepper.play.playing = True
    for _ in range(3):
        stepper.play.value += 1
    assert drawn[-1] == "latent 1" and stepper.walk.t == 4
    stepper.play.playing = False
    assert drawn[-1] == "latent 4" and "step 4" in panel.status.value
    stepper.play.value = 0
    assert drawn[-1] == "latent 0" and stepper.walk.t == 0
    panel._drawing_took = 0.0
    stepper.play.value += 1
    assert drawn[-1] == "latent 1", "where drawing takes no time, every tick is drawn"


def test_a_change_of_space_continues_from_the_current_states_of_the_chains() -> None:
    panel, stepper, _ = stepped()
    run(panel)
    stepper.step(2)
    code, model = stepper.walk.state, panel.result.model
    assert stepper.controls["step_size"].value == 0.2 and not stepper.controls["annealed"].value
    stepper.controls["space"].value = "visible"
    with torch.no_grad():
        decoded = model.decode(code)
    assert torch.equal(stepper.walk.state, decoded.clamp(WITHIN.low, WITHIN.high)), (
        "as a visible chain starts in training"
    )
    assert (decoded < WITHIN.low).any() and (decoded > WITHIN.high).any()
    wanted = {"step_size": 5.0, "noise_std": 0.05, "annealed": True, "clip": "by element"}
    assert {name: stepper.controls[name].value for name in wanted} == wanted
    stepper.step(1)
    assert stepper.walk.turns == [(0, "latent"), (3, "visible")]
    assert (stepper.walk.t, len(stepper.walk.energies)) == (1, 5)
    stepper.controls["space"].value = "latent"
    assert stepper.walk.state.shape == code.shape
    assert stepper.walk.state.norm(dim=1).flatten().tolist() == pytest.approx([1.0] * 5)


def test_changed_controls_of_the_chains_act_from_the_next_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, stepper, _ = stepped()
    run(panel)
    stepper.controls["space"].value = "visible"
    stepper.step(1)
    seen = []
    monkeypatch.setattr(stepper.walk, "go", lambda chain, steps: seen.append(chain))
    for name, value in {"step_size": 0.5, "noise_std": 0.1, "annealed": False, "clip": "by row"}.items():
        stepper.controls[name].value = value
        stepper.step(1)
    assert [seen[0].step_size, seen[1].noise_std, seen[2].noise_std] == [0.5, Annealed(0.1), 0.1]
    assert seen[3].clip == ClipRows(0.01) and seen[3].bounds == VISIBLE.bounds
    stepper.controls["clip"].value = "no"
    stepper.step(1)
    assert seen[4].clip is None
    assert "temperature 0.01:" in panel.status.value  # 0.1^2 / (2 * 0.5)


def test_latent_and_visible_space_each_keep_their_control_values() -> None:
    _, stepper, _ = stepped()
    own = {
        "latent": {"step_size": 0.7, "noise_std": 0.2},
        "visible": {"step_size": 0.9, "clip": "by row", "annealed": False},
    }
    chains = {"latent": {"clip": "no", "annealed": False}, "visible": {"noise_std": 0.05}}
    for space, values in own.items():
        stepper.controls["space"].value = space
        for name, value in values.items():
            stepper.controls[name].value = value
    for _ in range(2):
        for space, values in own.items():
            stepper.controls["space"].value = space
            wanted = {**values, **chains[space]}
            assert {name: stepper.controls[name].value for name in wanted} == wanted


def test_the_whole_way_button_runs_on_manifold_initialisation_from_fresh_codes() -> None:
    """Latent chain, decoding, clamping and visible chain run as OnManifold draws negatives, with one generator."""
    panel, stepper, drawn = stepped()
    run(panel)
    model = panel.result.model
    for name, value in {"start": "noise", "space": "visible"}.items():
        stepper.controls[name].value = value
    stepper.controls["step_size"].value = 2.0  # set by hand: that counts
    del drawn[:]
    stepper.way_button.click()
    panel.wait(60)
    draws, generator = torch.Generator().manual_seed(0), torch.Generator().manual_seed(NOISE)
    torch.rand(5, 1, 4, 4, generator=draws)  # of the start that only says how many chains there are
    codes = model.latent_start(torch.empty(5, 3, 1, 1), draws)
    with torch.no_grad():
        z = LATENT(lambda z: model.log_density(model.decode(z)), codes, generator=generator)
        start = model.decode(z).clamp(WITHIN.low, WITHIN.high)
        x = dataclasses.replace(VISIBLE, step_size=2.0)(model.log_density, start, generator=generator)
    walk = stepper.walk
    assert torch.equal(walk.state, x) and walk.turns == [(0, "latent"), (4, "visible")]
    assert drawn == ["latent 0", *(f"latent {i}" for i in (1, 2, 3)), *(f"visible {i}" for i in (1, 2, 3, 4))]
    assert panel.bar.value == panel.bar.max == 7 and "done. visible chain, step 4" in panel.status.value
    assert [stepper.controls[name].value for name in ("start", "space")] == ["fresh codes", "visible"]
    stepper.step(1)
    assert stepper.walk is walk and walk.t == 5


def test_the_whole_way_can_be_stopped_and_continued_by_single_steps() -> None:
    panel, stepper, drawn = stepped()
    stepper.way_button.click()
    assert "Press Run" in panel.status.value
    run(panel)
    show = stepper._show

    def stop_at_2(walk: Walk, text: str, at_once: bool) -> None:
        show(walk, text, at_once)
        if walk.t == 2:
            assert panel.running and panel.run_button.disabled
            stepper.one_button.click()  # refused, as long as it goes
            stepper.controls["space"].value = "visible"
            panel.stop_button.click()

    stepper._show = stop_at_2
    stepper.way_button.click()
    panel.wait(60)
    assert drawn[-1] == "latent 2" and "stopped. latent chain, step 2" in panel.status.value
    assert not panel.running and not panel.run_button.disabled
    stepper._show = show
    stepper.step(1)
    assert (stepper.walk.space, stepper.walk.t) == ("visible", 1), "in the space that was chosen meanwhile"


def test_the_start_and_seed_controls_decide_where_chains_begin() -> None:
    panel, stepper, _ = stepped()
    run(panel)
    model, begins = panel.result.model, {}
    stepper.controls["space"].value = "visible"
    for start in (*stepper.controls["start"].options[::-1],):
        for seed in (1, 2, 1):
            stepper.controls["start"].value = start
            stepper.controls["seed"].value = seed
            stepper.again()
            begins.setdefault((start, seed), []).append(stepper.walk.state)
    assert all(torch.equal(*begins[start, 1]) for start, _ in begins)
    assert not torch.equal(begins["data", 1][0], begins["data", 2][0])
    assert torch.equal(begins["data", 1][0], torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(begins["noise", 1][0], torch.full((5, 1, 4, 4), 0.5))
    assert not torch.equal(begins["fresh codes", 1][0], begins["fresh codes", 2][0])
    stepper.controls["space"].value = "latent"
    stepper.controls["start"].value = "data"
    with torch.no_grad():
        assert torch.equal(stepper.walk.state, model.encode(begins["data", 1][0]))
    stepper.controls["start"].value = "fresh codes"
    assert stepper.walk.state.norm(dim=1).flatten().tolist() == pytest.approx([1.0] * 5)
    with torch.no_grad():
        decoded = model.decode(stepper.walk.state)
    assert torch.equal(decoded.clamp(WITHIN.low, WITHIN.high), begins["fresh codes", 1][0])


def test_chains_begin_again_with_the_new_model_after_another_run() -> None:
    panel, stepper, _ = stepped()
    run(panel)
    stepper.step(3)
    before = stepper.walk
    run(panel)
    stepper.play.playing = True
    stepper.play.playing = False  # nothing of the old walk is drawn over the new result
    assert panel.snapshot == "trained"
    stepper.step(1)
    assert stepper.walk is not before and stepper.walk.model is panel.result.model and stepper.walk.t == 1


def test_control_values_refused_by_the_chain_are_shown_as_an_error_and_end_play() -> None:
    """Metropolis steps need noise; a chain without clip or annealed noise has no controls for clip or annealing."""
    chains = {"latent": LATENT, "visible": MalaChain(3, 0.01, noise_std=0.1, bounds=RejectOutside(0.0, 1.0))}
    panel, stepper, _ = stepped(chains)
    assert not {"clip", "annealed"} & set(stepper.controls)
    run(panel)
    stepper.controls["space"].value = "visible"
    stepper.controls["noise_std"].value = 0.0
    stepper.play.playing = True
    stepper.play.value += 1
    assert "ValueError: mala expects noise_std &gt; 0" in panel.status.value
    assert not stepper.play.playing
    stepper.controls["noise_std"].value = 0.05
    stepper.step(2)
    assert "visible chain, step 2" in panel.status.value
