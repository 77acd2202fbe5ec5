"""Pickles made by hand, each hostile in one way: refused, in no time, without memory, and without a trace."""

from __future__ import annotations

import io
import pickle
import random
import re
import struct
import time
import zipfile
import zlib
from collections import OrderedDict

import pytest
import torch

from fastpose.models import WeightsError, read_checkpoint, restricted_pickle

STOP = pickle.STOP


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(text)) + text.encode()


def _number(number: int) -> bytes:
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(data)]) + data


def _tuple(*parts: bytes) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


REBUILD = _global("torch._utils", "_rebuild_tensor_v2")
FLOATS = _global("torch", "FloatStorage")
NUMPY = _global("numpy.core.multiarray", "_reconstruct")
ATTRIBUTES = pickle.EMPTY_DICT + _text("__doc__") + _text("poison") + pickle.SETITEM
SLOTS = pickle.NONE + ATTRIBUTES + pickle.TUPLE2


def _storage(count: bytes = _number(4), kind: bytes = FLOATS, key: bytes = _text("0"), *rest: bytes) -> bytes:
    return _tuple(_text("storage"), kind, key, _text("cpu"), count, *rest) + pickle.BINPERSID


def _tensor(storage: bytes, size: bytes, stride: bytes, offset: bytes = _number(0)) -> bytes:
    rest = pickle.NEWFALSE + pickle.EMPTY_DICT
    return REBUILD + _tuple(storage, offset, size, stride, rest) + pickle.REDUCE


GOOD = _tensor(_storage(), _tuple(_number(2), _number(2)), _tuple(_number(2), _number(1)))


def _state(tensor: bytes = GOOD, before: bytes = b"") -> bytes:
    """A state dict of one tensor; what stands `before` it is left on the stack."""
    return pickle.PROTO + b"\2" + before + pickle.EMPTY_DICT + _text("w") + tensor + pickle.SETITEM + STOP


def _archive(path, program, storages=None, **options):
    storages = {"0": bytes(16)} if storages is None else storages
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", program)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)


def _stream(path, program, storages=None, keys=None):
    storages = {"0": (4, bytes(16))} if storages is None else storages
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [program, pickle.dumps(list(storages) if keys is None else keys, 2)]
    parts += [struct.pack("<q", count) + content for count, content in storages.values()]
    path.write_bytes(b"".join(parts))


@pytest.fixture(params=[_archive, _stream], ids=["zip", "legacy"])
def write(request, tmp_path):
    """Write a program into a file of one of both kinds, with the storage "0" of four floats; its path."""

    def written(program, storages=None):
        if storages is not None and request.param is _stream:
            storages = {key: (count, content) for key, (count, content) in storages.items()}
        elif storages is not None:
            storages = {key: content for key, (_, content) in storages.items()}
        request.param(tmp_path / "w.pth", program, storages)
        return tmp_path / "w.pth"

    return written


@pytest.fixture(autouse=True)
def unchanged():
    """Nothing that a pickle may name is another after the test, and the next file loads."""

    def attributes():
        named = (torch._utils._rebuild_tensor_v2, torch.FloatStorage, torch.nn.Parameter, restricted_pickle.Inert)
        ours = dict(restricted_pickle._MAKERS), dict(restricted_pickle._KINDS)
        return ours, [{key: x for key, x in vars(value).items() if key != "__slotnames__"} for value in named]

    before = attributes()
    yield
    assert attributes() == before
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2, 2)}, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer)["w"], torch.ones(2, 2))


