"""Other work on the same GPU, on a stream of its own, and the proof that it ran at the same time.

    record(model, prompts, out, beside=Beside())

The load is products of 1,024 × 1,024 outputs over a long axis: 64 blocks of 128 × 128, about half of a Hopper's
multiprocessors. Whether it overlapped is told from events of both streams, not from having started it.
"""

import threading

import torch

from .errors import CaptureError


class Beside:
    """A load while it is entered. `overlapped` says whether it ran during what was inside the `with`."""

    def __init__(self, device="cuda", side=1024, length=16384, in_flight=32):
        if not torch.cuda.is_available():
            raise CaptureError("concurrent streams need a CUDA device", "leave beside out")
        device = torch.device(device)
        # A thread of its own has to be told which.
        number = torch.cuda.current_device() if device.index is None else device.index
        self.device, self.in_flight, self._failed = torch.device("cuda", number), in_flight, None
        self.overlapped = False
        make = lambda rows, columns: torch.randn(rows, columns, device=self.device, dtype=torch.bfloat16)
        self._a, self._b = make(side, length), make(length, side)
        self._stream = torch.cuda.Stream(self.device)

    def __enter__(self):
        self._stop = threading.Event()
        torch.cuda.synchronize(self.device)
        self._zero, self._first, self._last = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        self._zero.record(torch.cuda.current_stream(self.device))
        started = threading.Event()
        self._thread = threading.Thread(target=self._load, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        if self._failed:
            raise CaptureError(f"the stream beside did not begin ({self._failed})", "leave beside out")
        self._begin = torch.cuda.Event(enable_timing=True)
        self._begin.record(torch.cuda.current_stream(self.device))
        return self

    def __exit__(self, *_):
        end = torch.cuda.Event(enable_timing=True)
        end.record(torch.cuda.current_stream(self.device))
        end.synchronize()
        self._stop.set()
        self._thread.join()
        torch.cuda.synchronize(self.device)
        at = self._zero.elapsed_time
        # It was there before the work began and after it ended, and never waited in between.
        self.overlapped = not self._failed and at(self._first) <= at(self._begin) and at(self._last) >= at(end)

    def _load(self, started):
        try:
            self._multiply(started)
        except Exception as error:
            self._failed = error
        finally:
            # Whoever waits for the first product does not wait for ever.
            started.set()

    def _multiply(self, started):
        torch.cuda.set_device(self.device)
        with torch.cuda.stream(self._stream):
            waiting, out = [], torch.mm(self._a, self._b)
            self._first.record(self._stream)
            while not self._stop.is_set():
                torch.mm(self._a, self._b, out=out)
                event = torch.cuda.Event()
                event.record(self._stream)
                waiting.append(event)
                started.set()
                if len(waiting) >= self.in_flight:
                    # Lets the other thread go on while it waits.
                    waiting.pop(0).synchronize()
            torch.mm(self._a, self._b, out=out)
            self._last.record(self._stream)
