"""Files are written whole, through links, and to what is no file on a disk."""

import os

import pytest

from fastpose.files import atomic_write


def test_a_file_is_replaced_as_a_whole(tmp_path):
    atomic_write(tmp_path / "a", b"one")
    atomic_write(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one(tmp_path, there):
    if there:
        (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="devices as POSIX has them")
def test_devices_are_written_to(tmp_path):
    (tmp_path / "out").symlink_to("/dev/null")
    atomic_write(tmp_path / "out", b"text")
    assert (tmp_path / "out").is_symlink()
    assert not (tmp_path / "out").is_file()


def test_a_folder_is_refused_by_its_name(tmp_path):
    with pytest.raises(IsADirectoryError, match="expected a file name") as error:
        atomic_write(tmp_path, b"")
    assert error.value.filename == str(tmp_path)
