"""The runner, on tiny notebooks that import no torch: what it refuses, runs, skips, survives and shows."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil  # comes with ipykernel
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from oodlab import workspace
from oodlab.batch import kernel, record, runner
from oodlab.batch.command import main
from oodlab.batch.notebook import UsageError, choose, read, resolve
from oodlab.batch.progress import Progress, table

PARAMETERS = """\
profile = "smoke"  # budget
seed = 0  # of everything; range: 0..10
rate = 1e-3  # step size
restart = False
sampler = "omi"  # choices: omi | cd | pcd
sizes = (8, 8)  # hidden layers; range: 1..512
names = ["a=b#c"]
"""
DRAW = """\
import os
from oodlab import workspace
stem = os.path.join(os.environ["OODLAB_FIGURES"], "demo", {name!r})
os.makedirs(os.path.dirname(stem), exist_ok=True)
for kind in ("png", "json"):
    open(f"{{stem}}.{{kind}}", "w").write(str(seed))
workspace.report("figure", png=stem + ".png", json=stem + ".json",
                 headline={{"name": "NLL", "value": 2.90461, "unit": "nats", "reported": 2.831}})
"""


@pytest.fixture
def notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of notebooks; runs go to tmp_path / "runs"."""
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))
    for name in ("OODLAB_DATA", "OODLAB_FIGURES", "OODLAB_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "notebooks").mkdir()
    return tmp_path / "notebooks"


def write(path: Path, *cells: str, parameters: str = PARAMETERS, **declared: object) -> Path:
    """Write a notebook with a title, a parameters cell and the given code cells."""
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    content = new_notebook(
        cells=[new_markdown_cell("# Eight Gaussians\nwords"), first, *map(new_code_cell, cells)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}, "oodlab": declared},
    )
    path.parent.mkdir(exist_ok=True)
    nbformat.write(content, path)
    return path


def test_parameters_have_the_types_of_their_defaults(notebooks: Path) -> None:
    notebook = read(write(notebooks / "nae" / "a.ipynb"))
    given = ["seed=3", "rate=1", "restart=True", "sampler=cd", "sizes=4,2", 'names=["x", "y"]', "seed=4"]

    values = resolve(notebook, given)

    assert values == {
        "profile": "smoke",
        "seed": 4,
        "rate": 1.0,
        "restart": True,
        "sampler": "cd",
        "sizes": (4, 2),
        "names": ["x", "y"],
    }
    assert [type(value) for value in values.values()] == [str, int, float, bool, str, tuple, list]
    assert notebook.parameters["sizes"].comment == "hidden layers; range: 1..512"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("sed=1", "nae/a expects a parameter of its own, got 'sed': it has profile, seed, "),
        ("sed=1", "; write seed."),
        ("seed=1.5", "expects seed of type int, got '1.5'"),
        ("seed=11", "the range is 0..10"),
        ("rate=nan", "a number must be finite"),
        ("restart=1", "a bool is true or false"),
        ("sampler=cdd", "the choices are omi | cd | pcd (the nearest is cd)"),
        ("profile=fast", "the choices are smoke | quick | long | full"),
        ("sizes=8", 'a tuple is written like "[1, 2]"'),
        ("sizes=8,1.5", "its element 1.5 differs in type"),
        ("sizes=8,0", "the range is 1..512"),
        ("seed", "expects NAME=VALUE, got 'seed'"),
    ],
)
def test_an_unknown_parameter_or_a_value_that_does_not_fit_it_is_refused(
    notebooks: Path, given: str, complaint: str
) -> None:
    notebook = read(write(notebooks / "nae" / "a.ipynb"))
    with pytest.raises(UsageError) as refusal:
        resolve(notebook, [given])
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ('profile = "smoke"\nn = 2 * 3', "got 'n = 2 * 3'"),
        ('profile = "smoke"\nn = m = 3', "got 'n = m = 3'"),
        ('profile = "smoke"; n = 3', "one a line"),
        ('profile = "smoke"\nn = None', "got 'n = None'"),
        ('profile = "smoke"\nimport os', "got 'import os'"),
        ('profile = "smoke"\nn = 7  # range: 0..5', "a default that its comment allows"),
        ('profile = "smoke"\nn = 1\nn = 2', "got 'n = 2'"),
        ('profile = "smoke', "a parameters cell in Python"),
        ("seed = 0", "a parameter profile, got seed"),
    ],
)
def test_a_parameters_cell_holds_literals_only(notebooks: Path, cell: str, complaint: str) -> None:
    path = write(notebooks / "nae" / "a.ipynb", parameters=cell)
    with pytest.raises(UsageError) as refusal:
        read(path)
    assert complaint in str(refusal.value)


