"""Values of a recipe that are changed before it is validated: ``key=value`` in a shell, keywords in Python."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ..files import parse_yaml, read_file

__all__ = ["RecipeError", "apply_override", "apply_values", "known_keys", "list_mixtures", "read_mapping", "read_text"]

_YAML = (".yaml", ".yml")
_MAX_BYTES = 1 << 20  # of a recipe, or a file about data
_MAX_PARTS = 20  # of a dotted key
_MIXTURES = resources.files(__package__) / "recipes" / "data"
_NULL = ("", "null", "~")  # what stands for no text where none is a choice


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the key and what was expected."""


def read_text(path: Path) -> str:
    """The content of a file.

    Raises:
        RecipeError: It cannot be read, or is no text.
    """
    try:
        return read_file(path, limit=_MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_mapping(text: str, source: str) -> dict[str, Any]:
    """Keys and values of YAML text; ``source`` is what an error calls it.

    Raises:
        RecipeError: It is not YAML, or something else.
    """
    try:
        data = parse_yaml(text, source)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if not isinstance(data, dict):
        raise RecipeError(f"{source}: expected keys and values, got {type(data).__name__}")
    return data


def apply_override(data: dict[str, Any], override: str, schema: dict[str, Any]) -> None:
    """Put one ``dotted.key=value`` into nested dictionaries and lists.

    Args:
        data: Changed in place.
        override: The value is text as it stands where the key is text, otherwise YAML.
        schema: JSON schema of ``data``, which says what the key is.

    Raises:
        RecipeError: There is no value, it is not YAML, or the key leads into a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"{override!r}: expected key=value, e.g. train.epochs=10")
    _put(data, key, _value(key, text, schema))


def apply_values(data: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Put values by dotted key into nested dictionaries and lists; a mapping changes only the keys that it has.

    Args:
        data: Changed in place.
        values: As Python has them; paths become text, tuples lists. ``data`` may be the path of a file.

    Raises:
        RecipeError: A key leads into a value.
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            apply_values(data, {f"{key}.{name}": below for name, below in value.items()})
        elif key == "data" and isinstance(value, str | os.PathLike):
            _put(data, key, _data_file(Path(value).expanduser()))
        else:
            _put(data, key, _plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {name: _plain(below) for name, below in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _value(key: str, text: str, schema: dict[str, Any]) -> Any:
    """What the text of a ``key=text`` stands for."""
    if key == "data" and not text.startswith("{"):
        return _data_file(Path(text).expanduser())
    kinds = {node.get("type") for node in _nodes(schema, key.split("."))}
    if kinds in ({"string"}, {"string", "null"}):
        return None if "null" in kinds and text in _NULL else text
    try:
        value = parse_yaml(text, f"{key}={text!r:.80}")
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 takes 1e-3 for text; everybody means the number.
            value = float(value)
    return value


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    parts = key.split(".")
    if len(parts) > _MAX_PARTS:
        raise RecipeError(f"{key:.80}…: expected a key of at most {_MAX_PARTS} parts, got {len(parts)}")
    node: Any = data
    for part, following in itertools.pairwise(parts):
        place: Any = _position(node, part, key) if isinstance(node, list) else part
        if isinstance(node, dict) and node.get(place) is None:
            node[place] = [] if following.isdigit() else {}
        node = node[place]
        if not isinstance(node, dict | list):
            raise RecipeError(f"{key}: {part} is a value, not a group of keys")
    node[_position(node, parts[-1], key) if isinstance(node, list) else parts[-1]] = value


def list_mixtures() -> list[str]:
    """Names of the package's files about data sets that are trained on together: ``data=NAME``."""
    return sorted(file.name.removesuffix(".yaml") for file in _MIXTURES.iterdir() if file.name.endswith(".yaml"))


def _data_file(path: Path) -> Any:
    """What a file says about data.

    A YAML file has the keys under ``data``, a recipe's, or it is a data set in Ultralytics' layout. Anything else is
    what ``fastpose eval --data`` takes, and is trained on. Names are relative to the file's folder where it does not
    say ``root``. Where there is no such file, it may be the name of a mixture in the package, whose names are relative
    to where the program runs.
    """
    if str(path) in list_mixtures() and not path.exists():
        return read_mapping((_MIXTURES / f"{path}.yaml").read_text(encoding="utf-8"), str(path))
    if path.suffix.lower() not in _YAML:
        return {"root": str(path.parent), "train": [{"annotations": path.name}]}
    content = read_mapping(read_text(path), str(path))
    data = content.get("data", content)
    if "kpt_shape" in content:
        source = {"annotations": path.name}
        data = {"train": [source], "val": source if content.get("val") else None}
    return {"root": str(path.parent), **data} if isinstance(data, dict) else data


def _position(items: list[Any], part: str, key: str) -> int:
    """A position in a list, which is made where it is the next one after the last."""
    if not part.isdigit() or int(part) > len(items):
        raise RecipeError(f"{key}: expected a position from 0 to {len(items)} (a new one), got {part!r}")
    if int(part) == len(items):
        items.append({})
    return int(part)


def _nodes(schema: dict[str, Any], parts: list[str]) -> list[dict[str, Any]]:
    """What a JSON schema says a key may be; nothing where it leaves that open."""
    nodes = list(_choices(schema, schema))
    for part in parts:
        below = [
            node["items"] if part.isdigit() and "items" in node else node.get("properties", {}).get(part)
            for node in nodes
        ]
        nodes = [choice for node in below if node for choice in _choices(schema, node)]
    return nodes


def _choices(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node itself, or those that it may be, without references."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    choices = [*node.get("anyOf", ()), *node.get("allOf", ())]
    for choice in choices:
        yield from _choices(schema, choice)
    if not choices:
        yield node


def known_keys(schema: dict[str, Any], node: dict[str, Any], prefix: str = "") -> list[str]:
    """Every dotted key that a recipe can have, list positions left out, from its JSON schema."""
    keys = []
    for choice in _choices(schema, node):
        for name, child in choice.get("properties", {}).items():
            keys += [prefix + name, *known_keys(schema, child, f"{prefix}{name}.")]
        if isinstance(choice.get("items"), dict):
            keys += known_keys(schema, choice["items"], prefix)
    return keys
