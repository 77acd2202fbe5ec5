"""Photos and boxes in, keypoints out: the right place, the right order, and clear errors."""

from __future__ import annotations

import itertools
import warnings

import cv2
import numpy as np
import pytest
import torch
from spot_model import SPOTS, random_spots, spot_model, spots
from torch import nn

from fastpose.codecs import change_codec
from fastpose.data.images import ImageError
from fastpose.geometry import box_to_center_scale, crop_matrices, invert_matrices
from fastpose.models import CARRIED_MODEL, Output, PoseModel, WeightsError, create_model, save_model
from fastpose.ops import affine_crop
from fastpose.predict import Poses, Predictor, load


def error(poses, points):
    return np.abs(poses.keypoints[0] - points).max()


def test_keypoints_are_where_the_spots_are(predictor):
    for seed in range(8):
        image, points, boxes = random_spots(seed)
        poses = predictor(image, boxes)
        assert isinstance(poses, Poses)
        assert len(poses) == 1
        assert poses.keypoints.dtype == np.float32
        assert poses.image_size == image.shape[:2]
        assert poses.skeleton is SPOTS
        # A heatmap pixel is four crop pixels, each 1.25 * 0.8 * size / 128 of the photo; decoding is within half of it.
        assert error(poses, points) < 0.5 * 4 * 2.1
        assert (poses.scores > 0.6).all()


def test_channel_order_follows_the_spec():
    image, points, boxes = random_spots(1)
    bgr = Predictor(spot_model(channel_order="bgr", flip_test=False), device="cpu")(image, boxes)
    assert np.abs(bgr.keypoints[0, ::-1] - points).max() < 5
    rgb = Predictor(spot_model(flip_test=False), device="cpu")(image[..., ::-1], boxes)
    assert np.abs(rgb.keypoints[0, ::-1] - points).max() < 5


def test_people_of_one_photo_keep_their_rows(predictor):
    photos = [random_spots(seed, (120, 100)) for seed in range(5)]
    wide = np.concatenate([image for image, _, _ in photos], axis=1)
    boxes = np.concatenate([box + np.array([100 * i, 0, 100 * i, 0]) for i, (_, _, box) in enumerate(photos)])
    poses = predictor(wide, boxes[::-1], batch_size=2)
    for row, i in enumerate(reversed(range(5))):
        assert np.abs(poses.keypoints[row] - (photos[i][1] + [100 * i, 0])).max() < 5
    np.testing.assert_allclose(poses.boxes, boxes[::-1])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_do_not_change_results(flipping, batch_size):
    # Photos of different sizes, with nobody, one and many.
    cases = [random_spots(seed) for seed in range(9)]
    counts = [1, 0, 3, 2, 0, 0, 5, 1, 0]
    boxes = [np.repeat(box, count, axis=0) for (_, _, box), count in zip(cases, counts, strict=True)]
    together = flipping([image for image, _, _ in cases], boxes, batch_size=batch_size)
    assert [len(poses) for poses in together] == counts
    for (image, points, _), box, poses in zip(cases, boxes, together, strict=True):
        alone = flipping(image, box)
        assert poses.image_size == image.shape[:2]
        np.testing.assert_allclose(poses.keypoints, alone.keypoints, atol=1e-4)
        np.testing.assert_allclose(poses.scores, alone.scores, atol=1e-6)
        for person in poses:
            assert error(person, points) < 5


