"""Published checkpoints: fetched once, verified, kept in a cache, found there without a network."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..files import open_file
from .errors import WeightsError
from .huggingface import PREFIX as HF
from .huggingface import fetch_mirrored, fetch_named

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["cache_folder", "fetch", "is_address", "local_file", "user_file"]

CACHE, MIRROR = "FASTPOSE_CACHE", "FASTPOSE_MIRROR"
_PUBLISHED = "published"  # among mirrors: the published address itself
_PIECE = 1 << 20
_TRIES = 3
_TIMEOUT = 30.0  # seconds without a byte
_WINDOW, _LEAST = 60.0, 60 << 10  # seconds, and bytes that must come in them: a kilobyte each second
_MAX_BYTES = 16 << 30  # several times the largest network published
_HASH_IN_NAME = re.compile(r"-(?!\d+[_.])([0-9a-f]{8,64})(?:_\d{8})?\.\w+$")  # digits alone are a date


def cache_folder() -> Path:
    """Where fetched checkpoints are kept: FASTPOSE_CACHE, else `fastpose` in the user's cache folder."""
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fastpose"


def local_file(path: str | os.PathLike[str]) -> Path:
    """The file that a user's path or address means; an address is fetched (see `fetch`)."""
    return fetch(os.fspath(path)) if is_address(path) else Path(path)


