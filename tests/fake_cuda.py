"""Stands in for streams and graphs where there is no GPU: what was captured is done again on the same memory."""

from __future__ import annotations

import contextlib
import threading

import torch

from fastpose.engines import Clock

_TURN = threading.local()  # cuda: whose turn it is


class FakeCuda:
    """As `Cuda`, on the CPU. Host memory gets the results only when the clock of their turn has stopped.

    Attributes:
        log: "launch" and "read" in the order in which batches were launched and read.
        captured: rows of each capture.
        replays: how many.
        refuse: what a capture raises instead.
    """

    ahead = 1

    def __init__(self, device):
        assert device.type == "cpu"
        self.log, self.captured, self.replays, self.refuse = [], [], 0, None
        self._inside, self.pending = False, []

    @contextlib.contextmanager
    def turn(self):
        assert not self._inside, "two turns at once"
        self._inside = True
        self.pending = []  # of this turn: where results will be, and the results
        self.log.append("launch")
        _TURN.cuda = self
        yield
        _TURN.cuda = None
        self._inside = False

    def send(self, values):
        return values.clone()

    def fetch(self, values):
        # Work is done in the order of the stream: the values of this moment arrive, but they arrive later.
        assert self._inside
        there = torch.full_like(values, torch.nan)
        self.pending.append((there, values.clone()))
        return there

    def capture(self, call):
        assert self._inside
        if self.refuse:
            raise self.refuse
        output = call()
        self.captured.append(len(output.tensors()[0]))

        def replay():
            self.replays += 1
            for static, fresh in zip(output.tensors(), call().tensors(), strict=True):
                static.copy_(fresh)

        for static in output.tensors():  # a capture computes nothing
            static.fill_(torch.nan)
        return replay, output


class LateClock(Clock):
    """The results of the turn in which it was made are there once its times have been asked for."""

    def __init__(self, device):
        super().__init__(device)
        self._cuda = getattr(_TURN, "cuda", None)
        self._pending = self._cuda.pending if self._cuda else []

    @torch.inference_mode()
    def milliseconds(self):
        if self._cuda:
            self._cuda.log.append("read")
        for there, values in self._pending:
            there.copy_(values)
        return super().milliseconds()
