"""Other people's detectors in ONNX files: all families, batches, what a file says of itself, what cannot be used."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import onnx_files as files
import pytest
import torch
from onnx_files import IMAGENET, Sees, export, photo
from torch import nn

from fastpose.detection import onnx_session
from fastpose.detection.layouts import LAYOUTS
from fastpose.detection.onnx import OnnxDetector
from fastpose.models.weights import WeightsError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

RTMDET = {"rgb": False, "mean": IMAGENET[0][::-1], "std": (57.375, 57.12, 58.395)}
COCO = str({number: "person" if number == 0 else f"thing {number}" for number in range(80)})
FAMILIES = {
    # layout: what writes it, what it is promised, the file's outputs and metadata, whether the file suppresses itself
    "yolox-grid": (files.yolox_grid, {"rgb": False, "std": 1.0}, {}, False),
    "yolox": (files.yolox, {"rgb": False, "std": 1.0}, {}, False),
    "yolov5": (files.yolov5, {}, {}, False),
    "yolov8": (files.yolov8, {}, {}, False),
    "yolo-nms": (files.yolo_nms, {}, {}, True),
    "mmdeploy": (files.mmdeploy, RTMDET, {"outputs": ("dets", "labels")}, True),
    "detr": (
        files.detr,
        {"person": 1, "mean": IMAGENET[0], "std": IMAGENET[1]},
        {"outputs": ("logits", "pred_boxes")},
        True,
    ),
    "rtdetr": (files.rtdetr, {}, {"outputs": ("logits", "pred_boxes")}, True),
    "rfdetr": (
        files.rfdetr,
        {"person": 1, "mean": IMAGENET[0], "std": IMAGENET[1]},
        {"outputs": ("dets", "labels")},
        True,
    ),
    "rtdetr-boxes": (files.rtdetr_boxes, {}, {"outputs": ("labels", "boxes", "scores")}, True),
    "rtdetr-ultralytics": (files.rtdetr_ultralytics, {}, {"metadata": {"names": COCO}}, True),
    "torchvision": (files.torchvision, {"person": 1}, {"outputs": ("boxes", "labels", "scores")}, True),
}
PHOTOS = {  # rectangles whose edges fall between two pixels of the picture
    (128, 192): [24, 36, 96, 84],
    (192, 128): [12, 48, 108, 180],
    (64, 96): [12, 24, 60, 36],
    (100, 100): None,
}


def photos():
    return [photo(*size, box) for size, box in PHOTOS.items()]


def check(found, *, rows, atol=1e-3):
    for answer, (size, box) in zip(found, PHOTOS.items(), strict=True):
        assert len(answer) == (rows if box else 0)
        if box:
            np.testing.assert_allclose(answer.scores, [0.9, 0.72][:rows], rtol=1e-4)
            np.testing.assert_allclose(answer.boxes[0], box, atol=atol, err_msg=str(size))


@pytest.fixture
def watched(monkeypatch):
    """The pictures of every pass."""
    seen, run = [], onnx_session.OnnxSession.run
    monkeypatch.setattr(onnx_session.OnnxSession, "run", lambda self, pixels: seen.append(pixels) or run(self, pixels))
    return seen


def test_every_family_is_tried():
    assert list(FAMILIES) == list(LAYOUTS)


@pytest.mark.parametrize("layout", FAMILIES)
@pytest.mark.parametrize("batch", ["one", "any"])
def test_every_family_is_recognised_and_read(tmp_path, layout, batch):
    write, promised, written, suppresses = FAMILIES[layout]
    dynamic = (0,) if batch == "any" and layout != "torchvision" else ()
    file = export(tmp_path / "net.onnx", Sees(write, **promised), dynamic=dynamic, **written)
    detector = OnnxDetector(file, device="cpu", threshold=0.5)
    assert detector.layout == layout
    check(detector.detect(photos()), rows=2 if suppresses else 1)
    assert detector.detect([]) == []
    check(OnnxDetector(file, device="cpu", layout=layout, threshold=0.5).detect(photos()), rows=2 if suppresses else 1)
    check(OnnxDetector(file, device="cpu", threshold=0.5, overlap=1.0).detect(photos()), rows=2)
    check(OnnxDetector(file, device="cpu", threshold=0.5, overlap=0.5).detect(photos()), rows=1)
    assert [len(found) for found in detector.detect(photos(), threshold=0.95)] == [0, 0, 0, 0]


CENTRED = {"yolov5", "yolov8", "yolo-nms"}
STRETCHED = {"rtdetr", "rfdetr", "rtdetr-boxes", "rtdetr-ultralytics"}


@pytest.mark.parametrize("layout", FAMILIES)
def test_photos_lie_where_the_family_is_used_to_them(tmp_path, watched, layout):
    write, promised, written, _ = FAMILIES[layout]
    detector = OnnxDetector(export(tmp_path / "net.onnx", Sees(write, **promised), **written), device="cpu")
    watched.clear()
    detector(np.full((192, 128, 3), 255, np.uint8))
    row = watched[0][0, 0, 32]  # of the picture's middle
    white = torch.nonzero(row > row.max() - 1e-3).flatten().tolist()
    expected = (0, 95) if layout in STRETCHED else (26, 67) if layout in CENTRED else (0, 41)
    assert (white[0], white[-1]) == expected


@pytest.mark.parametrize(("batch", "runs"), [(1, [1, 1, 1, 1]), (3, [3, 3]), (None, [3, 1])])
def test_photos_go_in_as_the_file_takes_them(tmp_path, watched, batch, runs):
    shape, dynamic = (batch or 1, 3, 64, 96), () if batch else (0,)
    file = export(tmp_path / "net.onnx", Sees(files.yolov8), shape=shape, dynamic=dynamic)
    detector = OnnxDetector(file, device="cpu", threshold=0.5, batch=None if batch else 3)
    watched.clear()
    check(detector.detect(photos()), rows=1)
    assert [len(pixels) for pixels in watched] == runs


def test_pictures_that_fill_a_batch_are_nobody_s(tmp_path):
    rows = torch.tensor([10.0, 10, 30, 40, 0.9, 0]).expand(3, 1, 6)
    detector = OnnxDetector(export(tmp_path / "net.onnx", Says(rows), shape=(3, 3, 64, 96)), device="cpu")
    assert [len(found) for found in detector.detect([photo(64, 96), photo(64, 96)])] == [1, 1]


def test_wide_and_tall_photos_have_pictures_of_their_own(tmp_path, watched):
    net = Sees(files.mmdeploy, **RTMDET)
    file = export(tmp_path / "net.onnx", net, dynamic=(0, 2, 3), outputs=("dets", "labels"))
    detector = OnnxDetector(file, device="cpu", threshold=0.5, size=96, batch=16)
    watched.clear()
    check(detector.detect(photos()), rows=2)
    assert [list(pixels.shape) for pixels in watched] == [[3, 3, 96, 96], [1, 3, 96, 64]]
    check(OnnxDetector(file, device="cpu", threshold=0.5, size=(64, 96), batch=16).detect(photos()), rows=2)
    assert list(watched[-1].shape) == [4, 3, 64, 96]


def test_torchvision_takes_photos_of_any_size(tmp_path):
    net = Sees(files.torchvision, person=1)

    class Single(nn.Module):
        def forward(self, x):
            return net(x[None])

    file = export(
        tmp_path / "net.onnx", Single(), shape=(3, 64, 96), dynamic=(1, 2), outputs=("boxes", "labels", "scores")
    )
    detector = OnnxDetector(file, device="cpu", threshold=0.5, size=192)
    assert detector.layout == "torchvision"
    check(detector.detect(photos()), rows=2, atol=1.0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_pixels_of_other_kinds(tmp_path, dtype):
    class ChannelsLast(nn.Module):
        def forward(self, x):
            return net(x.permute(0, 3, 1, 2).float())

    net = Sees(files.yolo_nms, std=1.0 if dtype == torch.uint8 else 255.0)
    file = export(tmp_path / "net.onnx", ChannelsLast(), shape=(1, 64, 96, 3), dtype=dtype)
    found = OnnxDetector(file, device="cpu", threshold=0.5).detect(photos())
    assert [len(answer) for answer in found] == [2, 2, 2, 0]
    np.testing.assert_allclose(found[1].boxes[0], PHOTOS[192, 128], atol=1e-3)
    np.testing.assert_allclose(found[1].scores, [0.9, 0.72], rtol=2e-3)


def test_a_file_says_what_its_classes_and_pictures_are(tmp_path):
    net = Sees(lambda *args: files.yolov8(*args, classes=20), person=14)
    said = {"names": str({n: "person" if n == 14 else f"thing {n}" for n in range(20)}), "imgsz": "[64, 96]"}
    said["stride"] = "32"
    check(
        OnnxDetector(export(tmp_path / "a.onnx", net, metadata=said), device="cpu", threshold=0.5).detect(photos()),
        rows=1,
    )
    silent = export(tmp_path / "b.onnx", net)
    with pytest.raises(ValueError, match=r"person_class: is needed, as .*b.onnx has 20 classes"):
        OnnxDetector(silent, device="cpu")
    check(OnnxDetector(silent, device="cpu", threshold=0.5, person_class=14).detect(photos()), rows=1)
    with pytest.raises(ValueError, match=r"person_class: .*b.onnx has 20 classes, counted from 0, got 20"):
        OnnxDetector(silent, device="cpu", person_class=20)
    animals = export(tmp_path / "c.onnx", net, metadata={"names": "['cat', 'dog']"})
    with pytest.raises(ValueError, match=r"person_class: .* names no class of people: \['cat', 'dog'\]"):
        OnnxDetector(animals, device="cpu")


def test_more_columns_where_the_file_says_that_it_suppresses(tmp_path):
    """Poses with NMS inside: keypoints behind the class."""

    def poses(*args):
        table = files.yolo_nms(*args)
        return torch.cat([table, table.new_zeros(1, 1, 51).expand(table.shape[0], table.shape[1], -1)], -1)

    said = {"names": "{0: 'person'}", "args": "{'nms': True}", "task": "pose"}
    file = export(tmp_path / "net.onnx", Sees(poses), metadata=said)
    detector = OnnxDetector(file, device="cpu", threshold=0.5)
    assert detector.layout == "yolo-nms"
    check(detector.detect(photos()), rows=2)


def test_damaged_metadata_say_nothing(tmp_path):
    said = {"names": "{0: 'pers", "imgsz": "[0, 'x']", "stride": "many", "args": "[]", "end2end": "()"}
    file = export(tmp_path / "net.onnx", Sees(files.yolov8), metadata=said)
    check(OnnxDetector(file, device="cpu", threshold=0.5).detect(photos()), rows=1)


def test_options_win(tmp_path):
    file = export(tmp_path / "net.onnx", Sees(files.yolov8, rgb=False, mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0)))
    options = {"rgb": False, "mean": (10.0, 20.0, 30.0), "std": (2.0, 3.0, 4.0)}
    check(OnnxDetector(file, device="cpu", threshold=0.5, **options).detect(photos()), rows=1)
    one = OnnxDetector(file, device="cpu", threshold=0.5, overlap=1.0, most=1, **options).detect(photos())
    assert [len(found) for found in one] == [1, 1, 1, 0]


class Says(nn.Module):
    """The same whatever it sees."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = [torch.as_tensor(answer) for answer in answers]

    def forward(self, x):
        nothing = 0 * x.sum()
        return tuple(answer + nothing.to(answer.dtype) for answer in self.answers)


