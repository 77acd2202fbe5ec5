"""Interpreting pickles without running anything that is in them.

A pickle is a program: `pickle` calls what it names, lets it set attributes on whatever it reaches, also on torch's own
functions, and takes the memory that it asks for. `torch.load(weights_only=True)` refuses the official files as they
stand, since they carry the trainer's objects (mmengine's HistoryBuffer, NumPy scalars) beside the tensors. Here is an
interpreter of the opcodes that `torch.save` writes. It makes numbers, texts, lists, tuples, dictionaries and tensors;
what belongs to a few known libraries becomes one inert stand-in, so that those libraries are neither needed nor
touched; and anything else is refused. It changes no object but the lists and dictionaries that it has made itself,
takes memory in proportion to the file, and never goes down into what it has made.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

__all__ = ["INERT", "Inert", "RefusedPickleError", "Storage", "StorageKind", "Unpickler"]

_MAX_OPCODES = 5_000_000  # one byte of a pickle can make an object of a hundred
_MAX_NAME = 256  # characters of a global
_MAX_DIMENSIONS = 16
_MAX_KEY = 2**61 - 1  # of larger ones as many as one likes have the same hash


class RefusedPickleError(ValueError):
    """A pickle asks for something that is no data: it could run code, or change this process."""


class Inert:
    """Stands in for the classes, functions and objects of other libraries: there is one, and it holds nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Inert"


INERT = Inert()


@dataclass(frozen=True)
class StorageKind:
    """The dtype of the storages that a pickle calls `torch.FloatStorage` and the like."""

    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Storage:
    """Memory that tensors are views of: values [N]."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class _Maker:
    """One of the functions below, under the name that a pickle knows it by."""

    make: Callable[..., Any]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage, inside of it, and with no more values than it has.

    torch itself makes a storage larger where a view reaches beyond its end: some bytes could ask for all memory.
    """
    if not isinstance(storage, Storage) or type(size) is not tuple or type(stride) is not tuple:
        raise ValueError("a tensor without a storage, a size or strides")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
        raise ValueError("a tensor of impossible dimensions")
    if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise ValueError("a tensor whose size or strides are no numbers")
    count = math.prod(size)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if count and (last >= len(storage.values) or count > len(storage.values)):
        raise ValueError("a tensor that is larger than its storage")
    if not count:
        return storage.values.new_empty(size)
    return storage.values.as_strided(size, stride, storage.values.storage_offset() + offset)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter without a tensor")
    return data


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    """An OrderedDict, whose contents Python 2 wrote as a list of pairs."""
    if type(pairs) not in (list, tuple) or not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("a dictionary of what are no pairs")
    return {_key(key): value for key, value in pairs}


def _size(sides: Any) -> tuple[Any, ...]:
    if type(sides) not in (list, tuple):
        raise ValueError("a size of what are no numbers")
    return tuple(sides)


_MAKERS = {
    ("collections", "OrderedDict"): _Maker(_dictionary),
    ("torch", "Size"): _Maker(_size),
    ("torch._utils", "_rebuild_tensor"): _Maker(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Maker(_parameter),
    ("torch.nn.parameter", "Parameter"): _Maker(_parameter),
}
_KINDS = {
    "FloatStorage": StorageKind(torch.float32),
    "DoubleStorage": StorageKind(torch.float64),
    "HalfStorage": StorageKind(torch.float16),
    "BFloat16Storage": StorageKind(torch.bfloat16),
    "LongStorage": StorageKind(torch.int64),
    "IntStorage": StorageKind(torch.int32),
    "ShortStorage": StorageKind(torch.int16),
    "CharStorage": StorageKind(torch.int8),
    "ByteStorage": StorageKind(torch.uint8),
    "UntypedStorage": StorageKind(torch.uint8),
    "BoolStorage": StorageKind(torch.bool),
}

# Libraries whose objects official checkpoints carry in their metadata.
_FOREIGN = (
    "numpy",
    "mmengine",
    "mmcv",
    "mmpose",
    "mmdet",
    "mmcls",
    "mmpretrain",
    "addict",
    "argparse",
    "datetime",
    "pathlib",
)
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_FOREIGN_NAMES = {
    ("_codecs", "encode"),  # NumPy's way to pickle bytes
    ("collections", "defaultdict"),
    ("copy_reg", "_reconstructor"),
    ("copyreg", "_reconstructor"),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("object", "set", "frozenset", "slice")),
    # HistoryBuffer names its methods through getattr.
    *((module, "getattr") for module in ("builtins", "__builtin__")),
    *(("torch", name) for name in ("device", *_DTYPES)),
}


