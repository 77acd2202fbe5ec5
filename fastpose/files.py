"""Files of users: opened without waiting, read within limits, parsed in bounded time, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from .streams import StreamFile, WholeFile, named

if TYPE_CHECKING:
    import yaml

__all__ = [
    *("MAX_BYTES", "atomic_write", "lock_folder", "open_file", "parse_json", "parse_yaml", "printable", "read_file"),
    "unreadable",
]

MAX_BYTES = 1 << 30  # of a file that is read as a whole, where its reader names no other limit
_MAX_YAML = 1 << 18  # characters, with all aliases written out: PyYAML takes some seconds for so many
_MAX_DEPTH = 100  # of lists and objects inside each other; far from where Python's recursion ends
_MAX_NUMBER = 100  # characters of a number in YAML; those in base 60 take quadratic time
_PIECE = 1 << 20
_LOCK = ".lock"

# Without waiting for a pipe's other end; and a terminal must not become this process's.
_FLAGS = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"))
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


# ---- reading


def open_file(path: str | os.PathLike[str], *, limit: int = MAX_BYTES) -> BinaryIO:
    """Open a file that a user named, for reading; never waits.

    Every file of a user is opened here. Behind its name may stand a pipe that nobody writes to, or a device without an
    end: only a regular file is opened, also through links. So no name can stand for the standard input but one that a
    shell has joined with a file (``/dev/stdin`` behind ``<FILE``); a verb that reads from a pipe on purpose says so
    with ``-``.

    Args:
        path: the file.
        limit: its largest size in bytes.

    Returns:
        The file, open in binary mode.

    Raises:
        OSError: it is missing, not readable, no regular file or too large. ``filename`` is the path, and ``strerror``
            says what is wrong.

    Example:
        >>> with open_file(__file__, limit=1 << 20) as file:
        ...     start = file.read(8)
    """
    name = os.fspath(path)
    try:
        _check_regular(os.stat(name), limit)  # first: opening a pipe or a device may do something already
        descriptor = os.open(name, _FLAGS)
        try:
            _check_regular(os.fstat(descriptor), limit)  # it may be another one by now
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise named(error, name) from None
    except ValueError as error:  # a zero byte inside, or characters that no name can have
        raise OSError(errno.EINVAL, f"is no file name ({error})", name) from None


def read_file(path: str | os.PathLike[str], *, limit: int = MAX_BYTES) -> bytes:
    """The content of a file that a user named; see `open_file`.

    Args:
        path: the file.
        limit: its largest size in bytes.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(path, limit=limit) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            pieces = [file.read(size + 1) or b""]
            length = len(pieces[0])
            # It grows, or is one of those that the system makes up (/proc), which state no size.
            while size < length <= limit and (piece := file.read(_PIECE)):
                pieces.append(piece)
                length += len(piece)
        except OSError as error:
            raise named(error, os.fspath(path)) from None
    if length > limit:
        raise OSError(errno.EFBIG, _too_large(length, limit), os.fspath(path))
    return b"".join(pieces)


def _check_regular(status: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"is {kind}, expected a regular file")
    if status.st_size > limit:
        raise OSError(errno.EFBIG, _too_large(status.st_size, limit))


def _too_large(size: int, limit: int) -> str:
    return f"is too large ({size} bytes, expected at most {limit})"


def unreadable(error: OSError) -> str:
    """Why a file could not be read, as the end of a message that begins with its name.

    Example:
        >>> unreadable(PermissionError(13, "Permission denied"))
        'cannot be read (Permission denied)'
    """
    if isinstance(error, FileNotFoundError):
        return "no such file"
    reason = error.strerror or str(error)
    return reason if reason.startswith("is ") else f"cannot be read ({reason})"


# ---- naming

# What ends a line, moves a cursor, or is no character of its own: bytes of a name that is not UTF-8 come as surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(name: object) -> str:
    r"""A name as one line of text, which every terminal and every JSON file can hold.

    Args:
        name: a path, or a message with one in it.

    Returns:
        The text; line breaks, other control characters and bytes that are not UTF-8 as a Python string would show them.

    Example:
        >>> print(printable("two" + chr(10) + "lines"))
        two\nlines
    """
    return _UNPRINTABLE.sub(_escaped, str(name))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else found[0].encode("unicode_escape").decode()


# ---- parsing


