"""Batches: what they hold, that they repeat, and what happens when something goes wrong on the way."""

import dataclasses
import subprocess
import sys
import threading
import weakref

import cv2
import numpy as np
import pytest
import torch

from fastpose.codecs import build_codec
from fastpose.data.augment import Augmentation
from fastpose.data.dataset import PoseDataset, Source
from fastpose.data.loader import Loader, _coarsest_steps
from fastpose.data.photos import load_image, load_reduced
from fastpose.data.pixels import Blur, Holes, HueSaturationValue, PixelChanges
from fastpose.data.synthetic import synthetic_records
from fastpose.skeletons import COCO17, LSP14
from fastpose.spec import PoseSpec
from fastpose.views import build_views

SPEC = PoseSpec(COCO17, (64, 48), build_codec("gaussian", heatmap_size=(16, 12)))


@pytest.fixture(scope="module")
def scenes():
    """Ten rendered people, some of them two on a photo."""
    return synthetic_records(5, seed=3, size=(96, 128), people=2)


def dataset(records, **options):
    return PoseDataset([Source(records)], COCO17, cache=10**7, **options)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "fastpose-loader"]


def test_plain_batches_show_everybody_in_order(scenes):
    loader = Loader(dataset(scenes, labelled_only=False), SPEC, batch_size=4)
    batches = list(loader.epoch())
    assert len(batches) == len(loader) == 3
    people = np.concatenate([batch.people for batch in batches])
    np.testing.assert_array_equal(people, np.arange(len(scenes)))
    for batch in batches:
        for row, person in enumerate(batch.people):
            photo = load_image(scenes[int(person)].image_path)
            crop = cv2.warpAffine(photo, batch.matrices[row], (48, 64), flags=cv2.INTER_LINEAR)
            expected = (crop[..., ::-1].astype(np.float32) - SPEC.mean) / SPEC.std
            # OpenCV rounds positions to 1/32 px and samples to whole grey levels.
            difference = np.abs(batch.images[row].permute(1, 2, 0).numpy() - expected) * SPEC.std
            assert difference.mean() < 1.0
            known = scenes.visible[person] > 0
            moved = scenes.keypoints[person] @ batch.matrices[row][:, :2].T + batch.matrices[row][:, 2]
            np.testing.assert_allclose(batch.keypoints[row].numpy()[known], moved[known], atol=1e-3)


def test_images_are_channels_last(scenes):
    batch = next(iter(Loader(dataset(scenes), SPEC, batch_size=4).epoch()))
    assert batch.images.shape == (4, 3, 64, 48)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_bgr_models_get_bgr(scenes):
    data = dataset(scenes)
    rgb = next(iter(Loader(data, SPEC.replace(mean=(0, 0, 0), std=(1, 1, 1)), batch_size=2).epoch()))
    bgr = next(
        iter(Loader(data, SPEC.replace(mean=(0, 0, 0), std=(1, 1, 1), channel_order="bgr"), batch_size=2).epoch())
    )
    torch.testing.assert_close(rgb.images, bgr.images.flip(1))


def test_an_epoch_repeats_and_starts_anywhere(scenes):
    settings = Augmentation(colour_prob=0.5)
    make = lambda: Loader(dataset(scenes), SPEC, batch_size=3, augmentation=settings, seed=4)  # noqa: E731
    first = list(make().epoch(7))
    assert len(first) == 3  # the tenth person is left out of the last, incomplete batch
    for number, batch in enumerate(make().epoch(7, start=1), 1):
        assert torch.equal(batch.images, first[number].images)
        assert torch.equal(batch.keypoints, first[number].keypoints)
    other = next(iter(make().epoch(8)))
    assert not torch.equal(other.images, first[0].images)


PIXELS = PixelChanges(HueSaturationValue(), blur=Blur(0.5), holes=Holes(0.5))


def test_changed_pixels_do_not_depend_on_batches_threads_or_a_new_start(scenes):
    def images(start=0, **options):
        loader = Loader(dataset(scenes), SPEC, augmentation=Augmentation(pixels=PIXELS), seed=4, **options)
        return torch.cat([batch.images for batch in loader.epoch(2, start)])

    whole = images(batch_size=2, workers=1)
    assert torch.equal(whole, images(batch_size=5, workers=3))
    assert torch.equal(whole[4:], images(start=2, batch_size=2))
    plain = Loader(dataset(scenes), SPEC, batch_size=10, augmentation=Augmentation(), seed=4)
    assert not torch.equal(whole, next(iter(plain.epoch(2))).images)