def _global(module: Any, name: Any) -> Any:
    if (module, name) in _MAKERS:
        return _MAKERS[module, name]
    if module in ("torch", "torch.cuda", "torch.storage") and name in _KINDS:
        return _KINDS[name]
    if module.partition(".")[0] in _FOREIGN or (module, name) in _FOREIGN_NAMES:
        return INERT
    raise RefusedPickleError(f"it names {module}.{name}, which could run code")


def _key(key: Any) -> Any:
    """A key of a dictionary; one whose hash or comparison may take long is stood in for."""
    plain = type(key) in (str, bytes, bool, float, type(None)) or (type(key) is int and abs(key) < _MAX_KEY)
    return key if plain else INERT


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _old_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")  # Python 2 has one type for texts and bytes


def _whole_number(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


# What follows the opcode: nothing, a number, or a length and so many bytes.
_CONSTANTS: dict[bytes, Any] = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
_NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d"}
_SIZED: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
    pickle.SHORT_BINUNICODE: ("<B", _text),
    pickle.BINUNICODE: ("<I", _text),
    pickle.BINUNICODE8: ("<Q", _text),
    pickle.SHORT_BINSTRING: ("<B", _old_text),
    pickle.BINSTRING: ("<I", _old_text),
    pickle.SHORT_BINBYTES: ("<B", bytes),
    pickle.BINBYTES: ("<I", bytes),
    pickle.BINBYTES8: ("<Q", bytes),
    pickle.LONG1: ("<B", _whole_number),
    pickle.LONG4: ("<I", _whole_number),
}
_EMPTY: dict[bytes, Callable[[], Any]] = {pickle.EMPTY_LIST: list, pickle.EMPTY_DICT: dict, pickle.EMPTY_TUPLE: tuple}
_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_PUT = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}
_GET = {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}