def test_what_is_written_by_hand_here_loads(write):
    storages = {"0": (4, struct.pack("<4f", 1, 2, 3, 4))}
    assert read_checkpoint(write(_state(), storages)).tensors["w"].tolist() == [[1, 2], [3, 4]]
    part = _tensor(_storage(), _tuple(_number(2)), _tuple(_number(2)), _number(1))
    assert read_checkpoint(write(_state(part), storages)).tensors["w"].tolist() == [2, 4]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_dtype_and_protocol_loads(tmp_path, zipped, protocol):
    dtypes = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    state = {name: (torch.arange(6).view(2, 3) % 2).to(getattr(torch, name)) for name in dtypes}
    state |= {"empty": torch.ones(0, 3), "scalar": torch.tensor(3.0), "turned": torch.arange(6).view(2, 3).T}
    state |= {"parameter": torch.nn.Parameter(torch.ones(2)), "part": torch.arange(9)[2:4]}
    kept = {"sizes": torch.Size([1, 2]), "device": torch.device("cpu"), "set": {1, 2}, "frozen": frozenset((1,))}
    kept |= {"numbers": [1, -1, 300, 70_000, 1 << 70, 1.5, None, True], "bytes": b"12", "dtype": torch.float32}
    kept["self"] = [kept]
    options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": protocol}
    torch.save({"state_dict": OrderedDict(state), "meta": kept}, tmp_path / "w.pth", **options)
    loaded = read_checkpoint(tmp_path / "w.pth").tensors
    assert list(loaded) == list(state)
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize(
    "target",
    [
        REBUILD,
        FLOATS,
        _global("collections", "OrderedDict"),
        _global("torch.nn.parameter", "Parameter"),
        GOOD,
        _storage(),
        pickle.EMPTY_LIST,
        pickle.EMPTY_TUPLE,
        pickle.NONE,
    ],
    ids=["function", "storage type", "class", "parameter", "tensor", "storage", "list", "tuple", "None"],
)
def test_no_attributes_are_set_and_nothing_is_put_into_what_is_no_container(write, target):
    for state in (ATTRIBUTES, SLOTS, pickle.NONE):
        with pytest.raises(WeightsError, match=r"w\.pth: refused: it sets attributes of a "):
            read_checkpoint(write(_state(before=target + state + pickle.BUILD)))
    if target != pickle.EMPTY_LIST:
        with pytest.raises(WeightsError, match="refused: it appends to a "):
            read_checkpoint(write(_state(before=target + pickle.NONE + pickle.APPEND)))
        with pytest.raises(WeightsError, match="refused: it appends to a "):
            read_checkpoint(write(_state(before=target + pickle.MARK + pickle.NONE + pickle.APPENDS)))
    with pytest.raises(WeightsError, match="refused: it sets items of a "):
        read_checkpoint(write(_state(before=target + _text("a") + pickle.NONE + pickle.SETITEM)))
    with pytest.raises(WeightsError, match="refused: it sets items of a "):
        read_checkpoint(write(_state(before=target + pickle.MARK + _text("a") + pickle.NONE + pickle.SETITEMS)))


def test_stand_ins_take_everything_and_hold_nothing(write):
    one = NUMPY + pickle.EMPTY_TUPLE + pickle.REDUCE
    before = b"".join(
        (NUMPY + ATTRIBUTES + pickle.BUILD, one + SLOTS + pickle.BUILD, NUMPY + pickle.NONE + pickle.APPEND)
    )
    before += one + pickle.MARK + _text("__class__") + _text("x") + pickle.SETITEMS + pickle.NONE + pickle.REDUCE
    before += NUMPY + pickle.EMPTY_TUPLE + pickle.EMPTY_DICT + pickle.NEWOBJ_EX
    before += pickle.EMPTY_SET + pickle.MARK + pickle.NONE + pickle.ADDITEMS + pickle.MARK + pickle.FROZENSET
    assert read_checkpoint(write(_state(before=before))).tensors["w"].shape == (2, 2)


@pytest.mark.parametrize(
    "function",
    [FLOATS, GOOD, pickle.EMPTY_LIST, _text("eval"), _number(3), _storage()],
    ids=["storage type", "tensor", "list", "text", "number", "storage"],
)
def test_only_functions_of_ours_are_called(write, function):
    """`torch.FloatStorage(10**12)` would be a call like any other."""
    for opcode in (pickle.REDUCE, pickle.NEWOBJ, pickle.EMPTY_DICT + pickle.NEWOBJ_EX):
        with pytest.raises(WeightsError, match="refused: it calls a "):
            read_checkpoint(write(_state(before=function + _tuple(_number(10**12)) + opcode)))


NEVER = """INT LONG FLOAT STRING UNICODE GET PUT PERSID DUP LIST DICT INST OBJ EXT1 EXT2 EXT4
BYTEARRAY8 NEXT_BUFFER READONLY_BUFFER"""


