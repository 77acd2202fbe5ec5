"""Files of other programs: known by their names, or refused."""

from __future__ import annotations

import itertools
import warnings

import pytest
import safetensors.torch
import torch
from other_layouts import (
    CHANNELS,
    SIZE,
    draw,
    hrnet,
    hugging_face_names,
    repository_names,
    spec,
    transformer,
    vitpose_names,
)
from torch import nn

from fastpose.models import (
    HeatmapHead,
    PoseModel,
    WeightsError,
    create_model,
    find_matches,
    load_backbone,
    load_checkpoint,
    read_checkpoint,
)
from fastpose.models.checkpoint import read_with_layout
from fastpose.models.layouts import LAYOUTS, OWN, find_layout, rename, strip_wrappers


def _assert_equal(expected, got):
    expected, got = expected.state_dict(), got.state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-6, msg=name)


def _counterless(state):
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


# ---- ViTPose


@pytest.mark.parametrize("simple", [False, True], ids=["classic", "simple"])
@pytest.mark.parametrize(
    ("names", "layout"), [(vitpose_names, "ViTPose's repository"), (hugging_face_names, "Hugging Face's ViTPose")]
)
def test_vitpose_of_others_computes_the_same(tmp_path, names, layout, simple):
    model, blank = transformer(simple=simple), transformer(simple=simple, seed=1)
    torch.save({"state_dict": names(model.state_dict())}, tmp_path / "w.pth")
    assert read_with_layout(tmp_path / "w.pth")[1].name == layout
    assert not any(load_checkpoint(blank, tmp_path / "w.pth"))
    _assert_equal(model, blank)
    crops = torch.randn(2, 3, *SIZE)
    torch.testing.assert_close(blank(crops).stages[-1], model(crops).stages[-1], rtol=1e-4, atol=1e-4)


# Modules of transformers 5.24 with one block and an expert, and their parameters, written down.
_LINEAR, _NORM = ("weight", "bias"), ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_FIRST = "backbone.encoder.layer.0"
HUGGING_FACE = {
    "backbone.embeddings": ("position_embeddings",),
    "backbone.embeddings.patch_embeddings.projection": _LINEAR,
    f"{_FIRST}.attention.attention.query": _LINEAR,
    f"{_FIRST}.attention.attention.key": _LINEAR,
    f"{_FIRST}.attention.attention.value": _LINEAR,
    f"{_FIRST}.attention.output.dense": _LINEAR,
    f"{_FIRST}.mlp.fc1": _LINEAR,
    f"{_FIRST}.mlp.fc2": _LINEAR,
    f"{_FIRST}.mlp.experts.0": _LINEAR,
    f"{_FIRST}.layernorm_before": _LINEAR,
    f"{_FIRST}.layernorm_after": _LINEAR,
    "backbone.layernorm": _LINEAR,
    "head.deconv1": ("weight",),
    "head.batchnorm1": _NORM,
    "head.deconv2": ("weight",),
    "head.batchnorm2": _NORM,
    "head.conv": _LINEAR,
}


def test_all_names_of_hugging_face_s_are_known():
    tensors = {f"{module}.{name}": torch.zeros(1, 3, 4) for module, names in HUGGING_FACE.items() for name in names}
    layout = find_layout(tensors)
    renamed = rename(layout, tensors)
    experts = {name for name in renamed if ".ffn.experts.0." in name}
    first = {name for name in transformer().state_dict() if not name.startswith("backbone.layers.1.")}
    assert layout.name == "Hugging Face's ViTPose"
    assert set(renamed) - experts == first
    assert len(experts) == 2
    alone = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    assert set(rename(find_layout(alone), alone)) == {name for name in renamed if name.startswith("backbone.")}


def test_the_unused_class_token_of_vitpose_is_left_out(tmp_path):
    model, blank = transformer(), transformer(seed=1)
    torch.save({**vitpose_names(model.state_dict()), "backbone.cls_token": torch.zeros(1, 1, CHANNELS)}, tmp_path / "w")
    load_checkpoint(blank, tmp_path / "w")
    _assert_equal(model, blank)


def test_other_vision_transformers_are_not_taken_for_vitpose():
    plain = {
        "vit.embeddings.patch_embeddings.projection.weight": torch.zeros(1),
        "vit.encoder.layer.0.layernorm_before.weight": torch.zeros(1),
        "vit.encoder.layer.0.intermediate.dense.weight": torch.zeros(1),
    }
    assert find_layout(plain) is OWN
    assert find_layout({name.removeprefix("vit."): tensor for name, tensor in plain.items()}) is OWN


def _without(name):
    def change(tensors):
        del tensors[name]

    return change


def _with(name, *shape):
    def change(tensors):
        tensors[name] = torch.zeros(shape)

    return change


