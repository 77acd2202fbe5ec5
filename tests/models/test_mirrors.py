"""Several places to take published files from, and names on Hugging Face; stand-ins answer for the network."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import types
from pathlib import Path

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from fastpose.cli import main
from fastpose.models import WeightsError, create_model, find_model, hub, load_checkpoint, load_model, save_model

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.invalid/mmpose/v1/net.pth"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv(hub.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(hub.MIRROR, raising=False)
    monkeypatch.setattr(hub.time, "sleep", lambda seconds: None)
    return tmp_path / "cache"


@pytest.fixture
def server():
    """Serves what `.files` has by path, and notes what it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        files: dict[str, bytes] = {}  # noqa: RUF012
        asked: list[str] = []  # noqa: RUF012

        def do_GET(self):
            self.asked.append(self.path)
            if self.path not in self.files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.files[self.path])))
            self.end_headers()
            self.wfile.write(self.files[self.path])

        def log_message(self, *_):
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        Handler.address = f"http://127.0.0.1:{listening.server_port}"
        yield Handler
        listening.shutdown()
        thread.join()


# ---- several places


def test_places_are_tried_in_order(server, monkeypatch, tmp_path):
    server.files = {"/second/mmpose/v1/net.pth": CONTENT}
    full = tmp_path / "with a space"
    full.mkdir()
    (full / "net.pth").write_bytes(CONTENT)
    places = f"{tmp_path}, {server.address}/first/ ,{server.address}/second,{full}"
    monkeypatch.setenv(hub.MIRROR, places)
    assert hub.fetch(URL, DIGEST).read_bytes() == CONTENT
    assert server.asked == ["/first/mmpose/v1/net.pth", "/second/mmpose/v1/net.pth"]
    monkeypatch.setenv(hub.MIRROR, f"{full},{server.address}/second")
    monkeypatch.setenv(hub.CACHE, str(tmp_path / "empty"))
    assert hub.fetch(URL, DIGEST) == full / "net.pth"
    assert len(server.asked) == 2


def test_the_error_lists_what_each_place_said(server, monkeypatch, tmp_path, cache):
    server.files = {"/bad/mmpose/v1/net.pth": b"other"}
    places = [str(tmp_path), f"{server.address}/bad", f"{server.address}/none", "ftp://x", "http://127.0.0.1:1"]
    monkeypatch.setenv(hub.MIRROR, ",".join(places))
    with pytest.raises(WeightsError) as error:
        hub.fetch(URL, DIGEST)
    lines = str(error.value).splitlines()
    assert lines[0] == "net.pth: none of the 5 places in FASTPOSE_MIRROR gave it:"
    for line, place, reason in zip(
        lines[1:],
        places,
        ("not there", "expected a SHA-256 that begins", "Not Found", "begins with http:// or https://", "refused"),
        strict=True,
    ):
        assert line.startswith(f"  {place}")
        assert reason in line
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []


def test_mirrors_stand_instead_of_the_published_place_unless_it_is_among_them(server, monkeypatch, tmp_path):
    server.files = {"/net.pth": CONTENT}
    url = f"{server.address}/net.pth"
    monkeypatch.setenv(hub.MIRROR, str(tmp_path))
    with pytest.raises(WeightsError, match="not there"):
        hub.fetch(url, DIGEST)
    assert server.asked == []
    monkeypatch.setenv(hub.MIRROR, f"{tmp_path},published")
    assert hub.fetch(url, DIGEST).read_bytes() == CONTENT
    assert server.asked == ["/net.pth"]


def test_no_place_between_commas_is_the_published_one(server, monkeypatch):
    server.files = {"/net.pth": CONTENT}
    monkeypatch.setenv(hub.MIRROR, " , ,")
    assert hub.fetch(f"{server.address}/net.pth", DIGEST).read_bytes() == CONTENT


