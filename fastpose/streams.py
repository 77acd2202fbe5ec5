"""Files that are written piece by piece: as a stream under their own name, or under it only once they are whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
from pathlib import Path

__all__ = ["StreamFile", "WholeFile", "named", "publish"]

_STEP = 1 << 16  # bytes that are reserved at once


class StreamFile:
    """A file that grows by whole pieces under its own name, so that others can read it meanwhile.

    Every piece goes to the system at once: of a process that is killed at most the last one is lost. Of a piece that
    does not fit on the disk nothing stays.

    Args:
        path: The file; an old one is replaced. What is no file on a disk (``/dev/stdout``) is simply written to.
        keep: Go on where an old file ends.

    Attributes:
        path: The file.
        size: Bytes that are written.

    Raises:
        OSError: It cannot be opened; ``filename`` is the path.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep: bool = False) -> None:
        self.path = Path(path)
        self.size = 0
        try:
            self._file = io.FileIO(_descriptor(self.path, keep), "wb")
            if keep:
                self.size = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            if error.errno == errno.ENXIO:
                error = OSError(errno.ENXIO, "is a pipe that nobody reads from, or no device")
            raise named(error, self.path) from error

    def append(self, data: bytes | memoryview) -> None:
        """Add a piece.

        Args:
            data: Its bytes.

        Raises:
            OSError: It cannot be written; the file ends with the piece before.
        """
        try:
            _write_all(self._file, data)
            self.size += memoryview(data).nbytes
        except BaseException as error:
            with contextlib.suppress(OSError):  # what is no file on a disk has no end to be set
                self._file.truncate(self.size)
                self._file.seek(self.size)
            if isinstance(error, OSError):
                raise named(error, self.path) from error
            raise

    def replace_start(self, data: bytes) -> None:
        """Write over the beginning, for a head that says how much follows.

        Args:
            data: Its bytes; as many as the old beginning has.

        Raises:
            OSError: It cannot be written.
        """
        try:
            self._file.seek(0)
            _write_all(self._file, data)
        except OSError as error:
            raise named(error, self.path) from error
        finally:
            self._file.seek(self.size)

    def fileno(self) -> int:
        """The system's number of the open file."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class WholeFile:
    """A file that is written piece by piece beside its place, and put there once it is whole.

    Args:
        path: The file; a link stays one, and an existing file stays as it is until `finish`, which keeps its
            permissions.

    Attributes:
        path: The file.

    Raises:
        OSError: It cannot be written there; ``filename`` is the path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file name", str(path))
        if self.path.exists() and not self.path.is_file():
            raise OSError(errno.EINVAL, "is a pipe or a device, expected a file name", str(path))
        self._target = Path(os.path.realpath(self.path))
        # Not tempfile's, which are private: what an ordinary file would have could only be told by setting the umask,
        # and that is the umask of all threads.
        self._temporary = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}.tmp")
        self._reserved = 0
        try:
            # Not buffered: what a full disk has left in a buffer, closing would try again.
            self._file = StreamFile(self._temporary)
        except OSError as error:
            raise named(error, self.path) from error

    @property
    def size(self) -> int:
        """Bytes that are written."""
        return self._file.size

    @property
    def temporary(self) -> Path:
        """Where it is written, for a library that opens files itself."""
        return self._temporary

    def reserve(self, size: int) -> None:
        """Make sure that the file can grow to a size, where the system can tell.

        Args:
            size: Bytes.

        Raises:
            OSError: The disk has no place for it.
        """
        if size <= self._reserved or not hasattr(os, "posix_fallocate"):
            return
        start = max(self._reserved, self.size)
        size += -size % _STEP
        try:
            os.posix_fallocate(self._file.fileno(), start, size - start)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # the file system cannot do that
                raise named(error, self.path) from error
        self._reserved = size

    def write(self, data: bytes | memoryview) -> None:
        """Add a piece.

        Args:
            data: Its bytes.

        Raises:
            OSError: It cannot be written; the file ends with the piece before.
        """
        try:
            self._file.append(data)
        except OSError as error:
            raise named(error, self.path) from error

    def finish(self, size: int | None = None) -> None:
        """Put the file in its place.

        Args:
            size: Bytes that a library has written; by default those that `write` has.

        Raises:
            OSError: It cannot be put there; what was written is gone, and an old file is still there.
        """
        try:
            with contextlib.closing(self._file):
                if self._target.exists():
                    self._temporary.chmod(stat.S_IMODE(self._target.stat().st_mode))
                os.truncate(self._file.fileno(), self.size if size is None else size)  # what was reserved
                os.fsync(self._file.fileno())
            _rename(self._temporary, self._target)
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise named(error, self.path) from error
            raise

    def discard(self) -> None:
        """Leave everything as it was before."""
        with contextlib.suppress(OSError):  # the first error is the one to tell
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def publish(temporary: Path, target: Path) -> None:
    """Put a file that somebody else has written, and closed, in its place.

    Args:
        temporary: The file, in the folder of its place.
        target: Its place; what is there is replaced.

    Raises:
        OSError: It cannot be put there.
    """
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    _rename(temporary, target)


def named(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """The same error, which says the name that the user gave; its own is none, or that of a temporary file.

    Args:
        error: The error.
        path: The name.
    """
    return type(error)(error.errno, error.strerror or str(error), os.fspath(path))


def _rename(temporary: Path, target: Path) -> None:
    os.replace(temporary, target)
    if os.name == "posix":  # the new name must survive a power cut too
        # Not every file system can do that for a folder, nor may everybody open one; the file is there all the same.
        with contextlib.suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _descriptor(path: Path, keep: bool) -> int:
    """A file opened for writing, empty unless its content is kept."""
    flags = (
        os.O_WRONLY
        | os.O_CREAT
        | (0 if keep else os.O_TRUNC)
        | getattr(os, "O_CLOEXEC", 0)
        | getattr(os, "O_BINARY", 0)
    )
    # A pipe without a reader would make it wait for one.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    return descriptor


def _write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    left = memoryview(data).cast("B")
    while left:  # the system may take less than it is given
        left = left[file.write(left) :]
