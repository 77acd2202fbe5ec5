"""Several processes train as one does: same losses, same weights, and they agree on what goes wrong.

The runs of two processes are made once, by one pair of them, and compared test by test.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fastpose.codecs import heatmap
from fastpose.data.dataset import PoseDataset, Source
from fastpose.data.readers import read_annotations
from fastpose.models import create_model, load_model
from fastpose.skeletons import COCO17
from fastpose.train import loop
from fastpose.train.checkpoint import CheckpointError, load_state, save_state
from fastpose.train.distributed import DistributedModel, FirstProcessError, World
from fastpose.train.loop import train
from fastpose.train.precision import choose_precision
from fastpose.train.recipe import RecipeError, parse_recipe
from fastpose.train.run import Run
from fastpose.train.setup import build_model, build_phases
from fastpose.train.sources import build_evaluator

pytestmark = pytest.mark.usefixtures("one_thread")

# Without the statistics of a batch (BatchNorm's parameters frozen, so it keeps the running ones).
FIXED = 'train.freeze=["*.bn*", "*.downsample.1.*", "*.deconv_layers.1.*", "*.deconv_layers.4.*"]'
SYNC = "train.sync_batchnorm=true"
# Adam divides by the size of small gradients, which would enlarge rounding; SGD does not.
SGD = "train.optimizer={name: sgd, lr: 0.05, weight_decay: 1e-4}"
NOTHING_TO_VALIDATE = "data.val=null"

# Options of a run; batch_size is that of all processes together.
RUNS: dict[str, list[str]] = {
    "fixed": [FIXED, SGD, "train.clip_grad=0.05", "train.ema={decay: 0.9}"],
    "sync": [SYNC, SGD, "train.ema={decay: 0.9, buffers: true}"],
    "averaged": [FIXED, SGD, "train.swa.epochs=1", "eval.weights=[trained, swa]"],
    "accumulated": [FIXED, SGD, NOTHING_TO_VALIDATE, "train.accumulate=2"],
    "unreadable": [FIXED, SGD, NOTHING_TO_VALIDATE, "data.root=BROKEN"],
    "unreadable_sync": [SYNC, SGD, NOTHING_TO_VALIDATE, "data.root=BROKEN"],
}

EVERYDAY = ("fixed", "unreadable")
NAMES = [name if name in EVERYDAY else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = load_state(folder / "state.pt")
    averages = {"average": state["average"] or {}, "swa": (state["swa"] or {"model": {}})["model"]}
    return {**state["model"], **{f"{name}.{k}": v for name, part in averages.items() for k, v in part.items()}}


def close(one: Path, two: Path, rtol: float = 2e-3, atol: float = 2e-5) -> None:
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=atol)


def run(text: str, out: Path, options: list[str], **named: Any) -> Run:
    return train(parse_recipe(text, options), out, console=named.pop("console", None) or quiet(), **named)


def told_of(run: Run) -> dict[str, Any]:
    return {name: value for name, value in vars(run).items() if name != "folder"}


def stop_at(step: int, here: bool) -> Any:
    """RunLog.step that asks this process to end after a step; the one before, to be put back."""
    before = loop.RunLog.step

    def noted(self: Any, **values: Any) -> None:
        before(self, **values)
        if here and values["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    loop.RunLog.step = noted  # type: ignore[method-assign]
    return before


def worker(rank: int, size: int, text: str, folder: Path, broken: Path, everyday: bool) -> None:
    """Everything that a pair of processes does for the tests below, those of every day or the slow ones."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    told: dict[str, Any] = {}
    options = {name: [o.replace("BROKEN", str(broken)) for o in values] for name, values in RUNS.items()}
    half = "train.batch_size=4"
    for name, values in options.items():
        if (name in EVERYDAY) != everyday:
            continue
        share = "train.batch_size=2" if name == "accumulated" else half
        console = quiet()
        outcome = run(text, folder / name, [*values, share], console=console)
        told[name] = {"outcome": told_of(outcome), "said": console.file.getvalue()}
    if everyday:
        do_more(rank, text, folder, told)
    save_state(folder / f"told{rank}.pt", told)
    torch.distributed.destroy_process_group()