def test_boxes_that_are_none_are_left_out(tmp_path):
    nan, inf = float("nan"), float("inf")
    rows = [
        [10, 10, 30, 40, 0.9, 0],
        [nan, 10, 30, 40, 0.8, 0],
        [10, 10, inf, 40, 0.8, 0],
        [30, 40, 10, 10, 0.8, 0],
        [10, 10, 30, 40, nan, 0],
        [10, 10, 30, 40, 0.8, nan],
        [-50, -50, -10, -10, 0.8, 0],
        [50, 10, 50, 40, 0.8, 0],
        [-20, -5, 500, 600, 0.7, 0],
    ]
    file = export(tmp_path / "net.onnx", Says([rows]))
    found = OnnxDetector(file, device="cpu")(photo(64, 96))
    assert found.boxes.tolist() == [[10, 10, 30, 40], [0, 0, 96, 64]]
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    empty = export(tmp_path / "empty.onnx", Says(torch.zeros(1, 0, 5), torch.zeros(1, 0)), outputs=("dets", "labels"))
    assert len(OnnxDetector(empty, device="cpu")(photo(64, 96))) == 0


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        ([torch.zeros(1, 1000)], {}, r"not those of a detector that is known: found output0 \[1, 1000\]"),
        ([torch.zeros(1, 17, 64, 48)], {}, r"found output0 \[1, 17, 64, 48\]"),
        ([torch.zeros(1, 77, 30)], {}, r"found output0 \[1, 77, 30\] for a picture of 64x96; layout says how"),
        ([torch.full((1, 126, 85), torch.nan)], {}, r"found output0 \[1, 126, 85\] \(not finite\)"),
        ([torch.zeros(1, 126, 85)], {"layout": "mmdeploy"}, r"not those of the layout 'mmdeploy': found output0"),
        ([torch.zeros(1, 99, 85)], {"layout": "yolox-grid"}, "a picture of 64x96 has 126 cells, expected as many"),
        ([torch.full((1, 126, 85), 0.3)], {"layout": "yolo-nms"}, "expected whole numbers as classes"),
        (
            [torch.full((1, 84, 126), 7.0)],
            {},
            r"output0 \[1, 84, 126\] cannot be read as yolov8: expected scores from 0 to 1, got 7",
        ),
        ([torch.zeros(2, 300, 6)], {}, "expected the boxes of 1 pictures"),
        ([torch.zeros(1, 8, 80), torch.full((1, 8, 4), 50.0)], {}, r"found output0 \[1, 8, 80\], output1 \[1, 8, 4\]"),
    ],
)
def test_what_is_no_detector_is_named_with_its_outputs(tmp_path, answers, options, message):
    names = tuple(f"output{number}" for number in range(len(answers)))
    file = export(tmp_path / "net.onnx", Says(*answers), outputs=names)
    with pytest.raises(WeightsError, match=rf"net.onnx: .*{message}"):
        OnnxDetector(file, device="cpu", **options)


