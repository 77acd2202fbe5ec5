"""``fastpose predict --format jsonl`` on very many photos: in parts, continued, shared out to processes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch.distributed as dist
from click.testing import CliRunner
from rich.console import Console

import fastpose
from fastpose.cli import main, predict_many
from fastpose.world import World

SMALL = ("--format", "jsonl", "--part-size", 3, "--boxes", "whole")


@pytest.fixture
def many(photos):
    """A folder of 10 photos, of which the fifth is none."""
    folder = photos / "many"
    folder.mkdir()
    for number in range(10):
        name = "b.jpg" if number % 2 else "7.png"
        (folder / f"{number}{Path(name).suffix}").write_bytes((photos / name).read_bytes())
    (folder / "4.png").write_bytes(b"")
    return folder


def parts_of(folder):
    """The content of each part, by name."""
    return {file.name: file.read_bytes() for file in sorted(folder.glob("part-*"))}


def entries(folder):
    return [json.loads(line) for content in parts_of(folder).values() for line in content.splitlines()]


def test_parts_have_what_one_report_has_and_bad_photos_too(run, many, photos):
    result = run("many", *SMALL, "--out", "out")
    assert result.exit_code == 2
    assert result.stderr == "Error: many/4.png: is empty (0 bytes)\n"
    assert result.stdout.startswith("10 photos, 9 people, 1 photo could not be used (their error says why), ")
    assert result.stdout.endswith(" people/s -> out (4 parts)\n")
    assert sorted(os.listdir("out")) == [
        *(".lock", "_manifest.json", "_photos.txt"),
        *(f"part-0000{number}.jsonl" for number in range(4)),
    ]
    assert run("many", "--boxes", "whole", "--json", "o.json").exit_code == 2
    found = entries(photos / "out")
    assert [entry["file"] for entry in found] == [f"many/{n}.{'jpg' if n % 2 else 'png'}" for n in range(10)]
    bad = found.pop(4)
    assert (bad["error"], bad["people"], bad["image_size"]) == ("many/4.png: is empty (0 bytes)", [], [0, 0])
    assert found == json.loads((photos / "o.json").read_text())


def test_who_does_a_part_cannot_be_told_from_it(run, many, photos):
    """Batches end where parts do, so other parts before it change nothing."""
    run("many", *SMALL, "--out", "out")
    whole = parts_of(photos / "out")
    for left_out in ("part-00000.jsonl", "part-00002.jsonl"):
        (photos / "out" / left_out).unlink()
    times = {name: (photos / "out" / name).stat().st_mtime_ns for name in parts_of(photos / "out")}
    result = run("many", *SMALL, "--out", "out", "--resume")
    assert (result.exit_code, result.stderr) == (0, "2 of 4 parts are there already\n"), (
        "the bad one is in another part"
    )
    assert result.stdout.startswith("6 photos, 6 people, ")
    assert parts_of(photos / "out") == whole
    assert {name: (photos / "out" / name).stat().st_mtime_ns for name in times} == times
    result = run("many", *SMALL, "--out", "out", "--resume")
    assert (result.exit_code, result.stdout) == (0, "nothing is left to do: all 4 parts are in out\n")


def test_a_list_names_the_photos(run, many, photos):
    names = sorted(f"many/{file.name}" for file in many.iterdir())
    Path("list.txt").write_text("\n".join(names))
    assert run("list.txt", *SMALL, "--out", "out").exit_code == 2
    assert [entry["file"] for entry in entries(photos / "out")] == names
    assert run("out/_photos.txt", *SMALL, "--out", "out", "--resume").exit_code == 0, "the list in the folder is one"
    Path("two.txt").write_text("7.png\nb.jpg\n")
    result = run("two.txt", "--boxes", "whole", "--json", "-")
    assert [entry["file"] for entry in json.loads(result.stdout)] == ["7.png", "b.jpg"], "also for one report"


def test_stdin_is_a_list(photos, model, monkeypatch):
    monkeypatch.chdir(photos)
    words = ["predict", "--device", "cpu", "--model", model, "-", *map(str, SMALL), "--out", "out"]
    result = CliRunner().invoke(main, words, input=b"7.png\nb.jpg\n", catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert [entry["file"] for entry in entries(photos / "out")] == ["7.png", "b.jpg"]


def test_boxes_of_a_file_and_their_faults(run, many, photos):
    boxes = json.loads(Path("boxes.json").read_text())
    given = {"0.png": boxes["7.png"], "1.jpg": [*boxes["b.jpg"], [900, 900, 950, 950]], "2.png": []}
    Path("given.json").write_text(json.dumps(given))
    Path("list.txt").write_text("many/0.png\nmany/1.jpg\nmany/2.png\nmany/3.jpg\nmany/nowhere.jpg\n")
    words = ("list.txt", "--format", "jsonl", "--boxes", "given.json", "--out", "out")
    result = run(*words)
    assert result.exit_code == 2
    found = entries(photos / "out")
    assert [len(entry["people"]) for entry in found] == [2, 1, 0, 0, 0]
    assert [("dropped" in entry, "error" in entry) for entry in found] == [
        *((False, False), (True, False), (False, False), (False, True), (False, True)),
    ]
    assert found[3]["file"] == "many/3.jpg"
    assert "given.json" in found[3]["error"]
    assert found[4]["error"] == "many/nowhere.jpg: no such file"
    assert result.stdout.startswith("5 photos, 3 people, 3 photos could not be used")
    assert result.stderr.startswith("Error: many/1.jpg: boxes: ")
    Path("given.json").write_text(json.dumps(given | {"3.jpg": []}))
    result = run(*words, "--resume")
    assert result.stderr.startswith("Error: out: cannot be continued: boxes_sha256 was ")


def test_boxes_alone(run, many, photos, monkeypatch):
    monkeypatch.setattr(predict_many, "find_detector", lambda *_, **__: lambda photo: [[5, 5, 40, 60, 0.75]])
    result = run("many", *SMALL[:4], "--boxes-only", "--out", "out", with_model=False)
    assert result.exit_code == 2
    found = entries(photos / "out")
    assert [len(entry["people"]) for entry in found] == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert found[0]["people"] == [{"box": [5.0, 5.0, 40.0, 60.0], "box_score": 0.75}]
    assert found[4]["error"] == "many/4.png: is empty (0 bytes)"


def test_a_folder_of_parquet_is_one_table(run, many, photos):
    parquet = pytest.importorskip("pyarrow.parquet")
    words = ("many", "--format", "parquet", "--part-size", 3, "--boxes", "whole")
    assert run(*words, "--out", "out").exit_code == 2
    table = parquet.read_table("out")
    assert table["file"].to_pylist() == [f"many/{n}.{'jpg' if n % 2 else 'png'}" for n in range(10)]
    assert [error is not None for error in table["error"].to_pylist()] == [n == 4 for n in range(10)]
    assert table["person"].to_pylist() == [None if n == 4 else 0 for n in range(10)]
    run("many", *SMALL, "--out", "lines")
    xs = [
        [point[0] for point in entry["people"][0]["keypoints"]]
        for entry in entries(photos / "lines")
        if entry["people"]
    ]
    assert [[round(float(x), 2) for x in row] for row in table["x"].to_pylist() if row is not None] == xs
    whole = parts_of(photos / "out")
    (photos / "out" / "part-00001.parquet").unlink()
    assert run(*words, "--out", "out", "--resume").exit_code == 2
    assert parts_of(photos / "out") == whole


def test_parquet_without_its_package_is_said_before_the_work(run, many, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("many", "--format", "parquet", "--out", "out")
    assert result.stderr.startswith("Error: --format parquet needs the package pyarrow (pip install pyarrow)")
    assert not (photos / "out").exists()


def test_only_the_first_bad_photos_are_named(run, photos):
    Path("list.txt").write_text("".join(f"{number}.jpg\n" for number in range(9)))
    result = run("list.txt", *SMALL, "--out", "out")
    assert result.stderr.splitlines() == [f"Error: {number}.jpg: no such file" for number in range(5)]
    assert ", 9 photos could not be used" in result.stdout
    assert all(entry["error"] for entry in entries(photos / "out"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("many", "--format", "jsonl"), "--format jsonl needs --out FOLDER, into which the parts are written"),
        (("many", "--format", "jsonl", "--out", "boxes.json"), "--out: with --format jsonl expected a folder"),
        (("many", "--format", "jsonl", "--out", "o.jsonl"), "--out: with --format jsonl expected a folder"),
        (("many", *SMALL, "--out", "o", "--json", "o.json"), "--json is of no use with --format jsonl, which writes p"),
        (("many", *SMALL, "--out", "o", "--threshold", 0.5), "--threshold is of no use with --format jsonl"),
        (("--demo", "--format", "jsonl", "--out", "o"), "--demo is of no use with --format jsonl"),
        (("many", "--part-size", 5), "--part-size is for --format jsonl or parquet, which write parts"),
        (("many", "--resume", "--out", "o"), "--resume is for --format jsonl or parquet, which write parts"),
        (("many", *SMALL[:4], "--boxes", "1,2,3,4", "--out", "o"), "--boxes x1,y1,x2,y2 is for one photo"),
        (("nowhere.txt", *SMALL, "--out", "o"), "nowhere.txt: No such file or directory"),
        (("empty.txt", *SMALL, "--out", "o"), "photos: expected at least one, got a list without any"),
        (("boxes.json.d", *SMALL, "--out", "o"), "boxes.json.d: there is no picture in this folder"),
    ],
)
def test_what_does_not_go_is_refused_in_one_line(run, many, photos, words, message):
    (photos / "empty.txt").touch()
    (photos / "boxes.json.d").mkdir()
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1
    assert not parts_of(photos / "o")


def test_boxes_alone_are_no_table_of_keypoints(run, many):
    result = run("many", "--format", "parquet", "--boxes-only", "--out", "o", with_model=False)
    assert result.stderr.startswith("Error: --boxes-only: goes with --format jsonl, as parquet is a table of keypoints")


def test_several_processes_write_no_one_report(run, many, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run("many", "--json", "o.json")
    assert result.stderr.startswith("Error: --format json is of one process; several share out --format jsonl or parq")


def test_other_weights_or_options_do_not_continue_a_run(run, many, model, tmp_path_factory):
    from fastpose.models import load_model, save_model

    assert run("many", *SMALL, "--out", "out").exit_code == 2
    result = run("many", *SMALL, "--out", "out", "--resume", "--flip-test")
    assert result.stderr == (
        "Error: out: cannot be continued: flip_test was None and is True now; expected the same, or another --out\n"
    )
    network = load_model(model)
    network.head.final_layer.bias.data.add_(1.0)
    (tmp_path_factory.mktemp("other") / Path(model).name).touch()
    before = Path(model).read_bytes()
    try:
        save_model(network, model)
        result = run("many", *SMALL, "--out", "out", "--resume")
    finally:
        Path(model).write_bytes(before)
    assert "cannot be continued: model_sha256 was " in result.stderr


def test_one_run_at_a_time_writes_to_a_folder(run, many, photos):
    from fastpose.files import lock_folder

    (photos / "out").mkdir()
    with lock_folder(photos / "out"):
        result = run("many", *SMALL, "--out", "out")
    assert result.stderr == "Error: out: another run is writing to this folder; choose another --out\n"


def test_a_bar_on_a_terminal_counts_photos_of_before_too(run, many, photos, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(predict_many, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=140))
    monkeypatch.setattr(predict_many, "_GLANCE", 0.0)
    run("many", *SMALL, "--out", "out")
    (photos / "out" / "part-00001.jsonl").unlink()
    shown.truncate(0)
    assert run("many", *SMALL, "--out", "out", "--resume").exit_code == 2
    last = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown.getvalue()).split("\r")[-1]
    assert re.search(r"photos .* 10/10 \d+\.\d photos/s, \d+\.\d people/s 0:00:00", last), last


@pytest.fixture
def interruptible():
    """SIGINT as a terminal's programs have it: those that a shell starts in the background are born ignoring it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_nothing_is_half_written_and_the_rest_is_done_later(run, many, photos, monkeypatch, number):
    run("many", *SMALL, "--out", "whole")
    from fastpose.predict import reading

    read_image = reading.read_image

    def reading_until(path):
        if path.name == "7.jpg":
            os.kill(os.getpid(), number)
        return read_image(path)

    with monkeypatch.context() as patched:
        patched.setattr(reading, "read_image", reading_until)
        result = run("many", *SMALL, "--out", "out")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        "interrupted; the parts that are there are whole, and --resume continues with the others"
    )
    assert sorted(os.listdir("out")) == [
        *(".lock", "_manifest.json", "_photos.txt", "part-00000.jsonl", "part-00001.jsonl"),
    ]
    assert run("many", *SMALL, "--out", "out", "--resume").exit_code == 0
    assert parts_of(photos / "out") == parts_of(photos / "whole")


