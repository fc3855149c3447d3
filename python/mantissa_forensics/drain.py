"""Brings what taps saw from the devices to host memory, beside the computation.

On CUDA the pieces of a pass are put end to end by one small kernel and copied into pinned memory by a stream of their
own; the pass does not wait. At most `in_flight` bytes are on their way; when more come, the oldest are waited for. On a
CPU a piece is a copy already.
"""

import collections

import numpy as np
import torch

from .errors import CaptureError

WORDS = {
    torch.float32: ("f32", torch.int32, np.uint32),
    torch.bfloat16: ("bf16", torch.int16, np.uint16),
    torch.float16: ("f16", torch.int16, np.uint16),
    torch.int32: ("u32", torch.int32, np.uint32),
}


class Drain:
    """`take` pieces, later `finish`. Each piece is given to its `done(format, bits)`, in the order taken."""

    def __init__(self, in_flight=64 << 20, limit=8 << 30):
        self._in_flight, self._limit = in_flight, limit
        self._waiting, self._bytes, self._kept = collections.deque(), 0, 0
        self._streams = {}
        # What was waited for, for the cost's measurement.
        self.waits = 0

    def take(self, pieces):
        """`pieces`: `[(tensor, done)]`, each tensor a copy that nobody else holds."""
        self._kept += sum(x.numel() * x.element_size() for x, _ in pieces)
        if self._kept > self._limit:
            fault = f"the signals are larger than {self._limit} bytes"
            raise CaptureError(fault, "keep fewer layers, sites, positions or sequences, or give a larger memory_limit")
        groups = {}
        for x, done in pieces:
            groups.setdefault((x.device, x.dtype), []).append((x, done))
        for (device, dtype), group in groups.items():
            if device.type == "cuda":
                self._send(device, dtype, group)
            else:
                for x, done in group:
                    done(WORDS[dtype][0], _words(x))

    def _send(self, device, dtype, group):
        flat = torch.cat([x.reshape(-1) for x, _ in group])
        host = torch.empty(flat.shape, dtype=dtype, pin_memory=True)
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        side = self._streams[device]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            host.copy_(flat, non_blocking=True)
            flat.record_stream(side)
            event = torch.cuda.Event()
            event.record(side)
        size = flat.numel() * flat.element_size()
        self._waiting.append((event, host, [(x.shape, done) for x, done in group], size))
        self._bytes += size
        while self._waiting and (self._bytes > self._in_flight or self._waiting[0][0].query()):
            self._receive()

    def _receive(self):
        event, host, group, size = self._waiting.popleft()
        if not event.query():
            self.waits += 1
            event.synchronize()
        self._bytes -= size
        name, _, _ = WORDS[host.dtype]
        # Pinned memory is given back; what is kept is ordinary memory.
        words, at = _words(host).copy(), 0
        for shape, done in group:
            length = shape.numel()
            done(name, words[at : at + length].reshape(tuple(shape)))
            at += length

    def finish(self):
        while self._waiting:
            self._receive()


def _words(x):
    _, word, kind = WORDS[x.dtype]
    return x.contiguous().view(word).numpy().view(kind)
