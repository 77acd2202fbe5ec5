"""``fastpose train`` and ``fastpose eval`` from end to end, on rendered scenes and on a drawn photo."""

import json

import cv2
import numpy as np
import pytest
import yaml

from fastpose.cli import main
from fastpose.data.synthetic import render_scene

RECIPE = """
name: tiny
model: {name: resnet18_slim, skeleton: coco17, options: {input_size: [64, 64]}}
data: {train: [{synthetic: {scenes: 16, people: 1, size: [64, 64]}}]}
train: {epochs: 1, batch_size: 8, precision: float32}
"""


def fastpose(capsys, *arguments):
    """Exit code, standard output, error output."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code, *capsys.readouterr()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with ``tiny.yaml`` and the run ``out`` made from it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(RECIPE)
    with pytest.raises(SystemExit) as stop:
        main(["train", str(folder / "tiny.yaml"), "--out", str(folder / "out"), "train.optimizer.lr=1e-3"])
    assert stop.value.code == 0
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with two photos and ``truth.json``."""
    folder = tmp_path_factory.mktemp("photos")
    images, annotations = [], []
    for number in range(2):
        picture, truth = render_scene(number, (96, 96), 1)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 96})
        x1, y1, x2, y2 = truth.boxes[0].tolist()
        keypoints = np.concatenate([truth.keypoints[0], truth.visible[0][:, None]], 1)
        annotations.append(
            {
                "id": number + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 4000.0, "keypoints": keypoints.ravel().tolist(),
            }
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(truth.skeleton.keypoints)}
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    return folder


def test_train_writes_model_state_recipe_and_log(trained):
    names = {file.name for file in (trained / "out").iterdir()}
    assert {"best.safetensors", "last.safetensors", "state.pt", "recipe.yaml", "log.csv"} <= names
    resolved = yaml.safe_load((trained / "out" / "recipe.yaml").read_text())
    assert resolved["train"]["optimizer"]["lr"] == 1e-3


@pytest.mark.parametrize("metric", ["pck", "coco_ap"])
def test_eval_prints_and_writes_the_figures(trained, photos, tmp_path, capsys, metric):
    code, out, err = fastpose(
        capsys, "eval", trained / "out" / "best.safetensors", "--data", photos / "truth.json", "--metric", metric,
        "--no-flip-test", "--json", tmp_path / "figures.json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads((tmp_path / "figures.json").read_text())
    deciding = "PCK@0.2" if metric == "pck" else "AP"
    assert 0 <= report["figures"][deciding] <= 1
    assert report["people"] == 2
    assert report["settings"]["flip_test"] is False
    assert set(report["versions"]) == {"fastpose", "python", "torch", "numpy"}
    assert deciding in out


def test_eval_of_saved_predictions_gives_the_same_figures(trained, photos, tmp_path, capsys):
    for metric in ("coco_ap", "pck"):
        options = ("--data", photos / "truth.json", "--metric", metric, "--bootstrap", 20)
        code, _, err = fastpose(
            capsys, "eval", trained / "out" / "best.safetensors", *options, "--save-predictions",
            tmp_path / "results.json", "--json", tmp_path / "model.json",
        )  # fmt: skip
        assert code == 0, err
        code, out, err = fastpose(
            capsys, "eval", "--predictions", tmp_path / "results.json", *options, "--json", tmp_path / "file.json"
        )
        assert code == 0, err
        assert "95 % interval" in out
        model, file = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("model", "file"))
        for part in ("figures", "intervals", "errors"):
            assert model[part] == file[part]
        assert (file["model"], file["settings"]["flip_test"], file["settings"]["nms"]) == (None, None, None)
        assert model["settings"]["nms"] == "oks_nms"


