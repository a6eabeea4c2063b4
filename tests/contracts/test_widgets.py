"""The panel's logic, without a browser or a kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as w
import pytest
from matplotlib.figure import Figure

from oodlab import plotting, widgets
from oodlab.studies.nae.eight_gaussians.panel import eight_gaussians_panel
from oodlab.widgets.work import Work


def bars(snapshot: int, views: dict[str, Any]) -> Figure:
    fig = plotting.figure(1, 1)
    fig.subplots().bar([0], [snapshot * views["scale"]])
    return fig


def panel_of(task: Callable[..., None]) -> widgets.RunPanel:
    return widgets.RunPanel(
        {"n": w.IntSlider(3, min=1, max=100)},
        {"scale": w.FloatSlider(1.0, min=0.5, max=2.0)},
        task=task,
        draw=bars,
        name=lambda values: f"n = {values['n']}",
    )


def counts(values: dict[str, Any], should_stop: Callable[[], bool], publish: widgets.Publish) -> None:
    for i in range(1, values["n"] + 1):
        if should_stop():
            return
        publish(i, i, values["n"], f"at {i}")


def waits_for_stop(values: dict[str, Any], should_stop: Callable[[], bool], publish: widgets.Publish) -> None:
    publish(1, 1, 10, "waits")
    end = time.monotonic() + 20
    while not should_stop() and time.monotonic() < end:
        time.sleep(0.01)


def test_a_run_uses_the_controls_as_they_stand_and_shows_its_last_state() -> None:
    panel = panel_of(counts)
    panel.controls["n"].value = 7
    panel.run()
    panel.wait(20)
    assert not panel.running
    assert panel.bar.value == panel.bar.max == 7
    assert panel.status.value.startswith("<div") and "done. at 7" in panel.status.value
    assert bytes(panel.image.value).startswith(b"\x89PNG")
    assert (panel.run_button.disabled, panel.stop_button.disabled) == (False, True)


def test_a_view_redraws_at_once_without_a_run() -> None:
    panel = panel_of(counts)
    panel.views["scale"].value = 2.0  # nothing to draw yet, and no error
    assert bytes(panel.image.value) == b""
    panel.run()
    panel.wait(20)
    before = bytes(panel.image.value)
    panel.views["scale"].value = 0.5
    assert bytes(panel.image.value) != before
    assert not panel.running


def test_stop_ends_the_run_and_keeps_what_it_has() -> None:
    panel = panel_of(waits_for_stop)
    panel.run()
    while not bytes(panel.image.value):
        time.sleep(0.01)
    assert panel.run_button.disabled
    panel.stop_button.click()
    panel.wait(20)
    assert not panel.running
    assert "stopped. waits" in panel.status.value
    panel._task = counts
    panel.run()
    panel.wait(20)
    assert "done. at 3" in panel.status.value, "an earlier Stop is of the earlier run"


def test_only_one_run_at_a_time() -> None:
    panel = panel_of(waits_for_stop)
    before = threading.active_count()
    panel.run()
    panel.run()
    assert threading.active_count() <= before + 1
    panel.stop()
    panel.wait(20)


def test_work_is_done_one_after_the_other_and_stopped_by_its_button() -> None:
    work, done = Work("Go", width=100), []

    def waits(should_stop: Callable[[], bool]) -> str:
        asked.set()
        assert go.wait(20)
        done.append(should_stop())
        return "a < b"

    asked, go = threading.Event(), threading.Event()
    work.start(waits)
    assert asked.wait(20)
    work.start(lambda should_stop: done.append("a second at the same time") or "")
    work.stop_button.click()
    go.set()
    work.wait(20)
    assert done == [True] and "a &lt; b" in work.status.value and work.bar.bar_style == "warning"


def test_an_error_is_shown_and_the_panel_can_run_again() -> None:
    def fails(values: dict[str, Any], should_stop: object, publish: object) -> None:
        raise ValueError("step_size < 0 & more")

    panel = panel_of(fails)
    panel.run()
    panel.wait(20)
    assert "ValueError: step_size &lt; 0 &amp; more" in panel.status.value
    assert not panel.run_button.disabled


def test_what_is_drawn_is_not_drawn_again_but_what_is_said_is() -> None:
    """A training that tells of every update while there is nothing new to see costs no drawing."""
    drawn, said = [], []

    def tells(values: dict[str, Any], should_stop: object, publish: widgets.Publish) -> None:
        panel._pause = 0.0  # a machine on which drawing takes no time
        for i, snapshot in enumerate((1, 1, 1, 2, 2), 1):
            publish(snapshot, i, 5, f"at {i}")

    panel = panel_of(tells)
    panel._draw = lambda snapshot, views: (drawn.append(snapshot), bars(snapshot, views))[1]
    redraw = panel.redraw
    panel.redraw = lambda: (redraw(), setattr(panel, "_pause", 0.0))
    panel.status.observe(lambda change: said.append(change["new"]), names="value")
    panel.run()
    panel.wait(20)
    assert drawn == [1, 2]
    assert all(any(f"update {i} of 5. at {i}" in text for text in said) for i in range(1, 6))
    panel.run()
    panel.wait(20)
    assert drawn == [1, 2, 1, 2], "another run draws its own"
    assert bytes(panel.image.value) == plotting.to_png(bars(2, {"scale": 1.0}))


def test_a_snapshot_that_came_too_soon_is_drawn_when_it_comes_again() -> None:
    drawn = []

    def tells(values: dict[str, Any], should_stop: object, publish: widgets.Publish) -> None:
        publish(1, 1, 3, "at 1")
        panel._pause = 600.0
        publish(2, 2, 3, "at 2")
        assert drawn == [1]
        panel._pause = 0.0
        publish(2, 3, 3, "at 3")
        assert drawn == [1, 2]

    panel = panel_of(tells)
    panel._draw = lambda snapshot, views: (drawn.append(snapshot), bars(snapshot, views))[1]
    panel.run()
    panel.wait(20)
    assert "done. at 3" in panel.status.value, panel.status.value


def test_who_reads_that_a_run_has_ended_may_start_the_next() -> None:
    panel = panel_of(counts)
    ended = []

    def again(change: dict[str, str]) -> None:
        if "done." in change["new"] and len(ended) < 2:
            ended.append((panel.running, panel.run_button.disabled, panel.stop_button.disabled))
            panel.run()

    panel.status.observe(again, names="value")
    panel.run()
    for _ in range(3):  # each run is waited for by the thread that it was started from
        panel.wait(20)
    assert ended == 2 * [(False, False, True)]
    assert len(panel.earlier.children) == 2 and not panel.running


def test_earlier_results_are_kept_beside_the_new_one() -> None:
    panel = panel_of(counts)
    for _ in range(widgets.KEPT + 3):
        panel.run()
        panel.wait(20)
    assert len(panel.earlier.children) == widgets.KEPT
    picture, text = panel.earlier.children[0].children
    assert bytes(picture.value).startswith(b"\x89PNG") and "n = 3" in text.value


def test_an_earlier_result_keeps_its_own_name_and_picture() -> None:
    """Also when the run between it and the next one failed before it had anything to show."""

    def fails_at_7(values: dict[str, Any], should_stop: Callable[[], bool], publish: widgets.Publish) -> None:
        if values["n"] == 7:
            raise ValueError
        counts(values, should_stop, publish)

    panel = panel_of(fails_at_7)
    pictures = {}
    for n in (2, 7, 4, 5):
        panel.controls["n"].value = n
        panel.run()
        panel.wait(20)
        pictures[n] = bytes(panel.image.value)
    kept = [(box.children[1].value, bytes(box.children[0].value)) for box in panel.earlier.children]
    assert len(kept) == 2
    for (text, picture), n in zip(kept, (4, 2), strict=True):
        assert f"n = {n}" in text and f"at {n}" in text and picture == pictures[n]


def test_a_batch_run_builds_no_panel(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    monkeypatch.setenv("OODLAB_PROGRESS", str(tmp_path / "events.jsonl"))
    widgets.show(lambda: pytest.fail("built"))
    assert "JupyterLab" in capsys.readouterr().out


@pytest.mark.parametrize("latent", [0, 3])
@pytest.mark.parametrize("sampler", ["OMI", "CD", "PCD", "PCD, 5 % restart"])
def test_the_plane_trains_from_every_sampler(sampler: str, latent: int) -> None:
    panel = eight_gaussians_panel()
    for name, value in {"sampler": sampler, "latent": latent, "updates": 50, "chain": 1}.items():
        panel.controls[name].value = value
    seen: list[int] = []
    publish = panel._publish
    panel._publish = lambda snapshot, done, *rest: (seen.append(done), publish(snapshot, done, *rest))
    panel.run()
    while not seen and panel.running:
        time.sleep(0.01)
    panel.stop()
    panel.wait(60)
    assert seen, panel.status.value
    assert "NLL" in panel.status.value


def test_stop_acts_within_a_chain() -> None:
    """A chain of 100 steps a batch: the run ends between two of them, long before the update does."""
    panel = eight_gaussians_panel()
    panel.controls["chain"].value = 100
    panel.run()
    while not panel.bar.value and panel.running:
        time.sleep(0.01)
    pressed = time.monotonic()
    panel.stop()
    panel.wait(60)
    assert time.monotonic() - pressed < 5  # a second on an idle machine; the bound is for a crowded one