def test_files_that_cannot_be_read_are_named(tmp_path):
    whole = export(tmp_path / "net.onnx", Sees(files.yolov8)).read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no network\n" * 99}.items():
        file = tmp_path / f"{name}.onnx"
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{name}.onnx: ONNX Runtime cannot load it: "):
            OnnxDetector(file, device="cpu")
    for missing in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(WeightsError, match="there is no such file"):
            OnnxDetector(missing, device="cpu")


def test_another_input_is_named(tmp_path):
    file = export(tmp_path / "gray.onnx", Says(torch.zeros(1, 84, 126)), shape=(1, 1, 64, 96))
    with pytest.raises(WeightsError, match=r"gray.onnx: expected one input .* found images \[1, 1, 64, 96\] tensor"):
        OnnxDetector(file, device="cpu")
    file = export(tmp_path / "flat.onnx", Says(torch.zeros(1, 84, 126)), shape=(1, 300))
    with pytest.raises(WeightsError, match=r"found images \[1, 300\] tensor\(float\)"):
        OnnxDetector(file, device="cpu")

    class Picky(nn.Module):
        def forward(self, x):
            return (x.reshape(1, 3, 64 * 96).sum((1, 2)) * 0)[:, None, None] + torch.zeros(1, 84, 126)

    file = export(tmp_path / "picky.onnx", Picky(), dynamic=(2, 3))
    with pytest.raises(WeightsError, match=r"picky.onnx: fails for pictures \[1, 3, 640, 640\] as images: "):
        OnnxDetector(file, device="cpu")
    assert OnnxDetector(file, device="cpu", size=(64, 96)).layout == "yolov8"


