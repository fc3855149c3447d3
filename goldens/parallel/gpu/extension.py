"""vLLM's worker with the capture's methods, and two that note kernels by name."""

from mantissa_forensics.vllm.worker import WorkerExtension


class ParallelExtension(WorkerExtension):
    def mantissa_kernels_begin(self):
        from torch.profiler import ProfilerActivity, profile

        self._mantissa_profile = profile(activities=[ProfilerActivity.CUDA])
        self._mantissa_profile.__enter__()

    def mantissa_kernels_end(self):
        """`[(name, launches)]` in the order of first launches."""
        import torch

        torch.cuda.synchronize()
        seen, self._mantissa_profile = self._mantissa_profile, None
        seen.__exit__(None, None, None)
        counts = {}
        for event in sorted(seen.events(), key=lambda e: e.time_range.start):
            if str(getattr(event, "device_type", "")).endswith("CUDA"):
                counts[event.name] = counts.get(event.name, 0) + 1
        return list(counts.items())
