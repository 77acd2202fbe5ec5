"""People who are found: photos in batches, in their order; what is chosen of what was found; detectors that fail."""

from __future__ import annotations

import itertools
import time
import weakref

import cv2
import numpy as np
import pytest
import torch
from fake_detector import FakeDetector
from spot_model import random_spots, spot_model

from fastpose import Detections
from fastpose.data.synthetic import render_scene
from fastpose.models import WeightsError
from fastpose.predict import Predictor, find_people, load
from fastpose.predict import finder as module

BOX = [5.0, 5, 80, 80]


def one(photo):
    """A box of the whole photo, with a score that tells its width."""
    height, width = photo.shape[:2]
    return Detections(np.float32([[0, 0, width, height]]), np.float32([width / 10_000]))


@pytest.fixture
def detector():
    return FakeDetector(one)


@pytest.fixture
def finding(detector):
    return Predictor(spot_model(flip_test=False), device="cpu", detector=detector)


def photos_of(widths, height=90):
    return [random_spots(number, (height, width))[0] for number, width in enumerate(widths)]


def test_without_boxes_the_detector_says_who_is_there(finding, predictor, detector, recwarn):
    photos = photos_of(range(60, 100))
    found = finding(photos)
    assert detector.asked == [16, 16, 8]
    assert detector.log == ["submit 0", "read 0", "submit 1", "read 1", "submit 2", "read 2"]
    for photo, poses, wanted in zip(photos, found, predictor(photos, "whole"), strict=True):
        assert poses.image_size == photo.shape[:2]
        np.testing.assert_allclose(poses.keypoints, wanted.keypoints, atol=1e-4)
        np.testing.assert_allclose(poses.box_scores, [photo.shape[1] / 10_000])
        assert set(poses.milliseconds) == {"detect", "crop", "network", "decode"}
        assert poses.milliseconds["detect"] >= 0
    assert not recwarn.list
    assert finding.detector is detector


def test_boxes_that_are_given_win(finding, detector):
    photo = photos_of([100])[0]
    assert finding(photo, [BOX]).boxes.tolist() == [BOX]
    assert finding(photo, "whole").boxes.tolist() == [[0, 0, 100, 90]]
    assert len(finding(photo, [])) == 0
    assert detector.asked == []
    other = FakeDetector(lambda photo: [[1, 2, 30, 40]])
    assert finding(photo, other).boxes.tolist() == [[1, 2, 30, 40]]
    assert (detector.asked, other.asked) == ([], [1])


@pytest.mark.parametrize(("batch_size", "asked"), [(1, [1] * 5), (4, [4, 1]), (100, [5])])
def test_no_more_photos_at_once_than_people(finding, detector, batch_size, asked):
    finding(photos_of(range(60, 65)), batch_size=batch_size)
    assert detector.asked == asked


def test_large_photos_do_not_wait_for_a_full_batch(finding, detector, monkeypatch):
    photos = photos_of([100] * 5)
    monkeypatch.setattr(module, "_ROOM", 2 * photos[0].nbytes)
    finding(photos)
    assert detector.asked == [2, 2, 1]


def test_every_way_of_saying_where_people_are_side_by_side(finding, detector):
    other = FakeDetector(lambda photo: [[1, 2, 30, 40]])
    ways = [None, [BOX], other, "whole", lambda photo: [[2, 2, 40, 60]], [], None, other, Detections([BOX])]
    widths = range(60, 60 + len(ways))
    found = list(finding.stream(zip(photos_of(widths), ways, strict=True)))
    assert [poses.boxes.tolist() for poses in found] == [
        [[0, 0, 60, 90]], [BOX], [[1, 2, 30, 40]], [[0, 0, 63, 90]], [[2, 2, 40, 60]], [],
        [[0, 0, 66, 90]], [[1, 2, 30, 40]], [BOX],
    ]  # fmt: skip
    assert (detector.asked, other.asked) == ([2], [2])


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_gives_what_each_photo_gives_alone(graphed, seed):
    """Also where batches are under way while the next ones are made, and where some photos cannot be used."""
    rng = np.random.default_rng(seed)
    predictor, _ = graphed(spot_model(flip_test=False))

    def some(photo):
        count = photo.shape[1] % 4
        if count == 3:
            raise RuntimeError("three is a crowd")
        return np.repeat([BOX], count, axis=0) + np.arange(count)[:, None]

    ways = [FakeDetector(some), FakeDetector(one), some, "whole", [BOX], [], "nonsense"]
    chosen = [ways[int(number)] for number in rng.integers(0, len(ways), 50)]
    photos = photos_of(rng.integers(60, 100, 50).tolist())
    pairs = list(zip(photos, chosen, strict=True))
    options = {"on_error": "skip", "nms_threshold": None}
    together = list(predictor.stream(pairs, batch_size=int(rng.integers(1, 20)), **options))
    alone = [predictor(photo, way, **options) for photo, way in pairs]
    assert len(together) == 50
    for found, wanted in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found.boxes, wanted.boxes)
        np.testing.assert_allclose(found.keypoints, wanted.keypoints, atol=1e-4)
        assert (found.error is None) == (wanted.error is None)
        assert found.image_size == wanted.image_size
    assert {poses.error is None for poses in together} == {True, False}