# ---- several processes


class SharedWorld(World):
    """One of several processes, as far as counting goes."""

    def __init__(self, store, rank):
        super().__init__()
        self._store, self.size, self.rank, self.main = store, 2, rank, rank == 0


def test_each_part_is_done_by_one_process(tmp_path):
    """A fast and a slow one: the fast one does more, and together they do everything once."""
    from fastpose.predict.parts import begin_parts

    names = [Path(f"{number}.jpg") for number in range(20)]
    parts = begin_parts(tmp_path, names, form="jsonl", size=2, settings={}, resume=False)
    missing = [number for number in parts.missing() if number != 5]
    store, done = dist.HashStore(), {0: [], 1: []}
    waiting = []

    class Looker:
        given = skeleton = None

        def __init__(self, rank):
            self.rank = rank

        def __call__(self, photos):
            done[self.rank] += photos
            if self.rank == 1 and len(done[1]) == 4:  # in the middle of its second part the other one does all the rest
                waiting.pop()()
            return iter(())

    def work(rank):
        tally = predict_many._Tally(SharedWorld(store, rank), lambda counts: None)
        predict_many._do_parts(parts, missing, Looker(rank), tally)

    waiting.append(lambda: work(0))
    work(1)
    assert done == {1: names[:4], 0: names[4:10] + names[12:]}
    assert parts.missing() == [5]


