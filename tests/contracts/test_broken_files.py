"""Damaged files, unwritable folders, full disks and two writers leave no half-written file and no silent difference."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import made_rows, named
from matplotlib.figure import Figure

from oodlab import data, plotting, training, workspace
from oodlab.batch import record
from oodlab.data import loading
from oodlab.data.search import cache_folder
from oodlab.models import MLP, Autoencoder
from oodlab.plotting import saving
from oodlab.plotting.pages import Gallery
from oodlab.plotting.saving import read_figure

# ------------------------------------------------------------------------ kinds of damage, kinds of files


def flipped(content: bytes) -> bytes:
    """Change one bit in the middle, where the numbers are."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: 2 * len(content) // 3],
    "flipped": flipped,
    "another file": lambda content: b"not what it should be\n" * 9,
}


@pytest.fixture(params=DAMAGE)
def damage(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Return what damages a file in place."""

    def apply(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(DAMAGE[request.param](content))
        assert file.read_bytes() != content

    return apply


def autoencoder() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder(MLP(2, [16], 3), MLP(3, [16], 2), latent=3)


def state() -> dict[str, object]:
    return {"step": 7, "model": autoencoder().state_dict(), "replay": torch.ones(5000)}


def drawn(name: str = "nae/demo", value: float = 0.5, height: float = 1.0) -> plotting.Saved:
    """Save a small figure whose picture and numbers tell which run drew it."""
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().bar([0], [height])
    return plotting.save_figure(figure, named(name), made_rows(auroc=value))


def left_over(folder: Path) -> list[Path]:
    return [file for file in folder.rglob(".*") if file.is_file()]


def test_a_damaged_data_file_of_the_search_path_raises_an_error_and_is_kept(
    damage: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path))
    file = tmp_path / "mine" / "train.npz"
    file.parent.mkdir()
    np.savez_compressed(file, x=np.random.default_rng(0).random((40, 3)))
    data.load("mine")
    damage(file)
    with pytest.raises(ValueError, match=r"mine.train\.npz cannot be read .*copy or fetch it again"):
        data.load("mine")
    assert file.exists()


def test_a_damaged_file_of_the_cache_is_downloaded_again(
    damage: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    stored = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    file = cache_folder() / "kmnist" / "train.npz"
    whole = {"x": stored, "y": np.arange(60) % 10}
    file.parent.mkdir(parents=True)
    np.savez_compressed(file, **whole)
    asked = []
    monkeypatch.setattr(loading, "fetch", lambda name: (asked.append(name), np.savez_compressed(file, **whole)))
    damage(file)

    with pytest.raises(ValueError, match="cannot be read"):
        data.load("kmnist", download=False)
    assert file.exists(), "deleted although it may not be downloaded again"
    split = data.load("kmnist")

    assert asked == ["kmnist"]
    assert torch.equal(split.x[:, 0], torch.from_numpy(stored))


@pytest.mark.parametrize("other", ["has fetched it", "has failed to"])
def test_a_damaged_download_met_by_two_processes_is_downloaded_again_once(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has finished its download by the time this process may write."""
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    stored = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    file = cache_folder() / "kmnist" / "train.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damaged")
    asked = []

    def download(name: str) -> None:
        asked.append(name)
        np.savez_compressed(file, x=stored, y=np.arange(60) % 10)

    @contextlib.contextmanager
    def after_the_other(folder: Path) -> Iterator[None]:
        assert folder == file.parent
        file.unlink()
        if other == "has fetched it":
            np.savez_compressed(file, x=stored, y=np.arange(60) % 10)
        yield

    monkeypatch.setattr(loading, "fetch", download)
    monkeypatch.setattr(loading, "only_writer", after_the_other)
    assert torch.equal(data.load("kmnist").x[:, 0], torch.from_numpy(stored))
    assert asked == ([] if other == "has fetched it" else ["kmnist"])


