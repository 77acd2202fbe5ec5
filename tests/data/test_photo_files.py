"""Photo files from outside: folders of them, and what is no photo."""

from __future__ import annotations

import os
import struct
from collections import Counter

import cv2
import numpy as np
import pytest

from fastpose.data import find_images, photo_files
from fastpose.data.images import ImageError, decode_image, read_image
from fastpose.data.photo_files import describe_skipped, image_suffixes, why_unreadable

GREY = np.full((48, 64), 130, np.uint8)


def iso(brand, *more):
    words = b"ftyp" + brand + bytes(4) + b"".join(more)
    return struct.pack(">I", len(words) + 4) + words + bytes(64)


@pytest.mark.parametrize("suffix", image_suffixes())
def test_every_suffix_that_is_listed_can_be_read(suffix, tmp_path):
    image = GREY if suffix in (".pbm", ".pgm") else np.dstack([GREY] * 3)
    done, data = cv2.imencode({".jfif": ".jpg"}.get(suffix, suffix), image)
    assert done
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(data.tobytes())
    assert read_image(path).shape == (48, 64, 3)


def test_folder_gives_photos_and_says_the_rest(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "clip.mp4", "c.heic", "d.txt", "README", ".hidden.jpg"):
        (tmp_path / name).touch()
    below = tmp_path / "below" / "deeper"
    below.mkdir(parents=True)
    (below / "e.tiff").touch()
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "f.jpg").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    photos, skipped = find_images(tmp_path)
    assert [path.name for path in photos] == ["a.png", "b.JPG"]
    assert [path.name for path in skipped] == ["README", "c.heic", "clip.mp4", "d.txt", "notes.txt", "pipe.png"]
    text = describe_skipped(Counter(path.suffix for path in skipped))
    assert text.startswith("6 files are no photos: 2 .txt")
    for part in (
        "1 without a suffix",
        "1 .mp4 (video)",
        "1 .heic (HEIC, which this OpenCV does not read)",
        "1 .png (no regular file)",
    ):
        assert part in text
    assert describe_skipped({".doc": 1}) == "1 file is no photo: 1 .doc"
    photos, again = find_images(str(tmp_path), recursive=True)
    assert [str(path.relative_to(tmp_path)) for path in photos] == ["a.png", "b.JPG", "below/deeper/e.tiff"]
    assert again == skipped


def test_links_that_lead_nowhere_or_back_are_no_photos_and_deep_folders_are_looked_into(tmp_path):
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "up").symlink_to(tmp_path)
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "e.jpg").touch()
    photos, skipped = find_images(tmp_path, recursive=True)
    assert photos == [deep / "e.jpg"]
    assert [path.name for path in skipped] == ["gone.jpg", "loop.jpg"]


def test_folder_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        find_images(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        find_images(tmp_path / "file")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (iso(b"isom", b"avc1"), "is a video (MP4 or QuickTime); expected a photo"),
        (iso(b"qt  "), "is a video (MP4 or QuickTime)"),
        (b"\0\0\0\x08wide" + bytes(40), "is a video (MP4 or QuickTime)"),
        (b"\x1aE\xdf\xa3" + bytes(40), "is a video (Matroska or WebM)"),
        (b"RIFF" + bytes(4) + b"AVI LIST" + bytes(40), "is a video (AVI)"),
        ((b"G" + bytes(187)) * 4, "is a video (MPEG transport stream)"),
        (iso(b"heic", b"mif1"), "is a photo in HEIC, which OpenCV"),
        (iso(b"mif1", b"heic"), "is a photo in HEIC, which OpenCV"),
        (b"\xff\x0a" + bytes(40), "is a photo in JPEG XL"),
        (b"%PDF-1.7" + bytes(40), "is a PDF"),
        (b"\n <!DOCTYPE html><html>", "is a web page"),
        (b'<?xml version="1.0"?><svg>', "is an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is Git LFS's note"),
        (b"G" + bytes(600), "is damaged, cut short or no image"),
        (b"nothing that is known", "is damaged, cut short or no image"),
    ],
)
def test_what_is_no_photo_is_called_by_its_name(data, words):
    with pytest.raises(ImageError, match=r"^thing: ") as caught:
        decode_image(data, "thing")
    assert words in str(caught.value)


def test_a_real_video_is_no_damaged_photo(tmp_path):
    path = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    writer.write(np.dstack([GREY] * 3))
    writer.release()
    with pytest.raises(ImageError, match=r"clip.avi: is a video \(AVI\); expected a photo"):
        read_image(path)


def test_avif_is_read_or_named(monkeypatch):
    damaged = iso(b"avif", b"mif1", b"miaf")
    monkeypatch.setattr(photo_files, "image_suffixes", lambda: (".jpg", ".avif"))
    assert why_unreadable(damaged) == "is a damaged or cut short photo (AVIF)"
    monkeypatch.setattr(photo_files, "image_suffixes", lambda: (".jpg",))
    assert why_unreadable(damaged).startswith(f"is a photo in AVIF, which OpenCV {cv2.__version__}")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_upright(orientation, tmp_path):
    """Pillow writes EXIF's orientation as AVIF's own properties, which OpenCV does not look at."""
    image_module = pytest.importorskip("PIL.Image")
    if ".avif" not in image_suffixes():
        pytest.skip("this OpenCV reads no AVIF")
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8), (64, 48))
    tags = image_module.Exif()
    tags[0x0112] = orientation
    path = tmp_path / "photo.avif"
    try:
        image_module.fromarray(image[..., ::-1].copy()).save(path, exif=tags, quality=95)
    except (KeyError, OSError):
        pytest.skip("this Pillow writes no AVIF")
    wanted = image.transpose(1, 0, 2) if orientation >= 5 else image
    wanted = wanted[::-1] if orientation in (3, 4, 7, 8) else wanted
    wanted = wanted[:, ::-1] if orientation in (2, 3, 6, 7) else wanted
    found = read_image(path)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 8
