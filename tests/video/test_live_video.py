"""Cameras, streams, and files at their own pace: the newest wins, what stalls or breaks off is opened again."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from video_clips import SIZE, grey, threads, write_clip

from fastpose.video import VideoError, open_video


def ended(seconds: float = 10.0) -> bool:
    """Whether no thread is left, at the latest after so long."""
    end = time.monotonic() + seconds
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    return not threads()


# ---- cameras


class Camera:
    """Stands in for OpenCV's capture: a camera that gives so many pictures, a hundred a second, and then fails."""

    opened: ClassVar[list[Camera]] = []
    lives: ClassVar[list[int]] = []  # pictures of each time that it is opened; later it is not there
    hang = False  # instead of failing

    def __init__(self, what: int, backend: int) -> None:
        self.what, self.left, self.released = what, self.lives.pop(0) if self.lives else 0, False
        self.asked: dict[int, float] = {}
        self.opened.append(self)
        self.found = self.left > 0

    def isOpened(self) -> bool:  # noqa: N802
        return self.found

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_HEIGHT: 48, cv2.CAP_PROP_FRAME_WIDTH: 64, cv2.CAP_PROP_FPS: 100}.get(what, 0.0)

    def set(self, what: int, value: float) -> bool:
        self.asked[what] = value
        return True

    def read(self) -> tuple[bool, Any]:
        time.sleep(0.01)
        while not self.left and self.hang and not self.released:
            time.sleep(0.01)
            if len(self.opened) > 1 and self.opened[-1] is not self:
                break  # as a driver gives up at last
        if not self.left:
            return False, None
        self.left -= 1
        return True, grey(self.left % 256)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> type[Camera]:
    monkeypatch.setattr(Camera, "opened", [])
    monkeypatch.setattr(Camera, "lives", [])
    monkeypatch.setattr(Camera, "hang", False)
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    return Camera


def test_the_newest_picture_of_a_camera_wins(camera: type[Camera]) -> None:
    camera.lives = [1000]
    with open_video("camera:2", fps=60) as video:
        assert (video.source, video.live, video.fps, video.frames, video.size) == ("camera:2", True, 100, None, SIZE)
        first = next(video)
        time.sleep(0.5)
        second, third = next(video), next(video)
        assert (camera.opened[0].what, camera.opened[0].asked[cv2.CAP_PROP_FPS]) == (2, 60)
    assert (first.index, first.time) == (0, 0) or first.index < 5
    assert second.index - first.index > 10
    assert third.index - second.index < 10
    assert video.dropped == third.index - 2
    assert second.time - first.time == pytest.approx(0.5, abs=0.2)
    assert int(second.pixels[0, 0, 0]) == (999 - second.index) % 256, "the index is that of the picture"
    assert ended()
    assert camera.opened[0].released


def test_every_picture_counts_if_asked_for(camera: type[Camera]) -> None:
    camera.lives = [1000]
    with open_video("camera:0", live=False) as video:
        time.sleep(0.2)
        assert [frame.index for frame in itertools.islice(video, 5)] == list(range(5))
    assert (video.live, video.dropped) == (False, 0)


def test_a_camera_that_is_not_there_is_said(camera: type[Camera]) -> None:
    with pytest.raises(VideoError, match=r"^camera:0: is not there, in use by another program, or may not be used"):
        open_video("camera:0")
    assert ended()
    assert all(opened.released for opened in camera.opened)


def test_without_a_camera_opencv_says_so_itself() -> None:
    with pytest.raises(VideoError, match=r"^camera:9876: is not there"):
        open_video("camera:9876")


def test_a_camera_that_was_unplugged_is_connected_to_again(camera: type[Camera]) -> None:
    camera.lives = [5, 5]
    with open_video("camera:0", live=False, reconnect=1, timeout=5) as video:
        with pytest.warns(UserWarning, match=r"camera:0: gives no more pictures .*; connecting again \(1 of 1\)"):
            frames = [next(video) for _ in range(10)]
        assert [frame.index for frame in frames] == list(range(10))
        assert (np.diff([frame.time for frame in frames]) > 0).all()
        with pytest.raises(VideoError, match=r"camera:0: .*; connecting again once did not help"):
            next(video)
        assert video.problem is not None
        assert list(video) == []
    assert ended()