def test_a_damaged_checkpoint_raises_an_error_and_is_kept(damage: Callable, tmp_path: Path) -> None:
    """This holds for a flipped bit in a tensor too: torch.load compares no checksums and returns another model."""
    file = tmp_path / "checkpoint.pt"
    training.write_checkpoint(file, state(), "a recipe")
    damage(file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read .*damaged; delete it to start anew"):
        training.read_checkpoint(file, "a recipe")
    assert file.read_bytes() == before


def test_any_flipped_bit_of_a_checkpoint_raises_an_error_or_is_harmless(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    training.write_checkpoint(file, state(), "a recipe")
    content, wanted = file.read_bytes(), state()["model"]
    refused = 0
    for i, place in enumerate(range(0, len(content), 61)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << i % 8]) + content[place + 1 :])
        try:
            found = training.read_checkpoint(file, "a recipe")
        except ValueError:
            refused += 1
        else:
            assert found["step"] == 7
            assert all(torch.equal(found["model"][name], value) for name, value in wanted.items()), f"byte {place}"
    assert refused > 50


def test_a_checkpoint_of_another_recipe_is_refused_before_any_training(tmp_path: Path) -> None:
    x = torch.zeros(8, 2)
    calls: list[int] = []

    def fit(identity: str) -> None:
        training.fit(
            autoencoder(),
            lambda model, x, y=None, **run: (calls.append(1), {"loss": model.reconstruction_error(x).mean()})[1],
            training.Shuffled(x, None, 4, 0),
            optimiser=training.Adam(lr=1e-3),
            steps=2,
            folder=tmp_path,
            identity=identity,
            show_progress=False,
            device="cpu",
        )

    fit("steps = 2")
    before, done = (tmp_path / "checkpoint.pt").read_bytes(), len(calls)
    with pytest.raises(ValueError, match=r"expects the recipe it was made with, got another one"):
        fit("steps = 3")
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert len(calls) == done


@pytest.mark.parametrize("which", ["json", "png"])
def test_a_damaged_figure_is_reported_by_the_gallery_and_drawn_again(damage: Callable, which: str) -> None:
    sound, spoilt = drawn("nae/sound"), drawn("nae/spoilt")
    assert read_figure(sound.json)[0]["headline"]["value"] == 0.5
    damage(getattr(spoilt, which))

    page = Gallery(workspace.figures_folder())._repr_html_()

    assert page.count("<img") == 1
    assert f"{spoilt.json} is damaged" in page
    assert "draw its figure again" in page
    drawn("nae/spoilt")
    assert Gallery(workspace.figures_folder())._repr_html_().count("<img") == 2


def test_a_figure_record_without_a_digest_is_read() -> None:
    saved = drawn()
    old = json.loads(saved.json.read_text())
    del old["sha256"]
    saved.json.write_text(json.dumps(old))
    assert read_figure(saved.json)[0] == old


def test_a_picture_beside_the_record_of_another_drawing_raises_an_error() -> None:
    saved = drawn(height=1.0)
    other = saved.png.read_bytes()
    drawn(height=2.0)
    saved.png.write_bytes(other)
    with pytest.raises(
        ValueError, match=r"demo\.json is damaged, or beside the picture of another drawing \(png differ\)"
    ):
        read_figure(saved.json)


def test_picture_and_record_of_a_figure_are_written_under_one_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[Path] = []
    written: list[str] = []
    lock, write = workspace.only_writer, workspace.atomic_file

    @contextlib.contextmanager
    def locked(folder: Path) -> Iterator[None]:
        with lock(folder):
            held.append(folder)
            yield
            held.pop()

    def within(path: Path) -> contextlib.AbstractContextManager:
        assert held == [path.parent]
        written.append(path.suffix)
        return write(path)

    monkeypatch.setattr(workspace, "only_writer", locked)
    monkeypatch.setattr(workspace, "atomic_file", within)
    drawn()
    assert written == [".png", ".json"]