@pytest.mark.filterwarnings("ignore:.*not verified")
def test_without_a_hash_places_do_not_continue_each_other_s_parts(server, monkeypatch, cache):
    cache.mkdir()
    server.files = {"/b/mmpose/v1/net.pth": CONTENT}
    monkeypatch.setenv(hub.MIRROR, f"{server.address}/a,{server.address}/b")
    begun = hashlib.sha256(f"{server.address}/a/mmpose/v1/net.pth".encode()).hexdigest()[:8]
    target = f"net-from-{hashlib.sha256(URL.encode()).hexdigest()[:8]}.pth"
    (cache / f"{target}.{begun}.part").write_bytes(b"half of another file")
    assert hub.fetch(URL).read_bytes() == CONTENT


# ---- Hugging Face


class _Repositories:
    """What stands for huggingface_hub: repositories as {name: {path: content}}."""

    def __init__(self, folder, repositories):
        self.folder, self.repositories, self.asked, self.offline = folder, repositories, [], False
        entry = type("EntryNotFoundError", (Exception,), {})
        repository = type("RepositoryNotFoundError", (OSError,), {})
        self.errors = types.SimpleNamespace(
            EntryNotFoundError=entry,
            LocalEntryNotFoundError=type("LocalEntryNotFoundError", (FileNotFoundError, entry), {}),
            RepositoryNotFoundError=repository,
            GatedRepoError=type("GatedRepoError", (repository,), {}),
        )

    def hf_hub_download(self, repo_id, filename, *, revision=None, local_dir=None):
        self.asked.append(f"{repo_id}@{revision}/{filename}")
        if self.offline:
            raise self.errors.LocalEntryNotFoundError("no network\nand nothing in the cache")
        content = self._files(repo_id).get(filename)
        if content is None:
            raise self.errors.EntryNotFoundError("404")
        path = Path(local_dir or self.folder / repo_id.replace("/", "--")) / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)

    def list_repo_files(self, repo_id, *, revision=None):
        self.asked.append(f"{repo_id}@{revision}")
        if self.offline:
            raise ConnectionError("no network")
        return list(self._files(repo_id))

    def _files(self, name):
        if "secret" in name:
            raise self.errors.GatedRepoError("gated")
        if name not in self.repositories:
            raise self.errors.RepositoryNotFoundError("404")
        return self.repositories[name]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("resnet18_slim", input_size=(64, 64))


@pytest.fixture
def repositories(model, monkeypatch, tmp_path):
    path = tmp_path / "saved.safetensors"
    save_model(model, path)
    own, plain = path.read_bytes(), safetensors.torch.save(model.state_dict())
    stand_in = _Repositories(
        tmp_path / "hub",
        {
            "me/own": {"model.safetensors": own, "README.md": b""},
            "me/one": {"weights/best.safetensors": plain, "pytorch_model.bin": b""},
            "me/two": {"a.safetensors": plain, "b.safetensors": own},
            "me/old": {"pytorch_model.bin": b"", "config.json": b""},
            "me/none": {},
            "me/mirror": {
                "net.pth": b"another one",
                "v1/net.pth": CONTENT,
                "old/v1/net.pth": b"",
                "v2/v1/net.pth": b"and another",
                "mynet.pth": b"",
            },
        },
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    return stand_in


def test_a_repository_s_one_file_is_found(repositories, model):
    for name, revision in (("me/own", None), ("me/one", None), ("me/own@v1.0", "v1.0")):
        blank = create_model("resnet18_slim", input_size=(64, 64))
        load_checkpoint(blank, f"hf:{name}")
        assert torch.equal(blank.head.final_layer.weight, model.head.final_layer.weight)
        assert f"@{revision}/" in repositories.asked[-1]
    assert load_model("hf:me/own").spec == model.spec
    assert find_model("hf:me/own").spec == model.spec
    assert load_model(Path("hf:me/own")).spec == model.spec
    assert load_model("hf:me/two/b.safetensors").spec == model.spec


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("me/old", r"hf:me/old: holds no \.safetensors file, .*: config\.json, pytorch_model\.bin"),
        ("me/none", r"holds no \.safetensors file, .*: no file"),
        ("me/two", r"holds several .* hf:me/two/FILE takes one of a\.safetensors, b\.safetensors"),
        ("me/old/pytorch_model.bin", r"expected the name of a \.safetensors file"),
        ("me/own/other.safetensors", r"holds no other\.safetensors"),
        ("me/absent", "there is no such repository, or it is not public"),
        ("me/secret", "asks for an access token"),
        ("me", "expected hf:owner/name"),
        ("me/own/../x.safetensors", "expected hf:owner/name"),
        ("", "expected hf:owner/name"),
    ],
)
def test_names_that_lead_nowhere_say_why(repositories, name, message):
    with pytest.raises(WeightsError, match=f"hf:{name}: .*{message}" if "hf:" not in message else message):
        hub.fetch(f"hf:{name}")