def test_those_behind_one_who_is_looked_for_do_not_wait_for_ever(finding):
    """The batch of a photo that is to be asked about is never filled by photos whose people are known."""
    drawn = 0

    def photos():
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield random_spots(0)[0], None if number == 0 else [BOX]

    stream = finding.stream(photos(), max_wait=float("inf"), batch_size=16)
    next(stream)
    assert drawn == 16


def test_a_stream_is_drawn_no_further_than_a_batch(finding):
    drawn = 0

    def camera():
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield random_spots(number % 3)[0]

    stream = finding(camera(), batch_size=1)
    for expected in (1, 2, 3):
        next(stream)
        assert drawn == expected
    drawn = 0
    next(finding(camera(), batch_size=4, max_wait=float("inf")))
    assert drawn == 4


def test_a_photo_waits_no_longer_than_asked(finding, detector):
    def camera():
        for number in range(1000):
            time.sleep(0.02)
            yield random_spots(number % 3)[0]

    stream = finding(camera(), batch_size=500, max_wait=0.1)
    next(stream)
    assert 2 <= detector.asked[0] <= 8  # six, or fewer on a busy machine; 16 without the limit
    slow = Predictor(spot_model(), device="cpu", detector=FakeDetector(lambda photo: []))
    assert len(next(slow(camera(), batch_size=500, max_wait=0.1))) == 0


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("people", [0, 1])
def test_photos_are_let_go_of(people, keep, monkeypatch):
    """Of a long stream no more photos are in memory than the batches hold, however they are made."""
    alive = 0

    def gone():
        nonlocal alive
        alive -= 1

    def camera():
        nonlocal alive
        for _ in range(200):
            photo = random_spots(0, (90, 100))[0]
            weakref.finalize(photo, gone)
            alive += 1
            yield photo

    predictor = Predictor(spot_model(), device="cpu", detector=FakeDetector(lambda photo: [BOX] * people))
    most = 0
    for poses in predictor(camera(), batch_size=4, max_wait=float("inf"), keep_images=keep):
        assert len(poses) == people
        most = max(most, alive)
    assert most <= 10
    del poses
    assert alive <= 4  # the last call is in the detector's diary


def test_images_that_wait_for_their_turn_count(predictor, monkeypatch):
    """They are kept until the photo before them is done, which may wait for others."""
    photos = photos_of([100] * 30)
    monkeypatch.setattr("fastpose.predict.predictor.MAX_HELD_BYTES", 4 * photos[0].nbytes)
    launched = []
    launch = type(predictor)._launch
    monkeypatch.setattr(type(predictor), "_launch", lambda *given: launched.append(given[1].bytes) or launch(*given))
    boxes = [[BOX] if number % 10 == 0 else [] for number in range(30)]
    found = predictor.stream(list(zip(photos, boxes, strict=True)), keep_images=True)
    assert sum(len(poses) for poses in found) == 3
    assert launched == [4 * photos[0].nbytes] * 3


# --- on a GPU -----------------------------------------------------------------------------------------------------
def test_the_next_batch_is_submitted_before_this_one_is_read(graphed):
    predictor, cuda = graphed(spot_model(flip_test=False))
    detector = FakeDetector(one)
    sent = []
    send = cuda.send
    cuda.send = lambda values: sent.append(values) or send(values)
    photos = photos_of([100] * 40)
    found = predictor(photos, detector)
    assert [len(poses) for poses in found] == [1] * 40
    assert detector.log == ["submit 0", "submit 1", "read 0", "submit 2", "read 1", "read 2"]
    assert len({id(values) for values in sent if values.dtype == torch.uint8}) >= 40
    detector.log.clear()
    detector.asked.clear()
    list(predictor(iter(photos), detector, max_wait=float("inf")))
    assert detector.log == ["submit 0", "read 0", "submit 1", "read 1", "submit 2", "read 2"]