@pytest.mark.parametrize("codec_kind", ["gaussian", "udp"])
def test_flip_test_averages_with_the_mirrored_crop(codec_kind):
    # A network that sees better on one side, and a skeleton with a pair, so that both sides of the merge matter.
    torch.manual_seed(0)
    model = create_model("resnet18_slim", input_size=(64, 64)).eval()
    if codec_kind == "udp":
        model.spec = model.spec.replace(codec=change_codec(model.spec.codec, kind="udp"), udp=True)
    for module_ in model.modules():
        if isinstance(module_, nn.BatchNorm2d):
            nn.init.normal_(module_.running_mean, std=0.1)
    with torch.no_grad():
        model.head.final_layer.weight.mul_(100)
    spec = model.spec
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 8, 3), dtype=np.uint8), (90, 120))
    boxes = np.array([[10, 10, 80, 100], [-20, 5, 60, 130]], np.float32)
    predictor = Predictor(model, device="cpu")
    plain, flipped = predictor(image, boxes, flip_test=False), predictor(image, boxes, flip_test=True)
    assert np.abs(plain.keypoints - flipped.keypoints).max() > 1e-3

    center, scale = box_to_center_scale(boxes, spec.input_size, spec.padding)
    matrices = crop_matrices(center, scale, spec.input_size, udp=spec.udp)
    crops = torch.from_numpy(
        affine_crop(
            [image], matrices, np.zeros(2, np.int64), size=spec.input_size, mean=spec.mean, std=spec.std, swap_rb=True
        )
    )
    with torch.inference_mode():
        maps, mirrored = model(crops).last, model(crops.flip(3)).last
    inverse = torch.from_numpy(invert_matrices(matrices))
    for poses, with_flip in ((plain, None), (flipped, mirrored)):
        options = {"flip_index": spec.skeleton.flip_index} if with_flip is not None else {}
        points, scores = spec.codec.decode(maps, spec.input_size, flipped=with_flip, inverse=inverse, **options)
        np.testing.assert_allclose(poses.scores, scores, rtol=2e-3, atol=1e-4)
        assert np.median(np.abs(poses.keypoints - points.numpy())) < 1e-2


def test_several_stages_use_the_last():
    class Stages(nn.Module):
        gives, stages = "maps", 2

        def forward(self, x):
            return Output((torch.zeros_like(x), x))

    model = spot_model(flip_test=False)
    staged = PoseModel(model.backbone, Stages(), model.spec)
    assert staged.spec.output_stages == 2
    image, points, boxes = random_spots(3)
    assert error(Predictor(staged, device="cpu")(image, boxes), points) < 5


def test_every_kind_of_photo_gives_the_same(predictor, tmp_path):
    image, points, boxes = random_spots(2)
    path = tmp_path / "spots.png"
    assert cv2.imwrite(str(path), image)
    frozen = image.copy()
    frozen.flags.writeable = False
    kinds = [path, str(path), image, frozen, torch.from_numpy(image), np.asfortranarray(image)]
    kinds.append(np.dstack([image, image[..., :1]]))  # alpha
    results = [predictor(kind, boxes) for kind in kinds]
    for poses in results:
        assert error(poses, points) < 5
        np.testing.assert_array_equal(poses.keypoints, results[0].keypoints)
    assert [poses.path for poses in results] == [path, path, None, None, None, None, None]
    assert "read" in results[0].milliseconds
    assert "read" not in results[2].milliseconds
    grey = predictor(image.max(axis=2), boxes)
    assert grey.keypoints.shape == (1, 3, 2)


def test_warns_of_nothing_with_read_only_pixels(predictor):
    image, _, boxes = random_spots(2)
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor(image, boxes)


def test_list_batch_and_iterator(predictor):
    cases = [random_spots(seed, (100, 120)) for seed in range(4)]
    images, boxes = [case[0] for case in cases], [case[2] for case in cases]
    as_list = predictor(images, boxes)
    as_batch = predictor(np.stack(images), boxes)
    as_tensor = predictor(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(boxes)))
    as_stream = predictor(iter(images), iter(boxes))
    assert isinstance(as_list, list)
    assert not isinstance(as_stream, list)
    for results in (as_list, as_batch, as_tensor, list(as_stream)):
        assert len(results) == 4
        for poses, (_, points, _) in zip(results, cases, strict=True):
            assert error(poses, points) < 5


def test_stream_reads_no_further_than_it_must(predictor):
    drawn = 0

    def camera():
        nonlocal drawn
        for seed in itertools.count():
            drawn += 1
            yield random_spots(seed)[0]

    boxes = itertools.repeat([[5, 5, 80, 80]])
    stream = predictor(camera(), boxes, batch_size=1)
    for expected in (1, 2, 3):
        assert len(next(stream)) == 1
        assert drawn == expected
    stream = predictor(camera(), boxes, batch_size=4)
    drawn = 0
    next(stream)
    assert drawn == 4


def test_large_photos_do_not_wait_for_a_full_batch(predictor, monkeypatch):
    cases = [random_spots(seed, (100, 120)) for seed in range(5)]
    drawn = 0

    def camera():
        nonlocal drawn
        for image, _, box in cases:
            drawn += 1
            yield image, np.repeat(box, 3, 0)

    monkeypatch.setattr("fastpose.predict.predictor.MAX_HELD_BYTES", 2 * cases[0][0].nbytes)
    results = []
    for expected, poses in zip((2, 2, 4, 4, 5), predictor.stream(camera(), batch_size=16), strict=True):
        assert drawn == expected
        results.append(poses)
    for poses, (_, points, _) in zip(results, cases, strict=True):
        assert len(poses) == 3
        assert error(poses, points) < 5