def user_file(name: str) -> Path:
    """`local_file` of what a user wrote into a recipe: `~` is the home folder there."""
    return local_file(name if is_address(name) else Path(name).expanduser())


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether it is an address (`https://…`, `hf:owner/name`), not a path."""
    name = os.fspath(path)
    return name.startswith(HF) or "://" in name


def fetch(url: str, sha256: str | None = None) -> Path:
    """The local file of a published checkpoint; downloads it where the cache does not have it.

    An interrupted download is continued by the next call. Several processes may ask for the same file at once: one
    downloads, the others wait. What the cache has is taken as it is; it was verified when it came. It is kept by its
    name and its hash, or by its name and address where no hash is known: another hash is another file.

    Args:
        url: The published address; or `hf:owner/name[@revision][/file]`, safetensors in a repository on Hugging Face,
            for which `huggingface_hub` is needed and keeps the file (see `fastpose.models.huggingface`).
            The environment variable FASTPOSE_MIRROR names other places to take files from, instead of `url`'s: one or
            more with commas between them, which are tried in that order. A place is a folder that holds files by name;
            an address to which the path of `url` is appended; `hf:owner/name`, a repository that holds them by name in
            any folder; or the word `published`, `url`'s own place. Mirrors are not asked for `hf:` names.
        sha256: The file's hash or the first digits of it; what does not match is thrown away. By default the digits
            that the file's name ends in, as PyTorch's and OpenMMLab's do (``resnet50-0676ba61.pth``,
            ``…-04af38ce_20220923.pth``); where there are none either, a warning says that the file was not verified.

    Returns:
        The file, complete and of that hash where one is known.

    Raises:
        WeightsError: It cannot be had, is larger than 16 GiB, or comes at less than a kilobyte a second; the message
            says what to do without a network, and with several places what each of them said.
    """
    if sha256 and not re.fullmatch("[0-9a-fA-F]{1,64}", sha256):
        raise WeightsError(f"sha256: expected hexadecimal digits, got {sha256!r}")
    if url.startswith(HF):
        file = fetch_named(url)
        if sha256:
            _check_file(url, file, sha256)
        return file
    name = Path(urlsplit(url).path).name
    if not name:
        raise WeightsError(f"{url}: expected an address that ends in a file's name")
    found = _HASH_IN_NAME.search(name)
    if sha256 is None and found:
        sha256 = found[1]
    path = cache_folder() / _cache_name(url, name, sha256)
    if path.is_file():
        return path
    refused = []
    for place in _places():
        try:
            return _take(place, url, path, sha256)
        except WeightsError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    reasons = "".join(f"\n  {error}" for error in refused)
    raise WeightsError(f"{name}: none of the {len(refused)} places in {MIRROR} gave it:{reasons}")


def _places() -> list[str]:
    """Where to look, in order."""
    return [place.strip() for place in os.environ.get(MIRROR, "").split(",") if place.strip()] or [_PUBLISHED]


def _take(place: str, url: str, path: Path, sha256: str | None) -> Path:
    """The file from one place: in the cache as `path`, or where a folder has it."""
    name = Path(urlsplit(url).path).name
    if place != _PUBLISHED and not is_address(place):
        local = Path(place).expanduser() / name
        if not local.is_file():
            raise WeightsError(f"{local}: not there; {MIRROR} names a folder that should hold {name}")
        try:
            _check_file(local, local, sha256)
        except OSError as error:
            raise WeightsError(f"{local}: cannot be read ({error.strerror})") from error
        return local
    on_hub = place.startswith(HF)
    source = place if on_hub else url if place == _PUBLISHED else place.rstrip("/") + urlsplit(url).path
    if not on_hub and not source.startswith(("http://", "https://")):
        raise WeightsError(f"{source}: expected an address that begins with http:// or https://")

    # Imported where something is fetched: networks are built and timed on machines that have torch and little else.
    from filelock import FileLock

    folder = path.parent
    # What one place began, another one continues: a hash tells whether they fit. Without one each has its own part.
    own = "" if sha256 else f".{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    part = path.with_name(f"{path.name}{own}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.is_file():  # another process may have been faster
                try:
                    if on_hub:
                        with tempfile.TemporaryDirectory(dir=folder) as room:
                            os.replace(fetch_mirrored(place, urlsplit(url).path, Path(room)), part)
                    else:
                        _download(source, part)
                    _check_file(source, part, sha256)
                except WeightsError:
                    part.unlink(missing_ok=True)
                    raise
                os.replace(part, path)
    except WeightsError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address at all
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise WeightsError(
            f"{source}: cannot be fetched ({reason}). Put the file into {folder} as {path.name}, or name a folder or "
            f"an address that has it in {MIRROR}"
        ) from error
    return path


def _cache_name(url: str, name: str, sha256: str | None) -> str:
    """The name of a file in the cache: its own where that holds the hash."""
    found = _HASH_IN_NAME.search(name)
    if sha256 and found and sha256.lower().startswith(found[1]):
        return name
    key = sha256.lower()[:16] if sha256 else f"from-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}-{key}.{suffix}" if dot else f"{name}-{key}"


def _download(source: str, part: Path) -> None:
    """Bring `part` to its full length, from where it ends; tries again where the connection breaks."""
    for attempt in range(_TRIES):
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(source, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            with urllib.request.build_opener(_HTTP, _HTTPS).open(request, timeout=_TIMEOUT) as response:
                continues = response.status == 206
                length = response.headers.get("Content-Length")
                total = None if length is None else int(length) + (have if continues else 0)
                _check_size(source, total or 0)
                with part.open("ab" if continues else "wb") as file, _progress_bar() as bar:
                    task = bar.add_task(part.stem, total=total, completed=file.tell())
                    for piece in _pieces(response):
                        file.write(piece)
                        bar.advance(task, len(piece))
                        _check_size(source, file.tell())
                        if file.tell() == total:  # a server may keep the connection open
                            break
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


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """What comes, as it comes, for as long as it comes fast enough.

    The timeout of a socket is that of one reading: a byte every half second would keep it quiet for ever.
    """
    since, came = time.monotonic(), 0
    while piece := response.read1(_PIECE):
        came += len(piece)
        if (now := time.monotonic()) - since > _WINDOW:
            if came < _LEAST:
                raise TimeoutError(f"{came} bytes in {now - since:.0f} seconds, expected at least {_LEAST}")
            since, came = now, 0
        yield piece


class _TimedHead(http.client.HTTPConnection):
    """A connection that gives up where the head of an answer takes longer than the window."""

    def getresponse(self) -> http.client.HTTPResponse:
        """Wait for the answer."""
        over, connection = threading.Event(), self.sock

        def give_up() -> None:
            over.set()
            with contextlib.suppress(OSError):  # it may be closed already
                connection.shutdown(socket.SHUT_RDWR)

        watch = threading.Timer(_WINDOW, give_up)
        watch.daemon = True
        watch.start()
        try:
            response = super().getresponse()
        except (OSError, http.client.HTTPException):
            if not over.is_set():
                raise
        finally:
            watch.cancel()
        if over.is_set():  # half a head may look like a whole one
            raise TimeoutError(f"no whole answer in {_WINDOW:.0f} seconds")
        return response


class _TimedSecureHead(_TimedHead, http.client.HTTPSConnection):
    """The same, encrypted."""


class _HTTP(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TimedHead, req)


class _HTTPS(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TimedSecureHead, req)


def _check_size(source: str, size: int) -> None:
    if size > _MAX_BYTES:
        raise WeightsError(f"{source}: too large ({size} bytes so far, expected at most {_MAX_BYTES})")


def _progress_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _check_file(source: object, path: Path, expected: str | None) -> None:
    digest = hashlib.sha256()
    with open_file(path, limit=_MAX_BYTES) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    _check(source, digest.hexdigest(), expected)


def _check(source: object, digest: str, expected: str | None) -> None:
    if not expected:
        warnings.warn(f"{source}: not verified, no hash of it is known; it has the SHA-256 {digest}", stacklevel=4)
    elif not digest.startswith(expected.lower()):
        raise WeightsError(
            f"{source}: damaged or another file: expected a SHA-256 that begins with {expected}, got {digest[:16]}…"
        )