def test_notebooks_are_chosen_by_full_or_partial_names(notebooks: Path) -> None:
    for name in ("nae/eight", "nae/_draft", "mass/eight", "mass/epochs", ".hidden/x"):
        write(notebooks / f"{name}.ipynb")
    write(notebooks / "index.ipynb")

    def chosen(*names: str) -> list[str]:
        return [str(path.relative_to(notebooks)) for path in choose(names, notebooks)]

    assert chosen("epochs", "mass/epochs") == ["mass/epochs.ipynb"]
    assert chosen("mass") == ["mass/eight.ipynb", "mass/epochs.ipynb"]
    for name, complaint in {
        "epoch": "got 'epoch': .* has none of this name; write epochs",
        "mas": "write mass",
        "index": "has none of this name",
        "_draft": "has none of this name",
        "eight": "it stands for mass/eight and nae/eight",
    }.items():
        with pytest.raises(UsageError, match=complaint):
            chosen(name)


def test_nothing_runs_before_all_notebooks_accept_the_parameters(notebooks: Path, capsys) -> None:
    for name in "abc":
        write(notebooks / "nae" / f"{name}.ipynb", parameters=PARAMETERS.replace("seed", f"seed_{name}"))

    assert main(["figures", "nae", "-p", "seed_a=1", "--notebooks", str(notebooks)]) == 2

    complaints = capsys.readouterr().err
    assert "nae/b expects" in complaints
    assert "nae/c expects" in complaints
    assert "nae/a expects" not in complaints
    assert not workspace.runs_folder().exists()


def test_parallel_runs_have_their_own_folder_and_environment(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet = """\
import json, os, pathlib, time
meeting = pathlib.Path(os.environ["MEETING"])
facts = {name: value for name, value in os.environ.items() if name.startswith(("OODLAB_", "OMP_"))}
facts |= {"folder": os.getcwd(), "sizes": sizes}
(meeting / NAME).write_text(json.dumps(facts))
end = time.monotonic() + 20
while len(list(meeting.iterdir())) < 2:  # ends only if both run at the same time
    assert time.monotonic() < end, "the other notebook does not run"
    time.sleep(0.05)
"""
    for name in "ab":
        write(notebooks / "nae" / f"{name}.ipynb", meet.replace("NAME", repr(name)), "assert sizes == (4, 4)")
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEETING", str(meeting))
    monkeypatch.setenv("OODLAB_RUNS", "runs")
    monkeypatch.setenv("OODLAB_ROWS", "rows")
    monkeypatch.setenv("OODLAB_DATA", os.pathsep.join(("meeting/..", "meeting")))
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runner, "cores", lambda: 6)
    sockets, make = [], kernel.tempfile.mkdtemp
    monkeypatch.setattr(kernel.tempfile, "mkdtemp", lambda **options: sockets.append(make(**options)) or sockets[-1])
    environment = dict(os.environ)

    options = ["--jobs", "2", "-p", "sizes=4,4", "--notebooks", "notebooks", "--out", "drawn"]
    assert main(["figures", "nae", *options]) == 0

    facts = {name: json.loads((meeting / name).read_text()) for name in "ab"}
    for name in "ab":
        (folder,) = (tmp_path / "runs" / "jobs" / "nae").glob(f"{name}-smoke-*")
        assert facts[name] == {
            "folder": str(folder),
            "OODLAB_PROGRESS": str(folder / "events.jsonl"),
            "OODLAB_RUNS": str(tmp_path / "runs"),
            "OODLAB_ROWS": str(tmp_path / "rows"),
            "OODLAB_DATA": os.pathsep.join((str(tmp_path), str(meeting))),
            "OODLAB_CACHE": str(tmp_path / "cache"),
            "OODLAB_FIGURES": str(tmp_path / "drawn"),
            "OMP_NUM_THREADS": "3",
            "OMP_WAIT_POLICY": "PASSIVE",
            "sizes": [4, 4],
        }
    assert Path.cwd() == tmp_path
    assert dict(os.environ) == environment
    assert len(sockets) == 2
    assert not any(os.path.exists(folder) for folder in sockets)


