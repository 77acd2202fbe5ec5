"""A network learns from another one: what both stages train and leave alone, resumed, in processes, in halves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fastpose.models import create_model, feature_distillation, load_model, save_model, vector_distillation
from fastpose.train.checkpoint import CheckpointError, load_state
from fastpose.train.distillation import Distillation, build_distillation
from fastpose.train.loop import train
from fastpose.train.recipe import RecipeError, parse_recipe
from fastpose.train.run import Run
from fastpose.train.setup import build_model

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (64, 64)
CODEC = {"kind": "simcc", "sigma": [2.0, 2.0], "normalized": False}
PUPIL = [
    "model.name=rtmpose_tiny",
    "model.codec={kind: simcc, sigma: [2.0, 2.0], normalized: false}",
    "train.loss.options={beta: 10.0, label_softmax: true}",
    "train.optimizer={name: adamw, lr: 1.0e-3}",
    "data.val=null",
]
FIRST = [*PUPIL, "train.distill={teacher: TEACHER, features: 7.0e-5, logits: 0.1}"]
SECOND = [*PUPIL, "train.distill={teacher: SELF, logits: 1.0, fade: false, head_only: true}"]


def network(name: str, **changes: Any) -> Any:
    torch.manual_seed(1)
    return create_model(name, **{"input_size": SIZE, "codec": CODEC, **changes})


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wider network, and one that is as wide as the pupil."""
    folder = tmp_path_factory.mktemp("teachers")
    save_model(network("rtmpose_s"), folder / "s.safetensors")
    save_model(network("rtmpose_tiny"), folder / "tiny.safetensors")
    return folder


def recipe(text: str, folder: Path, options: list[str], *more: str) -> Any:
    names = {"TEACHER": str(folder / "s.safetensors"), "SELF": str(folder / "tiny.safetensors")}
    for word, name in names.items():
        options = [option.replace(word, name) for option in options]
    return parse_recipe(text, [*options, *more])


def run(of: Any, out: Path, **named: Any) -> Run:
    return train(of, out, console=Console(file=io.StringIO(), width=200), **named)


