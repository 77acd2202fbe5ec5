"""Names: what create_model and list_models take, refuse and build."""

from __future__ import annotations

import pytest
import torch
from model_figures import without_initialisation

from fastpose.codecs import build_codec
from fastpose.models import (
    PoseModel,
    WeightsError,
    build_model,
    create_model,
    find_entry,
    list_architectures,
    list_entries,
    list_models,
    load_body,
    load_checkpoint,
    register_model,
    registry,
    save_model,
)
from fastpose.models.zoo import default_spec
from fastpose.skeletons import COCO17, LSP14, Skeleton

SLIM = "resnet18_slim"
CARRIED = "resnet18_slim_refined"  # the architecture whose weights the package has


@pytest.mark.parametrize("name", list_architectures())
def test_every_architecture_gives_what_its_spec_says(name):
    """Shapes; numbers are test_parity's."""
    size = (64, 96)
    with torch.device("meta"), without_initialisation():
        model = create_model(name, input_size=size, num_keypoints=3).eval()
        output = model(torch.empty(2, 3, *size))
    assert isinstance(model, PoseModel)
    assert model.spec.input_size == size
    assert len(output.stages) == model.spec.output_stages
    for stage in output.stages:
        assert model.spec.codec.accepts(stage, 3, size)


def test_architecture_alone_stands_for_its_first_entry():
    model = create_model("litehrnet18")
    assert model.name == "litehrnet18.coco_256x192"
    assert model.spec == find_entry("litehrnet18.coco_256x192").spec
    assert create_model("resnet18").spec == default_spec()
    assert create_model("resnet18").name == "resnet18"


def test_official_config_name_is_an_alias():
    model = create_model("td-hm_res50_dark-8xb64-210e_coco-384x288")
    assert model.name == "resnet50_dark.coco_384x288"
    assert model.spec.codec == build_codec("dark", heatmap_size=(96, 72), sigma=3.0)


def test_fields_of_the_spec_can_be_overridden():
    model = create_model(SLIM, input_size=(128, 96), padding=1.1, flip_test=False)
    assert (model.spec.input_size, model.spec.codec.heatmap_size) == ((128, 96), (32, 24))
    assert (model.spec.padding, model.spec.flip_test) == (1.1, False)


def test_output_channels_follow_the_codec():
    model = create_model(SLIM, input_size=(64, 64), codec=build_codec("udp_combined", heatmap_size=(16, 16)), udp=True)
    assert model(torch.zeros(1, 3, 64, 64)).last.shape == (1, 51, 16, 16)


def test_skeletons():
    assert create_model(SLIM, skeleton="lsp14").spec.skeleton == LSP14
    assert create_model(SLIM).spec.skeleton == COCO17
    own = Skeleton.from_names("own", ["left_ear", "right_ear"])
    assert create_model(SLIM, skeleton=own, num_keypoints=2).spec.skeleton.flip_index == (1, 0)
    for count in (5, 17):  # seventeen of anything are not COCO's
        numbered = create_model(SLIM, num_keypoints=count).spec.skeleton
        assert numbered.keypoints == tuple(f"keypoint_{index}" for index in range(count))
        assert not numbered.mirror_known


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnt50"}, r"no model is named 'resnt50'; did you mean resnet50"),
        ({"name": "zzz"}, r"no model is named 'zzz'; list_models\(\) lists them"),
        ({"name": SLIM, "num_keypoints": 0}, "num_keypoints: expected at least 1, got 0"),
        ({"name": SLIM, "num_keypoints": 3, "skeleton": "lsp14"}, "3 given, but skeleton 'lsp14' has 14"),
        ({"name": SLIM, "skeleton": "dog"}, "no skeleton is named 'dog'"),
        ({"name": SLIM, "width": 3}, "no option width; it has deconv_channels, and the fields of PoseSpec"),
        ({"name": SLIM, "input_size": (100, 96)}, r"input_size: expected .* multiples of 16, got \(100, 96\)"),
        ({"name": SLIM, "deconv_channels": (8,)}, r"codec\.heatmap_size: the network gives \(32, 24\)"),
        (
            {"name": SLIM, "codec": build_codec("regression")},
            "head: 'heatmap' gives maps, and the codec",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_model(**arguments)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"x: expected crops \[B, 3, h, w\], got shape \(1, 1, 64, 64\)"):
        create_model(SLIM)(torch.zeros(1, 1, 64, 64))