def parse_json(text: str | bytes, name: object, *, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """What a JSON text says.

    Args:
        text: the text; bytes in UTF-8, -16 or -32.
        name: what errors call it: the file, or the option.
        object_hook: is given every object and returns what stands for it, as that of `json.loads`.

    Returns:
        Lists and dictionaries at most a hundred deep, so that whatever goes through them ends.

    Raises:
        ValueError: it is no JSON text, or nested deeper; the message begins with the name.

    Example:
        >>> parse_json('{"size": [4, 3]}', "box.json")
        {'size': [4, 3]}
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        value = json.loads(text, object_hook=object_hook)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not a JSON text file ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}: not valid JSON ({error.msg}, line {error.lineno} column {error.colno})") from None
    except ValueError as error:  # an integer of more digits than Python turns into a number
        raise ValueError(f"{name}: not valid JSON ({error})") from None
    except RecursionError:
        raise ValueError(_too_deep(name)) from None
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _containers(outer)]
        if not level:
            return value
    raise ValueError(_too_deep(name))


def _containers(value: Any) -> list[Any]:
    """The lists and dictionaries right inside of one; most are lists of numbers, which a glance at the types ends."""
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return []
    if {dict, list}.isdisjoint(map(type, value)):
        return []
    return [inner for inner in value if type(inner) is dict or type(inner) is list]


def parse_yaml(text: str | bytes, name: object) -> Any:
    """What a YAML text says, in time and memory linear in its length.

    Args:
        text: the text; bytes in UTF-8.
        name: what errors call it: the file, or the option.

    Returns:
        The value, as `yaml.safe_load` gives it; None for an empty text.

    Raises:
        ValueError: it is no YAML, longer than 262,144 characters, also with its aliases written out (nine levels of
            nine each are 387 million), or nested more than a hundred deep; the message begins with the name.

    Example:
        >>> parse_yaml("train: {epochs: 10}", "recipe.yaml")
        {'train': {'epochs': 10}}
    """
    import yaml

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        if len(text) > _MAX_YAML:
            raise ValueError(f"{name}: too long for YAML ({len(text)} characters, expected at most {_MAX_YAML})")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, name)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not a YAML text file ({error.reason} at byte {error.start})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: not valid YAML: {' '.join(str(error).split()):.400}") from None
    except RecursionError:
        raise ValueError(_too_deep(name)) from None
    try:
        return loader.construct_document(node)
    except Exception as error:  # half a dozen kinds, for a thirteenth month or a tag that does not fit its value
        raise ValueError(f"{name}: not valid YAML: {' '.join(str(error).split()):.400}") from None


def _check_nodes(root: yaml.Node, name: object) -> None:
    """Refuse what would take more than linear time to build, or to go through once it is built.

    An anchor stands before its aliases: going through the text in order, what an alias stands for has been counted.
    """
    sizes: dict[int, tuple[int, int]] = {}  # of each node: its length with all aliases written out, and its depth
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting[-1]
        if id(node) in sizes:
            waiting.pop()
            continue
        inner = _inner_nodes(node, name)
        if id(node) not in seen:
            seen.add(id(node))
            waiting += [child for child in reversed(inner) if id(child) not in sizes]
            continue
        if not all(id(child) in sizes for child in inner):
            raise ValueError(f"{name}: not usable YAML: an alias stands inside of what it names")
        parts = [sizes[id(child)] for child in inner]
        length, depth = 1 + sum(length for length, _ in parts), 1 + max((depth for _, depth in parts), default=0)
        if isinstance(node.value, str):
            length, depth = 1 + len(node.value), 0
        sizes[id(node)] = length, depth
        if depth > _MAX_DEPTH:
            raise ValueError(_too_deep(name))
        if length > 2 * _MAX_YAML:  # no text of that length has more without aliases
            raise ValueError(f"{name}: not usable YAML: too long with all aliases written out")
        waiting.pop()


def _inner_nodes(node: yaml.Node, name: object) -> list[yaml.Node]:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > _MAX_NUMBER and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            raise ValueError(f"{name}: not usable YAML: a number of {len(node.value)} characters")
        return []
    if isinstance(node, yaml.SequenceNode):
        return cast("list[yaml.Node]", node.value)
    if sum(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value) > 1:
        raise ValueError(f"{name}: not usable YAML: two keys << in one mapping")
    return [part for pair in node.value for part in pair]


def _too_deep(name: object) -> str:
    return f"{name}: nested too deeply, expected at most {_MAX_DEPTH} levels"


# ---- writing


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
    if path.exists() and not path.is_file() and not path.is_dir():
        with contextlib.closing(StreamFile(path)) as stream:
            stream.append(data)
        return
    file = WholeFile(path)
    try:
        file.write(data)
    except BaseException:
        file.discard()
        raise
    file.finish()


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Within the block no other process gets past here with the same folder.

    The lock is the operating system's (``.lock``): it vanishes with the process, however that ends. Where a network
    file system has none, nothing is locked.

    Args:
        folder: one that is there.

    Raises:
        BlockingIOError: another process is in such a block.
        OSError: the lock's file cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reason = "another run is writing to this folder; choose another --out"
        raise BlockingIOError(errno.EWOULDBLOCK, reason, str(folder)) from None
    except NotImplementedError:
        pass
    except OSError as error:
        raise named(error, folder) from error
    try:
        yield
    finally:
        lock.release()