def test_the_second_pass_over_changed_pixels_only_rounds_them(scenes):
    settings = [Augmentation(colour_prob=1.0), Augmentation(colour_prob=1.0, pixels=PixelChanges())]
    loaders = [Loader(dataset(scenes), SPEC, batch_size=10, augmentation=s, seed=4) for s in settings]
    once, twice = (next(iter(loader.epoch(0))).images for loader in loaders)
    grey_levels = (once - twice).permute(0, 2, 3, 1) * torch.tensor(SPEC.std)
    assert 0.4 < grey_levels.abs().max() <= 0.52


def test_an_unreadable_photo_leaves_its_people_out(tmp_path, scenes):
    files = []
    for number, path in enumerate(scenes.image_paths):
        files.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(files[-1]), load_image(path))
    files[1].write_bytes(b"nothing")
    records = type(scenes)(**{**vars(scenes), "image_paths": files})
    data = dataset(records, labelled_only=False)
    batches = list(Loader(data, SPEC, batch_size=2).epoch())
    assert [len(batch.people) for batch in batches] == [2, 2, 2, 2]
    assert set(range(10)) - {int(i) for batch in batches for i in batch.people} == {2, 3}
    assert "1.png" in next(iter(data.photos.failed.values()))
    mixed = list(Loader(data, SPEC, batch_size=5, augmentation=Augmentation()).epoch())
    assert sum(len(batch.people) for batch in mixed) == 8
    cv2.imwrite(str(files[1]), load_image(scenes.image_paths[1]))  # a photo that comes back is shown again
    assert sum(len(batch.people) for batch in Loader(data, SPEC, batch_size=2).epoch()) == 10
    assert not data.photos.failed


def test_reduced_photos_give_nearly_the_same_crops(tmp_path):
    """People 400 pixels high in crops of 64: JPEGs are decoded at 1/2 to 1/8, and nothing moves."""
    scenes = synthetic_records(3, seed=2, size=(480, 640), people=2)
    files = [tmp_path / f"{number}.jpg" for number in range(3)]
    for file, path in zip(files, scenes.image_paths, strict=True):
        smooth = cv2.GaussianBlur(load_image(path), (0, 0), 8)  # no detail that every 8th pixel would miss
        cv2.imwrite(str(file), smooth, [cv2.IMWRITE_JPEG_QUALITY, 100])
    records = dataclasses.replace(scenes, image_paths=files)
    options = {"batch_size": 2, "augmentation": Augmentation(half_body_prob=1.0), "seed": 3}
    data = dataset(records)
    for whole, reduced in zip(
        Loader(dataset(records), SPEC, **options).epoch(1),
        Loader(data, SPEC, reduce=True, **options).epoch(1),
        strict=True,
    ):
        assert torch.equal(whole.keypoints, reduced.keypoints)
        np.testing.assert_array_equal(whole.matrices, reduced.matrices)
        grey_levels = (whole.images - reduced.images).permute(0, 2, 3, 1) * torch.tensor(SPEC.std)
        assert 0 < grey_levels.abs().mean() < 1.0  # 1.6 if they lay half a pixel off
    assert not any(data.photos.is_ready(number) for number in range(3))


@pytest.mark.parametrize("reduce", [False, True])
def test_a_cut_photo_ends_at_the_cut(tmp_path, reduce):
    """White photos: where the photo goes on the crop is white, and beyond the cut there is nothing."""
    scenes = synthetic_records(3, seed=2, size=(480, 640), people=2)
    files = [tmp_path / f"{number}.jpg" for number in range(3)]
    for file in files:
        cv2.imwrite(str(file), np.full((480, 640, 3), 255, np.uint8))
    records = dataclasses.replace(scenes, image_paths=files)
    still = {"half_body_prob": 0, "shift_prob": 0, "scale_prob": 0, "rotate_prob": 0}
    augmentation = Augmentation(cut_prob=1, cut_legs=1, cut_frame=1, **still)
    spec = SPEC.replace(mean=(0, 0, 0), std=(1, 1, 1))
    loader = Loader(dataset(records), spec, batch_size=6, augmentation=augmentation, reduce=reduce)
    batch = next(iter(loader.epoch()))
    ends = 0
    for crop, matrix in zip(batch.images[:, 0].numpy(), batch.matrices, strict=True):
        top, bottom = ((y - matrix[1, 2]) / matrix[1, 1] for y in (0, 63))  # rows of the photo
        assert top > -200
        if bottom < 480:
            middle = crop[:, 24]
            assert middle[20] == 255
            white = int((middle > 127).sum())
            assert 64 / 1.25 * 0.9 < white + max(0, -top * matrix[1, 1]) < 64
            assert middle[-1] == 0
            ends += 1
    assert ends >= 3
    assert (batch.keypoints < -1000).any()
    assert (batch.weights[(batch.keypoints < -1000).all(2)] > 0).all()