def test_a_count_is_that_of_all_processes():
    store = dist.HashStore()
    worlds = [SharedWorld(store, rank) for rank in range(2)]
    shown = []
    tallies = [predict_many._Tally(world, shown.append) for world in worlds]
    for tally in tallies:
        tally._own = Counter(photos=3, people=5)
        tally._look()
        tally._look()
    assert shown[-1] == Counter(photos=6, people=10, bad=0)
    assert World().count("photos") == 0


def _spawn(folder, count, *words):
    """torchrun with so many processes, in a folder, by the words of a command."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "fastpose"]
    return subprocess.Popen(
        [sys.executable, *launch, "predict", "--device", "cpu", *map(str, words)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(fastpose.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_torchrun_shares_photos_out_and_a_killed_run_is_continued_by_any_number(run, model, photos):
    folder = photos / "photos"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.png").symlink_to(photos / ("7.png" if number % 3 else "b.jpg"))
    (folder / "31.png").unlink()
    (folder / "31.png").write_bytes(b"no photo")
    words = ("photos", "--model", model, "--format", "jsonl", "--part-size", 4, "--boxes", "whole", "--batch-size", 3)
    one = subprocess.run(
        [sys.executable, "-m", "fastpose", "predict", "--device", "cpu", *map(str, words), "--out", "one"],
        cwd=photos,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(fastpose.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert one.returncode == 2, one.stderr
    whole = parts_of(photos / "one")
    assert len(whole) == 15

    out, err = _spawn(photos, 2, *words, "--out", "two").communicate(timeout=300)
    assert out.startswith("60 photos, 59 people, 1 photo could not be used"), err
    assert parts_of(photos / "two") == whole

    killed = _spawn(photos, 2, *words, "--out", "killed")
    deadline = time.monotonic() + 120
    while len(parts_of(photos / "killed")) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    killed.communicate(timeout=120)
    assert killed.returncode == 1
    some = parts_of(photos / "killed")
    assert 3 <= len(some) < 15
    assert all(content == whole[name] for name, content in some.items()), "what is there is whole"

    out, err = _spawn(photos, 3, *words, "--out", "killed", "--resume").communicate(timeout=300)
    assert "parts are there already" in err
    assert parts_of(photos / "killed") == whole
    assert not list((photos / "killed").glob(".part*")), "what the killed one left was written over"