def test_without_a_network_the_error_says_so_in_a_line(repositories):
    repositories.offline = True
    with pytest.raises(WeightsError, match=r"hf:me/own: cannot be reached, .*\(no network\)\. Where there is no"):
        hub.fetch("hf:me/own")
    assert repositories.asked == ["me/own@None/model.safetensors"]


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"hf:me/own: .*pip install 'fastpose-torch\[hub\]'"):
        load_model("hf:me/own")


def test_a_hash_holds_for_a_repository_s_file_too(repositories):
    with pytest.raises(WeightsError, match="expected a SHA-256 that begins with 0badc0de"):
        hub.fetch("hf:me/own", "0badc0de")
    file = hub.fetch("hf:me/own")
    assert hub.fetch("hf:me/own", hashlib.sha256(file.read_bytes()).hexdigest()[:12]) == file


def test_the_command_line_takes_such_names(repositories, tmp_path):
    out = tmp_path / "m.safetensors"
    result = CliRunner().invoke(main, ["convert", "hf:me/own", str(out)])
    assert result.exit_code == 0, result.output
    with safetensors.safe_open(out, "pt") as file:
        assert file.metadata()["source"] == "hf:me/own"
    result = CliRunner().invoke(main, ["info", "hf:me/own"])
    assert (result.exit_code, "resnet18_slim" in result.output) == (0, True)
    refused = CliRunner().invoke(main, ["convert", "hf:me/absent", str(out)])
    assert (refused.exit_code, "no such repository" in refused.stderr) == (2, True)


def test_a_repository_is_a_mirror(repositories, monkeypatch, cache):
    monkeypatch.setenv(hub.MIRROR, "hf:me/absent,hf:me/mirror")
    path = hub.fetch(URL, DIGEST)
    assert (path.parent, path.read_bytes()) == (cache, CONTENT)
    assert repositories.asked == ["me/absent@None", "me/mirror@None", "me/mirror@None/v1/net.pth"]
    assert hub.fetch(URL, DIGEST) == path
    assert len(repositories.asked) == 3
    assert sorted(entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock")) == [path.name]


def test_a_folder_of_a_repository_is_a_mirror(repositories, monkeypatch):
    monkeypatch.setenv(hub.MIRROR, "hf:me/mirror/v2")
    with pytest.raises(WeightsError, match="expected a SHA-256"):
        hub.fetch(URL, DIGEST)
    assert repositories.asked[-1] == "me/mirror@None/v2/v1/net.pth"
    monkeypatch.setenv(hub.MIRROR, "hf:me/mirror/v3")
    with pytest.raises(WeightsError, match=r"hf:me/mirror/v3: holds no net\.pth"):
        hub.fetch(URL, DIGEST)


def test_the_library_itself_finds_what_its_cache_has(model, monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--me--own"
    for part in ("refs", f"snapshots/{commit}"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    save_model(model, folder / "snapshots" / commit / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_model("hf:me/own").spec == model.spec
    with pytest.raises(WeightsError, match="hf:me/other: cannot be reached"):
        load_model("hf:me/other")