@pytest.mark.parametrize("name", NEVER.split())
def test_opcodes_that_no_checkpoint_needs_are_refused(write, name):
    program = getattr(pickle, name) + b"\xff" * 8
    with pytest.raises(WeightsError, match=r"refused: it holds the opcode .*, which torch\.save does not write"):
        read_checkpoint(write(_state(before=program)))


LARGE = [
    (pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f", "refused: it numbers an object 2147483647, in"),
    (pickle.LONG4 + b"\xff\xff\xff\x7f", "cut short"),
    (pickle.BINUNICODE + b"\xff\xff\xff\xff", "cut short"),
    (pickle.BINUNICODE8 + b"\xff" * 8, "cut short"),
    (pickle.BINBYTES8 + b"\xff" * 7 + b"\0", "cut short"),
    (pickle.BINBYTES + b"\0\0\0\xf0", "cut short"),
    (pickle.BINSTRING + b"\xff\xff\xff\xff", "cut short"),
    (pickle.GLOBAL + b"x" * 1000, "a name that does not end"),
    (_storage(_number(10**12)), "larger than the file|of 16 bytes for 1000000000000 values"),
    (_storage(_number(10**12), key=_text("1")), "larger than the file|data/1"),
    (_storage(_number(2**70)), "larger than the file|of 16 bytes"),
    (_tensor(_storage(), _tuple(_number(10**10)), _tuple(_number(1))), "larger than its storage"),
    (_tensor(_storage(), _tuple(_number(10**10)), _tuple(_number(0))), "larger than its storage"),
    (_tensor(_storage(), _tuple(_number(1)), _tuple(_number(1)), _number(10**10)), "larger than its storage"),
    (_tensor(_storage(), _tuple(_number(-1)), _tuple(_number(1))), "no numbers"),
    (_tensor(_storage(), _tuple(_number(2)), _tuple(_number(-1))), "no numbers"),
    (_tensor(_storage(), _tuple(pickle.NEWTRUE), _tuple(_number(1))), "no numbers"),
    (_tensor(_storage(), _tuple(_number(2**80)), _tuple(_number(1))), "no numbers"),
    (_tensor(_storage(), _tuple(*[_number(1)] * 1000), _tuple(*[_number(1)] * 1000)), "impossible dimensions"),
    (_tensor(_storage(), _tuple(_number(1)), _tuple()), "impossible dimensions"),
    (_tensor(GOOD, _tuple(_number(1)), _tuple(_number(1))), "a tensor without a storage"),
    (_tensor(_storage(), pickle.EMPTY_LIST, pickle.EMPTY_LIST), "a tensor without"),
]


@pytest.mark.parametrize(("part", "message"), LARGE)
def test_memory_is_taken_for_what_the_file_has(write, monkeypatch, part, message):
    taken = []
    empty = torch.empty

    def measured(count, **options):
        taken.append(count)
        return empty(count, **options)

    monkeypatch.setattr(torch, "empty", measured)
    path = write(_state(before=part))
    with pytest.raises(WeightsError, match=f"w.pth: .*({message})"):
        read_checkpoint(path)
    assert sum(taken) <= path.stat().st_size


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (STOP, "takes more than"),
        (pickle.NONE, "(cut short|opcode)"),
        (b"", "(cut short|opcode)"),
        (pickle.APPEND + STOP, "takes more than"),
        (pickle.MARK + pickle.NONE + pickle.TUPLE + pickle.TUPLE + STOP, "takes more than"),
        (pickle.NONE + pickle.MARK + pickle.TUPLE1 + STOP, "takes more than"),
        (pickle.EMPTY_DICT + pickle.MARK + pickle.NONE + pickle.SETITEMS + STOP, "a key without a value"),
        (pickle.BINGET + b"\0" + STOP, "what it has not put down"),
        (pickle.BINPUT + b"\0" + STOP, "takes more than"),
        (pickle.PROTO + b"\x77" + STOP, "unknown protocol"),
        (pickle.NONE + pickle.BINPERSID + STOP, "persistent id"),
        (_tuple(_text("module"), FLOATS, _text("0"), _text("0"), _number(1)) + pickle.BINPERSID + STOP, "persistent"),
        (_storage(_number(-1)) + STOP, "persistent id"),
        (_storage(kind=_text("float")) + STOP, "persistent id"),
        (_storage() + _storage(kind=_global("torch", "IntStorage")) + STOP, "of two kinds"),
        (_text("os") + _number(1) + pickle.STACK_GLOBAL + STOP, "a name that is no text"),
        (_text("os") + _text("x" * 300) + pickle.STACK_GLOBAL + STOP, "a name that is no text"),
        (_text("os") + _text("system") + pickle.STACK_GLOBAL + STOP, "it names os.system"),
        (_global("torch._utils", "_rebuild_parameter") + _tuple(pickle.NONE) + pickle.REDUCE + STOP, "parameter"),
        (_global("torch", "Size") + _tuple(pickle.NONE) + pickle.REDUCE + STOP, "a size of what"),
        (_global("collections", "OrderedDict") + _tuple(GOOD) + pickle.REDUCE + STOP, "no pairs"),
        (_global("collections", "OrderedDict") + _tuple(_tuple(_text("ab"))) + pickle.REDUCE + STOP, "no pairs"),
        (REBUILD + pickle.EMPTY_TUPLE + pickle.REDUCE + STOP, "missing 4 required"),
        (REBUILD + pickle.EMPTY_LIST + pickle.REDUCE + STOP, "it calls a"),
    ],
)
def test_programs_that_are_none_are_one_clear_error(write, program, message):
    with pytest.raises(WeightsError, match=rf"w\.pth: .*{message}"):
        read_checkpoint(write(program))


