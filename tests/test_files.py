"""Files are written whole, through links, and to what is no file on a disk."""

import errno
import os
import stat

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


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path, monkeypatch):
    (tmp_path / "private").touch(0o600)
    (tmp_path / "plain").touch()
    # It belongs to the process: while one thread had set it to tell it, another one's files were everybody's.
    monkeypatch.setattr(os, "umask", None)
    for name in ("private", "new"):
        atomic_write(tmp_path / name, b"new")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_synchronised_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    atomic_write(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


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
