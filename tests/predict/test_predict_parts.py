"""Very many photos in parts: which are whose, what is there, and what a run that is continued must have in common."""

from __future__ import annotations

import errno
import io
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from spot_model import SPOTS, random_spots, spot_model

from fastpose.predict import parts as module
from fastpose.predict.parts import PartReader, Parts, begin_parts, read_list, weights_digest

NAMES = [Path(f"{number}.jpg") for number in range(10)]


def begin(folder, photos=NAMES, *, form="jsonl", size=4, settings=None, resume=False):
    return begin_parts(folder, iter(photos), form=form, size=size, settings=settings or {}, resume=resume)


def listed(data):
    return list(read_list(io.BytesIO(data), "list.txt"))


# ---- the list


def test_a_list_has_a_photo_a_line():
    data = b"\xef\xbb\xbfa b.jpg\r\n\n/c/d.png\nhttps://host/e.jpg?x=1\n#f.jpg\nlast.jpg"
    expected = [Path("a b.jpg"), Path("/c/d.png"), "https://host/e.jpg?x=1", Path("#f.jpg"), Path("last.jpg")]
    assert listed(data) == expected
    assert listed(b"") == []


def test_names_of_every_kind_come_back(tmp_path):
    names = [
        Path(os.fsdecode(b"\xff\xfe.jpg")),
        Path("two\nlines.jpg"),
        Path('"quoted".jpg'),
        Path("ends in \r"),
        "http://a/ü",
    ]
    parts = begin(tmp_path, names, size=10)
    with PartReader(parts) as photos_of:
        assert photos_of(0) == names
    with open(tmp_path / module.LIST, "rb") as lines:
        assert list(read_list(lines, "_photos.txt")) == names


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a.jpg\nb\0.jpg\n", r"^list.txt: line 2: is no text; expected a photo's name a line, in UTF-8$"),
        ("a.jpg\n".encode("utf-16"), "^list.txt: line 1: is no text"),
        (b"a.jpg\n" + b"x" * 70000, "^list.txt: line 2: is no text"),
        (b'a.jpg\n\n"b', r"^list.txt: line 3: not valid JSON"),
    ],
)
def test_what_is_no_list_is_refused_by_line(data, message):
    with pytest.raises(ValueError, match=message):
        listed(data)


# ---- the parts


