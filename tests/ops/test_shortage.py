"""The ops where the system has no thread or no memory to give: they work with what there is, or raise MemoryError."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits as on Linux")

# Ordinary arguments of the ops that work in parallel, and large ones whose scratch is at least 60 MB.
START = """
import numpy as np
from fastpose import ops
from fastpose.codecs import build_codec

random = np.random.default_rng(0)
CALLS = {}

def call(function):
    CALLS[function.__name__] = function
    return function

sigmas = np.full(17, 0.05)
def people(n): return random.uniform(0, 200, (n, 17, 2)).astype(np.float32)
"""
CALLS = """
poses, scores, areas = people(64), random.uniform(0, 1, 64), random.uniform(1e3, 1e4, 64)
image = random.integers(0, 255, (480, 640, 3), dtype=np.uint8)
codec = build_codec("dark", heatmap_size=(64, 48))
maps = random.uniform(0, 1, (8, 17, 64, 48)).astype(np.float32)
points = random.uniform(0, 192, (8, 17, 2)).astype(np.float32)

@call
def affine_crop(): return ops.affine_crop([image], np.tile(np.eye(2, 3), (16, 1, 1)), size=(256, 192))
@call
def box_nms(): return ops.box_nms(poses[:, :2].reshape(64, 4), scores, image_index=np.arange(64) % 16)
@call
def heatmap_encode(): return ops.heatmap_encode(points, np.ones((8, 17), np.float32), codec, (256, 192))
@call
def heatmap_decode(): return ops.heatmap_decode(maps, codec, (256, 192))
@call
def oks(): return ops.oks(np.tile(poses, (64, 1, 1)), np.tile(poses, (4, 1, 1)), np.tile(areas, 64), sigmas)
@call
def oks_nms(): return ops.oks_nms(poses, scores, areas, sigmas, image_index=np.arange(64) % 16)
"""
LARGE = """
codec = build_codec("dark", heatmap_size=(4096, 4096))
size = (4 * 4096, 4 * 4096)
maps = np.zeros((1, 4, 4096, 4096), np.float32)
out = np.empty_like(maps)
visible = np.ones((1, 4), np.float32)
many = people(500_000)
ones = np.ones(500_000)
row, none = np.empty((1, 3, 1, 1 << 20), np.float32), np.empty((1, 500_000), np.float32)
wide = np.zeros((4, 1 << 20, 3), np.uint8)

@call
def affine_crop(): return ops.affine_crop([wide], np.eye(2, 3)[None], size=(1, 1 << 20), out=row)
@call
def box_nms(): return ops.box_nms(many[:, :2].reshape(-1, 4), ones)
@call
def heatmap_encode(): return ops.heatmap_encode(np.full((1, 4, 2), 50, np.float32), visible, codec, size, out=out)
@call
def heatmap_decode(): return ops.heatmap_decode(maps, codec, size)
@call
def oks(): return ops.oks(many[:1], many, ones[:1], sigmas, out=none)
@call
def oks_nms(): return ops.oks_nms(many, ones, ones, sigmas)
"""
# An address space has no room for such a stack, so that no thread begins.
THREADS = """
import ctypes, os
libc = ctypes.CDLL(None)

def stack_of_new_threads(size):
    attributes = ctypes.create_string_buffer(64)
    assert libc.pthread_attr_init(attributes) == 0
    assert libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(size)) == 0
    assert libc.pthread_setattr_default_np(attributes) == 0

def threads(): return len(os.listdir("/proc/self/task"))
def flat(result): return b"".join(part.tobytes() for part in (result if isinstance(result, tuple) else (result,)))

before = threads()
stack_of_new_threads(1 << 60)
alone = {name: flat(run()) for name, run in CALLS.items()}
assert threads() == before, "a thread began"
stack_of_new_threads(8 << 20)
assert {name: flat(run()) for name, run in CALLS.items()} == alone
assert threads() > before, "no worker"
stack_of_new_threads(1 << 60)
assert {name: flat(run()) for name, run in CALLS.items()} == alone
print("well", *CALLS)
"""
MEMORY = """
import resource
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
before = resource.getrlimit(resource.RLIMIT_AS)
for name, run in CALLS.items():
    resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20), before[1]))
    try:
        run()
        print("no MemoryError:", name)
    except MemoryError:
        print("well", name)
    resource.setrlimit(resource.RLIMIT_AS, before)
assert CALLS["heatmap_encode"]()[0].max() > 0.9
"""
NAMES = ["affine_crop", "box_nms", "heatmap_encode", "heatmap_decode", "oks", "oks_nms"]


def output_of(code: str, threads: int) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\n")[:-1]


def test_no_thread_to_be_had() -> None:
    assert output_of(START + CALLS + THREADS, 4) == ["well " + " ".join(NAMES)]


@pytest.mark.parametrize("threads", [1, 3])
def test_no_memory_for_scratch_is_a_memory_error(threads: int) -> None:
    assert output_of(START + LARGE + MEMORY, threads) == [f"well {name}" for name in NAMES]