_ATTENTION = "backbone.encoder.layer.1.attention.attention"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without(f"{_ATTENTION}.key.weight"), r"layers\.1\.attn: expected weight of query, key .* got .* none, "),
        (_without(f"{_ATTENTION}.query.bias"), r"layers\.1\.attn: expected bias of query, key and value .* got none"),
        (_with(f"{_ATTENTION}.value.bias", 3), r"of one shape, got \(32,\), \(32,\), \(3,\)"),
        (_with(f"{_ATTENTION}.value.bias"), "of one shape"),
        (_with("backbone.layers.1.attn.qkv.bias", 96), "expected query, key and value or qkv, got both"),
        (_with("backbone.embeddings.position_embeddings", 1, 13), r"pos_embed: expected \[1, 1 \+ patches"),
        (_with("backbone.embeddings.position_embeddings", 1, 1, 32), r"pos_embed: expected .* got \(1, 1, 32\)"),
        (_with("backbone.layernorm.gamma", 32), r"unexpected: backbone\.layernorm\.gamma"),
        (_with("head.final_layer.bias", 17), r"two entries stand for head\.final_layer\.bias"),
        (_without("head.conv.bias"), r"its names are those of Hugging Face's ViTPose\)\n  missing: head\.final_layer"),
    ],
)
def test_what_contradicts_its_layout_is_refused(tmp_path, change, message):
    blank = transformer(seed=1)
    before = {name: tensor.clone() for name, tensor in blank.state_dict().items()}
    tensors = hugging_face_names(transformer().state_dict())
    change(tensors)
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"(?s)w\.safetensors: .*{message}"):
        load_checkpoint(blank, tmp_path / "w.safetensors")
    assert all(torch.equal(before[name], tensor) for name, tensor in blank.state_dict().items())


# ---- HRNet and Simple Baselines


def test_hrnet_s_own_files_load(tmp_path):
    model, blank = hrnet(), hrnet(seed=1)
    official = repository_names(model.state_dict())
    # Some names of the published pose_hrnet_w32_256x192.pth.
    for name in ("conv2.weight", "layer1.3.bn3.running_var", "transition1.1.0.0.weight", "transition3.3.0.1.bias",
                 "stage2.0.fuse_layers.1.0.0.1.weight", "stage3.3.branches.2.3.conv2.weight",
                 "stage4.2.fuse_layers.0.3.1.running_var", "final_layer.weight"):  # fmt: skip
        assert name in official
    torch.save(official, tmp_path / "w.pth")
    assert read_with_layout(tmp_path / "w.pth")[1].name == "HRNet's repository"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(blank, tmp_path / "w.pth")
    _assert_equal(model, blank)


def test_a_classifier_of_hrnet_s_is_a_backbone_as_before(tmp_path):
    model, blank = hrnet(), hrnet(seed=1)
    names = {name.removeprefix("backbone."): t for name, t in model.state_dict().items() if "backbone." in name}
    more = {"final_layer.0.weight": torch.zeros(1), "classifier.bias": torch.zeros(1)}
    torch.save({**names, **more}, tmp_path / "w.pth")
    assert read_with_layout(tmp_path / "w.pth")[1] is OWN
    load_backbone(blank, tmp_path / "w.pth")
    _assert_equal(model.backbone, blank.backbone)


@pytest.mark.parametrize("counters", [True, False])
def test_simple_baselines_own_files_load_and_want_bgr(tmp_path, counters):
    model = draw(create_model("resnet18_slim", input_size=SIZE))
    blank = create_model("resnet18_slim", input_size=SIZE, channel_order="bgr")
    official = repository_names(model.state_dict())
    torch.save(official if counters else _counterless(official), tmp_path / "w.pth.tar")
    assert read_with_layout(tmp_path / "w.pth.tar")[1].name == "Simple Baselines' repository"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(blank, tmp_path / "w.pth.tar")
    _assert_equal(model, blank)
    with pytest.warns(UserWarning, match="trained with channel_order='bgr', and the network has 'rgb'"):
        load_checkpoint(create_model("resnet18_slim", input_size=SIZE), tmp_path / "w.pth.tar")
    with pytest.warns(UserWarning, match="channel_order"):
        load_backbone(create_model("resnet18_slim", input_size=SIZE), tmp_path / "w.pth.tar")


def test_files_without_counters_are_recognised(tmp_path):
    with torch.device("meta"):
        state = create_model("litehrnet18.coco_256x192").state_dict()
    names = [match.entry.name for match in find_matches(_counterless(state))]
    assert "litehrnet18.coco_256x192" in names
    assert names == [match.entry.name for match in find_matches(state)]


