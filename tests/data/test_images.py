"""Photos of every kind that reach read_image: turned, grey, with alpha, 16-bit, cut short, no image at all."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import time
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


def bitmap(width, height, bits=8, compression=1):
    """Run-length coded, of no runs."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 2, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 56 + len(head), 0, 0, 14 + len(head)) + head + b"\0\1"


def deep_png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    parts = png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif(width, height):
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0" + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(3) + b"\xff" * 3 + frame + b"\x3b"


def tiff(width, height, rows):
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, rows), (279, 1)]
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags)


def jpeg2000(width, height):
    data = bytearray(encode(".jp2", photo()))
    size = data.index(b"\xff\x4f\xff\x51")
    data[size + 8 : size + 16] = struct.pack(">II", width, height)
    return bytes(data)


def avif(width, height):
    data = bytearray(encode(".avif", photo()))
    size = data.index(b"ispe")
    data[size + 8 : size + 16] = struct.pack(">II", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        gif(65535, 65535),
        bitmap(32000, 32000),
        deep_png(14000, 14000),
        tiff(60000, 60000, 1),
        tiff(10, 10, 300_000_000),  # rows of a strip
        b"P6 60000 # a comment 1 1\n 60000 255\n",
        b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n",
        b"\x59\xa6\x6a\x95" + struct.pack(">7I", 60000, 60000, 24, 0, 1, 0, 0),
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\0" * 2,
        jpeg2000(60000, 60000),
        avif(60000, 60000),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_every_format_has_its_limit(data):
    with pytest.raises(ImageError, match="is too large"):
        decode_image(data)


COST = """
import sys
from pathlib import Path
from fastpose.data.image_headers import read_header
from fastpose.data.images import decode_image

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

decode_image(Path(sys.argv[1]).read_bytes())
data = Path(sys.argv[2]).read_bytes()
before = peak()
picture = decode_image(data)
print((peak() - before) / (picture.shape[0] * picture.shape[1]), read_header(data).cost)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="tells the peak of memory on Linux alone")
@pytest.mark.parametrize(
    ("extension", "channels", "kind", "parameters"),
    [
        (".jpg", 3, np.uint8, ()),
        (".jpg", 3, np.uint8, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111)),
        (".png", 4, np.uint16, ()),
        (".gif", 3, np.uint8, ()),
        (".tif", 3, np.uint16, ()),
        (".bmp", 4, np.uint8, ()),
        (".webp", 4, np.uint8, ()),
        (".jp2", 3, np.uint8, ()),
        (".avif", 3, np.uint16, (cv2.IMWRITE_AVIF_DEPTH, 10)),
    ],
)
def test_reading_takes_the_memory_that_it_says(tmp_path, extension, channels, kind, parameters):
    """The limit on what reading takes is only as good as the bytes a pixel that each format is said to take."""
    image = np.zeros((2500, 2600, channels), kind)
    image[::7, ::5] = 200
    try:
        data = encode(extension, image, *parameters)
    except cv2.error:
        pytest.skip(f"this OpenCV writes no {extension}")
    (tmp_path / "small").write_bytes(encode(extension, np.ascontiguousarray(image[:64, :64]), *parameters))
    (tmp_path / "large").write_bytes(data)
    command = [sys.executable, "-c", COST, str(tmp_path / "small"), str(tmp_path / "large")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    took, stated = map(float, result.stdout.split())
    assert 0.5 * stated < took < stated + 0.5


def test_time_is_linear_in_the_size_of_the_file():
    def seconds(data):
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            with pytest.raises(ImageError):
                decode_image(data)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(b"\xff\xd8\xff" + b"\xff" * 4_000_000) < 1  # 8 seconds for a hundredth of it, once
    assert seconds(b"\xff\xd8\xff\xda\0\2" + b"\xff" * 4_000_000) < 1
    assert seconds(b"\xff\xd8\xff\xda\0\2" + b"\xff\xd0" * 2_000_000) < 1
    assert seconds(b"\xff\xd8" + b"\xff\xe1\0\x20Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(50_000)) < 1
    assert seconds(b"P6 " + b"#" * 4_000_000) < 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "is a photo in HEIC"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "is a video"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "is a video"),
        (b"RIFF\0\0\0\0AVI LIST", "is a video"),
        (b"\xff\x0a" + bytes(40), "is a photo in JPEG XL"),
        (b"#?RADIANCE\n", "float32 pixels"),
    ],
)
def test_what_cannot_be_read_is_called_by_its_name(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(data)


def test_an_error_is_one_line(tmp_path, capfd):
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "two\nlines\x1b.jpg")
    assert str(caught.value).endswith("two\\nlines\\x1b.jpg: no such file")
    with pytest.raises(ImageError) as caught:
        read_image(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))
    assert str(caught.value).endswith("\\xff.jpg: no such file")
    # libpng has a line of its own for a profile that is none.
    plain = encode(".png", photo())
    noisy = plain[:33] + png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"nonsense")) + plain[33:]
    np.testing.assert_array_equal(decode_image(noisy), photo())
    assert capfd.readouterr().err == ""


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
    with pytest.raises(ImageError, match="is a device, expected a regular file"):
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
