"""Photos from the web: only if asked for, in bounded time, of bounded size."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time

import cv2
import numpy as np
import pytest
from spot_model import random_spots

from fastpose.data.images import ImageError
from fastpose.predict import reading
from fastpose.predict.urls import fetch_image, url_scheme

IMAGE, _, BOX = random_spots(3)
FILE = cv2.imencode(".png", IMAGE)[1].tobytes()


class Handler(socketserver.StreamRequestHandler):
    """Speaks just enough HTTP, and as badly as it is asked to."""

    def handle(self):
        path = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(FILE)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            getattr(self, path.strip("/"))(head)

    def photo(self, head):
        self.wfile.write(head + FILE)

    def short(self, head):
        self.wfile.write(head + FILE[:-9])

    def gone(self, head):
        self.wfile.write(b"HTTP/1.0 404 Not Found\r\n\r\n")

    def page(self, head):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n<!doctype html><html></html>")

    def moved(self, head):
        self.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: /photo\r\n\r\n")

    def to_file(self, head):
        self.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n")

    def to_ftp(self, head):
        self.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: ftp://127.0.0.1/a.jpg\r\n\r\n")

    def endless(self, head):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            self.wfile.write(bytes(1 << 16))

    def slow_body(self, head):
        self.wfile.write(head)
        self.drip()

    def slow_head(self, head):
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        self.drip()

    def drip(self):
        while True:
            self.wfile.write(b"a")
            time.sleep(0.05)


@pytest.fixture(scope="module")
def server():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_photo_is_fetched_when_asked_for(server, predictor):
    for name in ("photo", "moved"):
        photo = reading.read(f"{server}/{name}", urls=True)
        np.testing.assert_array_equal(photo.pixels, IMAGE)
        assert photo.path == f"{server}/{name}"  # both slashes are there
    with pytest.raises(ImageError, match=f"^{server}/photo: is on the web; .*urls=True, or --urls"):
        predictor(f"{server}/photo", BOX)
    ahead = reading.read_ahead([f"{server}/photo", f"{server}/gone", FILE], urls=True)
    with ahead:
        first, second, third = ahead
    np.testing.assert_array_equal(first.pixels, third.pixels)
    with pytest.raises(ImageError, match="/gone: cannot be fetched"):
        reading.read(second)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", r"cannot be fetched \(the server says 404 Not Found\)"),
        ("short", "is cut short"),
        ("page", "is a web page; expected a photo"),
        ("to_file", "cannot be fetched"),
        ("to_ftp", r"cannot be fetched \(unknown url type: ftp\)"),
    ],
)
def test_what_the_server_does_is_said(server, name, reason):
    with pytest.raises(ImageError, match=f"^{server}/{name}: {reason}"):
        reading.read(f"{server}/{name}", urls=True)


def test_size_has_a_limit(server):
    with pytest.raises(ImageError, match=r"/endless: is too large \(more than 300000 bytes\)"):
        fetch_image(f"{server}/endless", allowed=True, most_bytes=300_000)


@pytest.mark.parametrize("name", ["slow_body", "slow_head"])
def test_time_has_a_limit_however_busy_the_server_is(server, name):
    start = time.monotonic()
    with pytest.raises(ImageError, match=f"/{name}: did not arrive in 0.5 seconds"):
        fetch_image(f"{server}/{name}", allowed=True, seconds=0.5)
    assert time.monotonic() - start < 5


def test_nobody_there():
    with pytest.raises(ImageError, match=r"cannot be fetched \(.*refused"):
        fetch_image("http://127.0.0.1:9/a.jpg", allowed=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://127.0.0.1:PORT/photo", r"https://127.0.0.1:\d+/photo: cannot be fetched \(.*SSL"),
        ("rtsp://camera/1", "rtsp://camera/1: is a live stream"),
        ("s3://bucket/a.jpg", r"s3://bucket/a.jpg: cannot be fetched \(s3\)"),
        ("file:///etc/passwd", r"file:///etc/passwd: cannot be fetched \(file\); expected http, https, or the path"),
        ("http://[bad", r"http://\[bad: cannot be fetched"),
    ],
)
def test_other_addresses_keep_their_slashes(server, name, words):
    with pytest.raises(ImageError, match=f"^{words}"):
        reading.read(name.replace("PORT", server.rpartition(":")[2]), urls=True)


def test_paths_are_no_addresses():
    for name in ("a.jpg", "C:/a.jpg", "c://a.jpg", "/http://a", "http:/a", "é://a"):
        assert url_scheme(name) is None
    assert url_scheme("HTTPS://a") == "https"