class Unpickler:
    """Reads one pickle.

    Args:
        file: where it begins; afterwards behind its end.
        size: bytes from there to the end of the file.
        load_storage: gives the storage that a persistent id stands for; raises on any other id.
    """

    def __init__(self, file: BinaryIO, size: int, load_storage: Callable[[Any], Storage]) -> None:
        self._file, self._size, self._left = file, size, size
        self._load_storage = load_storage
        self._stack: list[Any] = []
        self._marks: list[int] = []  # heights of the stack
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """What was pickled.

        Raises:
            RefusedPickleError: it asks for something that is no data.
            ValueError: it is damaged or cut short.
        """
        for _ in range(_MAX_OPCODES):
            code = self._take(1)
            if code == pickle.STOP:
                return self._pop()
            if code in _CONSTANTS:
                self._stack.append(_CONSTANTS[code])
            elif code in _NUMBERS:
                self._stack.append(self._number(_NUMBERS[code]))
            elif code in _SIZED:
                length, convert = _SIZED[code]
                self._stack.append(convert(self._take(self._number(length))))
            elif code in _EMPTY:
                self._stack.append(_EMPTY[code]())
            elif code in _TUPLES:
                self._stack.append(tuple(self._pop() for _ in range(_TUPLES[code]))[::-1])
            elif code in _PUT:
                self._put(self._number(_PUT[code]))
            elif code in _GET:
                self._get(self._number(_GET[code]))
            elif code in _OTHERS:
                _OTHERS[code](self)
            else:
                raise RefusedPickleError(f"it holds the opcode {code!r}, which torch.save does not write")
        raise RefusedPickleError(f"it holds more than {_MAX_OPCODES} opcodes")

    # ---- bytes, stack and memo

    def _take(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self._left else b""  # the length may be any number
        if len(data) != count:
            raise ValueError("a pickle that is cut short")
        self._left -= count
        return data

    def _number(self, format: str) -> Any:
        return struct.unpack(format, self._take(struct.calcsize(format)))[0]

    def _line(self) -> str:
        line = self._file.readline(min(_MAX_NAME, self._left))
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise ValueError("a name that does not end")
        return line[:-1].decode()

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("a pickle that takes more than it has put down")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self._stack.append(value)
        return value

    def _pop_marked(self) -> list[Any]:
        if not self._marks:
            raise ValueError("a pickle that takes more than it has put down")
        height = self._marks.pop()
        values = self._stack[height:]
        del self._stack[height:]
        return values

    def _put(self, place: int) -> None:
        if place > self._size:
            raise RefusedPickleError(f"it numbers an object {place}, in {self._size} bytes")
        self._memo[place] = self._top()

    def _get(self, place: int) -> None:
        if place not in self._memo:
            raise ValueError("a pickle that takes what it has not put down")
        self._stack.append(self._memo[place])

    # ---- opcodes

    def _protocol(self) -> None:
        if self._take(1)[0] > pickle.HIGHEST_PROTOCOL:
            raise ValueError("a pickle of an unknown protocol")

    def _frame(self) -> None:
        self._take(8)  # a length that only helps to read ahead

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _drop_marked(self) -> None:
        self._pop_marked()

    def _drop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()

    def _memoize(self) -> None:
        self._put(len(self._memo))

    def _tuple(self) -> None:
        self._stack.append(tuple(self._pop_marked()))

    def _empty_set(self) -> None:
        self._stack.append(INERT)

    def _frozen_set(self) -> None:
        self._pop_marked()
        self._stack.append(INERT)

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is list:
            target.extend(values)
        elif target is not INERT:
            raise RefusedPickleError(f"it appends to a {type(target).__name__}")

    def _append(self) -> None:
        self._extend([self._pop()])

    def _extend_marked(self) -> None:
        self._extend(self._pop_marked())

    def _update(self, values: list[Any]) -> None:
        target = self._top()
        if len(values) % 2:
            raise ValueError("a key without a value")
        if type(target) is dict:
            target.update(zip(map(_key, values[::2]), values[1::2], strict=True))
        elif target is not INERT:
            raise RefusedPickleError(f"it sets items of a {type(target).__name__}")

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _update_marked(self) -> None:
        self._update(self._pop_marked())

    def _name(self) -> None:
        module, name = self._line(), self._line()
        self._stack.append(_global(module, name))

    def _stack_name(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str) or max(len(module), len(name)) > _MAX_NAME:
            raise ValueError("a name that is no text")
        self._stack.append(_global(module, name))

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if function is INERT:
            self._stack.append(INERT)
        elif isinstance(function, _Maker) and type(arguments) is tuple:
            self._stack.append(function.make(*arguments))
        else:
            raise RefusedPickleError(f"it calls a {type(function).__name__}")

    def _call_with_names(self) -> None:
        self._pop()  # of arguments; none of ours has any
        self._call()

    def _build(self) -> None:
        """Set attributes: those of a stand-in nobody sees, those of an OrderedDict only torch's loading looks at."""
        self._pop()
        target = self._top()
        if target is not INERT and type(target) is not dict:
            raise RefusedPickleError(f"it sets attributes of a {type(target).__name__}")

    def _persistent(self) -> None:
        self._stack.append(self._load_storage(self._pop()))


_OTHERS: dict[bytes, Callable[[Unpickler], None]] = {
    pickle.PROTO: Unpickler._protocol,
    pickle.FRAME: Unpickler._frame,
    pickle.MARK: Unpickler._mark,
    pickle.POP: Unpickler._drop,
    pickle.POP_MARK: Unpickler._drop_marked,
    pickle.MEMOIZE: Unpickler._memoize,
    pickle.TUPLE: Unpickler._tuple,
    pickle.EMPTY_SET: Unpickler._empty_set,
    pickle.FROZENSET: Unpickler._frozen_set,
    pickle.ADDITEMS: Unpickler._extend_marked,
    pickle.APPEND: Unpickler._append,
    pickle.APPENDS: Unpickler._extend_marked,
    pickle.SETITEM: Unpickler._set_item,
    pickle.SETITEMS: Unpickler._update_marked,
    pickle.GLOBAL: Unpickler._name,
    pickle.STACK_GLOBAL: Unpickler._stack_name,
    pickle.REDUCE: Unpickler._call,
    pickle.NEWOBJ: Unpickler._call,
    pickle.NEWOBJ_EX: Unpickler._call_with_names,
    pickle.BUILD: Unpickler._build,
    pickle.BINPERSID: Unpickler._persistent,
}