def test_without_a_name_the_shortest_notebook_runs_first_and_one_of_unknown_length_last(
    notebooks: Path, capsys
) -> None:
    write(notebooks / "nae" / "a.ipynb", "1")
    write(notebooks / "nae" / "b.ipynb", "1", estimate={"smoke": {"seconds": 9}, "quick": {"seconds": 1}})
    write(notebooks / "nae" / "c.ipynb", "1", estimate={"smoke": {"seconds": 5}, "quick": {"seconds": 2}})
    assert main(["figures", "--notebooks", str(notebooks), "--jobs", "1"]) == 0
    assert re.findall(r"nae/(\w)  done", capsys.readouterr().err) == ["c", "b", "a"]


def test_a_failed_notebook_stops_no_other_and_is_explained(notebooks: Path, capsys) -> None:
    write(notebooks / "nae" / "fails.ipynb", "x = 41\nraise RuntimeError(f'no luck with {x + 1}')")
    write(notebooks / "nae" / "killed.ipynb", "import os\nos.kill(os.getpid(), 9)")
    write(notebooks / "nae" / "works.ipynb", DRAW.format(name="works"))

    assert main(["figures", "nae", "--notebooks", str(notebooks), "--jobs", "1"]) == 1

    shown = capsys.readouterr()
    rows = {line.split()[0]: line for line in shown.out.splitlines() if line}
    assert rows["nae/works"].split()[1:3] == ["smoke", "done"]
    assert rows["nae/works"].endswith("NLL = 2.905 nats  2.831")
    assert "works.png" in rows["nae/works"]
    after = shown.out[shown.out.index("nae/fails failed") :]
    assert "----> 2 raise RuntimeError(f'no luck with {x + 1}')" in after
    assert "RuntimeError: no luck with 42" in after
    assert "nae/killed failed" in after
    assert "The kernel died" in after
    assert "\x1b" not in shown.out
    partial = workspace.runs_folder() / "jobs" / "nae" / "fails-smoke" / "executed.ipynb"
    assert str(partial) in after
    assert "no luck with 42" in partial.read_text()
    executed = workspace.runs_folder() / "notebooks" / "nae" / "works-smoke.ipynb"
    nbformat.validate(nbformat.read(executed, as_version=4))
    assert "nae/works  done in 0:0" in shown.err
    assert shown.err.startswith("Running 3 notebooks, profile smoke. Each trains models")
    drawn = re.search(r"nae/works  has drawn (.*)\n", shown.err)
    assert Path(drawn[1]).name == "works.png"


def test_a_notebook_whose_figures_are_up_to_date_is_skipped(
    notebooks: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = DRAW.format(name="a") + 'workspace.report("data", name="more")\n'
    path = write(notebooks / "nae" / "a.ipynb", looks)

    def status(*options: str) -> str:
        assert main(["figures", "a", "--notebooks", str(notebooks), *options]) == 0
        head, _, row = capsys.readouterr().out.splitlines()
        return row[head.index("status") : head.index("seconds")].strip()

    figure = workspace.runs_folder() / "figures" / "smoke" / "demo" / "a.png"
    assert status() == "done"
    assert status() == "up to date"
    assert status("-p", "seed=0") == "up to date"  # the default
    assert status("--fresh") == "done"
    assert status("-p", "seed=7") == "done"
    assert status("-p", "seed=7") == "up to date"
    assert status() == "up to date"  # variants have folders of their own
    assert figure.read_text() == "0"
    out = ("--out", str(workspace.runs_folder() / "out"))
    assert status(*out) == "done"
    assert status("-p", "seed=7", *out) == "done"
    assert status(*out) == "done"  # the other variant drew over its figure
    assert status() == "done"  # only the last run of a variant is remembered
    assert [variant[:6] for variant in record.recorded("nae/a")] == ["smoke-", "smoke"]

    def waits() -> bool:
        return runner.plan([path], folder=notebooks)[0].status == "waiting"

    assert not waits()
    figure.rename(figure.with_name("moved"))
    assert waits()
    figure.with_name("moved").rename(figure)
    for name in ("other", "more"):
        assert not waits()
        (figure.parent / name).mkdir()
        (figure.parent / name / "test.npz").touch()
        monkeypatch.setenv("OODLAB_DATA", str(figure.parent))
    assert waits(), "a set that the run looked for was absent, and is there now"
    assert status() == "done"
    assert not waits()
    (figure.parent / "more" / "test-part2.npz").touch()
    assert waits()
    (figure.parent / "more" / "test-part2.npz").unlink()
    assert not waits()
    os.utime(figure.parent / "more" / "test.npz", (0, 0))
    assert waits()
    assert status() == "done"
    kept = workspace.rows_folders()[0] / "nae" / "a.full.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("rows of another machine")
    assert waits()
    assert status() == "done"
    write(path, "# a comment\n" + looks)
    assert not waits()
    write(path, looks, "1 + 1")
    assert waits()
    write(path, looks, "%time 1 + 1", "oodlab ???")  # a magic, and what is no Python
    assert waits()


def test_a_headline_that_is_nan_fails_the_notebook(notebooks: Path, capsys) -> None:
    """A headline that is no number must not pass for a result."""
    write(notebooks / "nae" / "a.ipynb", DRAW.format(name="a").replace("2.90461", 'float("nan")'))
    assert main(["figures", "a", "--notebooks", str(notebooks)]) == 1
    assert "nae/a failed" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_ended_batch_leaves_no_kernel(notebooks: Path, tmp_path: Path, number: int, status: int) -> None:
    write(
        notebooks / "nae" / "a.ipynb",
        f"import os, subprocess, time\nchild = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(tmp_path / 'new')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pids')!r})\ntime.sleep(60)",
    )
    write(notebooks / "nae" / "b.ipynb", "1")
    command = [sys.executable, "-m", "oodlab", "figures", "nae", "--jobs", "1", "--notebooks", str(notebooks)]
    batch = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    wait_for(lambda: (tmp_path / "pids").exists())
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]

    batch.send_signal(number)

    assert "Stopped. Nothing is lost" in batch.communicate(timeout=20)[1]
    assert batch.returncode == status
    wait_for(lambda: not any(alive(pid) for pid in pids))
    assert not (workspace.runs_folder() / "jobs" / "nae" / "b-smoke" / "executed.ipynb").exists()