def test_a_camera_that_hangs_is_given_up(camera: type[Camera]) -> None:
    camera.lives, camera.hang = [5, 5], True
    with open_video("camera:0", live=False, reconnect=1, timeout=0.3) as video:
        with pytest.warns(UserWarning, match=r"stalled \(no frame in 0.3 seconds\), at frame 5; connecting again"):
            assert [next(video).index for _ in range(10)] == list(range(10))
        start = time.monotonic()
        with pytest.raises(VideoError, match="stalled"):
            next(video)
        assert time.monotonic() - start < 3
    camera.opened.append(Camera(0, 0))
    assert ended()


# ---- files at their own pace


def test_a_live_file_comes_at_its_own_pace(tmp_path: Any) -> None:
    pytest.importorskip("av")
    path = write_clip(tmp_path / "clip.mp4", 25)
    start = time.monotonic()
    with open_video(path, live=True) as video:
        assert video.live
        first = next(video)
        time.sleep(0.4)
        rest = list(video)
    assert 0.9 < time.monotonic() - start < 3
    assert rest[0].index > first.index + 5
    assert rest[-1].index == 24, "the last one is not dropped"
    assert video.dropped == 25 - 1 - len(rest) > 5
    assert video.problem is None
    assert not threads()


# ---- streams


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """A function that serves what a handler writes, and gives its address."""
    pytest.importorskip("av")
    servers = []

    def start(answer: Callable[[http.server.BaseHTTPRequestHandler, int], None]) -> str:
        count = itertools.count()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(OSError):  # the other side has heard enough
                    answer(self, next(count))

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send_pictures(handler: http.server.BaseHTTPRequestHandler, count: int, pause: float = 0.03) -> None:
    """As cameras do: JPEG pictures one after the other."""
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    for number in range(count):
        data = cv2.imencode(".jpg", grey(number * 2 % 256))[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        handler.wfile.write(head.encode() + data + b"\r\n")
        time.sleep(pause)


def test_a_stream_is_live(serve: Callable[..., str]) -> None:
    url = serve(lambda handler, _: send_pictures(handler, 300))
    with open_video(f"{url}/door") as video:
        assert (video.live, video.frames, video.size, video.problem) == (True, None, SIZE, None)
        first = next(video)
        time.sleep(0.5)
        later = [next(video) for _ in range(5)]
    assert later[0].index > first.index + 8
    assert later[-1].index <= later[0].index + 8
    assert video.dropped >= 8
    # The time of arrival, as such a stream has no other: thirty in a second, not twenty-five.
    assert later[0].time - first.time == pytest.approx(0.03 * (later[0].index - first.index), rel=0.4)
    assert ended()


def test_a_stream_that_breaks_off_goes_on(serve: Callable[..., str]) -> None:
    url = serve(lambda handler, _: send_pictures(handler, 10))
    with warnings.catch_warnings(record=True) as said, open_video(f"{url}/door", live=False, timeout=5) as video:
        warnings.simplefilter("always")
        frames = [next(video) for _ in range(25)]
    assert [frame.index for frame in frames] == list(range(25))
    assert (np.diff([frame.time for frame in frames]) > 0).all()
    assert len(said) >= 2
    assert "connecting again (1 of 3)" in str(said[0].message)
    assert "connecting again (2 of 3)" in str(said[1].message)
    assert ended()


def test_a_stream_that_stalls_is_one_error_after_so_many_attempts(serve: Callable[..., str]) -> None:
    release = threading.Event()

    def answer(handler: http.server.BaseHTTPRequestHandler, number: int) -> None:
        if number == 0:
            send_pictures(handler, 20, pause=0.01)
        release.wait(20)

    url = serve(answer)
    with open_video(f"{url}/door", timeout=0.6, reconnect=1) as video:
        with pytest.warns(UserWarning, match=r"stalled .*; connecting again \(1 of 1\)"):  # noqa: SIM117
            with pytest.raises(VideoError, match=r"/door: .*; connecting again once did not help$") as caught:
                list(video)
        assert "stalled" in str(caught.value) or "did not open" in str(caught.value)
        assert video.problem == caught.value.reason
    release.set()
    assert ended()


def test_closing_does_not_wait_for_a_stream_that_stalls(serve: Callable[..., str]) -> None:
    release = threading.Event()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
        send_pictures(handler, 5, pause=0.01)
        release.wait(20)

    video = open_video(f"{serve(answer)}/door", timeout=8)
    next(video)
    start = time.monotonic()
    video.close()
    assert time.monotonic() - start < 3
    release.set()
    assert ended()


def test_a_file_of_a_server_is_read_whole(serve: Callable[..., str], tmp_path: Any) -> None:
    data = write_clip(tmp_path / "clip.mp4", 40, movflags="faststart").read_bytes()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    with open_video(f"{serve(answer)}/clip.mp4") as video:
        time.sleep(0.2)
        assert (video.live, video.frames) == (False, 40)
        assert [frame.index for frame in video] == list(range(40))
    assert video.problem is None
    assert ended()


def send_part(handler: http.server.BaseHTTPRequestHandler, data: bytes, most: int) -> None:
    """The part of a file that was asked for, or only so many bytes of it."""
    asked = handler.headers.get("Range", "bytes=0-")
    start = int(asked.removeprefix("bytes=").split("-")[0])
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(data) - start))
    handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.end_headers()
    handler.wfile.write(data[start : start + most])


