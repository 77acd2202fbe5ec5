"""Published checkpoints: fetched, continued, verified, cached; a server on this machine stands for the network."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
import time

import pytest
import torch

from fastpose.models import WeightsError, create_model, hub, save_model
from fastpose.models.zoo import find_entry

CONTENT = bytes(range(256)) * 20_000
STOPPED = threading.Event()  # waits in a way that the tests do not shorten
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT under any path; can break off, and can refuse to continue."""

    asked: list[str] = []  # noqa: RUF012 (set anew by the fixture)
    break_after: int | None = None
    ranges = True
    chunked = False
    pause = 0.0  # seconds after every byte
    pause_in_head = False
    length: int | None = None  # said in the head

    def do_GET(self) -> None:
        kind = type(self)
        header = self.headers.get("Range")
        kind.asked.append(f"{self.path} {header}")
        if "missing" in self.path:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", header)[1]) if header and kind.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        if kind.chunked:
            self._send_chunk(CONTENT)
            return
        if kind.pause_in_head:
            self._send_slowly(b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 1000)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(kind.length or len(CONTENT) - start))
        self.end_headers()
        if kind.pause:
            self._send_slowly(CONTENT[start:])
            return
        end = len(CONTENT)
        if kind.break_after is not None:
            end, kind.break_after = start + kind.break_after, None
        with contextlib.suppress(OSError):  # nobody listens any more
            self.wfile.write(CONTENT[start:end])

    def _send_chunk(self, content: bytes) -> None:
        kind, self.protocol_version = type(self), "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        length, kind.break_after = kind.break_after, None
        self.wfile.write(
            f"{len(content):x}\r\n".encode() + content[:length] + (b"\r\n0\r\n\r\n" if length is None else b"")
        )
        self.close_connection = True

    def _send_slowly(self, content: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            for place in range(len(content)):
                self.wfile.write(content[place : place + 1])
                STOPPED.wait(0.02)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch, tmp_path):
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        monkeypatch.setenv(hub.CACHE, str(tmp_path / "cache"))
        monkeypatch.delenv(hub.MIRROR, raising=False)
        monkeypatch.setattr(hub.time, "sleep", lambda seconds: None)
        handler.address = f"http://127.0.0.1:{listening.server_port}"
        yield handler
        listening.shutdown()
        thread.join()


def _names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_fetched_once_and_then_without_a_network(server, tmp_path):
    path = hub.fetch(f"{server.address}/a/net.pth", DIGEST[:8])
    assert path == tmp_path / "cache" / f"net-{DIGEST[:8]}.pth"
    assert path.read_bytes() == CONTENT
    assert hub.fetch("http://127.0.0.1:1/elsewhere/net.pth", DIGEST[:8]) == path
    assert server.asked == ["/a/net.pth None"]
    assert _names(path.parent) == [f"net-{DIGEST[:8]}.pth"]


def test_a_broken_connection_is_continued(server):
    server.break_after = 1_000_000
    assert hub.fetch(f"{server.address}/net.pth", DIGEST).read_bytes() == CONTENT
    assert server.asked == ["/net.pth None", "/net.pth bytes=1000000-"]


def test_a_connection_that_breaks_in_a_piece_of_unknown_length_is_tried_again(server):
    server.chunked, server.break_after = True, 5
    assert hub.fetch(f"{server.address}/net.pth", DIGEST).read_bytes() == CONTENT


def test_an_interrupted_download_is_continued_by_the_next_call(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"net-{DIGEST[:16]}.pth.part").write_bytes(CONTENT[:777])
    assert hub.fetch(f"{server.address}/net.pth", DIGEST).read_bytes() == CONTENT
    assert server.asked == ["/net.pth bytes=777-"]


def test_a_complete_part_only_needs_its_name(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"net-{DIGEST[:16]}.pth.part").write_bytes(CONTENT)
    assert hub.fetch(f"{server.address}/net.pth", DIGEST).read_bytes() == CONTENT


def test_a_server_that_cannot_continue_starts_again(server):
    server.ranges, server.break_after = False, 5
    assert hub.fetch(f"{server.address}/net.pth", DIGEST).read_bytes() == CONTENT