def test_python_2_wrote_ordered_dictionaries_as_pairs(write):
    pairs = pickle.EMPTY_LIST + pickle.EMPTY_LIST + _text("w") + pickle.APPEND + GOOD + pickle.APPEND + pickle.APPEND
    program = _global("collections", "OrderedDict") + _tuple(pairs) + pickle.REDUCE + STOP
    assert list(read_checkpoint(write(program)).tensors) == ["w"]


TWICE = pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + pickle.TUPLE2  # a value becomes a pair of itself
DEEP = {
    "lists": pickle.EMPTY_LIST * 100_000 + pickle.APPEND * 99_999,
    "tuples": pickle.EMPTY_TUPLE + pickle.TUPLE1 * 300_000,
    "keys": pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + TWICE * 99 + pickle.NONE + pickle.SETITEM,
    "marks": pickle.MARK * 300_000 + pickle.POP * 300_000,
    "equal hashes": pickle.EMPTY_DICT
    + pickle.MARK
    + b"".join(_number(i * (2**61 - 1)) + pickle.NONE for i in range(1, 60_000))
    + pickle.SETITEMS,
}


@pytest.mark.parametrize("name", DEEP)
def test_whatever_stands_beside_the_weights_takes_linear_time(write, name):
    start = time.process_time()
    assert read_checkpoint(write(_state(before=DEEP[name]))).tensors["w"].shape == (2, 2)
    with pytest.raises(WeightsError, match="expected"):
        read_checkpoint(write(DEEP[name] + STOP))
    assert time.process_time() - start < 10


def test_the_number_of_objects_is_bounded(write, monkeypatch):
    monkeypatch.setattr(restricted_pickle, "_MAX_OPCODES", 1000)
    read_checkpoint(write(_state()))
    with pytest.raises(WeightsError, match="refused: it holds more than 1000 opcodes"):
        read_checkpoint(write(_state(before=pickle.EMPTY_DICT * 1000)))


# ---- the files around them


