"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

__all__ = ["atomic_write"]


def atomic_write(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write a file so that at any moment either the old or the whole new one is there.

    Args:
        path: file to write; a link stays one, an existing file keeps its permissions, and what is no file on a disk
            (``/dev/stdout``) is simply written to.
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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    # Not tempfile's, which are private: what an ordinary file would have could only be told by setting the umask, and
    # that is the umask of all threads.
    with temporary.open("xb") as file:
        try:
            if path.exists():
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            file.close()  # first, for Windows
            os.replace(temporary, path)
        except BaseException:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
    if os.name == "posix":  # the new name must survive a power cut too
        # Not every file system can do that for a folder, nor may everybody open one; the file is there all the same.
        with contextlib.suppress(OSError):
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