def test_another_hash_is_thrown_away(server, tmp_path):
    with pytest.raises(WeightsError, match="expected a SHA-256 that begins with 0badc0de"):
        hub.fetch(f"{server.address}/net.pth", "0badc0de")
    assert _names(tmp_path / "cache") == []


@pytest.mark.parametrize("end", ["", "_20220923"])
def test_the_hash_in_a_file_s_name_is_checked(server, tmp_path, end):
    hub.fetch(f"{server.address}/net-{DIGEST[:8]}{end}.pth")
    with pytest.raises(WeightsError, match="expected a SHA-256 that begins with 0badc0de"):
        hub.fetch(f"{server.address}/net-0badc0de{end}.pth")
    assert _names(tmp_path / "cache") == [f"net-{DIGEST[:8]}{end}.pth"]


@pytest.mark.parametrize("name", ["net.pth", "net-20220923.pth", "net-256x192.pth", "net-ll-256x192_20220923.pth"])
def test_a_file_without_a_known_hash_is_not_taken_in_silence(server, monkeypatch, name):
    with pytest.warns(UserWarning, match=f"{name}: not verified, no hash of it is known; it has the SHA-256 {DIGEST}"):
        path = hub.fetch(f"{server.address}/{name}")
    path.rename(path.with_name(name))
    monkeypatch.setenv(hub.MIRROR, str(path.parent))
    monkeypatch.setenv(hub.CACHE, str(path.parent / "empty"))
    with pytest.warns(UserWarning, match="not verified"):
        hub.fetch(f"{server.address}/{name}")


def test_no_network_says_what_to_do(server, tmp_path):
    message = r"cannot be fetched .*Put the file into .*cache as net-\w{16}\.pth, or name a folder .* in FASTPOSE_"
    with pytest.raises(WeightsError, match=message):
        hub.fetch("http://127.0.0.1:1/net.pth", DIGEST)
    with pytest.raises(WeightsError, match="Not Found"):
        hub.fetch(f"{server.address}/missing/net.pth", DIGEST)
    assert len([line for line in server.asked if "missing" in line]) == 1  # a no is a no


def test_a_mirror_by_address_and_by_folder(server, monkeypatch, tmp_path):
    monkeypatch.setenv(hub.MIRROR, f"{server.address}/mirror/")
    hub.fetch("https://example.invalid/v1/net.pth", DIGEST)
    assert server.asked == ["/mirror/v1/net.pth None"]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "other.pth").write_bytes(CONTENT)
    monkeypatch.setenv(hub.MIRROR, str(folder))
    assert hub.fetch("https://example.invalid/other.pth", DIGEST) == folder / "other.pth"
    with pytest.raises(WeightsError, match="expected a SHA-256"):
        hub.fetch("https://example.invalid/other.pth", "0badc0de")
    with pytest.raises(WeightsError, match=r"names a folder that should hold third\.pth"):
        hub.fetch("https://example.invalid/third.pth")


def test_a_mirror_that_cannot_be_read_is_named(server, monkeypatch, tmp_path):
    (tmp_path / "net.pth").write_bytes(b"")
    monkeypatch.setenv(hub.MIRROR, str(tmp_path))
    monkeypatch.setattr(hub, "_MAX_BYTES", -1)
    with pytest.raises(WeightsError, match=r"net\.pth: cannot be read \(is too large"):
        hub.fetch("https://example.invalid/net.pth")


def test_another_hash_or_address_is_another_file(server, tmp_path):
    first = hub.fetch(f"{server.address}/net.pth", DIGEST[:8])
    with pytest.raises(WeightsError, match="expected a SHA-256 that begins with 0badc0de"):
        hub.fetch(f"{server.address}/net.pth", "0badc0de")
    with pytest.raises(WeightsError, match="expected a SHA-256 that begins with 0badc0de"):
        hub.fetch(f"{server.address}/net-{DIGEST[:8]}.pth", "0badc0de")
    assert hub.fetch(f"{server.address}/net-{DIGEST[:8]}.pth").read_bytes() == first.read_bytes()
    assert hub.fetch(f"{server.address}/net-{DIGEST[:8]}.pth", DIGEST.upper()) == first
    with pytest.warns(UserWarning, match="not verified"):
        one = hub.fetch(f"{server.address}/a/net.pth")
    with pytest.warns(UserWarning, match="not verified"):
        other = hub.fetch(f"{server.address}/b/net.pth")
    assert len({first, one, other}) == 3
    asked = len(server.asked)
    assert hub.fetch(f"{server.address}/b/net.pth") == other
    assert len(server.asked) == asked


