"""The panel in a real JupyterLab: a slider moves, Run is pressed, the figure changes.

Needs Chromium and its driver; skipped with the reason where they are missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from oodlab import plotting, workspace
from oodlab.studies.nae.outlier_reconstruction.drawing import seen
from oodlab.studies.nae.outlier_reconstruction.panel import PIXELS as ON_PAGE
from oodlab.widgets.canvas import SIDE

PATIENCE = 180  # seconds for any one thing to happen, on a busy machine
SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {
        "windowingMode": "none"
    },  # keep all cells on the page
}
NOTEBOOK = """
const app = window.jupyterapp;
const panel = app && [...app.shell.widgets('main')].find(widget => widget.sessionContext);
"""  # not currentWidget: a page without the window's focus has none
FIRST_ERROR = f"""{NOTEBOOK}
for (const cell of panel.content.widgets) {{
  const outputs = cell.model.outputs; if (!outputs) continue;
  for (let i = 0; i < outputs.length; i++) {{
    const json = outputs.get(i).toJSON();
    if (json.output_type === 'error') return json.ename + ': ' + json.evalue;
  }}
}}
return null;"""
KERNEL_IDLE = f"""{NOTEBOOK}
const kernel = panel && panel.sessionContext && panel.sessionContext.session && panel.sessionContext.session.kernel;
return !!kernel && kernel.status === 'idle';"""
FOCUS_SLIDER = """
for (const slider of document.querySelectorAll('.jp-Notebook .widget-slider')) {
  const label = slider.querySelector('.widget-label');
  if (label && label.innerText === arguments[0]) {
    const handle = slider.querySelector('[role=slider]');
    slider.scrollIntoView({block: 'center'}); handle.focus();
    return handle.getAttribute('aria-valuenow');
  }
}
return null;"""
PRESS = """
for (const button of document.querySelectorAll('.jp-Notebook button.jupyter-button')) {
  if (button.innerText.trim() === arguments[0]) { button.scrollIntoView({block: 'center'}); button.click(); return true; }
}
return false;"""
PLAY = """
const button = document.querySelector('.jp-Notebook .jupyter-widget-play button, .jp-Notebook .widget-play button');
if (!button) return false;
button.scrollIntoView({block: 'center'}); button.click(); return true;"""
LIVE_FIGURE = """
const image = document.querySelector('.jp-Notebook img.widget-image');
return image && image.naturalWidth > 0 ? image.src : '';"""


def until(what: str, happens: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := happens():
            return value
        time.sleep(0.2)
    raise TimeoutError(f"waited {PATIENCE} s for {what}")


@contextlib.contextmanager
def jupyter_lab(notebooks: Path, home: Path) -> Iterator[str]:
    """Serve a folder on this machine only, with settings of its own; yield the address with its token."""
    token = secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in SETTINGS.items():
        file = home / "settings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={notebooks}"),
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "--LabApp.news_url=None",
    ]
    environment = {**os.environ, **{key: str(home / value) for key, value in folders.items()}, "JUPYTER_TOKEN": token}
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:

            def answers() -> bool:
                if server.poll() is not None:
                    pytest.fail("JupyterLab ended:\n" + (home / "lab.log").read_text()[-2000:])
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/api/status", headers={"Authorization": f"token {token}"}
                )
                with contextlib.suppress(OSError):
                    return urllib.request.urlopen(request, timeout=2).status == 200
                return False

            until("JupyterLab to answer", answers)
            yield f"http://127.0.0.1:{port}/lab/tree/{{notebook}}?token={token}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--window-size=1500,1300", f"--user-data-dir={tmp_path / 'chrome'}"),
    ):
        options.add_argument(argument)
    chrome = webdriver.Chrome(service=Service(driver), options=options)
    chrome.set_script_timeout(PATIENCE)
    yield chrome
    chrome.quit()


def run_all(browser: Any, address: str) -> None:
    """Open a notebook and run its cells."""
    browser.get(address)
    until("the notebook", lambda: browser.execute_script("return !!document.querySelector('.jp-Notebook .jp-Cell')"))
    until("an idle kernel", lambda: browser.execute_script(KERNEL_IDLE))
    browser.execute_async_script(
        f"{NOTEBOOK} app.shell.activateById(panel.id);"
        "app.commands.execute('notebook:run-all-cells').then(() => arguments[0](1))"
    )
    until("all cells", lambda: browser.execute_script(KERNEL_IDLE))


def test_a_panel_trains_and_redraws_in_jupyterlab(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook runs at smoke size; its panel trains, draws, and redraws from cached values."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press_key(key: str, times: int) -> None:
        for _ in range(times):
            ActionChains(browser).send_keys(key).perform()

    def status() -> str:
        return browser.execute_script("return document.querySelector('.jp-Notebook').innerText")

    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    served = tmp_path / "notebooks"
    served.mkdir()
    notebook = nbformat.read(workspace.checkout() / "notebooks/nae/eight_gaussians.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = parameters.source.replace('profile = "quick"', 'profile = "smoke"')
    nbformat.write(notebook, served / "panel.ipynb")
    shots = Path(os.environ.get("OODLAB_SHOTS", tmp_path))

    with jupyter_lab(served, tmp_path) as address:
        run_all(browser, address.format(notebook="panel.ipynb"))
        assert browser.execute_script(FIRST_ERROR) is None
        browser.save_screenshot(str(shots / "1_before.png"))

        before = until("the slider", lambda: browser.execute_script(FOCUS_SLIDER, "updates"))
        press_key(Keys.ARROW_LEFT, 5)
        assert float(browser.execute_script(FOCUS_SLIDER, "updates")) < float(before)
        assert browser.execute_script(LIVE_FIGURE) == ""
        assert browser.execute_script(PRESS, "Run")
        first = until("a live figure", lambda: browser.execute_script(LIVE_FIGURE))
        until("the end of the run", lambda: re.search(r"done\. NLL", status()))
        trained = browser.execute_script(LIVE_FIGURE)
        assert trained != first, "the figure did not change during the run"

        assert browser.execute_script(FOCUS_SLIDER, "top of the scale")
        press_key(Keys.ARROW_LEFT, 5)
        until("a redraw without a run", lambda: browser.execute_script(LIVE_FIGURE) not in (trained, ""))
        assert browser.execute_script(PRESS, "Run")
        until("the first result beside", lambda: "OMI, latent 3, 30 steps" in status())
        assert browser.execute_script(PRESS, "Stop")
        until("the run to stop", lambda: re.search(r"stopped\.", status()))
        assert "Traceback" not in status()
        browser.save_screenshot(str(shots / "2_after.png"))


@pytest.mark.parametrize("name", ["mass/epoch_curves", "ebm/smoothness", "ebm/gamma_sweep"])
def test_a_score_panel_trains_and_redraws_in_jupyterlab(
    name: str, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score panel trains live, stops, and moves its threshold without a run."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def status() -> str:
        return browser.execute_script("return document.querySelector('.jp-Notebook').innerText")

    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    served = tmp_path / "notebooks"
    served.mkdir()
    paper, notebook = name.split("/")
    cell = nbformat.v4.new_code_cell(
        f"from oodlab import widgets\nfrom oodlab.studies.{paper}.{notebook}.panel import {notebook}_panel\n"
        f"widgets.show({notebook}_panel)"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), served / "panel.ipynb")
    with jupyter_lab(served, tmp_path) as address:
        run_all(browser, address.format(notebook="panel.ipynb"))
        assert browser.execute_script(FIRST_ERROR) is None
        until("the panel", lambda: browser.execute_script(FOCUS_SLIDER, "updates"))
        assert browser.execute_script(PRESS, "Run")
        first = until("a live figure", lambda: browser.execute_script(LIVE_FIGURE))
        until("another one", lambda: browser.execute_script(LIVE_FIGURE) not in (first, ""))
        assert browser.execute_script(PRESS, "Stop")
        until("the run to stop", lambda: re.search(r"(stopped|done)\.", status()))
        stopped = browser.execute_script(LIVE_FIGURE)
        assert browser.execute_script(FOCUS_SLIDER, "threshold at TPR")
        for _ in range(5):
            ActionChains(browser).send_keys(Keys.ARROW_LEFT).perform()
        until("a redraw without a run", lambda: browser.execute_script(LIVE_FIGURE) not in (stopped, ""))
        assert "Error" not in status()
        browser.save_screenshot(str(Path(os.environ.get("OODLAB_SHOTS", tmp_path)) / f"3_{name}.png"))


def test_buttons_and_play_advance_chains_in_jupyterlab(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buttons take one step and ten; play continues until play is pressed again, and ends for no other reason."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def step() -> int:
        said = re.search(r"latent chain, step (\d+)", browser.execute_script("return document.body.innerText"))
        return int(said[1]) if said else -1

    def plays() -> str:
        """Return what the kernel has heard of play so far."""
        page = browser.execute_script("return document.body.innerText")
        return re.findall(r"play:((?: on| off)*)\.", page)[-1].strip()  # the cell's text has it too

    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    served = tmp_path / "notebooks"
    served.mkdir()
    cell = nbformat.v4.new_code_cell(
        "import ipywidgets\nfrom oodlab import widgets\n"
        "from oodlab.studies.nae.eight_gaussians.panel import eight_gaussians_panel\n"
        "panel = widgets.show(eight_gaussians_panel)\n"
        "heard, play = ipywidgets.HTML('play:.'), panel.parts[0].play\n"
        "def hear(change):\n"
        "    heard.value = heard.value[:-1] + (' on.' if change['new'] else ' off.')\n"
        "play.observe(hear, names='playing')\ndisplay(heard)"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), served / "panel.ipynb")
    with jupyter_lab(served, tmp_path) as address:
        run_all(browser, address.format(notebook="panel.ipynb"))
        until("the panel", lambda: browser.execute_script(FOCUS_SLIDER, "updates"))
        for _ in range(5):
            ActionChains(browser).send_keys(Keys.ARROW_LEFT).perform()
        assert browser.execute_script(PRESS, "1 step")
        until("a word that there is nothing yet", lambda: "Press Run, and wait" in browser.page_source)
        assert browser.execute_script(PRESS, "Run")
        until("the end of the run", lambda: re.search(r"done\. NLL", browser.page_source))
        learned = browser.execute_script(LIVE_FIGURE)
        assert browser.execute_script(PRESS, "1 step")
        until("one step", lambda: step() == 1)
        assert browser.execute_script(PRESS, "10 steps")
        until("ten more", lambda: step() == 11)
        assert browser.execute_script(LIVE_FIGURE) not in (learned, "")
        assert browser.execute_script(PLAY)
        until("play to go on by itself", lambda: step() >= 16)
        assert plays() == "on", "it has not ended by itself"
        assert browser.execute_script(PLAY)
        until("the kernel to hear of the end", lambda: plays() == "on off")
        ended = step()  # the page is told in order: no tick comes after this
        assert browser.execute_script(PRESS, "1 step")
        until("the step after the last of play", lambda: step() > ended)
        assert (step(), plays()) == (ended + 1, "on off")
        assert "Error" not in browser.execute_script("return document.body.innerText")
        browser.save_screenshot(str(Path(os.environ.get("OODLAB_SHOTS", tmp_path)) / "4_stepping.png"))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have no files of any set on this machine."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))


CANVAS = ".jp-Notebook .widget-html canvas"
PIXELS = f"""
const canvas = document.querySelector('{CANVAS}');
const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
return Array.from(all).filter((_, i) => i % 4 === 0);"""
SEEN = """
const done = arguments[0];
fetch(document.querySelector('.jp-Notebook img.widget-image').src).then((got) => got.arrayBuffer())
  .then((bytes) => done(Array.from(new Uint8Array(bytes)))).catch(() => done([]));"""


def test_drawing_with_the_mouse_updates_verdicts_in_jupyterlab(browser: Any, embedded: None, tmp_path: Path) -> None:
    """Drawings reach the kernel, pictures put by the kernel reach the page, and the verdicts follow."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    def text() -> str:
        return browser.execute_script("return document.querySelector('.jp-Notebook').innerText")

    def pixels() -> np.ndarray:
        return np.array(browser.execute_script(PIXELS)).reshape(SIDE, SIDE)

    def move(*places: tuple[float, float], pressed: bool) -> None:
        """Move the mouse along places, in pixels of the picture from its upper left corner."""
        canvas = browser.find_element(By.CSS_SELECTOR, CANVAS)
        scale = canvas.size["width"] / SIDE
        mouse = ActionChains(browser, duration=20)
        for i, (x, y) in enumerate(places):
            mouse.move_to_element_with_offset(canvas, (x - SIDE / 2) * scale, (y - SIDE / 2) * scale)
            if i == 0 and pressed:
                mouse.click_and_hold()
        (mouse.release() if pressed else mouse).perform()

    def agreed() -> np.ndarray | None:
        """Return the picture if the models have seen what the page shows, all of it."""
        picture = pixels()
        shown = plotting.picture_png(seen(picture.astype(np.uint8)[None], (1, 14, 14))[0, 0].numpy(), ON_PAGE)
        return picture if bytes(browser.execute_async_script(SEEN)) == shown else None

    def changes(what: str, act: Any) -> np.ndarray:
        """Act, and wait until page and models have the same other picture; nothing is on its way then."""
        before = pixels()
        act()

        def changed() -> Any:
            picture = agreed()
            return None if picture is None or np.array_equal(picture, before) else [picture]

        return until(what, changed)[0]

    def press(name: str) -> None:
        assert browser.execute_script(PRESS, name), name

    served = tmp_path / "notebooks"
    served.mkdir()
    cell = nbformat.v4.new_code_cell(
        "import functools\nfrom oodlab import widgets\n"
        "from oodlab.studies.nae.outlier_reconstruction.panel import outlier_reconstruction_panel\n"
        "panel = widgets.show(functools.partial(outlier_reconstruction_panel, profile='smoke'))"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), served / "panel.ipynb")
    with jupyter_lab(served, tmp_path) as address:
        run_all(browser, address.format(notebook="panel.ipynb"))
        assert browser.execute_script(FIRST_ERROR) is None
        until("the canvas", lambda: browser.find_elements(By.CSS_SELECTOR, CANVAS))
        until("the look for models", lambda: "Press Train" in text())
        press("Train")
        until("both verdicts", lambda: len(re.findall(r"accepted up to", text())) == 2)
        assert pixels().any(), "a digit to begin with"

        assert not changes("a clear canvas", lambda: press("Clear")).any()
        move((3, 3), (25, 25), pressed=False)
        verdicts = re.findall(r"error 0\.\d+", text())
        drawn = changes("the drawing", lambda: move((6, 14), (22, 14), pressed=True))
        move((3, 3), (25, 25), pressed=False)
        assert np.array_equal(pixels(), drawn), "a released mouse draws nothing"
        rows, columns = np.nonzero(drawn > 127)
        assert (rows.min(), rows.max()) == (13, 14) and columns.min() <= 6 and columns.max() >= 21
        assert np.array_equal(np.unique(rows), [13, 14]) and len(set(columns)) == columns.max() - columns.min() + 1
        until("other verdicts", lambda: re.findall(r"error 0\.\d+", text()) != verdicts)

        half = changes("half of the drawing", lambda: press("left"))
        assert not half[:, :14].any() and np.array_equal(half[:, 14:], drawn[:, 14:]), "the kernel had all of it"

        press("eraser")
        erases = f"return document.querySelector('{CANVAS}').dataset.erases"
        until("the eraser", lambda: browser.execute_script(erases) == "true")
        rest = changes("an erased drawing", lambda: move((14, 14), (22, 14), pressed=True))
        assert (rest[13:15, 14:22] < 32).all(), "less than the edge of a stroke"
        assert changes("a digit", lambda: press("Show it")).sum() > 1000
        chimera = changes("a chimera", lambda: press("Merge"))
        assert not chimera[11:17].any() and chimera.any(), "its seam"
        assert "Error" not in text()
        browser.save_screenshot(str(Path(os.environ.get("OODLAB_SHOTS", tmp_path)) / "4_outlier_reconstruction.png"))