def test_numbers_that_json_cannot_hold_leave_the_old_picture_and_record() -> None:
    saved = drawn()
    before = saved.png.read_bytes(), saved.json.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        drawn(value=float("nan"), height=3.0)
    assert (saved.png.read_bytes(), saved.json.read_bytes()) == before


def a_record(key: str) -> dict[str, object]:
    return {"profile": "quick", "key": key, "data": {}, "rows": {}, "seconds": 1.0, "figures": [], "digests": {}}


@pytest.mark.parametrize("kind", ["empty", "truncated", "another file", "a list", "a record without its fields"])
def test_a_damaged_record_of_finished_runs_warns_and_the_runs_are_repeated(kind: str) -> None:
    record.remember("nae/a", "quick", a_record("k"))
    file = workspace.runs_folder() / "state" / "nae" / "a.json"
    forms = {"a list": lambda _: b"[1]", "a record without its fields": lambda _: b'{"quick": {"key": "k"}}', **DAMAGE}
    file.write_bytes(forms[kind](file.read_bytes()))
    with pytest.warns(UserWarning, match=r"a\.json is damaged: runs without a record are repeated"):
        assert record.recorded("nae/a") == {}
    with pytest.warns(UserWarning, match="damaged"):
        record.remember("nae/a", "quick", a_record("new"))
    assert record.recorded("nae/a") == {"quick": a_record("new")}


# ------------------------------------------------------- folders that cannot be written, disks that are full


def write_checkpoint() -> None:
    training.write_checkpoint(workspace.runs_folder() / "checkpoint.pt", state(), "a recipe")


def write_data() -> None:
    from oodlab.data.arrays import write_npz

    x = torch.randint(256, (40, 28, 28), dtype=torch.uint8).numpy()
    write_npz(cache_folder() / "kmnist" / "train.npz", x, np.arange(40), ())


WRITERS: dict[str, Callable[[], object]] = {
    "checkpoint": write_checkpoint,
    "figure": drawn,
    "data": write_data,
    "record": lambda: record.remember("nae/a", "quick", a_record("k" * 9000)),
}


def child(code: str) -> subprocess.CompletedProcess:
    """Run code in a process of its own, with this file as `tests`."""
    here = [str(folder) for folder in Path(__file__).parents[:2]]
    lines = f"import sys; sys.path[:0] = {here!r}; import test_broken_files as tests\n{textwrap.dedent(code)}"
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)


def attempt() -> None:
    """Try every writer, and print what it raises."""
    for kind, write in WRITERS.items():
        try:
            write()
            print(f"{kind}: written")
        except OSError as error:
            print(f"{kind}: {error}")


@pytest.mark.parametrize("how", ["a file in its place", "read-only"])
def test_an_error_names_the_folder_that_cannot_be_written(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    place = tmp_path / "place"
    for name in ("OODLAB_RUNS", "OODLAB_CACHE"):
        monkeypatch.setenv(name, str(place / "runs"))
    if how == "a file in its place":
        place.write_text("in the way")
        attempt()
        said = capsys.readouterr().out
    else:  # a mode does not bind root, so a user without rights tries
        place.mkdir(mode=0o555)
        for folder in (tmp_path, *tmp_path.parents):  # pytest's folders are their owner's alone
            if folder.stat().st_uid == os.getuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o111)
        warm = tmp_path / "warm"  # all modules are imported before the rights go
        code = f"""
        import contextlib, io, os
        places = {{name: os.environ[name] for name in ("OODLAB_RUNS", "OODLAB_CACHE")}}
        os.environ.update(dict.fromkeys(places, {str(warm)!r}))
        with contextlib.redirect_stdout(io.StringIO()):
            tests.attempt()
        os.environ.update(places)
        if os.getuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        tests.attempt()
        """
        done = child(code)
        said = done.stdout or done.stderr
    lines = said.splitlines()
    assert [line.split(":")[0] for line in lines] == list(WRITERS), said
    for line in lines:
        assert str(place / "runs") in line
        assert "cannot be written" in line
        assert "Free space, or make the folder writable, or name another one" in line
    assert place.is_file() or not list(place.iterdir())


