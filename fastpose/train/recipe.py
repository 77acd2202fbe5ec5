"""Recipes: all about a training run as validated data, from a YAML file and ``key=value`` from the command line."""

from __future__ import annotations

import difflib
import functools
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError, model_validator

from ..data.augment import Augmentation
from ..models import find_entry, list_entries
from .overrides import (
    RecipeError,
    apply_override,
    apply_values,
    known_keys,
    list_mixtures,
    read_mapping,
    read_text,
)
from .settings import DataSettings, EvalSettings, LogSettings, ModelSettings, Settings, TrainSettings

__all__ = ["Recipe", "RecipeError", "list_recipes", "load_recipe", "parse_recipe"]


class Recipe(Settings):
    """A whole training run.

    Attributes:
        name: For people.
        model: The network.
        data: The people.
        augment: Random changes of the crops.
        train: The loop.
        eval: Validation.
        log: What is written down.
    """

    name: str = "unnamed"
    model: ModelSettings
    data: DataSettings
    augment: Augmentation = Augmentation()
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _weights_are_there(self) -> Recipe:
        for kind in self.eval.weights or ():
            if kind != "trained" and getattr(self.train, kind) is None:
                raise ValueError(f"eval.weights: {kind} needs train.{kind}")
        return self

    @property
    def judged(self) -> list[str]:
        """Kinds of weights that are validated: the trained ones first, then the averages."""
        averages = [kind for kind in ("ema", "swa") if getattr(self.train, kind) is not None]
        wanted = self.eval.weights or averages or ["trained"]
        return [kind for kind in ("trained", "ema", "swa") if kind in wanted]

    def to_yaml(self) -> str:
        """The recipe with every default written out; :func:`parse_recipe` gives an equal one back."""
        data = TypeAdapter(Recipe).dump_python(self, mode="json")
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def list_recipes() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files(__package__) / "recipes"
    return sorted(file.name[: -len(".yaml")] for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_recipe(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> Recipe:
    """A recipe, with values changed.

    Args:
        recipe: Name of a recipe in the package, a YAML file, or a zoo entry: trained as that was, with ``data`` from
            the overrides. Or keys and values, or a recipe.
        overrides: ``dotted.key=value`` each: the value is text where the key is text, else YAML; a number in the key is
            a position in a list, the next free one adds to it. ``data=FILE`` takes the data from a YAML file of the
            keys under ``data``, a recipe's, or one of a data set in Ultralytics' layout; another file of annotations is
            trained on; ``data=body8`` is a mixture of data sets in the package, below ``data.root=FOLDER``. Or values
            by dotted key, as :func:`fastpose.train.train` takes them.

    Returns:
        The validated recipe.

    Raises:
        TypeError: Neither a name nor a recipe.
        RecipeError: There is no such recipe, it is not YAML, a key is unknown (the nearest known one is named), or a
            value is not what its key expects.
    """
    if isinstance(recipe, Recipe):
        return _validated(recipe.model_dump(mode="json"), overrides, recipe.name)
    if isinstance(recipe, Mapping):
        data: dict[str, Any] = {}
        apply_values(data, recipe)
        return _validated(data, overrides, "recipe")
    name = os.fspath(recipe)
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return parse_recipe(read_text(path), overrides, name)
    if name in list_recipes():
        text = (resources.files(__package__) / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        return parse_recipe(text, overrides, name)
    entry = find_entry(name)
    if entry is not None:
        data = {"name": entry.name, "model": {"name": entry.name}, **json.loads(json.dumps(entry.recipe))}
        hint = f"data={entry.dataset} data.root=FOLDER, or " if entry.dataset in list_mixtures() else ""
        return _validated(data, overrides, name, hint)
    names = [*list_recipes(), *(entry.name for entry in list_entries())]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(list_recipes())}, and the entries of the zoo"
    raise RecipeError(f"no recipe or zoo entry is named {name!r}, and no such YAML file exists; {hint}")


def parse_recipe(text: str, overrides: Sequence[str] | Mapping[str, Any] = (), source: str = "recipe") -> Recipe:
    """A recipe from YAML text; arguments and errors as :func:`load_recipe`."""
    return _validated(read_mapping(text, source), overrides, source)


@functools.cache
def _schema() -> dict[str, Any]:
    return Recipe.model_json_schema()


def _validated(
    data: dict[str, Any], overrides: Sequence[str] | Mapping[str, Any], source: str, hint: str = ""
) -> Recipe:
    if isinstance(overrides, Mapping):
        apply_values(data, overrides)
    else:
        for override in overrides:
            apply_override(data, override, _schema())
    if not data.get("data"):
        raise RecipeError(
            f"{source}: it needs data: {hint}data.root=FOLDER data.train.0.annotations=FILE data.val.annotations=FILE, "
            "or data=FILE (data.yaml, train.json)"
        )
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """The first problem in one line, with the nearest known key if one is unknown."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        plain = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
        near = difflib.get_close_matches(plain, known_keys(_schema(), _schema()), 1, cutoff=0.5)
        return f"unknown key {place}" + (f"; did you mean {near[0]}?" if near else "")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    shown = "" if isinstance(first["input"], dict | list | BaseModel) else f", got {first['input']!r}"
    return f"{place}: {message[:1].lower()}{message[1:]}{shown}"
