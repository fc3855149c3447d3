"""Capture of other programs' inference as evidence that the `mantissa` program reads. See docs/capture.md.

    from mantissa_forensics import Capture
    with Capture(model) as c:
        model.generate(**inputs)
    c.save("evidence")

Hooks give rows, rows become signals by phase, step and position, signals become a container (docs/format/container.md).
"""

from .errors import CaptureError, KnobError

__version__ = "0.1.0"
__all__ = ["Capture", "CaptureError", "KnobError", "VllmCapture", "VllmServerCapture", "record", "record_vllm"]


def __getattr__(name):
    """PyTorch is the user's, and loaded only when something needs it."""
    if name == "Capture":
        from .capture import Capture

        return Capture
    if name == "record":
        from .recording import record

        return record
    if name in ("VllmCapture", "VllmServerCapture", "record_vllm"):
        from .vllm import capture

        return getattr(capture, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