def test_nobody(predictor):
    image = random_spots(0)[0]
    for empty in ([], np.zeros((0, 4)), torch.zeros(0, 4)):
        poses = predictor(image, empty)
        assert len(poses) == 0
        assert poses.keypoints.shape == (0, 3, 2)
        assert poses.scores.shape == (0, 3)
        assert poses.image_size == image.shape[:2]
    assert predictor([], []) == []
    assert predictor([]) == []
    assert list(predictor(iter([]))) == []


def test_detector_is_asked(predictor):
    image, points, boxes = random_spots(5)
    seen = []

    def detector(photo):
        seen.append(photo)
        return torch.from_numpy(boxes), [0.5]

    poses = predictor(image, detector)
    assert error(poses, points) < 5
    np.testing.assert_array_equal(poses.box_scores, [0.5])
    np.testing.assert_array_equal(seen[0], image)
    assert "detect" in poses.milliseconds
    several = predictor([image, image], lambda photo: boxes)
    np.testing.assert_array_equal(several[1].box_scores, [1.0])
    assert [len(poses) for poses in predictor([image, image], lambda photo: [])] == [0, 0]


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (None, TypeError, "detector: boxes: got None"),
        (([[0, 0, 9, 9]], [1, 2]), ValueError, "detector: scores: expected 1 values"),
        ([[0, 0, 9]], ValueError, r"detector: boxes: expected shape \[N, 4\]"),
    ],
)
def test_bad_detector(predictor, answer, kind, message):
    with pytest.raises(kind, match=message):
        predictor(random_spots(0)[0], lambda photo: answer)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([10, 10, 10, 50], "no width or no height"),
        ([10, 50, 40, 50], "no width or no height"),
        ([50, 10, 10, 50], "no width or no height"),
        ([10, float("nan"), 40, 50], "is not finite"),
        ([10, 10, float("inf"), 50], "is not finite"),
        ([200, 10, 240, 50], "outside the photo of 120x100 pixels"),
        ([10, 100, 40, 150], "outside the photo"),
        ([-50, 10, 0, 50], "outside the photo"),
    ],
)
def test_bad_box_names_photo_and_row(predictor, box, message, tmp_path):
    image, _, good = random_spots(0, (100, 120))
    boxes = [good, np.concatenate([good, [box]])]
    with pytest.raises(ValueError, match=f"^image 1: boxes: row 1 .*{message}"):
        predictor([image, image], boxes)
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), image)
    with pytest.raises(ValueError, match=f"photo.png: boxes: row 0 .*{message}"):
        predictor(path, [box])


def test_box_that_sticks_out_is_fine(predictor):
    points = [(20.0, 30.0), (40.0, 60.0), (30.0, 80.0)]
    image = spots((100, 120), points)
    poses = predictor(image, [-40, -10, 90, 130])
    assert error(poses, points) < 6


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[1, 2, 3]], r"image 0: boxes: expected shape \[N, 4\]"),
        ("1,2,3,4", "image 0: boxes: expected"),
        ([["a", "b", "c", "d"]], "image 0: boxes: expected numbers"),
    ],
)
def test_no_boxes_at_all(predictor, boxes, message):
    with pytest.raises(ValueError, match=message):
        predictor(random_spots(0)[0], boxes)


def test_number_of_boxes_must_fit(predictor):
    image, _, box = random_spots(0)
    with pytest.raises(ValueError, match="one array for each of 2 photos, got 1"):
        predictor([image, image], [box])
    with pytest.raises(ValueError, match="got 1 for more photos"):
        list(predictor(iter([image, image]), iter([box])))
    with pytest.raises(ValueError, match="got more than 1 for 1 photos"):
        list(predictor(iter([image]), iter([box, box])))


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (np.zeros((9, 9, 3), np.float32), TypeError, "image 0: expected a path, or uint8 .* got float32"),
        (np.zeros((3, 90, 80), np.uint8), ValueError, r"got shape \[3, 90, 80\]; channels stand last"),
        (np.zeros((9, 9, 2), np.uint8), ValueError, r"got shape \[9, 9, 2\]"),
        (np.zeros((0, 9, 3), np.uint8), ValueError, "without any pixel"),
        (np.zeros(9, np.uint8), ValueError, r"got shape \[9\]"),
        (torch.zeros(9, 9, 3), TypeError, "got torch.float32"),
    ],
)
def test_bad_pixels(predictor, image, kind, message):
    with pytest.raises(kind, match=message):
        predictor(image, [[0, 0, 5, 5]])
    with pytest.raises(TypeError, match=r"image 1: .* got int"):
        predictor([np.zeros((9, 9, 3), np.uint8), 5], [[], []])


