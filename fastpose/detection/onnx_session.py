"""An ONNX file of a detector in ONNX Runtime: what it takes, what it says of itself, and how it runs."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastpose.devices import pick_device
from fastpose.models.weights import WeightsError

from .passes import record_event

__all__ = ["FileFacts", "ImageInput", "OnnxSession", "Running"]

Array = npt.NDArray[Any]

_DTYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(uint8)": torch.uint8}
_SIZE_INPUT = "orig_target_sizes"
_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class ImageInput:
    """The pictures that a file takes.

    Attributes:
        name: Of the input.
        dtype: Of the pixels.
        batch: Pictures of a batch; None for any number.
        size: (height, width); None for any.
        channels_last: [B, h, w, 3], not [B, 3, h, w].
        single: A picture without the batch's dimension.
    """

    name: str
    dtype: torch.dtype
    batch: int | None
    size: tuple[int, int] | None
    channels_last: bool
    single: bool

    @classmethod
    def of(cls, value: Any) -> ImageInput | None:
        """That of an input of ONNX Runtime; None if it is none for pictures."""
        shape = [side if isinstance(side, int) and side > 0 else None for side in value.shape]
        single = len(shape) == 3
        shape = [1, *shape] if single else shape
        if value.type not in _DTYPES or len(shape) != 4:
            return None
        channels_last = shape[3] == 3 and shape[1] != 3
        batch, channels, *sides = [shape[0], shape[3], *shape[1:3]] if channels_last else shape
        if channels not in (3, None):
            return None
        height, width = (sides[0] or sides[1], sides[1] or sides[0])
        size = (height, width) if height and width else None
        return cls(value.name, _DTYPES[value.type], batch, size, channels_last, single)


@dataclass(frozen=True)
class FileFacts:
    """What a file says of itself, as those of Ultralytics do.

    Attributes:
        names: Of the classes by number.
        side: Longer side of the pictures that it has learned, pixels.
        stride: Of which these are multiples.
        suppressed: It leaves one box for each of those that it has found.
    """

    names: Mapping[int, str] | None = None
    side: int | None = None
    stride: int | None = None
    suppressed: bool = False

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> FileFacts:
        """Those of a file's metadata; what is not as it should be is taken for not said."""
        values = {key: _literal(metadata.get(key, "")) for key in ("names", "imgsz", "stride", "args", "end2end")}
        names, size, stride, args = (values[key] for key in ("names", "imgsz", "stride", "args"))
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
            names = None
        sides = [size, size] if isinstance(size, int) else size
        good = isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(s, int) and s > 0 for s in sides)
        return cls(
            {number: str(word) for number, word in names.items()} if names else None,
            max(sides) if good else None,
            stride if isinstance(stride, int) and stride > 0 else None,
            values["end2end"] is True or (isinstance(args, dict) and args.get("nms") is True),
        )


