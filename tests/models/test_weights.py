"""Files of weights: every layout, every way to be wrong, and what happens when the disk is full."""

from __future__ import annotations

import json
import os
import pickle
import struct

import pytest
import safetensors.torch
import torch

from fastpose.models import (
    WeightsError,
    create_model,
    load_backbone,
    load_checkpoint,
    load_model,
    read_checkpoint,
    save_model,
)
from fastpose.models.heads import HeatmapHead

NAME = "resnet18_slim"
SIZE = (64, 64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model(NAME, input_size=SIZE)


def _assert_same(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert list(first) == list(second)
    for name in first:
        assert torch.equal(first[name], second[name]), name


def _blank():
    torch.manual_seed(1)
    return create_model(NAME, input_size=SIZE)


# ---- what is written comes back


def test_saved_model_is_rebuilt_from_its_file_alone(tmp_path):
    torch.manual_seed(0)
    model = create_model(NAME, input_size=SIZE, skeleton="lsp14", deconv_channels=(32, 32), padding=1.1)
    save_model(model, tmp_path / "m.safetensors", metadata={"note": "a card"})
    back = load_model(tmp_path / "m.safetensors")
    _assert_same(model, back)
    assert (back.spec, back.name, dict(back.arguments)) == (model.spec, model.name, {"deconv_channels": [32, 32]})
    assert not back.training
    assert read_checkpoint(tmp_path / "m.safetensors").metadata["note"] == "a card"
    save_model(back, tmp_path / "again.safetensors")
    assert load_model(tmp_path / "again.safetensors").spec == model.spec


def test_half_precision_file_loads_into_float32(model, tmp_path):
    save_model(model, tmp_path / "half.safetensors", dtype=torch.float16)
    save_model(model, tmp_path / "full.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.52 * (tmp_path / "full.safetensors").stat().st_size
    back = load_model(tmp_path / "half.safetensors")
    for name, tensor in model.state_dict().items():
        assert back.state_dict()[name].dtype == tensor.dtype
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_int8_file_holds_every_weight_to_half_a_step_of_its_row(model, tmp_path):
    with torch.no_grad():
        model.backbone.conv1.weight[3] = 0.0
    save_model(model, tmp_path / "small.safetensors", dtype=torch.int8)
    save_model(model, tmp_path / "full.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 0.3 * (tmp_path / "full.safetensors").stat().st_size
    back = load_model(tmp_path / "small.safetensors").state_dict()
    for name, tensor in model.state_dict().items():
        assert back[name].dtype == tensor.dtype
        if tensor.ndim > 1:
            step = tensor.flatten(1).abs().amax(1) / 127
            assert ((back[name] - tensor).flatten(1).abs().amax(1) <= 0.501 * step).all(), name
        else:
            assert torch.equal(back[name], tensor)


def test_what_float16_cannot_hold_stays_as_it_is(tmp_path):
    model = _blank()
    model.backbone.bn1.running_var[0] = 1e6
    save_model(model, tmp_path / "half.safetensors", dtype=torch.float16)
    back = load_model(tmp_path / "half.safetensors")
    assert torch.equal(back.backbone.bn1.running_var, model.backbone.bn1.running_var)


def test_a_table_of_positions_is_not_rounded_to_its_largest_value(tmp_path):
    model = create_model("vitpose_small", input_size=SIZE)
    save_model(model, tmp_path / "small.safetensors", dtype=torch.int8)
    assert torch.equal(load_model(tmp_path / "small.safetensors").backbone.pos_embed, model.backbone.pos_embed)


def test_types_that_no_weight_has_are_refused(model, tmp_path):
    for dtype in (torch.int16, torch.uint8, torch.complex64):
        with pytest.raises(TypeError, match=f"dtype: expected one of .* got {dtype}"):
            save_model(model, tmp_path / "m.safetensors", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [0x4B50, 0x5B80])  # "PK" in front, as of an archive; 0x80, as of a pickle
def test_files_whose_header_begins_like_another_kind_are_known(model, tmp_path, length):
    path = tmp_path / "model.safetensors"
    save_model(model, path, metadata={"note": ""})
    room = length - int.from_bytes(path.read_bytes()[:8], "little")
    save_model(model, path, metadata={"note": "x" * room})
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    _assert_same(model, load_model(path))


def test_int8_file_with_a_scale_of_another_length_is_refused(model, tmp_path):
    path = tmp_path / "small.safetensors"
    save_model(model, path, dtype=torch.int8)
    with safetensors.safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors["head.final_layer.weight:scale"] = torch.ones(3)
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(WeightsError, match=r"as many rows as head\.final_layer\.weight:scale"):
        load_model(path)


def test_channels_last_model_is_saved_and_loaded(model, tmp_path):
    layout = _blank().to(memory_format=torch.channels_last)
    load_checkpoint(layout, _saved(model, tmp_path / "plain.safetensors"))
    save_model(layout, tmp_path / "layout.safetensors")
    _assert_same(model, load_model(tmp_path / "layout.safetensors"))


def _saved(model, path):
    save_model(model, path)
    return path


@pytest.mark.parametrize("metadata", [{"fastpose.spec": "x"}, {"format": "x"}])
def test_reserved_header_keys_are_refused(model, tmp_path, metadata):
    with pytest.raises(ValueError, match="is taken"):
        save_model(model, tmp_path / "m.safetensors", metadata=metadata)
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(TypeError, match="expected a PoseModel, got Linear"):
        save_model(torch.nn.Linear(1, 1), tmp_path / "m.safetensors")


def test_full_disk_leaves_the_old_file_and_nothing_else(model, tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(model, path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("m.safetensors", b"old")]


def test_missing_folder_is_an_error_that_names_it(model, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        save_model(model, tmp_path / "nowhere" / "m.safetensors")


def test_written_file_has_ordinary_permissions(model, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    save_model(model, tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- layouts


def _layouts():
    def plain(state):
        return state

    def compiled_around_parallel(state):
        return {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()}

    def wrapped(state):
        return {"state_dict": state, "meta": {"epoch": 210}}

    def parallel(state):
        return {f"module.{name}": tensor for name, tensor in state.items()}

    def compiled(state):
        return {f"_orig_mod.{name}": tensor for name, tensor in state.items()}

    def training(state):
        buffers = {"data_preprocessor.mean": torch.zeros(3, 1, 1), "data_preprocessor.std": torch.ones(3, 1, 1)}
        return {"state_dict": {**buffers, **state}, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}}

    def old(state):
        return {"state_dict": {f"keypoint_{n}" if n.startswith("head.") else n: t for n, t in state.items()}}

    def averaged(state):  # both are there; the average is what was measured
        return {"state_dict": {name: torch.zeros_like(tensor) for name, tensor in state.items()}, "ema": state}

    def mmengine_averaged(state):  # here the average stands in the other one
        return {"state_dict": state, "ema_state_dict": {f"module.{n}": torch.zeros_like(t) for n, t in state.items()}}

    return [plain, wrapped, parallel, compiled, compiled_around_parallel, training, old, averaged, mmengine_averaged]


@pytest.mark.parametrize("layout", _layouts(), ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pickled_layouts_load(model, tmp_path, layout, zipped):
    torch.save(layout(model.state_dict()), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    loaded = _blank()
    report = load_checkpoint(loaded, tmp_path / "w.pth")
    assert not any(report)
    _assert_same(model, loaded)


def test_parameters_and_other_dtypes_load(model, tmp_path):
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    state["head.final_layer.weight"] = torch.nn.Parameter(state["head.final_layer.weight"])
    torch.save(state, tmp_path / "w.pth")
    loaded = _blank()
    load_checkpoint(loaded, tmp_path / "w.pth")
    assert loaded.head.final_layer.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.head.final_layer.weight, model.head.final_layer.weight, rtol=1e-3, atol=1e-6)


def test_old_final_layers_become_convolutions_and_last_layer(tmp_path):
    head = HeatmapHead(8, 5, deconv_channels=(), conv_channels=(6, 7), conv_kernels=(3, 1))
    names = [f"head.{name}" for name in head.state_dict()]
    old = {}
    for name in names:
        name = name.replace("head.final_layer.", "keypoint_head.final_layer.6.")
        old[name.replace("head.conv_layers.", "keypoint_head.final_layer.")] = torch.zeros(1)
    torch.save({"state_dict": old}, tmp_path / "w.pth")
    assert sorted(read_checkpoint(tmp_path / "w.pth").tensors) == sorted(names)


def test_old_names_of_the_flow_are_known(tmp_path):
    old = {"keypoint_head.loss.flow_model.s.0.0.weight": torch.zeros(1), "keypoint_head.fc.bias": torch.zeros(1)}
    torch.save({"state_dict": old}, tmp_path / "w.pth")
    names = ["head.fc.bias", "head.loss_module.flow_model.s.0.0.weight"]
    assert sorted(read_checkpoint(tmp_path / "w.pth").tensors) == names


@pytest.mark.shared
def test_names_are_brought_to_ours_in_safetensors_too(model, tmp_path):
    official = {name.replace("head.", "keypoint_head.", 1): tensor for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(official | {"data_preprocessor.mean": torch.zeros(3)}, tmp_path / "w.safetensors")
    loaded = _blank()
    load_checkpoint(loaded, tmp_path / "w.safetensors")
    _assert_same(model, loaded)


def test_an_archive_with_a_damaged_directory_is_refused(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    place = content.rindex(b"PK\1\2")
    (tmp_path / "w.pth").write_bytes(content[:place] + b"XXXX" + content[place + 4 :])
    with pytest.raises(WeightsError, match=r"w\.pth: damaged or cut short"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["litehrnet18_format0x.pth", "litehrnet18_format1x.pth"])
def test_official_files_load(shared, fill_by_name, name):
    expected, model = create_model("litehrnet18"), create_model("litehrnet18")
    fill_by_name(expected)
    assert not any(load_checkpoint(model, shared / "reference" / "checkpoints" / name))
    loaded = model.state_dict()
    for key, tensor in expected.state_dict().items():
        torch.testing.assert_close(loaded[key], tensor, rtol=1e-6, atol=0)


# ---- what does not fit


def test_strict_error_lists_at_most_a_dozen_lines_and_changes_nothing(model, tmp_path):
    other = create_model("resnet50", input_size=SIZE)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_checkpoint(other, _saved(model, tmp_path / "slim.safetensors"))
    lines = str(error.value).splitlines()
    assert len(lines) <= 12
    assert "slim.safetensors" in lines[0]
    assert "resnet50" in lines[0]
    for kind in ("missing: ", "of another shape: "):
        assert any(kind in line for line in lines)
    assert "expected (64, 3, 7, 7), got (32, 3, 7, 7)" in str(error.value)
    for name, tensor in other.state_dict().items():
        assert torch.equal(before[name], tensor)


def test_missing_and_unexpected_entries_are_named(model, tmp_path):
    state = model.state_dict()
    state["extra.weight"] = state.pop("backbone.conv1.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"missing: backbone\.conv1\.weight\n.*unexpected: extra\.weight"):
        load_checkpoint(_blank(), tmp_path / "w.pth")
    loaded = _blank()
    report = load_checkpoint(loaded, tmp_path / "w.pth", strict=False)
    assert report == (("backbone.conv1.weight",), ("extra.weight",), ())
    assert torch.equal(loaded.head.final_layer.weight, model.head.final_layer.weight)


def test_nothing_that_fits_is_an_error_even_if_not_strict(tmp_path):
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"0 of .* entries fit"):
        load_checkpoint(_blank(), tmp_path / "w.pth", strict=False)


def test_same_number_of_other_keypoints_is_an_error(model, tmp_path):
    path = _saved(create_model(NAME, input_size=SIZE, num_keypoints=14), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"expected the keypoints of 'lsp14' .* got those of 'custom14'"):
        load_checkpoint(create_model(NAME, input_size=SIZE, skeleton="lsp14"), path)


# ---- files that are no weights


def test_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.safetensors: cannot be read"):
        load_model(tmp_path / "absent.safetensors")


def test_folder_is_named(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 not a zip", b"\x80\x02garbage"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "w.bin").write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.bin: .*expected"):
        read_checkpoint(tmp_path / "w.bin")


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("part", [0.0005, 0.2, 0.9, 0.999])
def test_truncated_files_are_refused(model, tmp_path, kind, part):
    path = tmp_path / f"w.{kind}"
    if kind == "safetensors":
        save_model(model, path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(WeightsError, match=rf"w\.{kind}: .*expected"):
        load_checkpoint(_blank(), path)


def test_no_state_dict_inside(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "dict.pth")
    torch.save({}, tmp_path / "empty.pth")
    for name, got in (("list", "list"), ("dict", "'epoch': int"), ("empty", "dict")):
        with pytest.raises(WeightsError, match=rf"{name}\.pth: expected a state dict.*{got}"):
            read_checkpoint(tmp_path / f"{name}.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_program_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), str(tmp_path / "w.pt"))
    with pytest.raises(WeightsError, match="TorchScript"):
        read_checkpoint(tmp_path / "w.pt")


def test_plain_safetensors_say_that_they_lack_a_spec(model, tmp_path):
    safetensors.torch.save_file(model.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"no fastpose\.spec.*load_checkpoint"):
        load_model(tmp_path / "w.safetensors")
    loaded = _blank()
    load_checkpoint(loaded, tmp_path / "w.safetensors")
    _assert_same(model, loaded)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fastpose.spec", "{", "PoseSpec is damaged"),
        ("fastpose.spec", '{"skeleton": 1}', "PoseSpec is damaged"),
        ("fastpose.architecture", "resnet19", "no architecture is named 'resnet19'"),
        ("fastpose.arguments", "[", "cannot be built"),
        ("fastpose.arguments", "[1]", "cannot be built"),
        ("fastpose.arguments", '{"deconv_channels": 3}', "cannot be built"),
        ("fastpose.arguments", '{"deconv": [3]}', "no option deconv"),
    ],
)
def test_damaged_headers_are_refused(model, tmp_path, key, value, message):
    path = _saved(model, tmp_path / "w.safetensors")
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"][key] = value
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    with pytest.raises(WeightsError, match=message):
        load_model(path)


# ---- pickles that would run code


class _Runs:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [(os.mkdir, ("made",)), (eval, ("__import__('os').mkdir('made')",)), (pickle.loads, (b"",)), (torch.load, ("x",))],
    ids=["os", "builtin", "pickle", "torch"],
)
def test_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch, zipped, function, arguments):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": _Runs(function, *arguments)}, "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"w\.pth: refused: it names .*could run code"):
        read_checkpoint("w.pth")
    assert os.listdir() == ["w.pth"]


def test_getattr_is_never_the_real_one(tmp_path):
    """HistoryBuffer names its methods through getattr; a pickle may not reach anything with it."""
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": _Runs(getattr, [1], "append")}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").tensors["w"].item() == 1
    torch.save({"state_dict": {"w": _Runs(getattr, 1, "real")}}, tmp_path / "v.pth")
    with pytest.raises(WeightsError, match="'w': Inert"):
        read_checkpoint(tmp_path / "v.pth")


def test_foreign_metadata_is_passed_over(tmp_path):
    numpy = pytest.importorskip("numpy")
    meta = {"lr": numpy.float64(0.1), "seen": numpy.arange(3), "when": numpy.datetime64("2022-09-23")}
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": meta}, tmp_path / "w.pth")
    assert list(read_checkpoint(tmp_path / "w.pth").tensors) == ["w"]


def test_a_backbone_alone_comes_from_a_classifier_or_a_pose_network(tmp_path):
    source, target = create_model("resnet18_slim"), create_model("resnet18_slim", skeleton="lsp14")
    head = target.head.final_layer.weight.clone()
    save_model(source, tmp_path / "pose.safetensors")
    classifier = {name: t for name, t in source.backbone.state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": {**classifier, "fc.bias": torch.zeros(3)}}, tmp_path / "classifier.pth")
    for name in ("pose.safetensors", "classifier.pth"):
        for parameter in target.backbone.parameters():
            torch.nn.init.zeros_(parameter)
        load_backbone(target, tmp_path / name)
        assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)
        assert torch.equal(target.head.final_layer.weight, head)
    del classifier["layer1.0.conv1.weight"]
    torch.save(classifier, tmp_path / "broken.pth")
    with pytest.raises(
        WeightsError, match=r"broken\.pth: .* of another shape are backbone\.layer1\.0\.conv1\.weight, of"
    ):
        load_backbone(target, tmp_path / "broken.pth")
