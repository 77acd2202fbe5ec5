"""What the header of a file of weights may ask for: no more than the file has."""

from __future__ import annotations

import json
import os
import struct
import threading
import time

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from fastpose.codecs import build_codec
from fastpose.models import (
    PoseModel,
    WeightsError,
    checkpoint,
    create_model,
    list_architectures,
    load_checkpoint,
    load_model,
    read_checkpoint,
    registry,
    save_model,
)


def _edit(path, change):
    """Let a function change the header of a file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    change(header["__metadata__"])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Files of small networks by the name of their architecture."""
    folder = tmp_path_factory.mktemp("saved")

    def file(name, input_size=(64, 64)):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_model(create_model(name, input_size=input_size), path)
        return path

    return file


@pytest.fixture
def little(monkeypatch):
    """Fails where more than 64 MiB are taken at once, or after a minute."""
    taken = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            if isinstance(result, torch.Tensor) and not result.is_meta:
                taken.append(result.untyped_storage().nbytes())
            return result

    start = time.process_time()
    with Watch():
        yield
    assert max(taken, default=0) < 1 << 26
    assert time.process_time() - start < 60


ABSURD = [
    ("resnet18_slim", {"deconv_channels": [1_000_000, 1_000_000]}, "of another shape: head.deconv_layers.0.weight"),
    ("resnet18_slim", {"deconv_channels": [100_000]}, "heatmap_size|of another shape"),
    ("resnet18_slim", {"deconv_channels": [10**30, 96]}, "cannot be built"),
    ("resnet18_slim", {"deconv_channels": [-1, 96]}, "cannot be built"),
    ("resnet18_slim", {"deconv_channels": [0, 96]}, "cannot be built|another shape"),
    ("resnet18_slim", {"deconv_channels": ["96", 96]}, "cannot be built"),
    ("resnet18_slim", {"deconv_channels": [1.5, 96]}, "cannot be built"),
    ("resnet18_slim", {"deconv_channels": None}, "cannot be built"),
    ("resnet18_slim", {"deconv_channels": [1] * 100_000}, "cannot be built"),
    ("cpm", {"stages": 1_000_000_000}, "cannot be built: it has more than|cannot be built: output_stages"),
    ("swin_tiny", {"window_size": 1_000_000_000}, "cannot be built"),
    ("swin_tiny", {"window_size": 1_000}, "of another shape: backbone"),
    ("swin_tiny", {"drop_path": "x"}, "cannot be built"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), ABSURD, ids=lambda value: str(value)[:40])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_no_memory_is_taken_for_what_the_file_does_not_have(saved, tmp_path, little, name, arguments, message):
    path = tmp_path / "m.safetensors"
    path.write_bytes(saved(name).read_bytes())
    _edit(path, lambda header: header.update({"fastpose.arguments": json.dumps(arguments)}))
    with pytest.raises(WeightsError, match=rf"m\.safetensors: (.|\n)*({message})"):
        load_model(path)


@pytest.mark.parametrize("name", ["vitpose_small", "resnet18_slim"])
@pytest.mark.parametrize("side", [2048, 16384])
def test_another_input_size_than_the_weights_are_for_is_refused(saved, tmp_path, little, name, side):
    path = tmp_path / "m.safetensors"
    path.write_bytes(saved(name).read_bytes())

    def enlarge(header):
        spec = json.loads(header["fastpose.spec"])
        spec["input_size"] = [side, side]
        spec["codec"]["heatmap_size"] = [side // 4, side // 4]
        header["fastpose.spec"] = json.dumps(spec)

    _edit(path, enlarge)
    if name == "resnet18_slim" and side == 2048:  # its weights are those of any size
        assert load_model(path).spec.input_size == (side, side)
        return
    message = (
        r"of another shape: backbone\.pos_embed" if side == 2048 else "input_size: expected at most 16777216 pixels"
    )
    with pytest.raises(WeightsError, match=message):
        load_model(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "[" * 500 + "]" * 500])