@pytest.mark.parametrize("image", [None, 5, np.uint8(5)])
def test_what_is_no_photo_is_said_at_once(predictor, image):
    with pytest.raises(TypeError, match=f"images: expected a path, .* got {type(image).__name__}"):
        predictor(image)


def test_bad_photo_is_named(predictor, tmp_path):
    path = tmp_path / "empty.jpg"
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty.jpg: is empty"):
        predictor([path], [[]])
    with pytest.raises(ImageError, match=r"no such file"):
        predictor("nowhere.jpg")


def test_options_are_checked(predictor):
    with pytest.raises(ValueError, match=r"batch_size: .* got 0"):
        predictor([], batch_size=0)
    with pytest.raises(TypeError, match="expected a PoseModel, got Linear"):
        Predictor(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"dtype: expected auto, float32, .* got 'int8'"):
        Predictor(spot_model(), dtype="int8")
    with pytest.raises(ValueError, match="device: 'nowhere' cannot be used"):
        Predictor(spot_model(), device="nowhere")


def test_milliseconds_are_shares_of_the_batch(predictor):
    image, _, box = random_spots(0)
    one, two = predictor([image, image], [box, np.repeat(box, 3, axis=0)])
    assert set(one.milliseconds) == {"crop", "network", "decode"}
    for stage in one.milliseconds:
        assert one.milliseconds[stage] > 0
        assert two.milliseconds[stage] == pytest.approx(3 * one.milliseconds[stage])


def test_bfloat16_is_near(predictor):
    image, points, box = random_spots(6)
    half = Predictor(spot_model(flip_test=False), device="cpu", dtype=torch.bfloat16)
    assert half.dtype is torch.bfloat16
    assert error(half(image, box), points) < 9
    assert half.detector.dtype is torch.bfloat16


def test_predictor_is_apart_from_the_model():
    torch.manual_seed(0)
    model = create_model("resnet18_slim", input_size=(64, 64))
    model.train()
    predictor = Predictor(model, device="cpu")
    image, _, box = random_spots(0)
    before = predictor(image, box)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert model.training
    np.testing.assert_array_equal(predictor(image, box).scores, before.scores)
    assert repr(predictor).startswith("Predictor(")


def test_load_from_file(tmp_path):
    torch.manual_seed(0)
    model = create_model("resnet18_slim", input_size=(64, 64)).eval()
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    image, _, box = random_spots(0)
    expected = Predictor(model, device="cpu")(image, box)
    for name in (path, str(path)):
        predictor = load(name, device="cpu")
        assert predictor.spec == model.spec
        np.testing.assert_allclose(predictor(image, box).keypoints, expected.keypoints, atol=1e-3)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model.safetensors: damaged or cut short"):
        load(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        load(tmp_path / "missing.safetensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        load("missing.safetensors")
    with pytest.raises(ValueError, match="no model is named 'resnet5x'"):
        load("resnet5x")


def test_load_without_a_name_takes_the_carried_file(tmp_path, monkeypatch):
    monkeypatch.setattr("fastpose.models.find._CARRIED_FILE", str(tmp_path / "carried.safetensors"))
    with pytest.raises(WeightsError, match="the package should hold"):
        load()
    save_model(create_model("resnet18_slim", input_size=(64, 64)), tmp_path / "carried.safetensors")
    assert load(device="cpu").spec.input_size == (64, 64)
    assert load(CARRIED_MODEL, device="cpu").spec.input_size == (64, 64)


@pytest.mark.cuda
def test_cuda_equals_cpu():
    for changes in ({"flip_test": False}, {"flip_test": True}):
        model = spot_model(**changes)
        cases = [random_spots(seed) for seed in range(6)]
        images, boxes = [case[0] for case in cases], [case[2] for case in cases]
        ours = Predictor(model, device="cuda")(images, boxes, batch_size=4)
        theirs = Predictor(model, device="cpu")(images, boxes)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-2)
            assert set(a.milliseconds) == {"crop", "network", "decode"}
