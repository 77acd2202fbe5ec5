"""Photos from the web, for those who ask for it: in bounded time, of bounded size."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from typing import Any

from .._version import __version__
from ..data.images import ImageError

__all__ = ["MAX_URL_BYTES", "URL_SECONDS", "fetch_image", "url_scheme"]

MAX_URL_BYTES = 1 << 27
"""Largest file that is fetched (134 MB)."""

URL_SECONDS = 60.0
"""Time in which a photo must be here, from the first connection to the last byte."""

_SILENCE = 15.0  # seconds without a byte
_PIECE = 1 << 16
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{1,15})://", re.IGNORECASE)
_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "mms")


def url_scheme(name: str) -> str | None:
    """The scheme of an address in lower case, such as ``https``; None for what is a path."""
    found = _SCHEME.match(name)
    return found[1].lower() if found else None


def fetch_image(url: str, *, allowed: bool, most_bytes: int = MAX_URL_BYTES, seconds: float = URL_SECONDS) -> bytearray:
    """The content of a photo's file on the web.

    Args:
        url: Its http or https address. The proxies that the environment names (``https_proxy``) are used.
        allowed: Whether the caller asked for photos to be fetched. Programs that take names from strangers should not:
            an address may lead to what only this machine can reach.
        most_bytes: Size at which it is given up.
        seconds: Time after which it is given up, however busy the other side is.

    Returns:
        The bytes, not decoded yet.

    Raises:
        ImageError: It may not, or cannot, be fetched; the message begins with the address.
    """
    scheme = url_scheme(url)
    if scheme in _LIVE:
        raise ImageError(url, "is a live stream; expected a photo, or an iterator of the stream's frames as arrays")
    if scheme not in ("http", "https"):
        raise ImageError(url, f"cannot be fetched ({scheme}); expected http, https, or the path of a file")
    if not allowed:
        raise ImageError(url, "is on the web; photos are fetched from there only if asked for: urls=True, or --urls")
    watch = _Watch(seconds)
    data, problem = bytearray(), ""
    try:
        with watch, watch.open(url, min(_SILENCE, seconds)) as response:
            length = response.headers.get("Content-Length", "")
            while len(data) <= most_bytes and (piece := response.read1(_PIECE)):
                data += piece
        if length.isdigit() and len(data) < min(int(length), most_bytes):
            problem = f"is cut short ({len(data)} of {length} bytes arrived)"
    except urllib.error.HTTPError as error:
        problem = f"cannot be fetched (the server says {error.code} {error.reason})"
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address at all
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        problem = f"cannot be fetched ({reason})"
    if watch.ended:
        problem = f"did not arrive in {seconds:g} seconds"
    elif len(data) > most_bytes:
        problem = f"is too large (more than {most_bytes} bytes)"
    if problem:
        raise ImageError(url, problem)
    return data


class _Watch:
    """Ends the connections of one download when its time is over.

    A timeout of the socket is not enough: it begins anew with each byte, so a server that sends one now and then, in
    its header or behind it, could keep the caller for ever.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._deadline = time.monotonic() + seconds
        self.ended = False

    def open(self, url: str, silence: float) -> Any:
        """The server's answer, over watched connections; http and https alone, also where it sends us elsewhere."""
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
            _PlainHandler(self),
            _SecureHandler(self),
        ):
            opener.add_handler(handler)
        request = urllib.request.Request(url, headers={"User-Agent": f"fastpose/{__version__}"})
        return opener.open(request, timeout=silence)

    def add(self, connection: socket.socket) -> None:
        """Take a connection that has just been opened."""
        with self._lock:
            self._sockets.append(connection.dup())  # TLS takes the original's descriptor over
        if time.monotonic() >= self._deadline:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self.ended = True
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # the other side was faster
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()


class _Plain(http.client.HTTPConnection):
    watch: _Watch

    def connect(self) -> None:
        super().connect()
        self.watch.add(self.sock)


class _Secure(http.client.HTTPSConnection, _Plain):
    """Its `connect` calls that of `_Plain` before it speaks TLS, so that this is watched too."""


def _connection(kind: type[_Plain], watch: _Watch, *args: Any, **options: Any) -> _Plain:
    connection = kind(*args, **options)
    connection.watch = watch
    return connection


class _PlainHandler(urllib.request.HTTPHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._connection: Any = partial(_connection, _Plain, watch)

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._connection, request)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._connection: Any = partial(_connection, _Secure, watch)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._connection, request)