def test_arguments_that_are_nested_too_deeply_are_refused(saved, tmp_path, text):
    path = tmp_path / "m.safetensors"
    path.write_bytes(saved("resnet18_slim").read_bytes())
    _edit(path, lambda header: header.update({"fastpose.arguments": text}))
    with pytest.raises(WeightsError, match=r"cannot be built: fastpose\.arguments: nested too deeply"):
        load_model(path)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' * 20_000,
        b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1099511627776]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"4294967296," * 9 + b'4294967296],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"__metadata__":{"a":1}}',
        b"{}",
    ],
    ids=["nested", "shape", "offsets", "overflow", "negative", "dtype", "overlap", "metadata", "empty"],
)
def test_headers_that_the_file_does_not_bear_out_are_refused(tmp_path, header):
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(WeightsError, match=r"w\.safetensors: (damaged|holds no weights)"):
        read_checkpoint(tmp_path / "w.safetensors")


def test_a_header_is_of_bounded_length(tmp_path, monkeypatch):
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 0xFFFFFFFF) + b"{" + bytes(99))
    with pytest.raises(WeightsError, match="expected a header of at most 16777216 bytes, got 4294967295"):
        read_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "zero.pth").symlink_to("/dev/zero")
    for name, kind in (("pipe.safetensors", "pipe"), ("zero.pth", "device")):
        for read in (read_checkpoint, load_model):
            with pytest.raises(WeightsError, match=f"{name}: cannot be read .is a {kind}, expected a regular file.;"):
                read(tmp_path / name)