def test_a_reduced_crop_does_not_depend_on_its_batch(tmp_path, scenes):
    files = [tmp_path / f"{number}.jpg" for number in range(5)]
    for file, path in zip(files, scenes.image_paths, strict=True):
        cv2.imwrite(str(file), load_image(path))
    files[1].write_bytes(b"nothing")
    records = dataclasses.replace(scenes, image_paths=files)
    spec = PoseSpec(COCO17, (32, 24), build_codec("gaussian", heatmap_size=(8, 6)))
    crops = []
    for size in (2, 10):
        loader = Loader(dataset(records), spec, batch_size=size, augmentation=Augmentation(), seed=1, reduce=True)
        batches = list(loader.epoch())
        crops.append(torch.cat([batch.images for batch in batches]))
        assert sum(len(batch.people) for batch in batches) == 8
    assert torch.equal(*crops)


class Followed(np.ndarray):
    """A photo of which can be told how many there are."""

    now = most = 0

    @classmethod
    def follow(cls, photo):
        followed = photo.view(cls)
        cls.now += 1
        cls.most = max(cls.most, cls.now)
        weakref.finalize(followed, cls.gone)
        return followed

    @classmethod
    def gone(cls):
        cls.now -= 1


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"augmentation": Augmentation(colour_prob=0.5)},
        {"augmentation": Augmentation(colour_prob=0.5, pixels=PIXELS)},
        {"views": build_views(SPEC, scales=(0.9, 1.1))},
    ],
    ids=["colour", "pixels", "views"],
)
def test_large_photos_are_not_all_in_memory_at_once(tmp_path, monkeypatch, reduce, options):
    """The batch is the same where few photos may be held at once."""
    scenes = synthetic_records(12, seed=6, size=(96, 128), people=1)
    files = [tmp_path / f"{number}.jpg" for number in range(12)]
    for file, path in zip(files, scenes.image_paths, strict=True):
        cv2.imwrite(str(file), load_image(path))
    files[3].write_bytes(b"nothing")
    records = dataclasses.replace(scenes, image_paths=files)

    def reduced(path, step):
        picture, origin = load_reduced(path, step)
        return Followed.follow(picture), origin

    monkeypatch.setattr("fastpose.data.dataset.load_image", lambda path: Followed.follow(load_image(path)))
    monkeypatch.setattr("fastpose.data.dataset.load_reduced", reduced)
    batches = []
    for held, fewest, most in ((1 << 29, 11, 11), (1, 1, 5)):
        monkeypatch.setattr("fastpose.data.loader.MAX_HELD_BYTES", held)
        Followed.most = 0
        data = PoseDataset([Source(records)], COCO17)
        loader = Loader(data, SPEC, batch_size=12, seed=3, workers=1, reduce=reduce, **options)
        batches += loader.epoch()
        assert fewest <= Followed.most <= most
        assert list(data.photos.failed) == [3]
    together, apart = batches
    assert len(together.people) == 11
    for name in ("images", "keypoints", "weights", "annotated"):
        assert torch.equal(getattr(together, name), getattr(apart, name))
    np.testing.assert_array_equal(together.matrices, apart.matrices)
    np.testing.assert_array_equal(together.people, apart.people)


def test_a_photo_is_reduced_as_far_as_the_crop_allows():
    scales = np.array([2.0, 0.6, 0.5, 0.3, 0.25, 0.2, 0.12, 0.05])
    angle = np.deg2rad(40)
    turn = np.array([[np.cos(angle), -np.sin(angle), 9], [np.sin(angle), np.cos(angle), -5]])
    matrices = turn * scales[:, None, None]
    assert _coarsest_steps(matrices * (1 + 1e-12) ** -1).tolist() == [1, 1, 2, 2, 4, 4, 8, 8]


