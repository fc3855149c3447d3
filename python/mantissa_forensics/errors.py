"""What goes wrong, in one line each: the fault, then after the last `; ` the remedy."""


class CaptureError(RuntimeError):
    """Something cannot be captured, or was not what was asked for."""

    def __init__(self, fault, remedy):
        super().__init__(f"{fault}; {remedy}")
        self.fault, self.remedy = fault, remedy


class KnobError(CaptureError):
    """A setting that was asked for did not take effect."""

    def __init__(self, axis, asked, observed, remedy="nothing was written; correct the setting, or ask for what ran"):
        super().__init__(f"{axis} was set to {asked!r} and {observed!r} ran", remedy)
        self.axis, self.asked, self.observed = axis, asked, observed