@pytest.mark.parametrize(("photos", "size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (1, 1000, [1])])
def test_parts_hold_each_photo_once_and_in_order(tmp_path, photos, size, sizes):
    parts = begin(tmp_path, NAMES[:photos], size=size)
    assert [parts.photos_in(number) for number in range(len(parts))] == sizes
    with PartReader(parts) as photos_of:
        assert [name for number in range(len(parts)) for name in photos_of(number)] == NAMES[:photos]
        assert photos_of(0) == NAMES[: sizes[0]], "also back again"


def test_files_sort_as_their_parts_however_many():
    for photos in (3, 123_456, 2_000_000):
        parts = Parts(Path(), "jsonl", 1, photos)
        names = [parts.file(number).name for number in (0, 9, 10, 99_999, len(parts) - 1) if number < photos]
        assert names == sorted(names)
        assert len({len(name) for name in names}) == 1
    assert Parts(Path(), "parquet", 1000, 1_000_000).file(7).name == "part-00007.parquet"


def poses_of(names):
    from fastpose.predict import Predictor

    predictor = Predictor(spot_model(), device="cpu")
    pairs = [random_spots(number)[::2] for number in range(len(names))]
    return list(predictor.stream(pairs))


def test_a_part_is_there_whole_or_not_at_all(tmp_path):
    parts = begin(tmp_path)
    found = poses_of(NAMES[:4])

    def failing():
        yield found[0]
        assert {file.name for file in tmp_path.iterdir()} >= {".part-00001.jsonl.tmp"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.write(1, failing(), SPOTS)
    assert sorted(os.listdir(tmp_path)) == ["_manifest.json", "_photos.txt"]
    (tmp_path / ".part-00001.jsonl.tmp").write_bytes(b"what somebody left who was killed" * 1000)
    assert parts.missing() == [0, 1, 2]
    parts.write(1, found, SPOTS)
    assert parts.missing() == [0, 2]
    assert sorted(os.listdir(tmp_path)) == ["_manifest.json", "_photos.txt", "part-00001.jsonl"]
    lines = (tmp_path / "part-00001.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [poses.to_dict() for poses in found]


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path, monkeypatch):
    parts = begin(tmp_path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fastpose.streams.os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        parts.write(0, poses_of(NAMES[:4]), SPOTS)
    assert caught.value.filename == str(tmp_path / "part-00000.jsonl")
    assert sorted(os.listdir(tmp_path)) == ["_manifest.json", "_photos.txt"]


# ---- a run that is continued


def test_a_run_is_continued_only_if_that_is_asked_for(tmp_path):
    first = begin(tmp_path)
    with pytest.raises(ValueError, match=f"^{tmp_path}: holds a run already; --resume continues it"):
        begin(tmp_path)
    assert begin(tmp_path, resume=True) == first
    assert begin(tmp_path / "new", resume=True).photos == 10, (
        "nothing to be continued: torchrun may restart at any time"
    )


def test_what_killed_processes_left_is_cleared_away(tmp_path):
    begin(tmp_path)
    for name in (".part-00001.jsonl.tmp", "..part-00002.parquet.tmp.0123abcd.tmp", ".mine.tmp"):
        (tmp_path / name).touch()
    begin(tmp_path, resume=True)
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "_manifest.json", "_photos.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"photos": NAMES[:9]},
            r"the photos are not those that it was begun with \(10 then, 9 now\); .*_photos.txt names",
        ),
        ({"photos": NAMES[::-1]}, r"the photos are not those that it was begun with \(10 then, 10 now\)"),
        ({"size": 5}, "cannot be continued: part_size was 4 and is 5 now"),
        ({"form": "parquet"}, "cannot be continued: format was 'jsonl' and is 'parquet' now"),
        ({"settings": {"model": "b", "scales": (1.0,)}}, "cannot be continued: model was 'a' and is 'b' now"),
        ({"settings": {"model": "a", "scales": (2.0,)}}, r"cannot be continued: scales was \[1.0\] and is \[2.0\] now"),
        ({"settings": {"model": "a"}}, r"cannot be continued: scales was \[1.0\] and is None now"),
    ],
)
def test_another_run_is_not_continued(tmp_path, changes, message):
    settings = {"model": "a", "scales": (1.0,)}
    begin(tmp_path, settings=settings)
    before = (tmp_path / "_manifest.json").read_bytes(), (tmp_path / "_photos.txt").read_bytes()
    with pytest.raises(ValueError, match=f"^{tmp_path}: {message}"):
        begin(tmp_path, **{"settings": settings, "resume": True} | changes)
    assert ((tmp_path / "_manifest.json").read_bytes(), (tmp_path / "_photos.txt").read_bytes()) == before


def test_relative_names_are_continued_from_where_they_lead_to_the_photos(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    begin(tmp_path / "out")
    begin(tmp_path / "absolute", [tmp_path / "x.jpg", "http://host/y.jpg"])
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ValueError, match=f"names are relative to {tmp_path / 'a'}; continue it from there"):
        begin(tmp_path / "out", resume=True)
    begin(tmp_path / "absolute", [tmp_path / "x.jpg", "http://host/y.jpg"], resume=True)


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / "part-00000.parquet").touch()
    with pytest.raises(ValueError, match=r"holds part-00000.parquet, but no _manifest.json"):
        begin(tmp_path, resume=True)
    (tmp_path / "part-00000.parquet").unlink()
    (tmp_path / "_manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(ValueError, match=r"_manifest.json: is none of FastPose"):
        begin(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"^photos: expected at least one"):
        begin(tmp_path / "none", [])


def test_a_list_that_was_changed_meanwhile_is_noticed(tmp_path):
    parts = begin(tmp_path)
    (tmp_path / "_photos.txt").write_text("0.jpg\n1.jpg\n2.jpg\n")
    with PartReader(parts) as photos_of, pytest.raises(ValueError, match="has fewer photos than when it was written"):
        photos_of(0)
    (tmp_path / "_photos.txt").unlink()
    with pytest.raises(ValueError, match="is not there; expected a folder that all machines share"):
        PartReader(parts)


def test_memory_does_not_grow_with_the_list(tmp_path):
    peaks = {}
    for count in (2_000, 100_000):
        tracemalloc.start()
        parts = begin(tmp_path / str(count), (f"http://host/{number:08}.jpg" for number in range(count)), size=1000)
        with PartReader(parts) as photos_of:
            assert photos_of(len(parts) - 1)[-1] == f"http://host/{count - 1:08}.jpg"
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[100_000] < peaks[2_000] + 100_000, "less than a byte a photo"


def test_weights_are_told_apart():
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    digest = weights_digest(network)
    assert digest == weights_digest(network.to(memory_format=torch.channels_last))
    network[1].running_mean[2] += 1e-6
    assert weights_digest(network) != digest
    assert len(digest) == 64