def test_options_that_are_wrong_are_named(tmp_path):
    file = export(tmp_path / "net.onnx", Sees(files.yolov8))
    with pytest.raises(ValueError, match=r"layout: expected one of yolox-grid, .*, got 'yolo11'"):
        OnnxDetector(file, device="cpu", layout="yolo11")
    for size, message in ((320, r"takes pictures of \(64, 96\) only, got 320"), (0, "got 0"), ((3,), "got \\(3,\\)")):
        with pytest.raises(ValueError, match=f"size: .*{message}"):
            OnnxDetector(file, device="cpu", size=size)
    with pytest.raises(ValueError, match="batch: expected at least 1 photo, got 0"):
        OnnxDetector(file, device="cpu", batch=0)
    detector = OnnxDetector(file, device="cpu", size=(64, 96))
    with pytest.raises(TypeError, match="photo 1: expected uint8"):
        detector.detect([photo(9, 9), np.zeros((9, 9, 3))])
    with pytest.raises(ValueError, match="photo 1: expected shape"):
        detector.detect([photo(9, 9), np.zeros((9, 9), np.uint8)])


def test_one_pool_of_threads_as_large_as_torch_has(tmp_path):
    detector = OnnxDetector(export(tmp_path / "net.onnx", Sees(files.yolov8)), device="cpu")
    options = detector._session._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (torch.get_num_threads(), 1)