def test_a_photo_reaches_the_device_once(graphed, monkeypatch):
    """The detector gets the tensor of which crops are made, within a turn, in which what was sent is there."""
    predictor, cuda = graphed(spot_model(flip_test=False))
    there, cropped = {}, []
    send = cuda.send

    def sending(values):
        if values.dtype == torch.uint8 and id(values) not in there:
            copy = send(values)
            there[id(copy)] = copy
            return copy
        return values if id(values) in there else send(values)  # as `to` does of what is there already

    cuda.send = sending
    detector = FakeDetector(one)
    inside = []
    submit = detector.submit
    monkeypatch.setattr(detector, "submit", lambda *given: inside.append(cuda._inside) or submit(*given))
    affine_crop = predictor_module().affine_crop
    monkeypatch.setattr(predictor_module(), "affine_crop", lambda *a, **k: cropped.extend(a[0]) or affine_crop(*a, **k))
    predictor(photos_of([100] * 3), detector)
    assert inside == [True]
    assert len(there) == 3
    assert [id(photo) for photo in detector.pixels] == [id(photo) for photo in cropped] == list(there)


def predictor_module():
    from fastpose.predict import predictor

    return predictor


def test_a_detector_elsewhere_gets_the_photos_where_they_are(graphed):
    """Only those on which somebody was found are sent."""
    predictor, cuda = graphed(spot_model(flip_test=False))
    sent = []
    send = cuda.send
    cuda.send = lambda values: sent.append(values.dtype) or send(values)
    detector = FakeDetector(lambda photo: one(photo) if photo.shape[1] == 100 else [], device="meta")
    detector.device = torch.device("cpu", 0)  # not the engine's
    assert [len(poses) for poses in predictor(photos_of([100, 90, 80]), detector)] == [1, 0, 0]
    assert sent.count(torch.uint8) == 1


# --- what is chosen of what was found -----------------------------------------------------------------------------
ROWS = [[0, 0, 50, 80, 0.9], [0, 0, 20, 30, 0.6], [10, 10, 90, 60, 0.6], [5, 5, 15, 60, 0.3]]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"detect_threshold": 0.5}, [0, 1, 2]),
        ({"box_threshold": 0.7}, [0]),
        ({"max_people": 2}, [0, 2]),  # of equal scores the larger box
        ({"max_people": 9}, [0, 1, 2, 3]),
        ({"min_size": 31}, [0, 2, 3]),
        ({"min_size": 30}, [0, 1, 2, 3]),  # the longer side
        ({"min_size": 31, "max_people": 1, "detect_threshold": 0.5}, [0]),
    ],
)
def test_who_is_taken(finding, options, kept):
    photo = photos_of([100])[0]
    batch = FakeDetector(lambda photo: ROWS)
    for found in (batch, lambda photo: ROWS):
        poses = finding(photo, found, nms_threshold=None, **options)
        np.testing.assert_array_equal(poses.boxes, np.float32(ROWS)[kept, :4])
        np.testing.assert_array_equal(poses.box_scores, np.float32(ROWS)[kept, 4])
    assert batch.thresholds == [options.get("detect_threshold")]
    [people] = find_people([photo], batch, **options)
    np.testing.assert_array_equal(people.detections.boxes, np.float32(ROWS)[kept, :4])


def test_given_boxes_are_chosen_alike(finding):
    photo = photos_of([100])[0]
    boxes = np.float32(ROWS)[:, :4]
    np.testing.assert_array_equal(finding(photo, boxes, max_people=2).boxes, boxes[[0, 2]])  # the largest
    np.testing.assert_array_equal(finding(photo, boxes, min_size=31).boxes, boxes[[0, 2, 3]])
    assert len(finding(photo, boxes, detect_threshold=0.99)) == 4  # no detector has found them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detect_threshold": 1.5}, "detect_threshold: expected 0 to 1, got 1.5"),
        ({"detect_threshold": "high"}, "detect_threshold: expected a number, got 'high'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"max_people": 0}, "max_people: expected at least 1, got 0"),
        ({"min_size": -3}, "min_size: expected pixels, at least 0, got -3"),
        ({"min_size": float("nan")}, "min_size: expected a number that is finite"),
    ],
)
def test_options_are_checked(finding, options, message):
    with pytest.raises(ValueError, match=message):
        finding([], **options)
    with pytest.raises(ValueError, match=message):
        list(find_people([], **options))


