"""Files that are written piece by piece."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing

import pytest

from fastpose import streams
from fastpose.streams import StreamFile, WholeFile


def test_a_stream_can_be_read_while_it_grows(tmp_path):
    (tmp_path / "a").write_bytes(b"an old one")
    with closing(StreamFile(tmp_path / "a")) as file:
        assert (tmp_path / "a").read_bytes() == b""
        for number in range(3):
            file.append(b"%d\n" % number)
            assert (tmp_path / "a").read_bytes().count(b"\n") == number + 1
        file.replace_start(b"7")
        file.append(b"3\n")
    assert (tmp_path / "a").read_bytes() == b"7\n1\n2\n3\n"
    with closing(StreamFile(tmp_path / "a", keep=True)) as file:
        assert file.size == 8
        file.append(b"4\n")
        file.replace_start(b"0")
    assert (tmp_path / "a").read_bytes() == b"0\n1\n2\n3\n4\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_of_a_piece_that_is_cut_nothing_stays(tmp_path, monkeypatch, error):
    def half(file, data):
        file.write(bytes(data)[:2])
        raise error

    with closing(StreamFile(tmp_path / "a")) as file:
        file.append(b"whole")
        with monkeypatch.context() as patch:
            patch.setattr(streams, "_write_all", half)
            with pytest.raises((KeyboardInterrupt, OSError)) as raised:
                file.append(b"piece")
        file.append(b"next")
    assert (tmp_path / "a").read_bytes() == b"wholenext"
    assert isinstance(raised.value, KeyboardInterrupt) or raised.value.filename == str(tmp_path / "a")


def test_a_whole_file_is_there_once_it_is_finished(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    target.chmod(0o640)
    (tmp_path / "link").symlink_to("a")
    file = WholeFile(tmp_path / "link")
    file.reserve(100)
    file.write(b"new ")
    file.write(memoryview(b"one"))
    assert target.read_bytes() == b"old"
    assert file.temporary.parent == tmp_path
    file.finish()
    assert target.read_bytes() == b"new one"  # without what was reserved
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert len(list(tmp_path.iterdir())) == 2


def test_a_whole_file_that_is_given_up_leaves_nothing(tmp_path):
    file = WholeFile(tmp_path / "a")
    file.write(b"text")
    file.discard()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IsADirectoryError, match="expected a file name"):
        WholeFile(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        WholeFile(tmp_path / "none" / "a")
    assert error.value.filename == str(tmp_path / "none" / "a")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="place can be reserved as POSIX has it")
def test_place_that_is_reserved_is_there(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, before[1]))  # as a disk of this size
    try:
        file = WholeFile(tmp_path / "a")
        file.reserve(100_000)
        with pytest.raises(OSError, match="too large") as error:
            file.reserve(200_000)
        assert error.value.filename == str(tmp_path / "a")
        file.write(bytes(100_000))
        file.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "a").stat().st_size == 100_000


def test_where_no_place_can_be_reserved_it_is_tried_without(tmp_path, monkeypatch):
    def refuse(descriptor, start, size):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    file = WholeFile(tmp_path / "a")
    file.reserve(100)
    file.write(b"text")
    file.finish()
    assert (tmp_path / "a").read_bytes() == b"text"