def test_a_full_disk_leaves_the_old_files_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test chooses the byte at which the disk is full: the kernel refuses to make a file longer."""
    for name in ("OODLAB_RUNS", "OODLAB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "place"))
    attempt()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    code = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for limit in (0, 1, 600):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        tests.attempt()
    """
    done = child(code)
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == 3 * list(WRITERS), done.stderr
    for line in lines:
        assert "cannot be written (File too large)" in line
        assert any(str(file) in line for file in before)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


# ---------------------------------------------------------------------------- killed writers, two writers


def test_a_later_writer_removes_temporary_files_of_killed_writers_but_not_of_live_ones(tmp_path: Path) -> None:
    code = f"""
    import os, signal
    from pathlib import Path
    from oodlab import workspace
    with workspace.atomic_file(Path({str(tmp_path / "a.pt")!r})) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert child(code).returncode == -9
    (torn,) = left_over(tmp_path)
    strangers = [tmp_path / ".a.pt.mine", tmp_path / ".b.pt.abcdefgh", tmp_path / "a.pt.abcdefgh"]
    for file in strangers:
        file.write_bytes(b"not ours")
    workspace.write_json(tmp_path / "a.pt", {})
    assert torn.exists(), "its writer may be alive, on another machine"

    an_hour_ago = time.time() - workspace.ABANDONED - 60
    for file in (torn, *strangers):
        os.utime(file, (an_hour_ago, an_hour_ago))
    workspace.write_json(tmp_path / "a.pt", {})

    assert not torn.exists()
    assert all(file.exists() for file in strangers)


ROUNDS = 8


def draw_again_and_again(value: float, runs: str, both: multiprocessing.synchronize.Barrier) -> None:
    """Draw one figure in every round; what is slow is over when all go on to write."""
    os.environ["OODLAB_RUNS"] = runs
    prepared = saving.digests

    def together(*arguments: object) -> dict[str, str]:
        found = prepared(*arguments)
        both.wait(timeout=120)
        return found

    saving.digests = together
    for _ in range(ROUNDS):
        drawn(value=value, height=1 + value)
        both.wait(timeout=120)
        both.wait(timeout=120)  # the pair is looked at


def test_two_runs_drawing_one_figure_leave_picture_and_record_of_the_same_run(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    both = spawn.Barrier(3)
    runs = tmp_path / "runs"
    writers = [spawn.Process(target=draw_again_and_again, args=(value, str(runs), both)) for value in (1.0, 2.0)]
    for writer in writers:
        writer.start()
    file = runs / "figures" / "nae" / "demo.json"
    for _ in range(ROUNDS):
        both.wait(timeout=120)
        if file.exists():  # while they write, each file is whole, though the two need not be of one run
            json.loads(file.read_text())
            assert file.with_suffix(".png").read_bytes().endswith(b"IEND\xaeB`\x82")
        both.wait(timeout=120)
        assert read_figure(file)[0]["headline"]["value"] in (1.0, 2.0)
        both.wait(timeout=120)
    for writer in writers:
        writer.join(timeout=120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert not left_over(runs)


def wait_for_the_lock(
    folder: str, asks: multiprocessing.synchronize.Event, entered: multiprocessing.synchronize.Event
) -> None:
    asks.set()
    with workspace.only_writer(Path(folder)):
        entered.set()


def test_only_one_process_at_a_time_holds_the_lock_for_writing_a_figure(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    asks, entered = spawn.Event(), spawn.Event()
    other = spawn.Process(target=wait_for_the_lock, args=(str(tmp_path), asks, entered))
    with workspace.only_writer(tmp_path):
        other.start()
        assert asks.wait(timeout=120)
        assert not entered.wait(timeout=1), "both were inside at once"
    assert entered.wait(timeout=120)
    other.join(timeout=120)
    assert not list(tmp_path.iterdir())