def test_duplicate_name_raises(monkeypatch):
    monkeypatch.setattr(registry, "_ARCHITECTURES", dict(registry._ARCHITECTURES))

    def brand_new(spec, *, depth=1):
        return create_model(SLIM, input_size=spec.input_size)

    register_model(brand_new)
    assert build_model("brand_new", default_spec(), {"depth": 2}).arguments == {"depth": 2}
    with pytest.raises(ValueError, match="'brand_new' is registered already"):
        register_model(brand_new)


def test_list_models_filters_by_pattern():
    assert list_models("litehrnet18*") == [
        "litehrnet18",
        "litehrnet18.coco_256x192",
        "litehrnet18.coco_384x288",
        "litehrnet18.coco_wholebody_hand_256x256",
        "litehrnet18.mpii_256x256",
    ]
    assert list_models("nothing*") == []
    assert set(list_architectures()) < set(list_models())


# ---- pretrained


def test_pretrained_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTPOSE_CACHE", str(tmp_path))
    monkeypatch.setenv("FASTPOSE_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(WeightsError, match=r"mirror/td-hm_res50_8xb64-210e_coco-256x192-04af38ce_20220923.pth: not"):
        create_model("resnet50", pretrained=True)
    with pytest.raises(WeightsError, match="resnet18: no weights were published"):
        create_model("resnet18", pretrained=True)


@pytest.fixture
def carried(monkeypatch, tmp_path):
    """A stand-in for the package's folder of carried weights, and the network in it."""
    torch.manual_seed(0)
    model = create_model(CARRIED)
    folder = tmp_path / "carried"
    folder.mkdir()
    save_model(model, folder / "resnet18_slim_refined.safetensors")
    monkeypatch.setattr("fastpose.models.factory.resources.files", lambda package: tmp_path)
    return model


def test_carried_weights_load(carried):
    loaded = create_model(CARRIED, pretrained=True)
    for name, tensor in carried.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "keypoints", [{"num_keypoints": 5}, {"skeleton": Skeleton.from_names("x", list("abcdefghijklmnopq"))}]
)
def test_other_keypoints_keep_a_fresh_last_layer(carried, keypoints):
    loaded = create_model(CARRIED, pretrained=True, **keypoints)
    for name, tensor in carried.state_dict().items():
        if name == "head.final_layer.weight":
            assert not torch.equal(loaded.state_dict()[name][:5], tensor[:5])
        elif not name.startswith(("head.final_layer.", "head.first_layer.", "head.return_layer.")):
            assert torch.equal(loaded.state_dict()[name], tensor)


def test_other_width_does_not_load_in_part(carried):
    with pytest.raises(WeightsError, match=r"(?s)not the weights of .* for other keypoints .*shape: head\.enlarge1"):
        create_model(CARRIED, pretrained=True, num_keypoints=5, channels=64)


def test_a_body_that_does_not_fit_leaves_the_network_as_it_was(carried, tmp_path):
    other = create_model(CARRIED, num_keypoints=5, channels=64)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError, match="for other keypoints"):
        load_body(other, tmp_path / "carried" / "resnet18_slim_refined.safetensors")
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_missing_carried_file_is_an_error(carried, tmp_path):
    (tmp_path / "carried" / "resnet18_slim_refined.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"should hold resnet18_slim_refined\.safetensors"):
        create_model(CARRIED, pretrained=True)


def test_packaged_weights_agree_with_their_entries():
    """Runs once the file is there: its spec must be the entry's, or pretrained networks would decode wrongly."""
    from importlib import resources

    from fastpose.models import read_checkpoint
    from fastpose.spec import PoseSpec

    for entry in list_entries():
        file = resources.files("fastpose.models") / "carried" / entry.weights.get("carried", "-")
        if file.is_file():
            with resources.as_file(file) as path:
                assert PoseSpec.from_json(read_checkpoint(path).metadata["fastpose.spec"]) == entry.spec
                load_checkpoint(create_model(entry.name), path)