def test_a_packed_archive_is_refused(tmp_path):
    _archive(tmp_path / "w.pth", _state(), {"0": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="refused: its archive is packed"):
        read_checkpoint(tmp_path / "w.pth")


def test_an_archive_whose_records_share_their_bytes_is_refused(tmp_path):
    """Each of them would be read into memory of its own."""
    _archive(tmp_path / "w.pth", _state(), {str(i): bytes(1 << (20 if i == 0 else 3)) for i in range(9)})
    data = bytearray((tmp_path / "w.pth").read_bytes())
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        large = archive.getinfo("archive/data/0")
    place = data.index(b"PK\1\2")
    while data[place : place + 4] == b"PK\1\2":
        name, extra, comment = struct.unpack("<3H", data[place + 28 : place + 34])
        if b"/data/" in data[place + 46 : place + 46 + name]:
            data[place + 16 : place + 28] = struct.pack("<3I", large.CRC, 1 << 20, 1 << 20)
            data[place + 42 : place + 46] = struct.pack("<I", large.header_offset)
        place += 46 + name + extra + comment
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="refused: its archive is packed"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("record", ["data.pkl", "data/0"])
def test_a_flipped_bit_is_noticed(tmp_path, record):
    torch.save({"w": torch.ones(1000)}, tmp_path / "w.pth")
    data = bytearray((tmp_path / "w.pth").read_bytes())
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(record))
        content = archive.read(info)
    place = data.index(content) + (len(content) // 2 if record == "data/0" else content.index(b"w", 10))
    data[place] ^= 1
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged or cut short.*CRC-32"):
        read_checkpoint(tmp_path / "w.pth")


def test_numbers_in_another_order_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("a/data.pkl", _state())
        archive.writestr("a/byteorder", "big")
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(WeightsError, match="numbers in big-endian order"):
        read_checkpoint(tmp_path / "w.pth")


def test_parts_of_storages_as_torch_had_them_before_views(tmp_path):
    content = {"0": (4, struct.pack("<4f", 1, 2, 3, 4))}

    def part(start, count):
        view = _tuple(_text("v"), _number(start), _number(count))
        return _tensor(_storage(_number(4), FLOATS, _text("0"), view), _tuple(_number(2)), _tuple(_number(1)))

    _stream(tmp_path / "w.pth", _state(part(1, 2)), content)
    assert read_checkpoint(tmp_path / "w.pth").tensors["w"].tolist() == [2, 3]
    for start, count in ((3, 2), (-1, 2), (0, -1), (0, 2**70)):
        _stream(tmp_path / "w.pth", _state(part(start, count)), content)
        with pytest.raises(WeightsError, match="a part of a storage"):
            read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("storages", "keys", "message"),
    [
        ({}, None, "other storages"),
        ({"0": (4, bytes(16)), "1": (4, bytes(16))}, None, "other storages"),
        ({"0": (4, bytes(16))}, ["0", "0"], "other storages"),
        ({"0": (4, bytes(16))}, [3], "other storages"),
        ({"0": (5, bytes(16))}, None, "another length than 4"),
        ({"0": (4, bytes(15))}, None, "cut short"),
    ],
)
def test_streams_have_the_storages_of_their_tensors(tmp_path, storages, keys, message):
    _stream(tmp_path / "w.pth", _state(), storages, keys)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(tmp_path / "w.pth")


def test_a_plain_pickle_is_no_file_of_torch(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"w": 1}, 2))
    with pytest.raises(WeightsError, match=r"no file of torch\.save"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_whatever_is_changed_in_a_file_it_loads_or_is_refused(tmp_path, zipped):
    state = {"state_dict": OrderedDict(a=torch.ones(3, 2), b=torch.nn.Parameter(torch.arange(4.0))), "meta": [{1: "x"}]}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    good = (tmp_path / "w.pth").read_bytes()
    chance = random.Random(0)
    if zipped:  # where the program is; its checksum is made right again, so that the change is not noticed by that
        with zipfile.ZipFile(tmp_path / "w.pth") as archive:
            program = archive.read("w/data.pkl")
        places = range(good.index(program), good.index(program) + len(program))
    else:
        places = range(30, len(good))
    outcomes = set()
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 5))):
            data[chance.choice(places)] = chance.choice((0, 0xFF, chance.randrange(256), *b"().0abcteuRQb]}"))
        if zipped:
            crc = struct.pack("<I", zlib.crc32(data[places.start : places.stop]))
            old = struct.pack("<I", zlib.crc32(program))
            data = bytearray(bytes(data).replace(old, crc))
        (tmp_path / "w.pth").write_bytes(data)
        try:
            read_checkpoint(tmp_path / "w.pth")
            outcomes.add("loaded")
        except WeightsError as error:
            outcomes.add(re.search("refused|damaged or cut short|expected", str(error))[0])
    assert outcomes == {"loaded", "refused", "damaged or cut short", "expected"}
