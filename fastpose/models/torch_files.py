"""What `torch.save` wrote, in its archive (a zip file, since torch 1.6) or its older stream, read as data alone."""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
import zlib
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .restricted_pickle import RefusedPickleError, Storage, StorageKind, Unpickler

__all__ = ["load_pickled"]

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the stream


def load_pickled(file: BinaryIO) -> Any:
    """Read a file that `torch.save` wrote, onto the CPU.

    Args:
        file: the file, at its beginning; it can be sought in.

    Returns:
        What was saved, with stand-ins for what is no data (see `Unpickler`). It takes as much memory as the file has
        bytes.

    Raises:
        RefusedPickleError: it asks for something that is no data.
        Exception: of several kinds, where it is damaged.
    """
    start = file.read(2)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return _load_archive(file, size) if start == b"PK" else _load_stream(file, size)


def _load_archive(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        if any(name.endswith("/constants.pkl") for name in records):
            raise RefusedPickleError("it is a TorchScript program")
        # Packed records, or several names of the same bytes, could be a thousand times as long as the file.
        packed = any(record.compress_type != zipfile.ZIP_STORED for record in records.values())
        if packed or sum(record.file_size for record in records.values()) > size:
            raise RefusedPickleError("its archive is packed, as torch.save does not")
        root = next((name for name in records if name.endswith("/data.pkl")), "data.pkl").removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in records else sys.byteorder
        if order != sys.byteorder:
            raise ValueError(f"numbers in {order}-endian order, expected {sys.byteorder}-endian")
        storages: dict[str, Storage] = {}

        def storage(identity: Any) -> Storage:
            kind, key, count, _ = _parse_identity(identity)
            if key not in storages:
                record = records[f"{root}data/{key}"]
                if record.file_size != count * kind.dtype.itemsize:
                    raise ValueError(f"a storage of {record.file_size} bytes for {count} values of {kind.dtype}")
                storages[key] = Storage(torch.empty(count, dtype=kind.dtype))
                _read_record(file, record, storages[key].values)
            return _same_kind(storages[key], kind, count)

        program = archive.read(f"{root}data.pkl")
        return Unpickler(io.BytesIO(program), len(program), storage).load()


def _read_record(file: BinaryIO, record: zipfile.ZipInfo, values: Tensor) -> None:
    """What `ZipFile.open` does, with a third of the copies."""
    file.seek(record.header_offset)
    name, extra = struct.unpack("<26x2H", file.read(30))
    file.seek(name + extra, os.SEEK_CUR)
    if zlib.crc32(_fill(file, values)) != record.CRC:
        raise ValueError(f"bad CRC-32 of {record.filename}")


def _load_stream(file: BinaryIO, size: int) -> Any:
    storages: dict[str, Storage] = {}
    left = size

    def storage(identity: Any) -> Storage:
        nonlocal left
        kind, key, count, view = _parse_identity(identity)
        if key not in storages:
            left -= count * kind.dtype.itemsize
            if left < 0:
                raise ValueError("storages that are larger than the file")
            storages[key] = Storage(torch.empty(count, dtype=kind.dtype))
        whole = _same_kind(storages[key], kind, count)
        return whole if view is None else Storage(_part(whole.values, view))

    def load() -> Any:
        return Unpickler(file, size - file.tell(), storage).load()

    if load() != _MAGIC or load() != _VERSION:
        raise ValueError("no file of torch.save")
    load()  # what the machine was like
    content = load()
    keys = load()
    if type(keys) is not list or set(map(type, keys)) - {str} or sorted(keys) != sorted(storages):
        raise ValueError("other storages than its tensors have")
    for key in keys:
        values = storages[key].values
        if int.from_bytes(file.read(8), "little") != len(values):
            raise ValueError(f"a storage of another length than {len(values)}")
        _fill(file, values)
    return content


def _parse_identity(identity: Any) -> tuple[StorageKind, str, int, Any]:
    """The kind, name and number of values of a storage, and which part of it is meant."""
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        raise ValueError("a persistent id that is no storage's")
    _, kind, key, _, count, *view = identity
    if not isinstance(kind, StorageKind) or type(key) is not str or type(count) is not int or count < 0:
        raise ValueError("a persistent id that is no storage's")
    return kind, key, count, view[0] if view else None


def _same_kind(storage: Storage, kind: StorageKind, count: int) -> Storage:
    if storage.values.dtype != kind.dtype or len(storage.values) != count:
        raise ValueError("a storage of two kinds")
    return storage


def _part(values: Tensor, view: Any) -> Tensor:
    """What a view of a storage holds; torch before 0.4 had those beside the views that tensors are."""
    if type(view) is not tuple or len(view) != 3 or any(type(n) is not int or n < 0 for n in view[1:]):
        raise ValueError("a part of a storage that is none")
    _, start, count = view
    if start + count > len(values):
        raise ValueError("a part of a storage that is larger than it")
    return values[start : start + count]


def _fill(file: BinaryIO, values: Tensor) -> memoryview:
    """Read the values of a storage; its bytes."""
    content = values.view(torch.uint8).numpy().data
    left = content
    while left:
        count = file.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise ValueError("a storage that is cut short")
        left = left[count:]
    return content
