"""ViTPose++: one data set's network out of a file of six, as a plain vision transformer."""

from __future__ import annotations

import warnings

import pytest
import torch
from other_layouts import OFFICIAL, PART, SIZE, hugging_face_from_vitpose, spec, transformer, with_experts
from torch.nn import functional as F

from fastpose.models import (
    WeightsError,
    create_model,
    find_matches,
    load_backbone,
    load_body,
    load_checkpoint,
    read_checkpoint,
)
from fastpose.models.experts import EXPERTS, count_experts, fold_expert
from fastpose.skeletons import get_skeleton


@pytest.fixture
def plus():
    """ViTPose++ in the names of its repository."""
    return with_experts(transformer().state_dict(), OFFICIAL)


def _network(number, seed=1):
    """A network for the data set of that number."""
    expert = EXPERTS[number]
    return transformer(expert.skeleton, seed=seed, udp=expert.spec.get("udp", True))


def _saved(tensors, path):
    torch.save({"state_dict": tensors}, path)
    return path


def test_the_order_is_that_of_the_published_files():
    assert [expert.name for expert in EXPERTS] == ["coco", "aic", "mpii", "ap10k", "apt36k", "wholebody"]
    assert tuple(get_skeleton(expert.skeleton).num_keypoints for expert in EXPERTS) == OFFICIAL
    # Of the configurations in ViTPose's repository: the others' crops are not UDP's.
    assert [expert.name for expert in EXPERTS if expert.spec.get("udp", True)] == ["coco", "mpii"]


@pytest.mark.parametrize("number", range(len(EXPERTS)), ids=[expert.name for expert in EXPERTS])
def test_every_expert_is_folded_into_the_plain_network(plus, tmp_path, number):
    path, model = _saved(plus, tmp_path / "vitpose+.pth"), _network(number)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not any(load_checkpoint(model, path, expert=EXPERTS[number].name))
    head = "keypoint_head" if number == 0 else f"associate_keypoint_heads.{number - 1}"
    assert torch.equal(model.head.final_layer.weight, plus[f"{head}.final_layer.weight"])
    assert torch.equal(model.head.deconv_layers[4].running_var, plus[f"{head}.deconv_layers.4.running_var"])
    # The mixture as its authors compute it: shared features and the expert's, side by side.
    x = torch.randn(3, 5, model.backbone.out_channels)
    for block, layer in enumerate(model.backbone.layers):
        mlp = f"backbone.blocks.{block}.mlp"
        hidden = F.gelu(F.linear(x, plus[f"{mlp}.fc1.weight"], plus[f"{mlp}.fc1.bias"]))
        shared = F.linear(hidden, plus[f"{mlp}.fc2.weight"], plus[f"{mlp}.fc2.bias"])
        own = f"{mlp}.experts.{number}"
        expected = torch.cat((shared, F.linear(hidden, plus[f"{own}.weight"], plus[f"{own}.bias"])), -1)
        assert shared.shape[-1] == expected.shape[-1] - PART
        torch.testing.assert_close(layer.ffn(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5], ids=["coco", "aic", "mpii", "ap10k", "wholebody"])
def test_the_keypoints_say_which_expert_is_meant(plus, tmp_path, number):
    path, model, other = _saved(plus, tmp_path / "w.pth"), _network(number), _network(number, seed=2)
    load_checkpoint(model, path)
    load_checkpoint(other, path, expert=number)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_the_network_of_the_first_expert_is_the_one_it_was_made_of(plus, tmp_path):
    model, loaded = transformer(), transformer(seed=1)
    load_checkpoint(loaded, _saved(plus, tmp_path / "w.pth"))
    crops = torch.randn(2, 3, *SIZE)
    torch.testing.assert_close(loaded(crops).stages[-1], model(crops).stages[-1], rtol=1e-4, atol=1e-4)


