"""Files are read without waiting, parsed within limits, and written whole, through links, also to what is no file."""

import errno
import io
import json
import os
import re
import socket
import stat
import time
from pathlib import Path

import pytest
import yaml

from fastpose import streams
from fastpose.files import atomic_write, open_file, parse_json, parse_yaml, printable, read_file, unreadable


def test_a_file_is_replaced_as_a_whole(tmp_path):
    atomic_write(tmp_path / "a", b"one")
    atomic_write(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one(tmp_path, there):
    if there:
        (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path, monkeypatch):
    (tmp_path / "private").touch(0o600)
    (tmp_path / "plain").touch()
    # It belongs to the process: while one thread had set it to tell it, another one's files were everybody's.
    monkeypatch.setattr(os, "umask", None)
    for name in ("private", "new"):
        atomic_write(tmp_path / name, b"new")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_synchronised_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    atomic_write(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="devices as POSIX has them")
def test_devices_are_written_to(tmp_path):
    (tmp_path / "out").symlink_to("/dev/null")
    atomic_write(tmp_path / "out", b"text")
    assert (tmp_path / "out").is_symlink()
    assert not (tmp_path / "out").is_file()


def test_a_folder_is_refused_by_its_name(tmp_path):
    with pytest.raises(IsADirectoryError, match="expected a file name") as error:
        atomic_write(tmp_path, b"")
    assert error.value.filename == str(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
def test_a_pipe_is_written_to_where_somebody_reads(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="nobody reads") as error:
        atomic_write(tmp_path / "pipe", b"text")
    assert error.value.filename == str(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    atomic_write(tmp_path / "pipe", b"text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)


@pytest.mark.skipif(os.name != "posix", reason="limits as POSIX has them")
@pytest.mark.parametrize("size", [2_000, 2_000_000])
def test_nothing_is_left_of_a_file_that_does_not_fit(tmp_path, size):
    import resource

    (tmp_path / "a").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as error:
            atomic_write(tmp_path / "a", bytes(size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "a")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"old")]


def test_a_system_that_takes_little_at_a_time_gets_all(tmp_path):
    class Slow(io.FileIO):
        def write(self, data):
            return super().write(bytes(data)[:7])

    with Slow(tmp_path / "a", "wb") as file:
        streams._write_all(file, memoryview(bytes(range(100))))
    assert (tmp_path / "a").read_bytes() == bytes(range(100))


# ---- reading


def test_a_file_is_read_up_to_the_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    assert read_file(tmp_path / "link", limit=5) == b"12345"
    with open_file(str(tmp_path / "a"), limit=5) as file:
        assert file.read() == b"12345"
    for function in (read_file, open_file):
        with pytest.raises(OSError, match=r"is too large \(5 bytes, expected at most 4\)") as error:
            function(tmp_path / "a", limit=4)
        assert error.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize("function", [read_file, open_file])
def test_what_is_no_file_is_refused_at_once(tmp_path, function):
    places = {"folder": "is a folder, expected a file", "absent": "No such file"}
    (tmp_path / "folder").mkdir()
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "socket"))
        listening.close()
        places |= {"pipe": "is a pipe, expected a regular file", "socket": "is a socket"}
        for name in ("zero", "tty", "full", "random"):
            if os.path.exists(f"/dev/{name}"):
                (tmp_path / name).symlink_to(f"/dev/{name}")
                places[name] = "is a device, expected a regular file"
    for name, message in places.items():
        with pytest.raises(OSError, match=message) as error:
            function(tmp_path / name)
        assert error.value.filename == str(tmp_path / name)
        assert error.value.strerror in str(error.value)


def test_a_name_that_cannot_be_one_is_refused():
    with pytest.raises(OSError, match="is no file name"):
        read_file("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
def test_a_pipe_that_takes_a_file_s_place_does_not_hang(tmp_path, monkeypatch):
    """Between the look at the name and the opening."""
    (tmp_path / "a").write_bytes(b"1")
    status = os.stat(tmp_path / "a")
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    monkeypatch.setattr(os, "stat", lambda *_, **__: status)
    with pytest.raises(OSError, match="is a pipe"):
        read_file(tmp_path / "a")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="files without a size as Linux has them")
def test_files_without_a_size_are_read_up_to_the_limit():
    assert b"\nPid:" in read_file("/proc/self/status")
    with pytest.raises(OSError, match="is too large"):
        read_file("/proc/self/status", limit=20)


# ---- parsing


def _nested(depth, left, right, innermost=""):
    return left * depth + innermost + right * depth


@pytest.mark.parametrize("innermost", ["", "1"])
@pytest.mark.parametrize(
    ("parse", "left", "right"),
    [(parse_json, "[", "]"), (parse_json, '{"a":[', "]}"), (parse_yaml, "[", "]"), (parse_yaml, "{a: [", "]}")],
)
def test_nesting_is_bounded(parse, left, right, innermost):
    levels = 2 if ":" in left else 1
    assert parse(_nested(100 // levels, left, right, innermost), "name")
    for depth in (100 // levels + 1, 400, 30_000):
        with pytest.raises(ValueError, match=r"^name: nested too deeply, expected at most 100 levels$"):
            parse(_nested(depth, left, right, innermost), "name")
        with pytest.raises(ValueError, match=r"^name: "):
            parse(left * depth, "name")


def test_json_is_what_the_library_reads():
    text = '{"a": [1, 2.5, null, true, {"b": "\\u00e9"}], "c": {}}'
    for given in (text, text.encode(), text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode()):
        assert parse_json(given, "name") == json.loads(text)
    assert parse_json('{"a": {"b": 1}}', "name", object_hook=lambda entry: sorted(entry)) == ["a"]
    assert parse_json("3", "name") == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON (Expecting property name enclosed in double quotes, line 1 column 2)"),
        (b"\xff\xfe\x00", "not a JSON text file"),
        (b'"\xff"', "not a JSON text file (invalid start byte at byte 1)"),
        ("[" + "9" * 5000 + "]", "not valid JSON (Exceeds the limit"),
        ("", "not valid JSON"),
    ],
)
def test_what_is_no_json_is_named(text, message):
    with pytest.raises(ValueError, match=r"^folder/name.json: " + re.escape(message)):
        parse_json(text, "folder/name.json")


def test_yaml_is_what_the_library_reads():
    text = "a: &a {x: 1, y: [2, 3]}\nb: {<<: *a, x: 1e-3}\nc: [*a, *a]\nd: 2001-12-14\né: null\n"
    for given in (text, text.encode(), b"\xef\xbb\xbf" + text.encode()):
        assert parse_yaml(given, "name") == yaml.safe_load(text)
    assert parse_yaml("", "name") is None
    assert parse_yaml("3", "name") == 3
    assert parse_yaml("n: " + "x" * 200, "name") == {"n": "x" * 200}
    assert parse_yaml("- x\n" * 65_000, "name") == ["x"] * 65_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML: while parsing a flow node"),
        ("a: \0", "not valid YAML: unacceptable character"),
        (b"a: \xff", "not a YAML text file (invalid start byte at byte 3)"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML: could not determine a constructor"),
        ("a: 2001-13-14", "not valid YAML: month must be in 1..12"),
        ("a: !!timestamp x", "not valid YAML: "),
        ("a: !!float ''", "not valid YAML: "),
        ("a: !!bool x", "not valid YAML: "),
        ("a: *b", "not valid YAML: found undefined alias"),
        ("a: &a [*a]", "not usable YAML: an alias stands inside of what it names"),
        ("a: &a {b: {<<: *a}}", "not usable YAML: an alias stands inside of what it names"),
        ("a: 1" + ":59" * 50_000, "not usable YAML: a number of 150001 characters"),  # base 60: minutes
        ("a: 1" + ":59" * 50_000 + ".5", "not usable YAML: a number of 150003 characters"),
        ("{}".join(["<<: "] * 3).replace("{}", "{}\n") + "{}", "not usable YAML: two keys << in one mapping"),
        (
            "a: &a " + "x" * 1000 + "\nb: [" + "*a, " * 1000 + "]",
            "not usable YAML: too long with all aliases written out",
        ),
        ("#" * (1 << 18) + "\n", "too long for YAML (262145 characters, expected at most 262144)"),
    ],
)
def test_what_is_no_yaml_is_named(text, message):
    with pytest.raises(ValueError, match=r"^folder/name.yaml: " + re.escape(message)) as error:
        parse_yaml(text, "folder/name.yaml")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("entry", ["[{}]", "{{{}}}", "{{<<: [{}]}}"], ids=["lists", "mappings", "merged"])
def test_aliases_are_bounded(entry):
    """Nine levels of nine aliases are 387 million values; whatever goes through them hangs."""

    def levels(count, width):
        lines = ["a0: &a0 {k0: v}"]
        for level in range(1, count + 1):
            named = [f"k{i}: *a{level - 1}" if entry == "{{{}}}" else f"*a{level - 1}" for i in range(width)]
            lines.append(f"a{level}: &a{level} " + entry.format(", ".join(named)))
        return "\n".join(lines)

    assert parse_yaml(levels(3, 9), "name") == yaml.safe_load(levels(3, 9))
    start = time.process_time()
    for count, width in ((9, 9), (40, 2)):
        with pytest.raises(ValueError, match=r"^name: not usable YAML: too long with all aliases written out"):
            parse_yaml(levels(count, width), "name")
    assert time.process_time() - start < 5
    with pytest.raises(ValueError, match=r"^name: nested too deeply"):
        parse_yaml(levels(2_000, 1), "name")


def test_a_name_as_one_line_of_text():
    name = os.fsdecode(b"a\xffb\n\x1b[31m\xc3\xa9 \xe5\x86\x99")
    assert printable(Path(name)) == "a\\xffb\\n\\x1b[31mé 写"
    assert printable("\ud800\u2028\x85") == "\\ud800\\u2028\\x85"
    printable(name).encode("utf-8")


def test_why_a_file_could_not_be_read(tmp_path):
    def reason(name):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            read_file(tmp_path / name)
        return unreadable(caught.value)

    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert reason("gone") == "no such file"
    assert reason("folder") == "is a folder, expected a file"
    assert reason("loop").startswith("cannot be read (")