def test_boxes_that_are_none_are_left_out_and_counted(finding, detector):
    bad = [[np.nan, 1, 9, 9], [60, 60, 20, 20], [-50, -50, -10, -10], [1, 1, np.inf, 9], [30, 30, 30, 60]]
    photo = photos_of([100])[0]
    detector.find = lambda photo: [*bad, BOX]
    for on_error in ("raise", "skip"):
        poses = finding(photo, on_error=on_error)
        assert poses.boxes.tolist() == [BOX]
        assert [fault[:5] for fault in poses.dropped] == [f"row {row}" for row in range(5)]
        assert poses.error is None
    detector.find = lambda photo: [[np.nan] * 6, [*BOX, np.nan, 0], [*BOX, 0.5, 0]]
    poses = finding(photo, detect_threshold=0.1)
    assert (poses.box_scores.tolist(), len(poses.dropped)) == ([0.5], 2)
    for row in bad:  # also the only one of a photo
        detector.find = lambda photo, row=row: [row]
        poses = finding(photo)
        assert (len(poses), len(poses.dropped)) == (0, 1)
    detector.find = lambda photo: [[0.1, 0.1, 0.5, 0.9], [0.2, 0.1, 0.5, 0.9]]  # fractions of the photo
    poses = finding(photo)
    assert (len(poses), len(poses.dropped)) == (0, 2)
    assert "row 1 is none in pixels" in poses.dropped[1]


def test_many_one_large_and_nobody(finding, detector):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (300, 2))
    detector.find = lambda photo: np.concatenate([corners, corners + 25], 1)
    photo = photos_of([100])[0]
    poses = finding(photo, nms_threshold=None)
    assert len(poses) == 300
    np.testing.assert_allclose(poses.boxes[:, :2], corners, rtol=1e-5)
    detector.find = lambda photo: [[-20, -30, 130, 140]]
    assert len(finding(photo)) == 1
    detector.find = lambda photo: []
    poses = finding(photo)
    assert (poses.keypoints.shape, poses.error, poses.dropped) == ((0, 3, 2), None, ())
    assert poses.to_dict()["people"] == []


@pytest.mark.parametrize("size", [(6000, 8000), (30, 40), (1, 1)])
def test_photos_of_any_size(finding, size):
    image = np.zeros((*size, 3), np.uint8)
    [poses] = finding([image])
    assert poses.boxes.tolist() == [[0, 0, size[1], size[0]]]
    assert np.isfinite(poses.keypoints).all()