def test_processes_share_the_batches_of_one(scenes):
    settings = Augmentation(colour_prob=0.5, pixels=PIXELS)
    options = {"augmentation": settings, "seed": 4}
    alone = list(Loader(dataset(scenes), SPEC, batch_size=4, **options).epoch(3))
    loaders = [Loader(dataset(scenes), SPEC, batch_size=2, part=(rank, 2), **options) for rank in range(2)]
    assert [len(loader) for loader in loaders] == [len(alone)] * 2 == [2, 2]
    for whole, *parts in zip(alone, *(loader.epoch(3) for loader in loaders), strict=True):
        assert [len(part.people) for part in parts] == [2, 2]
        for name in ("images", "keypoints", "weights", "annotated"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
        np.testing.assert_array_equal(np.concatenate([part.people for part in parts]), whole.people)


def test_a_process_may_have_nobody_of_a_batch(scenes, tmp_path):
    # Ten people, three processes with five each: the last one's share of the only batch is beyond the end.
    last = Loader(dataset(scenes), SPEC, batch_size=5, augmentation=Augmentation(), part=(2, 3))
    (batch,) = last.epoch()
    assert len(last) == 1
    assert batch.images.shape == (0, 3, 64, 48)
    assert batch.keypoints.shape == (0, 17, 2)
    # Neither do photos that cannot be read change the number of batches.
    gone = type(scenes)(**{**vars(scenes), "image_paths": [tmp_path / "gone.png"] * len(scenes.image_paths)})
    loader = Loader(dataset(gone), SPEC, batch_size=4, augmentation=Augmentation())
    assert [len(batch.people) for batch in loader.epoch()] == [0, 0]
    assert list(Loader(dataset(gone), SPEC, batch_size=4).epoch()) == []


def test_a_script_may_end_in_the_middle_of_an_epoch():
    """The thread does not outlive the interpreter: it aborted the process when it came back from the native core."""
    script = """
import atexit, threading
atexit.register(lambda: print(*[thread.name for thread in threading.enumerate()]))  # called last
from fastpose.data.augment import Augmentation
from fastpose.data.dataset import PoseDataset, Source
from fastpose.data.loader import Loader
from fastpose.data.synthetic import synthetic_records
from fastpose.skeletons import COCO17
from fastpose.codecs import Codec, build_codec
from fastpose.spec import PoseSpec

spec = PoseSpec(COCO17, (256, 192), build_codec("gaussian", heatmap_size=(64, 48)))
data = PoseDataset([Source(synthetic_records(4, seed=1, size=(96, 128)), repeats=1000)], COCO17, cache=10**7)
batches = Loader(data, spec, batch_size=64, augmentation=Augmentation()).epoch()
for _ in range(5):
    next(batches)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "MainThread\n", "")


def test_an_error_in_the_thread_reaches_the_caller(scenes):
    loader = Loader(dataset(scenes), SPEC, batch_size=2)
    loader.dataset.boxes[5] = np.nan
    with pytest.raises(ValueError, match=r"scale|matri|box"):
        list(loader.epoch())
    assert not threads()


def test_leaving_early_ends_the_thread(scenes):
    batches = Loader(dataset(scenes), SPEC, batch_size=1).epoch()
    next(batches)
    batches.close()
    assert not threads()


def test_what_a_source_never_labels_is_told_and_mirrored(scenes):
    never = scenes.skeleton.index("left_eye")
    annotated = np.ones(scenes.visible.shape, bool)
    annotated[:, never] = False
    records = dataclasses.replace(scenes, annotated=annotated)
    for flip_prob, keypoint in ((0.0, "left_eye"), (1.0, "right_eye")):
        augmentation = Augmentation(flip_prob=flip_prob)
        batch = next(iter(Loader(dataset(records), SPEC, batch_size=4, augmentation=augmentation).epoch()))
        assert batch.annotated.sum(0).tolist() == [0 if name == keypoint else 4 for name in COCO17.keypoints]


def test_a_set_with_fewer_keypoints_than_the_model():
    """Measured by name: the model's 17 keypoints on a set that labels 14."""
    lsp = synthetic_records(3, size=(64, 48)).to_skeleton(LSP14)
    dataset = PoseDataset([Source(lsp)], LSP14, labelled_only=False)
    batches = list(Loader(dataset, SPEC, batch_size=2).epoch())
    assert [tuple(batch.keypoints.shape) for batch in batches] == [(2, 14, 2), (1, 14, 2)]
    assert batches[0].annotated[:, list(LSP14.indices(["head_top", "neck"]))].sum() == 0
