"""One rule for the device that a user names."""

from types import SimpleNamespace

import pytest
import torch

from fastpose import devices
from fastpose.devices import pick_device, pick_dtype

HAS_AMX = devices._has_amx


@pytest.fixture
def gpus(monkeypatch):
    """A function that makes torch believe in so many GPUs, and the core in CUDA or not."""

    def make(count, *, with_cuda=True, current=0):
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
        monkeypatch.setattr(devices, "C", SimpleNamespace(with_cuda=with_cuda))

        def empty(*_, device):
            if device.type == "cuda" and device.index >= count:
                raise RuntimeError("invalid device ordinal\nlong story")

        monkeypatch.setattr(devices.torch, "empty", empty)

    return make


def test_without_a_gpu(gpus):
    gpus(0)
    for name in (None, "auto", "cpu", torch.device("cpu")):
        assert pick_device(name) == torch.device("cpu")


def test_a_gpu_gets_its_number(gpus, monkeypatch):
    gpus(4, current=2)
    assert [pick_device(name) for name in ("auto", "cuda", "cuda:3")] == [torch.device(f"cuda:{n}") for n in (2, 2, 3)]
    monkeypatch.setenv("LOCAL_RANK", "5")  # of torchrun
    assert [pick_device(name) for name in ("auto", "cuda", "cuda:3")] == [torch.device(f"cuda:{n}") for n in (1, 1, 3)]
    assert pick_device("cpu") == torch.device("cpu")


def test_a_core_without_cuda(gpus):
    gpus(1, with_cuda=False)
    with pytest.warns(UserWarning, match=r"a GPU is there.*FASTPOSE_CUDA=on, or set --device=cpu"):
        assert pick_device("auto", "--device") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"^--device: 'cuda:0' cannot be used: .*FASTPOSE_CUDA=on"):
        pick_device("cuda:0", "--device")
    assert pick_device("cuda:0", needs_core=False) == torch.device("cuda:0")


@pytest.mark.parametrize("name", ["bogus", "", "cuda:x", "meta", "cuda:1"])
def test_what_is_no_device_is_an_error_that_names_the_option(gpus, name):
    gpus(1)
    with pytest.raises(ValueError, match=rf"^train\.device: '{name}' cannot be used[^\n]*$"):
        pick_device(name, "train.device")


def test_numbers_are_no_names():
    with pytest.raises(TypeError, match=r"^device: expected a name such as 'cuda:0' or a torch.device, got int"):
        pick_device(0)


def test_the_command_line_names_its_own_option(capsys, tmp_path):
    from fastpose.cli import main

    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        main(["eval", "resnet18_slim_refined.people_160x160", "--data", str(tmp_path / "a.json"), "--device", "bogus"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("Error: --device: 'bogus' cannot be used here")


@pytest.fixture
def real_question(monkeypatch):
    """The question to the processor that other tests do not ask."""
    monkeypatch.setattr(devices, "_has_amx", HAS_AMX)


@pytest.mark.usefixtures("real_question")
@pytest.mark.parametrize("amx", [False, True])
def test_auto_is_bfloat16_where_the_processor_has_units_for_it(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert pick_dtype("auto", torch.device("cpu")) == (torch.bfloat16 if amx else torch.float32)
    assert pick_dtype("auto", torch.device("cuda", 0)) == torch.float32
    assert pick_dtype(None, torch.device("cpu")) == torch.float32
    assert pick_dtype(torch.float16, torch.device("cpu")) == torch.float16
    with pytest.raises(ValueError, match="dtype: expected auto, float32, bfloat16, float16, got 'int8'"):
        pick_dtype("int8", torch.device("cpu"))


@pytest.mark.usefixtures("real_question")
def test_auto_without_a_way_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
