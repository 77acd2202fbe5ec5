"""``key=value``: values of a recipe changed from the command line, before it is validated."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import yaml

__all__ = ["RecipeError", "apply_override", "known_keys", "read_mapping", "read_text"]


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the key and what was expected."""


def read_text(path: Path) -> str:
    """The content of a file.

    Raises:
        RecipeError: It cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_mapping(text: str, source: str) -> dict[str, Any]:
    """Keys and values of YAML text; ``source`` is what an error calls it.

    Raises:
        RecipeError: It is not YAML, or something else.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{source}: expected keys and values, got {type(data).__name__}")
    return data


def apply_override(data: dict[str, Any], override: str) -> None:
    """Put one ``dotted.key=value`` into nested dictionaries and lists."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"{override!r}: expected key=value, e.g. train.epochs=10")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"{override!r}: the value is not valid YAML") from None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 takes 1e-3 for text; everybody means the number.
            value = float(value)
    if key == "data" and isinstance(value, str):
        value = _data_file(Path(value).expanduser())
    parts = key.split(".")
    node: Any = data
    for part, following in itertools.pairwise(parts):
        place: Any = _position(node, part, key) if isinstance(node, list) else part
        if isinstance(node, dict) and node.get(place) is None:
            node[place] = [] if following.isdigit() else {}
        node = node[place]
        if not isinstance(node, dict | list):
            raise RecipeError(f"{override!r}: {part} is a value, not a group of keys")
    node[_position(node, parts[-1], key) if isinstance(node, list) else parts[-1]] = value


def _data_file(path: Path) -> Any:
    """What a YAML file says about data: the keys under ``data``, a recipe's, or a data set in Ultralytics' layout.

    Names in it are relative to its own folder where it does not say ``root``.
    """
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


def known_keys(schema: dict[str, Any], node: dict[str, Any], prefix: str = "") -> list[str]:
    """Every dotted key that a recipe can have, list positions left out, from its JSON schema."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    keys = []
    for name, child in node.get("properties", {}).items():
        keys += [prefix + name, *known_keys(schema, child, f"{prefix}{name}.")]
    for child in (node.get("items"), *node.get("anyOf", ()), *node.get("allOf", ())):
        if child:
            keys += known_keys(schema, child, prefix)
    return keys
