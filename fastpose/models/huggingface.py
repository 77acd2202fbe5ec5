"""Files of repositories on Hugging Face, by names like `hf:owner/name`, through the package `huggingface_hub`.

That package keeps what it fetches in a cache of its own (`HF_HOME`), finds it there without a network, knows access
tokens, and goes to the address in `HF_ENDPOINT`. It is asked for when such a name is first used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

from .errors import WeightsError

__all__ = ["PREFIX", "fetch_mirrored", "fetch_named"]

PREFIX = "hf:"
_USUAL = "model.safetensors"  # what `save_pretrained` writes
_SUFFIX = ".safetensors"
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/(.+))?")
_MOST_NAMES = 6

Result = TypeVar("Result")


class _Place(NamedTuple):
    """A repository, one state of it (None: the newest), and a file or folder in it ("": none)."""

    repository: str
    revision: str | None
    inside: str


def fetch_named(name: str) -> Path:
    """The local file behind a name.

    Args:
        name: `hf:owner/name`, the repository's one file of safetensors (`model.safetensors` where there are several);
            `hf:owner/name/file.safetensors`, that file; `hf:owner/name@revision…`, as a commit, branch or tag has it.

    Raises:
        WeightsError: It is no such name, or no name of safetensors; `huggingface_hub` is not installed; the repository
            is not there, holds no safetensors, or several; it cannot be reached and was not fetched before.
    """
    place = _parse(name)
    hub = _library(name)
    if place.inside:
        if not place.inside.endswith(_SUFFIX):
            raise WeightsError(
                f"{name}: expected the name of a {_SUFFIX} file; nothing else is taken from a repository"
            )
        return _file(hub, name, place, place.inside)
    try:
        return _file(hub, name, place, _USUAL)
    except _AbsentError:
        pass
    files = _files(hub, name, place)
    found = [file for file in files if file.endswith(_SUFFIX)]
    if not found:
        raise WeightsError(f"{name}: holds no {_SUFFIX} file, and nothing else is taken from there: {_some(files)}")
    if len(found) > 1:
        raise WeightsError(f"{name}: holds several {_SUFFIX} files; {name}/FILE takes one of {_some(found)}")
    return _file(hub, name, place, found[0])


def fetch_mirrored(mirror: str, path: str, folder: Path) -> Path:
    """A published file from a repository that mirrors its place.

    Args:
        mirror: `hf:owner/name`, or `hf:owner/name/folder` for a part of it.
        path: The path of the published address. The repository holds the file under the same name, in any folder; of
            several the one counts whose path has most of the published one's end, and of these the one that lies
            highest.
        folder: Where to put it.

    Returns:
        The file, whatever it holds: nothing is verified here.

    Raises:
        WeightsError: As `fetch_named`, or it is not there.
    """
    place = _parse(mirror)
    hub = _library(mirror)
    wanted = path.strip("/").split("/")
    inside = f"{place.inside.rstrip('/')}/" if place.inside else ""
    found = [file for file in _files(hub, mirror, place) if file.startswith(inside) and _ends(file, wanted)]
    if not found:
        raise WeightsError(f"{mirror}: holds no {wanted[-1]}")
    return _file(hub, mirror, place, max(found, key=lambda file: (_ends(file, wanted), -file.count("/"))), folder)


class _AbsentError(WeightsError):
    """A repository that answers, and has no such file."""


def _parse(name: str) -> _Place:
    match = _NAME.fullmatch(name.replace(os.sep, "/").rstrip("/"))
    if match is None or ".." in (match[3] or "").split("/"):
        raise WeightsError(f"{name}: expected hf:owner/name, hf:owner/name/FILE or hf:owner/name@REVISION/FILE")
    return _Place(match[1], match[2], match[3] or "")


def _library(name: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise WeightsError(
            f"{name}: names of that kind need the package huggingface_hub: pip install 'fastpose-torch[hub]'"
        ) from error
    return huggingface_hub


def _file(hub: ModuleType, name: str, place: _Place, file: str, folder: Path | None = None) -> Path:
    where = {} if folder is None else {"local_dir": folder}
    return Path(_ask(name, lambda: hub.hf_hub_download(place.repository, file, revision=place.revision, **where), file))


def _files(hub: ModuleType, name: str, place: _Place) -> list[str]:
    return sorted(_ask(name, lambda: hub.list_repo_files(place.repository, revision=place.revision)))


def _ask(name: str, call: Callable[[], Result], file: str = "") -> Result:
    """What the library gives; what it raises, in words of one line."""
    try:
        return call()
    except Exception as error:  # of a dozen kinds, of that library and of what it fetches with
        from huggingface_hub import errors

        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, errors.GatedRepoError):
            raise WeightsError(f"{name}: asks for an access token, which `hf auth login` keeps ({reason})") from error
        if isinstance(error, errors.RepositoryNotFoundError):
            raise WeightsError(f"{name}: there is no such repository, or it is not public ({reason})") from error
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            raise _AbsentError(f"{name}: holds no {file}") from error
        raise WeightsError(
            f"{name}: cannot be reached, and was not fetched before ({reason}). Where there is no network, fetch the "
            "file elsewhere and name it by its path"
        ) from error


def _ends(file: str, wanted: list[str]) -> int:
    """How many folders and names, from the end, a path has in common with another one."""
    count = 0
    for one, other in zip(reversed(file.split("/")), reversed(wanted), strict=False):
        if one != other:
            break
        count += 1
    return count


def _some(files: list[str]) -> str:
    more = f" and {len(files) - _MOST_NAMES} more" if len(files) > _MOST_NAMES else ""
    return (", ".join(files[:_MOST_NAMES]) or "no file") + more
