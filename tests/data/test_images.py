"""Photos of every kind that reach read_image: turned, grey, with alpha, 16-bit, cut short, no image at all."""

from __future__ import annotations

import os
import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest

from fastpose.data.images import ImageError, decode_image, read_image, read_image_size, read_reduced


def photo(height=48, width=80, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(extension, image, *parameters):
    done, data = cv2.imencode(extension, image, list(parameters))
    assert done
    return data.tobytes()


def exif(orientation, order="<"):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def jpeg_with_exif(image, orientation, order="<"):
    data = encode(".jpg", image, cv2.IMWRITE_JPEG_QUALITY, 100)
    payload = b"Exif\0\0" + exif(orientation, order)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def png_with_exif(image, orientation, order="<"):
    data = encode(".png", image)
    return data[:33] + png_chunk(b"eXIf", exif(orientation, order)) + data[33:]


def webp_with_exif(image, orientation, order="<"):
    height, width = image.shape[:2]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    block = exif(orientation, order)
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + size
    body += encode(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101)[12:] + b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_with_orientation(grey, orientation):
    height, width = grey.shape
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (274, orientation), (277, 1)]
    tags += [(278, height), (279, grey.size)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, 3, 1, v) for t, v in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + grey.size) + grey.tobytes() + directory


# How the stored picture has to be turned to stand upright, written with rotations instead of the code's flips.
UPRIGHT = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.fliplr(np.rot90(image, -1)),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.fliplr(np.rot90(image, 1)),
    8: lambda image: np.rot90(image, 1),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("build", [jpeg_with_exif, png_with_exif, webp_with_exif])
def test_exif_orientation_is_applied(tmp_path, build, orientation, order):
    image = photo()
    path = tmp_path / "photo.bin"
    path.write_bytes(build(image, orientation, order))
    found = read_image(path)
    expected = UPRIGHT[orientation](image)
    assert found.shape == expected.shape
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected).mean() < 4  # JPEG's loss; a wrong turn gives > 30


def test_size_of_a_png_whose_exif_stands_behind_the_pixels(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (120, 400, 3), np.uint8)
    plain = encode(".png", noise)
    late = plain[:-12] + png_chunk(b"eXIf", exif(6)) + plain[-12:]
    assert len(late) > 100_000
    for data, size in ((plain, (120, 400)), (late, (400, 120))):
        (tmp_path / "photo.png").write_bytes(data)
        assert read_image_size(tmp_path / "photo.png") == size == read_image(tmp_path / "photo.png").shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_orientation_is_applied_once(orientation):
    grey = photo()[..., 0].copy()
    found = decode_image(tiff_with_orientation(grey, orientation))
    np.testing.assert_array_equal(found[..., 1], UPRIGHT[orientation](grey))


def test_quarter_turn_by_hand():
    # Orientation 6: the camera was held with its top to the right; stored row 0 is the upright right-hand column.
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[0] = 255
    found = decode_image(png_with_exif(stored, 6))
    assert found.shape == (16, 8, 3)
    assert (found[:, -1] == 255).all()
    assert (found[:, :-1] == 0).all()


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"garbage garbage", exif(0), exif(9), exif(6)[:15], b"II*\0" + b"\xff" * 8]
)
def test_damaged_exif_leaves_the_photo_as_stored(block):
    image = photo()
    data = encode(".png", image)
    np.testing.assert_array_equal(decode_image(data[:33] + png_chunk(b"eXIf", block) + data[33:]), image)


@pytest.mark.parametrize("extension", [".png", ".bmp", ".tif", ".ppm"])
def test_lossless_colour(extension):
    image = photo()
    np.testing.assert_array_equal(decode_image(encode(extension, image)), image)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif"])
def test_grey_becomes_bgr(extension):
    grey = photo()[..., 0].copy()
    found = decode_image(encode(extension, grey))
    assert found.shape == (*grey.shape, 3)
    assert np.abs(found.astype(int) - grey[..., None]).mean() < 3
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


def test_alpha_is_dropped():
    image = photo()
    alpha = np.random.default_rng(1).integers(0, 256, image.shape[:2], dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encode(".png", np.dstack([image, alpha]))), image)


def test_grey_with_alpha():
    grey = photo()[..., 0]
    rows = b"".join(b"\0" + np.dstack([grey, 255 - grey])[y].tobytes() for y in range(len(grey)))
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 4, 0, 0, 0)
    parts = png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")
    found = decode_image(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_sixteen_bit_is_scaled(extension, channels):
    values = np.linspace(0, 65535, 40 * 50 * channels).astype(np.uint16).reshape(40, 50, channels)
    found = decode_image(encode(extension, values))
    expected = np.repeat(values, 3, axis=2) if channels == 1 else values[..., :3]
    assert found.dtype == np.uint8
    assert np.abs(found - expected / 257).max() <= 0.5
    assert found.min() == 0
    assert found.max() >= 254


def test_float_pixels_are_refused():
    with pytest.raises(ImageError, match="float32 pixels"):
        decode_image(encode(".tif", photo().astype(np.float32)), "deep.tif")


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".tif", ".ppm"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_cut_short(tmp_path, extension, kept):
    data = encode(extension, photo(120, 160))
    path = tmp_path / f"cut{extension}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", [1, 2, 3, 5])
