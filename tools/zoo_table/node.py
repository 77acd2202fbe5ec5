"""A configuration of which every key must be accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_REQUIRED = object()


class NotYetError(Exception):
    """The project has no architecture, or no option of one, for this configuration yet."""


class Node:
    """A dictionary that is read by taking its keys out; what nobody took is an error.

    Args:
        data: the configuration; not changed.
        place: where it stands, for messages.
    """

    def __init__(self, data: Mapping[str, Any], place: str) -> None:
        self._left = dict(data)
        self._place = place

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value of a key, which counts as read from here on.

        Raises:
            ValueError: it is not there, and there is no default.
        """
        value = self._left.pop(key, default)
        if value is _REQUIRED:
            raise ValueError(f"{self._place}: expected a key {key!r}, there are {', '.join(self._left)}")
        return value

    def node(self, key: str) -> Node:
        """The configuration under a key; an empty one where the key is absent or null."""
        return Node(self.take(key, None) or {}, f"{self._place}.{key}")

    def expect(self, **values: Any) -> None:
        """Keys that say what the project does anyway: each is absent or has this value.

        Raises:
            ValueError: one has another value.
        """
        for key, expected in values.items():
            value = self._left.pop(key, expected)
            if value != expected:
                raise ValueError(f"{self._place}.{key}: expected {expected!r}, got {value!r}")

    def require(self, **values: Any) -> None:
        """As :meth:`expect`, for keys that must be there.

        Raises:
            ValueError: one is absent or has another value.
        """
        for key in values:
            if key not in self._left:
                raise ValueError(f"{self._place}: expected a key {key!r}, there are {', '.join(self._left)}")
        self.expect(**values)

    def ignore(self, *keys: str) -> None:
        """Keys that say nothing about the network or its training (paths, storage, speed of evaluation)."""
        for key in keys:
            self._left.pop(key, None)

    def done(self) -> None:
        """Raise for keys that nobody read.

        Raises:
            ValueError: there are some.
        """
        if self._left:
            raise ValueError(f"{self._place}: nobody accounts for {self._left}")