def test_the_rest_of_a_file_is_asked_for_where_a_server_breaks_off(serve: Callable[..., str], tmp_path: Any) -> None:
    data = write_clip(tmp_path / "clip.mp4", 250, movflags="faststart").read_bytes()
    url = serve(lambda handler, number: send_part(handler, data, len(data) * 2 // 3 if number == 0 else len(data)))
    with open_video(f"{url}/clip.mp4") as video:
        assert len(list(video)) == 250
    assert video.problem is None


def test_of_a_file_that_a_server_does_not_finish_the_rest_is_good(serve: Callable[..., str], tmp_path: Any) -> None:
    data = write_clip(tmp_path / "clip.mp4", 250, movflags="faststart").read_bytes()
    release = threading.Event()

    def answer(handler: http.server.BaseHTTPRequestHandler, number: int) -> None:
        send_part(handler, data, len(data) * 2 // 3)
        release.wait(20)

    with open_video(f"{serve(answer)}/clip.mp4", timeout=1) as video:
        assert 100 < len(list(video)) < 240
    assert video.problem is not None
    assert "stalled (nothing came in 1 seconds) after" in video.problem or "cut short" in video.problem
    release.set()
    assert ended()


def test_an_endless_transport_stream(serve: Callable[..., str], tmp_path: Any) -> None:
    data = write_clip(tmp_path / "clip.ts", 40).read_bytes()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp2t")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")

    url = serve(answer)
    with open_video(f"{url}/live", live=False, reconnect=0) as video:
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(40))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(40) / 25, atol=1e-3)
    assert video.problem is None
    with (
        pytest.warns(UserWarning, match="ended, at frame 40; connecting again"),
        open_video(f"{url}/live", live=False) as video,
    ):
        assert [next(video).index for _ in range(50)] == list(range(50))
    assert ended()


def test_what_a_server_says_no_to_is_one_line(serve: Callable[..., str]) -> None:
    url = serve(lambda handler, _: handler.send_error(404))
    with pytest.raises(VideoError, match=r"/clip.mp4: cannot be read \(.*404.*\)$"):
        open_video(f"{url}/clip.mp4")
    assert ended()


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp"])
def test_a_stream_that_refuses_is_one_line_without_the_password(scheme: str) -> None:
    pytest.importorskip("av")
    port = free_port()
    with pytest.raises(VideoError) as caught:
        open_video(f"{scheme}://user:secret@127.0.0.1:{port}/door")
    assert str(caught.value) == f"{scheme}://user:***@127.0.0.1:{port}/door: cannot be read (Connection refused)"
    assert caught.value.__suppress_context__
    assert ended()


def test_streams_need_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'fastpose-torch\[video\]'"):
        open_video("rtsp://host/door")