def hear_interrupts() -> None:
    """Undo what a shell does to its background jobs: it lets them ignore SIGINT, and so their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def alive(pid: int) -> bool:
    """Say whether a process runs; a zombie that nobody has reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, seconds: float = 20) -> None:
    """Return when the condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_running_notebook_shows_its_cell_and_step(notebooks: Path) -> None:
    steps = """\
import time
from oodlab import workspace
for step in (1, 2, 3):
    workspace.report("step", label="NAE-OMI", step=step, steps=30, numbers={"loss": 0.1})
workspace.report("unknown", step="x")
time.sleep(1.5)
"""
    path = write(notebooks / "nae" / "a.ipynb", steps)
    shown = io.StringIO()
    runner.execute(runner.plan([path], folder=notebooks), jobs=1, progress=Progress(shown, every=0))
    shown = shown.getvalue()
    assert re.search(r"nae/a  0:0\d  cell 3 of 3, training NAE-OMI, update 3 of 30\n", shown)


def test_progress_events_are_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert workspace.events(path, 0) == ([], 0)
    path.write_bytes(b'{"event": "step"}\n{"eve')
    events, offset = workspace.events(path, 0)
    assert events == [{"event": "step"}]
    with open(path, "ab") as file:
        file.write(b'nt": "figure"}\ntorn {\n3\n')
    events, offset = workspace.events(path, offset)
    assert events == [{"event": "figure"}]
    assert workspace.events(path, offset) == ([], path.stat().st_size)


def test_progress_is_sparse_where_lines_cannot_be_rewritten() -> None:
    now = 0.0
    stream = io.StringIO()
    progress = Progress(stream, clock=lambda: now)
    for now in range(40):
        progress.update({"a": f"a {now}", **({"b": f"b {now}"} if now >= 4 else {})})
    assert stream.getvalue().split("\n") == ["a 0", "b 4", "a 15", "b 19", "a 30", "b 34", ""]


def test_progress_rewrites_one_line_per_notebook_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setenv("COLUMNS", "11")
    progress = Progress(stream)
    progress.update({"a": "a 1 " + "x" * 80, "b": "b 1"})
    progress.say("a done")
    progress.update({"b": "b 2"})
    progress.update({})
    assert stream.getvalue() == "a 1 xxxxxx\nb 1\n\x1b[2F\x1b[Ja done\nb 2\n\x1b[1F\x1b[J"


def test_a_printed_table_has_aligned_columns() -> None:
    shown = table(("name", "MB"), [("mnist", "11.5"), ("svhn", "246.2")], right=("MB",))
    assert shown.splitlines() == ["name      MB", "----      --", "mnist   11.5", "svhn   246.2"]


def test_only_runs_that_may_replace_committed_figures_write_to_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "notebooks").mkdir(parents=True)
    monkeypatch.setattr(workspace, "checkout", lambda: checkout)
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    path = write(checkout / "notebooks" / "nae" / "a.ipynb")
    other = write(tmp_path / "nae" / "a.ipynb")

    def folder(path: Path, **options) -> Path:
        (run,) = runner.plan([path], folder=path.parent.parent, **options)
        return run.figures_folder

    own = tmp_path / "runs" / "figures"
    assert folder(path, profile="quick") == folder(path, profile="full") == checkout / "figures"
    assert folder(path, profile="smoke") == own / "smoke"
    assert folder(path, profile="quick", given=["seed=1"]).parent == own
    assert folder(path, profile="quick", out=tmp_path / "out") == tmp_path / "out"
    assert folder(other, profile="quick") == own / "quick"


def test_a_notebook_has_all_profiles_or_those_named_in_its_comment(notebooks: Path) -> None:
    plain = read(write(notebooks / "nae" / "a.ipynb", parameters='profile = "quick"\n'))
    assert plain.parameters["profile"].choices == ("smoke", "quick", "long", "full")
    few = 'profile = "quick"  # budget; choices: smoke | quick\n'
    with pytest.raises(UsageError, match=r"choices are smoke \| quick"):
        resolve(read(write(notebooks / "nae" / "b.ipynb", parameters=few)), ["profile=long"])


def test_a_run_at_a_smaller_profile_does_not_replace_a_figure_with_kept_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    monkeypatch.setattr(workspace, "checkout", lambda: checkout)
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    (checkout / "notebooks" / "nae").mkdir(parents=True)
    (checkout / "figures" / "nae").mkdir(parents=True)
    path = write(checkout / "notebooks" / "nae" / "a.ipynb")
    for name in ("b-numbers.long.csv", "a-numbers.long.csv"):
        (run,) = runner.plan([path], folder=path.parent.parent, profile="quick")
        assert run.figures_folder == checkout / "figures", "nothing of its own is kept yet"
        (checkout / "figures" / "nae" / name).touch()
    (run,) = runner.plan([path], folder=path.parent.parent, profile="quick")
    assert run.figures_folder == tmp_path / "runs" / "figures" / "quick"


def test_the_list_command_shows_parameters_and_cost_of_notebooks(notebooks: Path, capsys) -> None:
    estimate = {"smoke": {"seconds": 12, "megabytes": 1.5}, "quick": {"seconds": 250, "megabytes": 30}}
    write(notebooks / "nae" / "a.ipynb", core=True, figures="Figs 3, 5", estimate=estimate)
    write(notebooks / "nae" / "b.ipynb")
    record.remember(
        "nae/a",
        "quick",
        {"profile": "quick", "key": "", "data": {}, "rows": {}, "seconds": 71.4, "figures": [], "digests": {}},
    )

    assert main(["list", "--notebooks", str(notebooks)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "nae/a  Eight Gaussians  (Figs 3, 5; core)"
    assert "seed: int = 0" in lines[2]
    assert lines[2].endswith("of everything; range: 0..10")
    assert "  smoke: about 0:12 on two cores, 1.5 MB on disk" in lines
    assert "  quick: 1:11 when last run here, 30 MB on disk" in lines
    assert "nae/b  Eight Gaussians" in lines


def test_without_names_the_core_notebooks_are_chosen(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(notebooks / "nae" / "a.ipynb", core=True)
    write(notebooks / "nae" / "b.ipynb")
    chosen: list[str] = []
    monkeypatch.setattr(
        "oodlab.batch.command.execute", lambda runs, **_: chosen.extend(run.notebook.name for run in runs)
    )
    monkeypatch.setattr(workspace, "checkout", lambda: notebooks.parent)
    assert main(["figures"]) == 0
    assert chosen == ["nae/a"]
    assert main(["figures", "--all"]) == 0
    assert chosen[1:] == ["nae/a", "nae/b"]
    chosen.clear()
    assert main(["figures", "--notebooks", str(notebooks)]) == 0
    assert chosen == ["nae/a", "nae/b"], "a folder of one's own has no core"


def test_the_data_command_shows_the_sets_and_explains_sets_that_cannot_be_downloaded(notebooks: Path, capsys) -> None:
    assert main(["data"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert any(row.split()[:2] == ["digits", "embedded"] for row in rows)
    assert any(row.split()[:3] == ["fashion_mnist", "downloadable", "31.0"] for row in rows)
    assert main(["data", "fashion_mnits", "notmnist"]) == 1
    complaints = capsys.readouterr().err
    assert "fashion_mnits" in complaints
    assert "notmnist" in complaints


def test_the_help_of_the_command_imports_no_heavy_library() -> None:
    code = (
        "import sys\nfrom oodlab.batch.command import main\ntry: main(['figures', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'papermill', 'numpy', 'nbformat'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--profile" in shown
    assert shown.endswith("set()\n")