def test_crops_that_an_expert_was_not_trained_with_are_warned_of(plus, tmp_path):
    with pytest.warns(UserWarning, match="trained with udp=False, and the network has True"):
        load_checkpoint(transformer("aic14", udp=True), _saved(plus, tmp_path / "w.pth"))


def test_a_head_of_more_maps_than_keypoints_is_cut(plus, tmp_path):
    for name in ("weight", "bias"):
        tensor = plus[f"associate_keypoint_heads.0.final_layer.{name}"]
        plus[f"associate_keypoint_heads.0.final_layer.{name}"] = torch.cat((tensor, tensor))
    model = _network(1)
    load_checkpoint(model, _saved(plus, tmp_path / "w.pth"))
    assert torch.equal(model.head.final_layer.bias, plus["associate_keypoint_heads.0.final_layer.bias"][:14])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skeleton": "crowdpose14"}, r"networks for 6 data sets, and .* 'crowdpose14' do not tell .*: coco, aic"),
        ({"expert": "lsp"}, r"expert: expected one of coco, .* or a number from 0 to 5, got 'lsp'"),
        ({"expert": "6"}, "or a number from 0 to 5, got '6'"),
        ({"expert": -1}, "or a number from 0 to 5, got -1"),
        ({"expert": "aic"}, r"with 17 keypoints \(.*\n.*of another shape: head\.final_layer\.weight"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*trained with udp")
def test_which_expert_is_meant_must_be_clear(plus, tmp_path, options, message):
    model = transformer(options.pop("skeleton", "coco17"))
    with pytest.raises(WeightsError, match=rf"w\.pth: .*{message}"):
        load_checkpoint(model, _saved(plus, tmp_path / "w.pth"), **options)


def test_an_expert_of_a_plain_file_is_refused(tmp_path):
    torch.save(transformer().state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="'coco' is asked for, and the file holds one network"):
        load_checkpoint(transformer(), tmp_path / "w.pth", expert="coco")


def test_other_numbers_of_data_sets_are_taken_by_number(tmp_path):
    path = _saved(with_experts(transformer().state_dict(), (17, 5)), tmp_path / "w.pth")
    model = transformer()
    with pytest.raises(WeightsError, match=r"for 2 data sets, .* which is meant; expert \(--expert\) says it: 0 to 1"):
        load_checkpoint(model, path)
    with pytest.raises(WeightsError, match="expected a number from 0 to 1, got 'coco'"):
        load_checkpoint(model, path, expert="coco")
    load_checkpoint(model, path, expert=0)


def test_several_heads_without_experts_are_told_apart_too(plus, tmp_path):
    tensors = {name: t for name, t in plus.items() if "experts" not in name and not name.endswith("fc2.weight")}
    plain = transformer()
    for block, layer in enumerate(plain.backbone.layers):
        tensors[f"backbone.blocks.{block}.mlp.fc2.weight"] = layer.ffn.layers[1].weight.detach()
        tensors[f"backbone.blocks.{block}.mlp.fc2.bias"] = layer.ffn.layers[1].bias.detach()
    model = _network(2)
    load_checkpoint(model, _saved(tensors, tmp_path / "w.pth"), expert=2)
    assert torch.equal(model.head.final_layer.bias, plus["associate_keypoint_heads.1.final_layer.bias"])


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "backbone.blocks.1.mlp.experts.0.weight",
            None,
            r"layers\.1\.ffn: expected weight of layers\.1 and of experts",
        ),
        ("backbone.blocks.1.mlp.fc2.bias", None, r"layers\.1\.ffn: expected bias of layers\.1 and of experts\.0"),
        ("backbone.blocks.0.mlp.experts.0.weight", (8, 3), r"as many columns in both parts, got \(24, 128\) and"),
        ("backbone.blocks.0.mlp.experts.0.bias", (), "as many columns"),
        ("backbone.blocks.0.mlp.experts.0.bias", (9,), "of another shape: backbone"),
    ],
)
def test_experts_that_do_not_fit_are_refused(plus, tmp_path, name, shape, message):
    if shape is None:
        del plus[name]
    else:
        plus[name] = torch.zeros(shape)
    with pytest.raises(WeightsError, match=rf"(?s)w\.pth: .*{message}"):
        load_checkpoint(transformer(), _saved(plus, tmp_path / "w.pth"))