def test_a_gpu_that_was_asked_for_is_never_silently_the_cpu(monkeypatch):
    monkeypatch.setattr(onnx_session, "pick_device", lambda device: torch.device("cuda", 0))
    for name in ("cuda", torch.device("cuda", 0)):
        with pytest.raises(ValueError, match=r"device: 'cuda.*has no CUDAExecutionProvider .*onnxruntime-gpu"):
            onnx_session._find_device(name, ["CPUExecutionProvider"])
    assert onnx_session._find_device(None, ["CPUExecutionProvider"]).type == "cpu"
    assert onnx_session._find_device(None, ["CUDAExecutionProvider"]).type == "cuda"


def test_without_onnx_runtime_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'fastpose-torch\[onnx\]'"):
        OnnxDetector("net.onnx", device="cpu")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "key", "options", "close"),
    [
        # The figures were made with OpenCV's resize, without antialiasing for YOLOX: half of its boxes differ by 2 %.
        ("yolox_nano", "yolox_nano", {}, (0.80, 0.97)),
        ("rtmdet_nano_end2end", "rtmdet_nano_320", {"size": (320, 320)}, (0.95, 0.99)),
    ],
)
def test_real_detectors_find_what_they_are_known_to_find(shared, file, key, options, close):
    boxes = json.loads((shared / "real" / "boxes.json").read_text())
    detector = OnnxDetector(shared / "real" / f"{file}.onnx", device="cpu", **options)
    found = detector.detect([cv2.imread(str(shared / "data" / name)) for name in boxes])
    overlaps = []
    for answer, rows in zip(found, boxes.values(), strict=True):
        known = np.array(rows[key]).reshape(-1, 5)
        known = known[known[:, 4] > 0.5]
        overlaps += pairs(answer.boxes, known[:, :4]).max(0).tolist()
        sure = answer.boxes[answer.scores > 0.6]
        assert (pairs(sure, np.array(rows[key])[:, :4]).max(1, initial=0) > 0.5).all()
    assert len(overlaps) > 30
    assert (min(overlaps) > close[0], np.median(overlaps) > close[1]) == (True, True), sorted(overlaps)[:5]


def pairs(a, b):
    """Intersection over union [N, M]."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1)[None] - shared)