def test_jpeg_without_its_last_bytes(missing):
    with pytest.raises(ImageError, match="cut short"):
        decode_image(encode(".jpg", photo())[:-missing])


def test_end_mark_of_a_thumbnail_is_not_the_end():
    image = photo(120, 160)
    data = encode(".jpg", image)
    thumbnail = encode(".jpg", photo(16, 16))
    whole = data[:2] + b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert decode_image(whole).shape == image.shape
    with pytest.raises(ImageError, match="cut short"):
        decode_image(whole[: 2 + 4 + len(thumbnail) + (len(data) - 2) // 2])


def test_progressive_jpeg_and_trailing_bytes():
    image = photo(120, 160)
    data = encode(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
    assert decode_image(data).shape == image.shape
    assert decode_image(data + b"trailing bytes of a camera").shape == image.shape
    with pytest.raises(ImageError, match="cut short"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("stray", [b"\0\0\0", b"\xff\0 \xff\xff"])
def test_jpeg_with_stray_bytes_between_its_segments(stray):
    image = photo(120, 160)
    data = jpeg_with_exif(image, 6)
    tables = data.index(b"\xff\xdb")
    found = decode_image(data[:tables] + stray + data[tables:])
    np.testing.assert_array_equal(found, decode_image(data))
    with pytest.raises(ImageError, match="cut short"):
        decode_image(data[:tables] + stray)


def test_flipped_bit_in_png_is_found():
    data = bytearray(encode(".png", photo()))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(ImageError, match="damaged PNG"):
        decode_image(bytes(data))


def test_too_large_is_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    parts = png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"too large [(]60000x60000"):
        decode_image(b"\x89PNG\r\n\x1a\n" + b"".join(parts), "bomb.png")
    data = bytearray(encode(".jpg", photo()))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(ImageError, match=r"too large [(]65000x65000"):
        decode_image(bytes(data))


def test_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.jpg"
    with open(path, "wb") as file:
        file.truncate((1 << 30) + 1)  # sparse: takes no space
    with pytest.raises(ImageError, match="too large"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"hello, this is no image " * 20, "no image"), (b"\xff\xd8\xff", "cut short")],
)
def test_no_image(tmp_path, content, reason):
    path = tmp_path / "no.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert caught.value.name == str(path)


def test_missing_folder_and_odd_names(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="no file name"):
        read_image("a\0b.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(os.devnull)


def test_name_outside_ascii(tmp_path):
    path = tmp_path / "Fotó 写真.png"
    path.write_bytes(encode(".png", photo()))
    np.testing.assert_array_equal(read_image(str(path)), photo())


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is empty")))
    assert (str(error), error.name, error.reason) == ("a.jpg: is empty", "a.jpg", "is empty")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("step", "size"), [(2, (96, 161)), (4, (130, 99)), (8, (163, 205)), (8, (160, 200))])
def test_reduced_photo_lies_where_the_whole_one_does(tmp_path, orientation, step, size):
    path = tmp_path / "ramp.jpg"
    y, x = np.mgrid[: size[0], : size[1]]
    ramps = np.stack([x, 250 - x, y * 1.2], axis=2).clip(0, 255).astype(np.uint8)  # a grey level a pixel or more
    path.write_bytes(jpeg_with_exif(ramps, orientation))
    whole = read_image(path)
    picture, matrix = read_reduced(path, step)
    assert picture.shape == (-(-whole.shape[0] // step), -(-whole.shape[1] // step), 3)
    np.testing.assert_array_equal(matrix[:, :2], step * np.eye(2))
    # What the matrix says lies under each pixel; the outermost ones are part padding.
    seen = cv2.warpAffine(whole, matrix, picture.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    difference = (picture.astype(float) - seen)[1:-1, 1:-1]
    assert np.abs(difference.mean((0, 1))).max() < 0.4  # a shift of half a pixel would be 0.5
    assert np.abs(difference).max() <= 3


def test_only_jpegs_are_reduced(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(".png", photo()))
    picture, matrix = read_reduced(path, 4)
    np.testing.assert_array_equal(picture, photo())
    np.testing.assert_array_equal(matrix, np.eye(2, 3))
    path.write_bytes(encode(".jpg", photo())[:-50])
    with pytest.raises(ImageError, match="cut short"):
        read_reduced(path, 4)
    with pytest.raises(ValueError, match="step: expected 1, 2, 4 or 8, got 3"):
        read_reduced(path, 3)