def test_eval_says_who_has_no_result(trained, photos, tmp_path, capsys):
    values = json.loads((photos / "truth.json").read_text())["annotations"][0]["keypoints"]
    results = [{"image_id": 0, "id": 1, "keypoints": values, "score": 0.5}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    arguments = ("eval", "--predictions", tmp_path / "results.json", "--data", photos / "truth.json")
    code, _, err = fastpose(capsys, *arguments, "--metric", "pck")
    assert code == 0
    assert "wrong, no result: 1" in err
    for text, said in (("[]", "empty"), (json.dumps(results)[:-9], "cannot be read as JSON")):
        (tmp_path / "results.json").write_text(text)
        code, _, err = fastpose(capsys, *arguments)
        assert code == 2
        assert said in err


def test_eval_draws_the_errors(photos, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    people = json.loads((photos / "truth.json").read_text())["annotations"]
    results = [{"image_id": p["image_id"], "keypoints": p["keypoints"], "score": 0.5} for p in people]
    (tmp_path / "results.json").write_text(json.dumps(results))
    code, _, err = fastpose(
        capsys, "eval", "--predictions", tmp_path / "results.json", "--data", photos / "truth.json",
        "--errors", tmp_path / "errors.png",
    )  # fmt: skip
    assert code == 0, err
    assert cv2.imread(str(tmp_path / "errors.png")).shape[2] == 3


def test_eval_offers_the_metrics_there_are(capsys):
    from fastpose.metrics import METRICS

    code, out, _ = fastpose(capsys, "eval", "--help")
    assert code == 0
    assert all(name in out for name in METRICS)


@pytest.mark.slow
def test_eval_under_torchrun(trained, photos, tmp_path, torchrun):
    reports = []
    for count in (1, 2):
        file = tmp_path / f"{count}.json"
        model = trained / "out" / "best.safetensors"
        done = torchrun(count, "eval", model, "--data", photos / "truth.json", "--json", file)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("2 people") == 1  # the first process alone speaks
        reports.append(json.loads(file.read_text()))
    one, two = reports
    assert one["figures"] == pytest.approx(two["figures"], abs=1e-6)
    assert (one["people"], one["results"]) == (two["people"], two["results"]) == (2, 2)


def test_eval_with_detections(trained, photos, tmp_path, capsys):
    boxes = [{"image_id": i % 2, "category_id": 1, "bbox": [5, 5, 80, 80], "score": 0.9} for i in range(3)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    arguments = ("eval", trained / "out" / "best.safetensors", "--data", photos / "truth.json", "--detections")
    code, out, _ = fastpose(capsys, *arguments, tmp_path / "boxes.json")
    assert code == 0
    assert "3 people" in out
    code, _, err = fastpose(capsys, *arguments, tmp_path / "boxes.json", "--metric", "pck")
    assert code == 2
    assert "--detections" in err


@pytest.fixture
def unlabelled(photos, tmp_path):
    """What COCO's image_info files are, with two detections."""
    content = json.loads((photos / "truth.json").read_text())
    categories = [{"id": 1, "name": "person"}, {"id": 62, "name": "chair"}]
    (tmp_path / "info.json").write_text(json.dumps({"images": content["images"], "categories": categories}))
    boxes = [
        {key: p[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.8} for p in content["annotations"]
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    return tmp_path


def test_eval_of_photos_without_annotations_writes_the_predictions(trained, photos, unlabelled, capsys):
    data = ("--data", unlabelled / "info.json", "--images", photos, "--detections", unlabelled / "boxes.json")
    model = trained / "out" / "best.safetensors"
    code, _, err = fastpose(capsys, "eval", model, *data[:4])
    assert code == 2
    assert (
        "no annotations, so there is nothing to measure; with --detections FILE or --detector NAME, and --save" in err
    )
    code, _, err = fastpose(capsys, "eval", model, *data)
    assert code == 2
    assert "nothing to measure; --save-predictions FILE writes what a model predicts" in err
    code, out, err = fastpose(capsys, "eval", model, *data, "--save-predictions", unlabelled / "out.json")
    assert code == 0
    assert "2 poses of 2 boxes" in out
    assert "nothing to measure" in err
    written = json.loads((unlabelled / "out.json").read_text())
    # They are what the same boxes give beside annotations.
    known = ("--data", photos / "truth.json", "--detections", unlabelled / "boxes.json")
    code, _, err = fastpose(capsys, "eval", model, *known, "--save-predictions", unlabelled / "known.json")
    assert code == 0, err
    assert written == json.loads((unlabelled / "known.json").read_text())
    assert {len(entry["keypoints"]) for entry in written} == {51}


def test_eval_takes_the_carried_model_where_none_is_named(photos, capsys):
    code, out, err = fastpose(capsys, "eval", "--data", photos / "truth.json", "--metric", "pck")
    assert code == 0, err
    assert out.startswith("resnet18_slim_refined.people_160x160 on truth.json: pck, 2 people, flip test on")


def test_eval_says_so_where_sigmas_are_made_up(photos, tmp_path, capsys):
    content = json.loads((photos / "truth.json").read_text())
    content["categories"][0]["keypoints"] = [f"point {number}" for number in range(17)]
    results = [p | {"score": 0.5} for p in content["annotations"]]
    for name, value in (("truth", content), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    words = ("eval", "--data", tmp_path / "truth.json", "--predictions", tmp_path / "results.json")
    code, out, err = fastpose(capsys, *words, "--json", tmp_path / "report.json")
    assert code == 0, err
    assert "coco_ap by made-up sigmas (0.079 each; none are known for these keypoints)" in out
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["sigmas_known"] is False
    code, out, err = fastpose(capsys, *words, "--sigmas", ",".join(["0.1"] * 17), "--json", tmp_path / "report.json")
    assert code == 0, err
    assert "made-up" not in out
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["sigmas_known"] is True


def test_eval_of_other_keypoints_than_the_models_names_both(photos, tmp_path, capsys):
    content = json.loads((photos / "truth.json").read_text())
    content["categories"][0] |= {"name": "mouse", "keypoints": [f"point {number}" for number in range(17)]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    code, _, err = fastpose(capsys, "eval", "--data", tmp_path / "truth.json", "--images", photos)
    assert code == 2
    assert "lacks point 0, point 1, point 2, point 3, point 4, … of the data ('mouse')" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "no_such_recipe"), "no recipe or zoo entry is named 'no_such_recipe'"),
        (("train", "RECIPE", "train.epoch=1"), "did you mean train.epochs"),
        (("train", "RECIPE", "data.train.0={annotations: gone.json}"), "gone.json"),
        (("train", "RECIPE", "model.name=resnet18_slimmer"), "resnet18_slim"),
        (("train", "RECIPE", "--out", "OUT"), "--resume"),
        (("train", "RECIPE", "--resume"), "state.pt"),
        (("eval", "gone.safetensors", "--data", "TRUTH"), "gone.safetensors"),
        (("eval", "no_such_model", "--data", "TRUTH"), "no_such_model"),
        (("eval", "MODEL", "--data", "gone.json"), "gone.json"),
        (("eval", "MODEL", "--data", "MODEL"), "best.safetensors"),
        (("eval", "MODEL", "--data", "TRUTH", "--images", "EMPTY"), "no photo can be read"),
        (("eval", "MODEL", "--data", "TRUTH", "--format", "voc"), "format: expected one of 300w, 300wlp"),
        (("eval", "MODEL", "--data", "TRUTH", "--format", "mpii"), "expected a list of people, got an object"),
        (("eval", "MODEL", "--data", "TRUTH", "--split", "val"), "split: no part is named 'val'"),
        (("eval", "MODEL"), "--data"),
        (("eval", "MODEL", "--predictions", "TRUTH", "--data", "TRUTH"), "either MODEL or --predictions"),
        (("eval", "--predictions", "MODEL", "--data", "TRUTH"), "best.safetensors: cannot be read as JSON"),
        (("eval", "--predictions", "TRUTH", "--data", "TRUTH"), "has no score"),
        (("eval", "MODEL", "--data", "TRUTH", "--sigmas", "0.1,x"), "expected numbers with commas"),
        (("eval", "MODEL", "--data", "TRUTH", "--sigmas", "0.1"), "sigmas: expected 17"),
        (("eval", "MODEL", "--data", "TRUTH", "--metric", "mpii_pckh"), "no head boxes"),
        (("eval", "MODEL", "--data", "TRUTH", "--metric", "pck", "--errors", "e.png"), "--errors goes with"),
        (("eval", "MODEL", "--data", "TRUTH", "--metric", "pck", "--no-area"), "--area goes with average precision"),
        (("eval", "--predictions", "TRUTH", "--data", "TRUTH", "--scales", "1,2"), "--scales goes with MODEL"),
        (("eval", "--predictions", "TRUTH", "--data", "TRUTH", "--no-flip-test"), "--flip-test goes with MODEL"),
        (("eval", "MODEL", "--data", "TRUTH", "--metric", "ap"), "--metric': expected one of auto, coco_ap"),
        (("eval", "MODEL", "--data", "TRUTH", "--save-predictions", "preds.mat"), "a .mat file holds MPII's 16"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(trained, photos, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    places = {
        "RECIPE": trained / "tiny.yaml",
        "OUT": trained / "out",
        "MODEL": trained / "out" / "best.safetensors",
        "TRUTH": photos / "truth.json",
        "EMPTY": tmp_path,
    }
    code, _, err = fastpose(capsys, *(places.get(word, word) for word in arguments))
    assert code == 2
    assert said in err
    assert err.strip().count("\n") == 0
    assert "Traceback" not in err