# --- detectors that fail ------------------------------------------------------------------------------------------
def fails_on(width, error):
    def find(photo):
        if photo.shape[1] == width:
            raise error
        return one(photo)

    return find


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("too small"), ValueError, "detector: too small"),
        (TypeError("no photo"), TypeError, "detector: no photo"),
        (KeyError("boxes"), RuntimeError, "detector: KeyError: 'boxes'"),
        (RuntimeError("out of memory"), RuntimeError, "detector: RuntimeError: out of memory"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_photo_on_which_it_fails_is_named_and_costs_no_other(finding, tmp_path, error, kind, message, at_once):
    find = fails_on(72, error)
    detector = FakeDetector(find) if at_once else find
    paths = [tmp_path / f"{width}.png" for width in range(70, 75)]
    for path, photo in zip(paths, photos_of(range(70, 75)), strict=True):
        cv2.imwrite(str(path), photo)
    found = finding(paths, detector, on_error="skip")
    assert [len(poses) for poses in found] == [1, 1, 0, 1, 1]
    assert found[2].error == f"{paths[2]}: {message}"
    assert (found[2].path, found[2].image_size) == (paths[2], (90, 72))
    assert [poses.error for poses in found if len(poses)] == [None] * 4
    with pytest.raises(kind) as caught:
        finding(paths, detector)
    assert str(caught.value) == f"{paths[2]}: {message}"
    with pytest.raises(kind, match=f"^image 0: {message}"):
        finding(photos_of([72])[0], detector)


def test_a_detector_that_only_fails_on_many_is_asked_about_each(finding, detector):
    submit = detector.submit

    def small(images, threshold=None):
        if len(images) > 1:
            raise torch.OutOfMemoryError("no memory")
        return submit(images, threshold)

    detector.submit = small
    found = finding(photos_of(range(60, 65)))
    assert [poses.boxes[0, 2] for poses in found] == list(range(60, 65))
    assert detector.asked == [1] * 5


@pytest.mark.parametrize("answer", [None, [[1, 2, 3]], ([[0, 0, 9, 9]], [1, 2])])
def test_an_answer_that_is_none(finding, detector, answer):
    detector.find = lambda photo: answer
    with pytest.raises((TypeError, ValueError), match=r"^image 0: detector: "):
        finding(photos_of([60, 70]))


def test_an_answer_for_another_number_of_photos(finding, detector, monkeypatch):
    monkeypatch.setattr("fake_detector._Pending.read", lambda self: [one(self.images[0])] * 2)
    with pytest.raises(ValueError, match="image 0: detector: expected the people of 1 photos, got those of 2"):
        finding(photos_of([60]))


# --- the carried detector, and boxes alone ------------------------------------------------------------------------
def test_the_carried_detector_is_read_when_it_is_needed(monkeypatch):
    read = []
    find_detector = predictor_module().find_detector
    monkeypatch.setattr(predictor_module(), "find_detector", lambda *a, **k: read.append(a) or find_detector(*a, **k))
    predictor = Predictor(spot_model(flip_test=False), device="cpu")
    photo = photos_of([100])[0]
    predictor(photo, [BOX])
    assert not read
    predictor(photo)
    predictor([photo, photo])
    assert read == [("carried",)]
    assert predictor.detector is predictor.detector


def test_a_package_without_it_says_so(monkeypatch):
    monkeypatch.setattr("fastpose.detection.sources._CARRIED_FILE", "gone.safetensors")
    predictor = Predictor(spot_model(flip_test=False), device="cpu")
    for on_error in ("raise", "skip"):  # it is no fault of the photos'
        with pytest.raises(WeightsError, match="carried: the package should hold"):
            predictor(photos_of([100, 90]), on_error=on_error)


def test_everybody_is_found_by_one_call():
    image, _ = render_scene(2_000_013, (540, 960), 4)
    poses = load(device="cpu")(image)
    assert poses.keypoints.shape == (len(poses), 17, 2)
    assert "detect" in poses.milliseconds


def test_load_takes_a_detector(detector):
    photo = photos_of([100])[0]
    assert load(device="cpu", detector=detector)(photo).boxes.tolist() == [[0, 0, 100, 90]]
    with pytest.raises(ValueError, match=r"detector: expected 'carried', .* got 'yolo'"):
        load(device="cpu", detector="yolo")
    with pytest.raises(TypeError, match=r"detector: expected 'carried', .* got int"):
        load(device="cpu", detector=3)


def test_boxes_alone(detector, tmp_path):
    photos = photos_of(range(60, 80))
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photos[0])
    found = list(find_people([path, *photos[1:]], detector, keep_images=True))
    assert detector.asked == [16, 4]
    assert [len(people) for people in found] == [1] * 20
    assert (found[0].path, found[0].image_size, found[0].pixels) == (path, (90, 60), None)
    assert set(found[0].milliseconds) == {"read", "detect"}
    assert found[3].to_coco(7) == [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 63, 90], "score": 0.0063}]
    assert found[0].to_dict()["people"] == [{"box": [0, 0, 60, 90], "box_score": 0.006}]
    assert (found[0].plot() != photos[0]).any()
    assert found[0].plot().shape == photos[0].shape
    [people] = find_people(path, detector)
    assert people.path == path
    assert len(list(find_people(np.stack([photos[0]] * 3), detector))) == 3
    [people] = find_people(iter([photos[0]]), lambda photo: [BOX], max_wait=0)
    assert people.box_scores.tolist() == [1]
    with pytest.raises(ValueError, match="image: the photo was not kept"):
        people.plot()
    bad = list(find_people([photos[0], tmp_path / "gone.png", photos[1]], detector, on_error="skip"))
    assert [people.error is None for people in bad] == [True, False, True]
    assert "gone.png" in bad[1].to_dict()["error"]