def test_one_counter_that_lacks_is_missing(tmp_path):
    model = create_model("resnet18_slim", input_size=SIZE)
    state = model.state_dict()
    del state["backbone.bn1.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"missing: backbone\.bn1\.num_batches_tracked"):
        load_checkpoint(model, tmp_path / "w.pth")
    state = _counterless(state)
    for name in ("running_mean", "running_var"):
        del state[f"backbone.bn1.{name}"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"missing: backbone\.bn1\.running_mean"):
        load_checkpoint(model, tmp_path / "w.pth")


def test_the_wrong_network_s_file_is_one_error_that_says_whose_it_is(tmp_path):
    torch.save(repository_names(hrnet().state_dict()), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"not the weights of .* names are those of HRNet's repository") as error:
        load_checkpoint(transformer(), tmp_path / "w.pth")
    assert len(str(error.value).splitlines()) <= 12


def test_layouts_exclude_each_other():
    """A file is of one layout, also if the table's order changed."""
    files = {
        "ViTPose's repository": vitpose_names(transformer().state_dict()),
        "Hugging Face's ViTPose": hugging_face_names(transformer().state_dict()),
        "HRNet's repository": repository_names(hrnet().state_dict()),
        "Simple Baselines' repository": repository_names(create_model("resnet18_slim").state_dict()),
        "MMPose 0.x": {"backbone.conv1.weight": torch.zeros(1), "keypoint_head.final_layer.bias": torch.zeros(1)},
    }
    assert set(files) == {layout.name for layout in LAYOUTS}
    for name, tensors in files.items():
        assert find_layout(tensors).name == name
    for name in ("resnet18_slim", "litehrnet18"):
        assert find_layout(create_model(name).state_dict()) is OWN


# ---- wrappers


def _small():
    return PoseModel(nn.Conv2d(3, 4, 1), HeatmapHead(4, 17, deconv_channels=()), spec())


@pytest.fixture
def small():
    return draw(_small())


def _wrapped(prefixes, state):
    for prefix in reversed(prefixes):
        state = {f"{prefix}{name}": tensor for name, tensor in state.items()}
        if prefix == "module.":
            state["n_averaged"] = torch.tensor(3)
    return state


@pytest.mark.parametrize(
    "prefixes",
    [
        *itertools.permutations(("module.", "module.", "_orig_mod.", "model.")),
        ("_orig_mod.", "ema_model.", "module."),
        ("ema_model.", "_orig_mod."),
    ],
    ids="".join,
)
def test_wrappers_in_any_order_are_taken_off(small, prefixes):
    state = small.state_dict()
    assert set(strip_wrappers(_wrapped(prefixes, state))) == set(state)


@pytest.mark.parametrize(
    "keys",
    [("ema_model",), ("state_dict", "model"), ("model", "ema_model", "module"), ("ema", "state_dict"), ("net",)],
    ids=".".join,
)
def test_state_dicts_inside_of_each_other_are_found(small, tmp_path, keys):
    content = _wrapped(("module.", "_orig_mod."), small.state_dict())
    for key in reversed(keys):
        content = {key: content, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "w.pth")
    assert set(read_checkpoint(tmp_path / "w.pth").tensors) == set(small.state_dict())


def test_what_torch_wraps_itself_loads(small, tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel
    parallel = nn.DataParallel
    for order in ((averaged,), (averaged, parallel), (parallel, torch.compile), (torch.compile, averaged, parallel)):
        wrapped = small
        for wrap in order:
            wrapped = wrap(wrapped)
        torch.save({"ema_model": wrapped.state_dict()}, tmp_path / "w.pth")
        blank = _small()
        load_checkpoint(blank, tmp_path / "w.pth")
        _assert_equal(small, blank)


def test_a_part_that_was_compiled_by_itself_loads(small, tmp_path):
    state = {name.replace("backbone.", "backbone._orig_mod."): t for name, t in small.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    assert set(read_checkpoint(tmp_path / "w.pth").tensors) == set(small.state_dict())


def test_the_average_counts_where_the_network_stands_beside_it(small):
    zeros = {f"online_model.{name}": torch.zeros_like(tensor) for name, tensor in small.state_dict().items()}
    average = {f"ema_model.{name}": tensor for name, tensor in small.state_dict().items()}
    stripped = strip_wrappers({"initted": torch.tensor(True), "step": torch.tensor(7), **zeros, **average})
    assert all(torch.equal(stripped[name], tensor) for name, tensor in small.state_dict().items())


def test_a_wrapped_file_of_others_is_both(tmp_path):
    model, blank = transformer(), transformer(seed=1)
    content = _wrapped(("module.", "_orig_mod."), hugging_face_names(model.state_dict()))
    torch.save({"model": {"ema_model": content}}, tmp_path / "w.pth")
    load_checkpoint(blank, tmp_path / "w.pth")
    _assert_equal(model, blank)


def test_names_that_meet_are_refused(tmp_path):
    torch.save({"a._orig_mod.w": torch.zeros(1), "a.w": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: two entries stand for a\.w"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{"module.n_averaged": torch.tensor(1)}, {"n_averaged": torch.tensor(1)}])
def test_nothing_but_counters_is_no_network(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="0 of"):
        load_checkpoint(transformer(), tmp_path / "w.pth", strict=False)


def test_a_dictionary_inside_of_itself_ends(tmp_path):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="expected a state dict"):
        read_checkpoint(tmp_path / "w.pth")