def do_more(rank: int, text: str, folder: Path, told: dict[str, Any]) -> None:
    """What a pair does once: it is interrupted, has a bad loss, is refused, and agrees."""
    half = "train.batch_size=4"
    plain = [half, "train.ema={decay: 0.9}"]
    run(text, folder / "whole", plain)
    before = stop_at(2, here=rank == 1)  # only one process is asked to end
    first = run(text, folder / "parts", plain)
    loop.RunLog.step = before  # type: ignore[method-assign]
    told["interrupted"] = told_of(first)
    torch.distributed.barrier()
    if rank == 0:
        shutil.copytree(folder / "parts", folder / "for_one")
    told["resumed"] = told_of(run(text, folder / "parts", plain, resume=True))

    real, calls = heatmap.heatmap_loss, iter(range(1, 100))

    def bad(*args: Any, **values: Any) -> torch.Tensor:
        loss = real(*args, **values)
        return loss * float("nan") if next(calls) == 2 and rank == 1 else loss

    heatmap.heatmap_loss = bad
    told["bad"] = told_of(run(text, folder / "bad", [SYNC, half, NOTHING_TO_VALIDATE]))
    heatmap.heatmap_loss = real

    try:  # the folder holds a run
        run(text, folder / "bad", [half])
    except (CheckpointError, FirstProcessError) as error:
        told["refused"] = [type(error).__name__, str(error)]

    world = World()
    told["any"], told["sum"], told["gathered"] = world.any(rank == 1), world.sum(rank, 2), world.gather(rank)
    model = create_model("resnet18_slim", input_size=(64, 64))
    network = DistributedModel(world, model)
    model.backbone.bn1.running_mean.fill_(rank + 5.0)
    told["mean"] = network.full_model(model).backbone.bn1.running_mean.tolist()