def test_a_head_that_lacks_is_named(plus, tmp_path):
    tensors = {name: tensor for name, tensor in plus.items() if not name.startswith("associate_keypoint_heads.1.")}
    with pytest.raises(WeightsError, match="associate_heads: expected number 1, of expert 2"):
        load_checkpoint(_network(2), _saved(tensors, tmp_path / "w.pth"))


# ---- Hugging Face's, which have one head


def _one_head():
    return hugging_face_from_vitpose(with_experts(transformer().state_dict(), OFFICIAL, heads=False))


def test_the_one_head_of_hugging_face_s_files_is_coco_s(tmp_path):
    path = _saved(_one_head(), tmp_path / "w.pth")
    assert count_experts(read_checkpoint(path).tensors) == 6
    model, animal = transformer(seed=1), _network(3)
    load_checkpoint(model, path)
    crops = torch.randn(1, 3, *SIZE)
    expected = transformer()(crops).stages[-1]
    torch.testing.assert_close(model(crops).stages[-1], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(
        WeightsError, match=r"it has one head, which is COCO's .* expert='ap10k' takes the head all the"
    ):
        load_checkpoint(animal, path)
    load_checkpoint(animal, path, expert="ap10k")
    tensors = read_checkpoint(path).tensors
    assert torch.equal(
        animal.backbone.layers[1].ffn.layers[1].weight, fold_expert(tensors, 3)["backbone.layers.1.ffn.layers.1.weight"]
    )


# ---- beside loading


def test_a_backbone_alone_is_one_expert_s(plus, tmp_path):
    path, model = _saved(plus, tmp_path / "w.pth"), _network(1)
    bias = model.head.final_layer.bias.clone()
    load_backbone(model, path)
    assert torch.equal(
        model.backbone.layers[0].ffn.layers[1].bias[-PART:], plus["backbone.blocks.0.mlp.experts.1.bias"]
    )
    assert torch.equal(model.head.final_layer.bias, bias)
    with pytest.raises(WeightsError, match="do not tell which is meant"):
        load_backbone(transformer("crowdpose14"), path)
    load_backbone(transformer("crowdpose14"), path, expert="coco")


def test_other_keypoints_start_from_an_expert(tmp_path):
    base = create_model("vitpose_small", input_size=(64, 64))
    path = _saved(with_experts(base.state_dict(), OFFICIAL), tmp_path / "w.pth")
    model = create_model("vitpose_small", input_size=(64, 64), num_keypoints=5)
    with pytest.raises(WeightsError, match=r"expert \(--expert\) says it"):
        load_body(model, path)
    assert load_body(model, path, expert="coco") == ["head.final_layer.weight", "head.final_layer.bias"]
    assert torch.equal(model.backbone.layers[3].ffn.layers[1].weight, base.backbone.layers[3].ffn.layers[1].weight)


def test_the_zoo_s_entries_are_told_of_a_file_of_several(tmp_path):
    path = _saved(with_experts(create_model("vitpose_small").state_dict(), OFFICIAL), tmp_path / "w.pth")
    tensors = read_checkpoint(path).tensors
    assert "vitpose_small.coco_256x192" in [match.entry.name for match in find_matches(tensors)]
    broken = {name: tensor for name, tensor in tensors.items() if not name.endswith("layers.2.ffn.experts.0.bias")}
    assert find_matches(broken) == []


def test_spec_fields_of_the_experts_are_fields():
    for expert in EXPERTS:
        changes = {key: value for key, value in expert.spec.items() if key != "codec"}
        assert spec(expert.skeleton, **changes).num_keypoints == get_skeleton(expert.skeleton).num_keypoints