def test_names_of_any_length_make_messages_of_a_line(tmp_path):
    names = "x" * 100_000, f"head.final_layer.{'9' * 5000}.weight"
    torch.save({name: torch.ones(1) for name in names}, tmp_path / "w")
    with pytest.raises(WeightsError) as error:
        load_checkpoint(create_model("resnet18_slim"), tmp_path / "w")
    assert len(str(error.value)) < 3000
    torch.save({"x" * 100_000: 3}, tmp_path / "w")
    with pytest.raises(WeightsError, match="expected a state dict") as error:
        read_checkpoint(tmp_path / "w")
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("name", ["swin_tiny", "hrformer_small"])
def test_positions_of_windows_follow_from_their_side_whatever_a_file_says(saved, tmp_path, name):
    """An index behind the table's end is an error on a CPU, and the end of the process's CUDA context on a GPU."""
    tensors, metadata = read_checkpoint(saved(name))
    changed = {
        key: torch.full_like(value, 10**9) if key.endswith("relative_position_index") else value
        for key, value in tensors.items()
    }
    safetensors.torch.save_file(changed, tmp_path / "w.safetensors", metadata)
    loaded = create_model(name, input_size=(64, 64))
    load_checkpoint(loaded, tmp_path / "w.safetensors")
    for model in (loaded, load_model(tmp_path / "w.safetensors")):
        assert all(torch.equal(value, tensors[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        ("vitpose_small", "backbone.pos_embed", (1, 1, 100_000)),
        ("vitpose_small", "backbone.pos_embed", (1, 0, 384)),
        ("swin_tiny", "backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table", (1, 100_000)),
        ("swin_tiny", "backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table", (0, 3)),
    ],
)
def test_tables_that_cannot_be_resized_are_refused(saved, tmp_path, name, key, shape):
    tensors = read_checkpoint(saved(name)).tensors
    torch.save({**tensors, key: torch.ones(shape)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: "):
        load_checkpoint(create_model(name, input_size=(64, 64)), tmp_path / "w.pth")


# ---- no weights are drawn that a file has


@pytest.fixture
def no_draws(monkeypatch):
    """Fails where random numbers are drawn into memory."""

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            if isinstance(result, torch.Tensor) and not result.is_meta:
                assert not any(word in str(function) for word in ("uniform", "normal", "rand")), function
            return result

    with Watch():
        yield


def test_a_file_is_loaded_without_drawing_weights_first(saved, no_draws):
    state = torch.get_rng_state()
    model = load_model(saved("resnet18_slim"))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_published_weights_are_loaded_without_drawing_others_first(no_draws):
    state = torch.get_rng_state()
    model = create_model("resnet18_slim_refined.people_160x160", pretrained=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_a_network_without_memory_gets_it_where_the_file_has_everything(saved):
    with torch.device("meta"):
        model = create_model("resnet18_slim", input_size=(64, 64))
    load_checkpoint(model, saved("resnet18_slim"))
    expected = load_model(saved("resnet18_slim")).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", list_architectures())
def test_every_network_is_whole_without_memory_until_it_is_loaded(name):
    with torch.device("meta"):
        spec = create_model(name).spec
    model = registry.build_outline(name, spec)
    assert model is not None
    assert all(tensor.is_meta for tensor in model.state_dict().values())


# Those that compute something while they are built, and one of another kind; all others have tables of numbers alone.
COMPUTED = ["swin_tiny", "hrformer_small", "vitpose_small", "resnet18_slim"]
REST = [pytest.param(name, marks=pytest.mark.slow) for name in list_architectures() if name not in COMPUTED]


@pytest.mark.parametrize("name", [*COMPUTED, *REST])
def test_a_network_comes_back_as_it_was_saved(tmp_path, monkeypatch, fill_by_name, name):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    codec = {"codec": build_codec("gaussian", heatmap_size=(8, 8))} if name == "cpm" else {}  # an eighth, not a quarter
    model = create_model(name, input_size=(64, 64), **codec).eval()
    fill_by_name(model)
    _assert_comes_back(model, tmp_path / "m.safetensors")


def test_a_flow_comes_back_as_it_was_saved(tmp_path):
    model = create_model("mobilenetv2", input_size=(64, 64), head="rle", codec={"kind": "regression"}).eval()
    assert any(key.endswith("mask") for key in model.state_dict())
    _assert_comes_back(model, tmp_path / "m.safetensors")


def _assert_comes_back(model, path):
    save_model(model, path)
    loaded = load_model(path)
    expected = model.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    for key, tensor in loaded.state_dict().items():
        assert tensor.dtype == expected[key].dtype
        assert torch.equal(tensor, expected[key]), key
    trained = [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]
    assert trained == [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    _assert_same_features(loaded, model)


def _assert_same_features(*networks):
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, second = (tree_leaves(network.backbone(x)) for network in networks)
    assert len(first) == len(second) > 0
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.fixture
def register(monkeypatch):
    """Registers an architecture for the time of the test."""

    def added(function):
        monkeypatch.setitem(registry._ARCHITECTURES, function.__name__, function)
        return function

    return added


class _Scaled(nn.Module):
    """A backbone as others write them: it computes with tensors while it is built, and does not save all of them."""

    def __init__(self, inner, persistent, read):
        super().__init__()
        self.inner, self.stride = inner, inner.stride
        self.register_buffer("scale", torch.arange(3.0).view(1, 3, 1, 1) + 1, persistent=persistent)
        self.plain = torch.full((1,), 2.0)
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)] if read else None

    def forward(self, x):
        return self.inner(x * self.scale * self.plain)


@pytest.mark.parametrize("read", [True, False], ids=["reads", "keeps"])
def test_networks_of_others_that_need_their_tensors_while_they_are_built_load(tmp_path, register, read):
    def scaled(spec, *, deconv_channels=(96, 96)) -> PoseModel:
        model = registry.build_model("resnet18_slim", spec, {"deconv_channels": deconv_channels})
        model.backbone = _Scaled(model.backbone, False, read)
        return model

    register(scaled)
    model = create_model("scaled", input_size=(64, 64)).eval()
    save_model(model, tmp_path / "m.safetensors")
    _assert_same_features(load_model(tmp_path / "m.safetensors"), model)


def test_two_threads_do_not_count_each_other_s_parameters():
    with registry._at_most(1):
        built = []
        thread = threading.Thread(target=lambda: built.append(create_model("resnet18_slim", input_size=(64, 64))))
        thread.start()
        thread.join()
        assert built
        with pytest.raises(ValueError, match="more than 1 parameters"):
            create_model("resnet18_slim", input_size=(64, 64))
    create_model("resnet18_slim", input_size=(64, 64))


def test_the_bounds_are_far_from_what_networks_have():
    with torch.device("meta"):
        model = create_model("vitpose_huge")
    header = sum(len(name) + 100 for name in model.state_dict())
    assert header * 20 < checkpoint.MAX_HEADER
