"""The logic of panels, tested without a browser or a kernel."""

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


def test_a_panels_run_uses_the_current_control_values_and_shows_its_last_state() -> None:
    panel = panel_of(counts)
    panel.controls["n"].value = 7
    panel.run()
    panel.wait(20)
    assert not panel.running
    assert panel.bar.value == panel.bar.max == 7
    assert panel.status.value.startswith("<div") and "done. at 7" in panel.status.value
    assert bytes(panel.image.value).startswith(b"\x89PNG")
    assert (panel.run_button.disabled, panel.stop_button.disabled) == (False, True)


def test_a_changed_view_of_a_panel_redraws_without_a_run() -> None:
    panel = panel_of(counts)
    panel.views["scale"].value = 2.0  # nothing to draw yet, and no error
    assert bytes(panel.image.value) == b""
    panel.run()
    panel.wait(20)
    before = bytes(panel.image.value)
    panel.views["scale"].value = 0.5
    assert bytes(panel.image.value) != before
    assert not panel.running


def test_stop_ends_a_panels_run_and_does_not_stop_the_next_run() -> None:
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


def test_a_panel_has_only_one_run_at_a_time() -> None:
    panel = panel_of(waits_for_stop)
    before = threading.active_count()
    panel.run()
    panel.run()
    assert threading.active_count() <= before + 1
    panel.stop()
    panel.wait(20)


def test_a_panels_jobs_run_one_after_the_other_and_end_by_the_stop_button() -> None:
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


def test_an_error_of_a_panels_run_is_shown_and_the_panel_can_run_again() -> None:
    def fails(values: dict[str, Any], should_stop: object, publish: object) -> None:
        raise ValueError("step_size < 0 & more")

    panel = panel_of(fails)
    panel.run()
    panel.wait(20)
    assert "ValueError: step_size &lt; 0 &amp; more" in panel.status.value
    assert not panel.run_button.disabled


def test_an_unchanged_snapshot_is_not_drawn_again_but_its_status_text_is_shown() -> None:
    """A training that reports every update without a new snapshot costs no drawing."""
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


def test_a_snapshot_skipped_during_the_pause_is_drawn_when_published_again() -> None:
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


def test_an_observer_that_sees_the_end_of_a_run_can_start_the_next_run() -> None:
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


def test_a_panel_keeps_earlier_results_beside_the_new_one() -> None:
    panel = panel_of(counts)
    for _ in range(widgets.KEPT + 3):
        panel.run()
        panel.wait(20)
    assert len(panel.earlier.children) == widgets.KEPT
    picture, text = panel.earlier.children[0].children
    assert bytes(picture.value).startswith(b"\x89PNG") and "n = 3" in text.value


def test_an_earlier_result_keeps_its_own_name_and_picture() -> None:
    """This also holds when the run between two results failed before it had anything to show."""

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


def test_a_notebook_run_in_a_batch_builds_no_panel(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    monkeypatch.setenv("OODLAB_PROGRESS", str(tmp_path / "events.jsonl"))
    widgets.show(lambda: pytest.fail("built"))
    assert "JupyterLab" in capsys.readouterr().out


@pytest.mark.parametrize("latent", [0, 3])
@pytest.mark.parametrize("sampler", ["OMI", "CD", "PCD", "PCD, 5 % restart"])
def test_the_eight_gaussians_panel_trains_with_every_sampler(sampler: str, latent: int) -> None:
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


def test_stop_on_a_panel_acts_within_a_chain() -> None:
    """With chains of 100 steps per batch the run ends between two chain steps, long before the update does."""
    panel = eight_gaussians_panel()
    panel.controls["chain"].value = 100
    panel.run()
    while not panel.bar.value and panel.running:
        time.sleep(0.01)
    pressed = time.monotonic()
    panel.stop()
    panel.wait(60)
    assert time.monotonic() - pressed < 5  # a second on an idle machine; the bound is for a crowded one