class OnnxSession:
    """A file that is ready to run.

    Args:
        file: The file.
        device: See `OnnxDetector`.

    Attributes:
        name: The file's, for messages.
        image: The pictures that it takes.
        takes_size: Whether it takes their size beside them.
        facts: What it says of itself.
        outputs: Names of those that are wanted.
        device: Where it runs.
        stream: On which it does so; None on the CPU.

    Raises:
        ImportError: ONNX Runtime is not installed.
        WeightsError: The file is missing or damaged, or wants another input.
        ValueError: It cannot run on that device.
    """

    def __init__(self, file: str | os.PathLike[str], device: str | torch.device | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("ONNX files need ONNX Runtime: pip install 'fastpose-torch[onnx]'") from error
        self.name = os.fspath(file)
        self.device = _find_device(device, onnxruntime.get_available_providers())
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        if not Path(file).is_file():
            raise WeightsError(f"{self.name}: there is no such file")
        try:
            self._session = onnxruntime.InferenceSession(
                self.name, _session_options(onnxruntime), providers=self._providers()
            )
        except Exception as error:  # those of ONNX Runtime have nothing in common
            raise WeightsError(f"{self.name}: ONNX Runtime cannot load it: {_first_line(error)}") from None
        if self.stream is not None and _PROVIDER not in self._session.get_providers():
            raise ValueError(f"device: {self.device} cannot be used: ONNX Runtime does not find its CUDA libraries")
        inputs = self._session.get_inputs()
        images = [found for found in map(ImageInput.of, inputs) if found]
        others = [value.name for value in inputs if value.name not in {image.name for image in images}]
        if len(images) != 1 or others not in ([], [_SIZE_INPUT]):
            found = ", ".join(f"{value.name} {value.shape} {value.type}" for value in inputs) or "none"
            raise WeightsError(
                f"{self.name}: expected one input for pictures, [B, 3, height, width] of float or uint8 numbers "
                f"(and maybe {_SIZE_INPUT}), found {found}"
            )
        self.image, self.takes_size = images[0], bool(others)
        self.outputs = [value.name for value in self._session.get_outputs()]
        self.facts = FileFacts.of(self._session.get_modelmeta().custom_metadata_map)
        self._run_options = onnxruntime.RunOptions()
        if self.stream is not None:
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def _providers(self) -> list[Any]:
        if self.stream is None:
            return ["CPUExecutionProvider"]
        options = {"device_id": self.device.index, "user_compute_stream": str(self.stream.cuda_stream)}
        return [(_PROVIDER, options), "CPUExecutionProvider"]

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Surrounds work on pictures and passes: on CUDA it is done on the session's stream, after the caller's."""
        if self.stream is None:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            yield

    def run(self, pixels: Tensor) -> Running:
        """One pass, within a turn; on CUDA without waiting for it.

        Args:
            pixels: [B, 3, h, w], contiguous, or with the channels last in memory where the file wants that.

        Raises:
            WeightsError: The network does not run on them.
        """
        height, width = pixels.shape[2:]
        fed = pixels.permute(0, 2, 3, 1) if self.image.channels_last else pixels
        fed = (fed[0] if self.image.single else fed).to(self.device).contiguous()
        sizes = np.tile(np.array([[width, height]], np.int64), (len(pixels), 1)) if self.takes_size else None
        try:
            if self.stream is None:
                feed: dict[str, Array] = {self.image.name: fed.numpy()}
                if sizes is not None:
                    feed[_SIZE_INPUT] = sizes
                values = self._session.run(self.outputs, feed, self._run_options)
            else:
                values = self._run_bound(fed, sizes)
        except Exception as error:
            raise WeightsError(
                f"{self.name}: fails for pictures {list(fed.shape)} as {self.image.name}: {_first_line(error)}"
            ) from None
        return Running(self.outputs, values, None if self.stream is None else fed, record_event(self.device))

    def _run_bound(self, fed: Tensor, sizes: Array | None) -> list[Any]:
        """On memory that is on the GPU already; outputs stay there."""
        binding = self._session.io_binding()
        kind = {torch.float32: np.float32, torch.float16: np.float16, torch.uint8: np.uint8}[fed.dtype]
        binding.bind_input(self.image.name, "cuda", self.device.index, kind, tuple(fed.shape), fed.data_ptr())
        if sizes is not None:
            binding.bind_cpu_input(_SIZE_INPUT, sizes)
        for name in self.outputs:
            binding.bind_output(name, "cuda", self.device.index)
        self._session.run_with_iobinding(binding, self._run_options)
        values: list[Any] = binding.get_outputs()
        return values


@dataclass(frozen=True, eq=False)
class Running:
    """A pass that is under way.

    Attributes:
        names: Of its outputs.
        values: The outputs, arrays or, on a GPU, ONNX Runtime's own.
        held: What the device still reads.
        done: When it is done; None where it is already.
    """

    names: list[str]
    values: list[Any]
    held: Tensor | None
    done: torch.cuda.Event | None

    def arrays(self) -> dict[str, Array]:
        """The outputs by name, floating ones as float32; waits for them."""
        if self.done is not None:
            self.done.synchronize()
        arrays = [value if isinstance(value, np.ndarray) else value.numpy() for value in self.values]
        arrays = [value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value for value in arrays]
        return dict(zip(self.names, arrays, strict=True))


def _find_device(device: str | torch.device | None, providers: list[str]) -> torch.device:
    named = device is not None and str(device) != "auto"
    if not named and _PROVIDER not in providers:
        return torch.device("cpu")
    found = pick_device(device)
    if found.type == "cuda" and _PROVIDER not in providers:
        raise ValueError(
            f"device: {str(device)!r} cannot be used: this ONNX Runtime has no {_PROVIDER} (only "
            f"{', '.join(providers)}); install onnxruntime-gpu, or set device=cpu"
        )
    return found


def _session_options(onnxruntime: Any) -> Any:
    """As many threads as torch has, and none that spins while torch works."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
