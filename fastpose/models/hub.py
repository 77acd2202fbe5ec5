"""Published checkpoints: fetched once, verified, kept in a cache, found there without a network."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from .weights import WeightsError

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["cache_folder", "fetch"]

CACHE, MIRROR = "FASTPOSE_CACHE", "FASTPOSE_MIRROR"
_PIECE = 1 << 20
_TRIES = 3
_TIMEOUT = 30.0  # seconds without a byte
_HASH_IN_NAME = re.compile(r"-(?!\d+[_.])([0-9a-f]{8,64})(?:_\d{8})?\.\w+$")  # digits alone are a date


def cache_folder() -> Path:
    """Where fetched checkpoints are kept: FASTPOSE_CACHE, else `fastpose` in the user's cache folder."""
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fastpose"


def fetch(url: str, sha256: str | None = None) -> Path:
    """The local file of a published checkpoint; downloads it where the cache does not have it.

    An interrupted download is continued by the next call. Several processes may ask for the same file at once: one
    downloads, the others wait. What the cache has is taken as it is; it was verified when it came.

    Args:
        url: The published address. The environment variable FASTPOSE_MIRROR names another place to take files from: a
            folder that holds them by name, or an address to which the path of `url` is appended.
        sha256: The file's hash or the first digits of it; what does not match is thrown away. By default the digits
            that the file's name ends in, as PyTorch's and OpenMMLab's do (``resnet50-0676ba61.pth``,
            ``…-04af38ce_20220923.pth``); where there are none either, a warning says that the file was not verified.

    Returns:
        The file, complete and of that hash where one is known.

    Raises:
        WeightsError: It cannot be had; the message says what to do without a network.
    """
    name = Path(urlsplit(url).path).name
    if not name:
        raise WeightsError(f"{url}: expected an address that ends in a file's name")
    if sha256 is None and (found := _HASH_IN_NAME.search(name)):
        sha256 = found[1]
    folder = cache_folder()
    path = folder / name
    if path.is_file():
        return path
    mirror = os.environ.get(MIRROR, "")
    if mirror and "://" not in mirror:
        local = Path(mirror).expanduser() / name
        if not local.is_file():
            raise WeightsError(f"{local}: not there; {MIRROR} names a folder that should hold {name}")
        with local.open("rb") as file:
            _check(local, _hash(file), sha256)
        return local
    source = mirror.rstrip("/") + urlsplit(url).path if mirror else url

    # Imported where something is fetched: networks are built and timed on machines that have torch and little else.
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.is_file():  # another process may have been faster
                part = path.with_name(f"{name}.part")
                _download(source, part)
                try:
                    with part.open("rb") as file:
                        _check(source, _hash(file), sha256)
                except WeightsError:
                    part.unlink()
                    raise
                os.replace(part, path)
    except WeightsError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address at all
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise WeightsError(
            f"{source}: cannot be fetched ({reason}). Put the file into {folder} as {name}, or name a folder or an "
            f"address that has it in {MIRROR}"
        ) from error
    return path


def _download(source: str, part: Path) -> None:
    """Bring `part` to its full length, from where it ends; tries again where the connection breaks."""
    for attempt in range(_TRIES):
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(source, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                continues = response.status == 206
                length = response.headers.get("Content-Length")
                total = None if length is None else int(length) + (have if continues else 0)
                with part.open("ab" if continues else "wb") as file, _progress_bar() as bar:
                    task = bar.add_task(part.stem, total=total, completed=file.tell())
                    while piece := response.read(_PIECE):
                        file.write(piece)
                        bar.advance(task, len(piece))
            if total is None or part.stat().st_size == total:
                return
            problem: Exception = ConnectionError(f"the connection ended after {part.stat().st_size} of {total} bytes")
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # nothing comes after what is there
                return
            raise
        except (TimeoutError, ConnectionError, urllib.error.URLError, http.client.IncompleteRead) as error:
            problem = error
        if attempt + 1 == _TRIES:
            raise problem
        time.sleep(attempt + 1)


def _progress_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _hash(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _check(source: object, digest: str, expected: str | None) -> None:
    if not expected:
        warnings.warn(f"{source}: not verified, no hash of it is known; it has the SHA-256 {digest}", stacklevel=3)
    elif not digest.startswith(expected.lower()):
        raise WeightsError(
            f"{source}: damaged or another file: expected a SHA-256 that begins with {expected}, got {digest[:16]}…"
        )