def dividing_worker(rank: int, size: int, text: str, folder: Path, broken: Path) -> None:
    """Runs whose weights are divided among the processes; others go on with their state, in both ways."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    options = [
        FIXED, "train.batch_size=2", "train.ema={decay: 0.9}", "train.clip_grad=0.05", "train.accumulate=2",
        "train.optimizer={name: adamw, lr: 1.0e-3}", f"data.root={broken}",
    ]  # fmt: skip
    run(text, folder / "replicated", options)
    said = "done"
    try:
        run(text, folder / "sharded", [*options, "train.sharded=true"])
        before = stop_at(2, here=rank == 0)
        run(text, folder / "sharded_parts", [*options, "train.sharded=true"])
        loop.RunLog.step = before  # type: ignore[method-assign]
        if rank == 0:
            shutil.copytree(folder / "sharded_parts", folder / "sharded_then_whole")
        run(text, folder / "sharded_parts", [*options, "train.sharded=true"], resume=True)
        run(text, folder / "sharded_then_whole", options, resume=True)
    except RecipeError as error:
        said = str(error)
    if rank == 0:
        (folder / "said").write_text(said)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def text(recipe_text):
    return recipe_text


@pytest.fixture(scope="module")
def broken(figures, tmp_path_factory):
    """The figures without the photos of everybody that the second process has in the second batch, and one more."""
    folder = tmp_path_factory.mktemp("broken") / "figures"
    shutil.copytree(figures, folder)
    people = PoseDataset([Source(read_annotations(folder / "train.json", folder))], COCO17)
    order = people.epoch_order(0, 0)
    for person in [*order[12:16], order[1]]:
        (folder / f"train{people.photo[person]}.png").unlink()
    return folder


@pytest.fixture(scope="module")
def of_pair(text, broken, tmp_path_factory):
    """Makes the runs of two processes, those of every day or the slow ones: folder, and what each process told."""
    made: dict[bool, tuple[Path, list[dict[str, Any]]]] = {}

    def make(name: str = EVERYDAY[0]) -> tuple[Path, list[dict[str, Any]]]:
        everyday = name in EVERYDAY
        if everyday not in made:
            folder = tmp_path_factory.mktemp("pair")
            torch.multiprocessing.spawn(worker, (2, text, folder, broken, everyday), nprocs=2)
            told = [torch.load(folder / f"told{rank}.pt", weights_only=True) for rank in range(2)]
            made[everyday] = folder, told
        return made[everyday]

    return make


@pytest.fixture(scope="module")
def pair(of_pair):
    """Folder of the runs of every day."""
    return of_pair()[0]


@pytest.fixture(scope="module")
def told(of_pair):
    """What each of the processes told of them."""
    return of_pair()[1]


@pytest.fixture(scope="module")
def alone(text, broken, tmp_path_factory):
    """Makes a run of one process by its name, with the batch of two."""
    made: dict[str, tuple[Path, Run]] = {}

    def make(name: str) -> tuple[Path, Run]:
        if name not in made:
            folder = tmp_path_factory.mktemp("alone") / name
            options = [option.replace("BROKEN", str(broken)) for option in RUNS[name]]
            size = 4 if name == "accumulated" else 8
            made[name] = folder, run(text, folder, [*options, f"train.batch_size={size}"])
        return made[name]

    return make


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one(name, of_pair, alone):
    folder, outcome = alone(name)
    pair, told = of_pair(name)
    assert losses(pair / name) == pytest.approx(losses(folder), rel=2e-4)
    close(folder, pair / name)
    for one in told:
        assert one[name]["outcome"]["steps"] == outcome.steps
        assert set(one[name]["outcome"]["failed_photos"]) == set(outcome.failed_photos)
    one, two = load_state(folder / "state.pt"), load_state(pair / name / "state.pt")
    assert one["images_seen"] == two["images_seen"]
    (of_first,), (of_second,) = two["random"]  # what is dropped at random differs by process
    assert not torch.equal(of_first, of_second)


@pytest.mark.parametrize("name", [*NAMES[:3]])
def test_the_metric_is_what_one_process_measures_on_the_saved_model(name, of_pair, text):
    pair, told = of_pair(name)
    evaluator = build_evaluator(parse_recipe(text))
    figures = evaluator(load_model(pair / name / "last.safetensors"))
    for one in told:
        assert one[name]["outcome"]["last"] == pytest.approx(figures)
        assert one[name]["outcome"]["best"] is not None


@pytest.mark.slow
def test_statistics_over_all_processes_are_those_of_one(of_pair, alone):
    folder, _ = alone("sync")
    one, two = weights(folder), weights(of_pair("sync")[0] / "sync")
    means = [name for name in one if name.endswith("running_mean")]
    assert means
    for name in means:
        for kind in (name, name.replace("mean", "var"), name.replace("running_mean", "num_batches_tracked")):
            torch.testing.assert_close(one[kind], two[kind], rtol=1e-3, atol=1e-5)


def test_the_first_process_alone_speaks(told):
    first, second = (one["fixed"]["said"] for one in told)
    assert "float32 on cpu and 1 more processes" in first
    assert second == ""


def test_photos_that_only_one_process_could_not_read_are_named_by_the_first(pair):
    assert len((pair / "unreadable" / "skipped.txt").read_text().splitlines()) == 5


def test_a_bad_loss_in_one_process_skips_the_step_in_all(pair, told):
    for one in told:
        assert one["bad"]["skipped_steps"] == 1
        assert one["bad"]["steps"] == 6
    after = weights(pair / "bad")
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())
    assert {value.item() for name, value in after.items() if name.endswith("num_batches_tracked")} == {5}


def test_an_interrupt_of_one_process_ends_all_after_the_same_step(pair, told, text):
    for one in told:
        assert not one["interrupted"]["finished"]
        assert one["interrupted"]["steps"] == 2
        assert one["resumed"]["finished"]
        assert one["resumed"]["steps"] == 6
    whole, parts = weights(pair / "whole"), weights(pair / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_one_process_goes_on_where_two_were(pair, text, tmp_path):
    shutil.copytree(pair / "for_one", tmp_path / "out")
    outcome = run(text, tmp_path / "out", ["train.batch_size=8", "train.ema={decay: 0.9}"], resume=True)
    assert outcome.steps == 6
    assert losses(tmp_path / "out") == pytest.approx(losses(pair / "whole"), rel=0.2)  # statistics differ without sync
    assert load_state(tmp_path / "out" / "state.pt")["images_seen"] == 48


def test_another_batch_goes_on_at_the_batch_before(pair, text, tmp_path):
    # 16 of the epoch's 24 images were seen; of batches of 5 three were, of which two are not counted: steps of two.
    shutil.copytree(pair / "for_one", tmp_path / "out")
    options = ["train.batch_size=5", "train.accumulate=2", "train.ema={decay: 0.9}", "train.epochs=1"]
    outcome = run(text, tmp_path / "out", options, resume=True)
    assert load_state(tmp_path / "out" / "state.pt")["images_seen"] == 20
    assert outcome.steps == 2 + 1


def test_what_the_first_process_refuses_ends_the_others(told):
    first, second = (one["refused"] for one in told)
    assert first[0] == "CheckpointError"
    assert "holds a run already" in first[1]
    assert second[0] == "FirstProcessError"


def test_processes_agree(told):
    for one in told:
        assert one["any"] is True
        assert one["sum"] == [1, 4]
        assert one["gathered"] == [0, 1]
        assert set(one["mean"]) == {5.0}  # statistics to be validated and saved are those of the first


@pytest.mark.slow
def test_weights_divided_among_processes(text, broken, tmp_path):
    torch.multiprocessing.spawn(dividing_worker, (2, text, tmp_path, broken), nprocs=2)
    said = (tmp_path / "said").read_text()
    if said != "done":
        assert "needs torch 2.6" in said
        pytest.skip(said)
    # AdamW enlarges rounding; an interruption adds none.
    assert losses(tmp_path / "sharded") == pytest.approx(losses(tmp_path / "replicated"), rel=1e-3)
    assert losses(tmp_path / "sharded_parts") == pytest.approx(losses(tmp_path / "sharded"), rel=1e-6)
    assert losses(tmp_path / "sharded_then_whole") == pytest.approx(losses(tmp_path / "sharded"), rel=1e-3)
    close(tmp_path / "sharded_parts", tmp_path / "sharded", rtol=1e-5, atol=1e-7)
    state, whole = (load_state(tmp_path / name / "state.pt") for name in ("sharded", "replicated"))
    assert state["optimizer"]["state"].keys() == whole["optimizer"]["state"].keys()
    last, same = (load_model(tmp_path / name / "last.safetensors").state_dict() for name in ("sharded", "replicated"))
    assert all(last[name].shape == same[name].shape for name in same)


def test_one_process_has_nothing_to_divide(text, tmp_path):
    with pytest.raises(RecipeError, match="one process only"):
        run(text, tmp_path, ["train.sharded=true"])
    with pytest.raises(RecipeError, match="not with the scaled loss of float16"):
        parse_recipe(text, ["train.sharded=true", "train.precision=float16"])
    with pytest.raises(RecipeError, match="does not go with compile"):
        parse_recipe(text, ["train.sharded=true", "train.compile=true"])


def test_divided_weights_are_not_trained_in_float16(text, tmp_path, monkeypatch):
    recipe = parse_recipe(text, ["train.precision=auto", "train.deterministic=false", "train.sharded=true"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))  # without bfloat16
    device = torch.device("cuda")
    assert choose_precision(recipe, device) == "float32"
    whole = parse_recipe(text, ["train.precision=auto", "train.deterministic=false"])
    assert choose_precision(whole, device) == "float16"
    # A run that was begun in float16 and goes on divided.
    run(text, tmp_path, ["train.epochs=1", NOTHING_TO_VALIDATE])
    save_state(tmp_path / "state.pt", load_state(tmp_path / "state.pt") | {"precision": "float16"})
    with pytest.raises(RecipeError, match="does not go with float16, which the run has"):
        run(text, tmp_path, ["train.sharded=true", "train.precision=auto"], resume=True)


def test_the_rate_counts_the_crops_of_all_processes(text):
    recipe = parse_recipe(text, ["train.base_batch_size=64", "train.accumulate=2"])
    model = build_model(recipe, print)
    assert [build_phases(recipe, model, n)[0].lr for n in (1, 4)] == pytest.approx([2e-3 * 16 / 64, 2e-3 * 64 / 64])
    assert build_phases(recipe, model, 4)[0].images == 32