@pytest.mark.parametrize("chunked", [True, False])
def test_a_download_is_of_bounded_size(server, monkeypatch, tmp_path, chunked):
    server.chunked = chunked
    monkeypatch.setattr(hub, "_MAX_BYTES", 3_000_000)
    with pytest.raises(WeightsError, match=r"net\.pth: too large \(\d+ bytes so far, expected at most 3000000\)"):
        hub.fetch(f"{server.address}/net.pth", DIGEST)
    assert _names(tmp_path / "cache") == []


def test_no_more_is_taken_than_the_head_says(server):
    server.length = 1000
    with pytest.raises(WeightsError, match="expected a SHA-256"):
        hub.fetch(f"{server.address}/net.pth", DIGEST)


@pytest.mark.parametrize("in_head", [True, False])
def test_a_byte_now_and_then_is_no_download(server, monkeypatch, in_head):
    server.pause, server.pause_in_head = 0.02, in_head
    monkeypatch.setattr(hub, "_WINDOW", 0.3)
    monkeypatch.setattr(hub, "_LEAST", 1000)
    start = time.monotonic()
    reason = "no whole answer in 0 seconds" if in_head else r"\d+ bytes in 0 seconds, expected at least 1000"
    with pytest.raises(WeightsError, match=f"cannot be fetched .*{reason}"):
        hub.fetch(f"{server.address}/net.pth", DIGEST)
    assert time.monotonic() - start < 15
    server.pause, server.pause_in_head = 0.0, False
    assert hub.fetch(f"{server.address}/net.pth", DIGEST).read_bytes() == CONTENT


def test_many_at_once_download_once(server):
    threads = [threading.Thread(target=hub.fetch, args=(f"{server.address}/net.pth", DIGEST)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_written_is_named(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(hub.CACHE, str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="cannot be fetched"):
        hub.fetch(f"{server.address}/net.pth", DIGEST)


def test_an_address_that_is_none_is_named(server, monkeypatch):
    for mirror in ("http:// bad host/", "http://[::1"):
        monkeypatch.setenv(hub.MIRROR, mirror)
        with pytest.raises(WeightsError, match="cannot be fetched"):
            hub.fetch("https://example.invalid/net.pth")
    for mirror in ("file:///dev", "ftp://example.invalid", "data://x"):
        monkeypatch.setenv(hub.MIRROR, mirror)
        with pytest.raises(WeightsError, match="expected an address that begins with http:// or https://"):
            hub.fetch("https://example.invalid/zero")


def test_an_empty_variable_names_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(hub.CACHE, "")
    assert hub.cache_folder() == tmp_path / "fastpose"


def test_a_hash_that_is_none_is_refused(server):
    with pytest.raises(WeightsError, match=r"sha256: expected hexadecimal digits, got '\.\./x'"):
        hub.fetch(f"{server.address}/net.pth", "../x")


def test_an_address_without_a_file_is_refused(server):
    with pytest.raises(WeightsError, match="ends in a file's name"):
        hub.fetch(f"{server.address}/")


def test_pretrained_takes_the_entry_s_file(server, monkeypatch, tmp_path):
    entry = find_entry("litehrnet18.coco_256x192")
    name = entry.weights["url"].rsplit("/", 1)[1]
    torch.manual_seed(0)
    model = create_model(entry.name)
    folder = tmp_path / "mirror"
    folder.mkdir()
    save_model(model, folder / name)
    monkeypatch.setenv(hub.MIRROR, str(folder))
    monkeypatch.setattr(hub, "_check", lambda *arguments: None)  # it is no published file
    loaded = create_model(entry.name, pretrained=True).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())

    # Other keypoints: everything but what depends on them.
    other = create_model(entry.name, pretrained=True, num_keypoints=5).state_dict()
    differs = [name for name, tensor in model.state_dict().items() if tensor.shape != other[name].shape]
    assert differs == ["head.final_layer.weight", "head.final_layer.bias"]
    assert all(torch.equal(tensor, other[name]) for name, tensor in model.state_dict().items() if name not in differs)