def test_what_is_added_to_the_loss(recipe_text: str, teachers: Path) -> None:
    first = recipe(recipe_text, teachers, FIRST)
    model = build_model(first, print).eval()
    taught = build_distillation(first, model)
    assert taught is not None
    crops = torch.randn(2, 3, *SIZE)
    output, distance = taught(crops)
    teacher = load_model(teachers / "s.safetensors")
    assert taught.align is not None
    features = feature_distillation(taught.align(model.features(crops)), teacher.features(crops))
    vectors = vector_distillation(model(crops).last, teacher(crops).last, beta=10.0)
    assert distance.item() == pytest.approx((7e-5 * features + 0.1 * vectors).item(), rel=1e-5)
    for ours, plain in zip(output.last, model(crops).last, strict=True):
        torch.testing.assert_close(ours, plain)
    assert [taught.factor(epoch / 4) for epoch in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_the_pupil_learns_and_is_saved_alone(recipe_text: str, teachers: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    outcome = train(
        recipe(recipe_text, teachers, FIRST, "train.epochs=12", "augment.flip_prob=0", "train.ema={decay: 0.9}"),
        tmp_path,
        console=Console(file=said, width=200),
    )
    assert f"taught by {teachers / 's.safetensors'}" in said.getvalue().replace("\n", "")
    _, losses = outcome.curve()
    assert losses[-3:].mean() < 0.8 * losses[:3].mean()
    model = load_model(outcome.best_checkpoint)
    assert model.state_dict().keys() == network("rtmpose_tiny").state_dict().keys()
    state = load_state(tmp_path / "state.pt")
    assert {name: tuple(value.shape) for name, value in state["distillation"].items()} == {
        "weight": (512, 384, 1, 1),
        "bias": (512,),
    }


def test_the_factors_fade_from_epoch_to_epoch(
    recipe_text: str, teachers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    before = Distillation.factor

    def noted(self: Distillation, progress: float) -> float:
        asked.append(before(self, progress))
        return asked[-1]

    monkeypatch.setattr(Distillation, "factor", noted)
    run(recipe(recipe_text, teachers, FIRST, "train.epochs=3", "train.batch_size=12"), tmp_path)
    assert asked == pytest.approx([1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3])


def test_the_second_stage_trains_the_head_alone(recipe_text: str, teachers: Path, tmp_path: Path) -> None:
    outcome = run(recipe(recipe_text, teachers, SECOND, "train.epochs=6"), tmp_path)
    _, losses = outcome.curve()
    assert losses[-3:].mean() < losses[:3].mean()
    trained, teacher = load_model(outcome.last_checkpoint), load_model(teachers / "tiny.safetensors")
    for name, value in trained.state_dict().items():
        same = torch.equal(value, teacher.state_dict()[name])
        assert same == name.startswith("backbone."), name


@pytest.mark.parametrize("labels", [0.0, 1.0])
def test_labels_of_no_weight_teach_nothing(labels: float, recipe_text: str, teachers: Path, tmp_path: Path) -> None:
    """DWPose's second stage computes the labels' loss, but does not add it: its weight must not matter then."""
    heads = []
    for weight in (1.0, 1000.0):
        more = (
            f"train.distill.labels={labels}",
            f"train.loss.weight={weight}",
            "train.epochs=1",
            "train.clip_grad=null",
        )
        outcome = run(recipe(recipe_text, teachers, SECOND, *more), tmp_path / f"{weight:g}")
        heads.append(load_model(outcome.last_checkpoint).head.state_dict())
    same = all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert same == (labels == 0)


@pytest.mark.parametrize("stage", [FIRST, SECOND], ids=["first", "second"])
def test_resume_gives_the_weights_of_an_uninterrupted_run(
    stage: list[str], recipe_text: str, teachers: Path, tmp_path: Path, at_step: Any
) -> None:
    of = recipe(recipe_text, teachers, stage, "train.ema={decay: 0.9}")
    run(of, tmp_path / "whole")
    with at_step(4):
        assert not run(of, tmp_path / "parts").finished
    assert run(of, tmp_path / "parts", resume=True).finished
    whole, parts = (load_state(tmp_path / name / "state.pt") for name in ("whole", "parts"))
    for part in ("model", "average", "distillation"):
        assert whole[part].keys() == parts[part].keys()
        assert all(torch.equal(whole[part][name], parts[part][name]) for name in whole[part])
    assert bool(whole["distillation"]) == (stage is FIRST)
    with pytest.raises(CheckpointError, match=r"was trained with train\.distill, and the recipe is without"):
        run(recipe(recipe_text, teachers, PUPIL, "train.ema={decay: 0.9}"), tmp_path / "parts", resume=True)


def test_maps_teach_by_their_features(recipe_text: str, tmp_path: Path) -> None:
    save_model(create_model("resnet18_slim", input_size=SIZE), tmp_path / "slim.safetensors")
    words = [f"train.distill={{teacher: {tmp_path / 'slim.safetensors'}, features: 1.0e-4}}", "data.val=null"]
    outcome = run(parse_recipe(recipe_text, [*words, "train.epochs=4"]), tmp_path / "run")
    assert not load_state(tmp_path / "run" / "state.pt")["distillation"]  # as many channels: nothing is mixed
    _, losses = outcome.curve()
    assert losses[-1] < losses[0]


def test_in_bfloat16(recipe_text: str, teachers: Path, tmp_path: Path) -> None:
    halves = ("train.precision=bfloat16", "train.deterministic=false")
    _, losses = run(recipe(recipe_text, teachers, FIRST, *halves), tmp_path).curve()
    _, plain = run(recipe(recipe_text, teachers, FIRST), tmp_path / "float32").curve()
    assert losses == pytest.approx(plain, rel=0.05)


NOT_FITTING: dict[str, tuple[Any, list[str], str]] = {
    "keypoints": (
        lambda: network("rtmpose_tiny", num_keypoints=5),
        [],
        "keypoints: the network has 17 of 'coco17', the teacher 5 of 'custom5'",
    ),
    "input": (
        lambda: network("rtmpose_tiny", input_size=(96, 64)),
        [],
        r"input_size: the network has \(64, 64\), the teacher \(96, 64\)",
    ),
    "pixels": (
        lambda: network("rtmpose_tiny", channel_order="bgr"),
        [],
        "channel_order: the network has rgb, the teacher bgr",
    ),
    "bins": (
        lambda: network("rtmpose_tiny", codec={**CODEC, "split_ratio": 3.0}),
        [],
        r"logits: the network gives \[\(17, 128\), \(17, 128\)\], the teacher \[\(17, 192\), \(17, 192\)\]",
    ),
    "maps": (
        lambda: create_model("resnet18_slim", input_size=SIZE),
        [],
        "logits: expected coordinate vectors, the teacher gives maps",
    ),
    "features": (
        lambda: create_model("resnet18_slim", input_size=SIZE),
        ["train.distill.logits=0"],
        r"features: the network's are \(2, 2\) for crops of \(64, 64\), the teacher's \(4, 4\)",
    ),
    "backbone": (
        lambda: network("rtmpose_s"),
        ["train.distill.features=0", "train.distill.head_only=true"],
        "head_only: the backbone is another one, rtmpose_s instead of rtmpose_tiny",
    ),
}


@pytest.mark.parametrize("name", list(NOT_FITTING))
def test_a_teacher_that_does_not_fit_is_refused(name: str, recipe_text: str, teachers: Path, tmp_path: Path) -> None:
    make_teacher, options, told = NOT_FITTING[name]
    file = tmp_path / "teacher.safetensors"
    save_model(make_teacher(), file)
    of = recipe(recipe_text, teachers, FIRST, f"train.distill.teacher={file}", *options)
    with pytest.raises(RecipeError, match=rf"train\.distill: teacher .*teacher\.safetensors does not fit: {told}$"):
        run(of, tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["train.distill={teacher: a.safetensors}"], "train.distill: expected features, logits or both above 0"),
        (
            ["train.distill={teacher: a.safetensors, features: 1, logits: 1, head_only: true}"],
            "features: with head_only they are the teacher's, expected 0, got 1",
        ),
        (["train.distill={teacher: a.safetensors, logit: 1}"], "did you mean train.distill.logits?"),
        (["train.distill={logits: 1}"], "train.distill.teacher: field required"),
        (["train.distill={teacher: a, logits: 1}", "train.sharded=true"], "sharded: does not go with distill"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: list[str], told: str, recipe_text: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(recipe_text, [*PUPIL, *options])
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("teacher", "told"),
    [("gone.safetensors", r"gone\.safetensors: cannot be read"), ("rtmpose_z", "no model is named 'rtmpose_z'")],
)
def test_a_teacher_that_is_not_there(teacher: str, told: str, recipe_text: str, tmp_path: Path) -> None:
    of = parse_recipe(recipe_text, [*PUPIL, f"train.distill={{teacher: {teacher}, logits: 1}}"])
    with pytest.raises(RecipeError, match=rf"train\.distill\.teacher: .*{told}"):
        run(of, tmp_path)


def test_a_zoo_entry_with_weights_of_ones_own(recipe_text: str, tmp_path: Path) -> None:
    file = tmp_path / "teacher.pth"
    torch.manual_seed(1)
    teacher = create_model("mobilenetv2.coco_256x192")
    torch.save(teacher.state_dict(), file)
    words = ["model.name=mobilenetv2", "model.options={input_size: [256, 192]}", "data.val=null"]
    distill = f"train.distill={{teacher: mobilenetv2.coco_256x192, weights: {file}, features: 1.0e-4}}"
    of = parse_recipe(recipe_text, [*words, distill])
    taught = build_distillation(of, build_model(of, print))
    assert taught is not None
    (loaded,) = taught._teacher
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in loaded.state_dict().items())
    file.write_bytes(b"nothing")
    with pytest.raises(RecipeError, match=r"train\.distill: teacher mobilenetv2\.coco_256x192: .*teacher\.pth"):
        build_distillation(of, build_model(of, print))
    of = parse_recipe(recipe_text, [*words, distill, f"train.distill.teacher={file}"])
    with pytest.raises(RecipeError, match="weights: go with a zoo name, and the teacher is the file"):
        build_distillation(of, build_model(of, print))


def worker(rank: int, size: int, text: str, teachers: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size)
    for name, stage in (("first", FIRST), ("second", SECOND)):
        run(recipe(text, teachers, [*stage, *STILL], "train.batch_size=4"), folder / name)
    torch.distributed.destroy_process_group()


# SGD, because Adam enlarges what rounding leaves of small gradients; statistics of all processes' crops.
STILL = ["train.optimizer={name: sgd, lr: 0.01}", "train.sync_batchnorm=true", "train.clip_grad=1.0"]


def test_two_processes_train_as_one(recipe_text: str, teachers: Path, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(worker, (2, recipe_text, teachers, tmp_path), nprocs=2)
    for name, stage in (("first", FIRST), ("second", SECOND)):
        run(recipe(recipe_text, teachers, [*stage, *STILL]), tmp_path / "alone" / name)
        two, one = (load_state(folder / name / "state.pt") for folder in (tmp_path, tmp_path / "alone"))
        assert two["distillation"].keys() == one["distillation"].keys()
        for part in ("model", "distillation"):
            for entry, value in one[part].items():
                torch.testing.assert_close(two[part][entry], value, rtol=1e-4, atol=1e-5)
