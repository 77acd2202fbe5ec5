"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

__all__ = ["atomic_write"]


def atomic_write(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write a file so that at any moment either the old or the whole new one is there.

    Args:
        path: file to write; a link stays one, and what is no file on a disk (``/dev/stdout``) is simply written to.
        data: its content.

    Raises:
        OSError: it could not be written, and the error names it; the old file, if any, is still there, and nothing
            else.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file name", str(path))
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _write_whole(Path(os.path.realpath(path)), data)
    except OSError as error:  # its own file name is none, or that of the temporary file
        raise type(error)(error.errno, error.strerror, str(path)) from error


def _write_whole(path: Path, data: bytes | memoryview) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes it private; give it what an ordinary new file would have.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name must survive a power cut too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
