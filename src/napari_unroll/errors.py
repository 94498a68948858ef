"""The project's errors.

Every message says what was expected, what came and what to do. None derives from
``RuntimeError``: generator workers of superqt and napari turn those into warnings and
never report them as failures.
"""

LONGEST_TEXT = 300
"""Characters of an error: a glance. Of longer ones the beginning and the advice at the end stay."""


class UnrollError(Exception):
    """Base of every error that a user should read as a sentence, not as a traceback.

    Whatever a file put into it, its text has no control characters and at most LONGEST_TEXT characters.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(shortened(text))


def shortened(text: object, longest: int = LONGEST_TEXT) -> str:
    """A text on one line, fit for a terminal; of a longer one its beginning and its end."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(plain) <= longest:
        return plain
    tail = longest // 3
    return f"{plain[: longest - tail - 3]} … {plain[-tail:]}"


class ScanError(UnrollError):
    """Measurements, geometry and grid do not fit together."""


class FileFormatError(UnrollError):
    """A file is missing, empty, truncated, unsafe or not of the format it claims."""


class MissingInformation(FileFormatError):
    """A file is sound but does not hold what a scan needs; ``options`` name the reader's options that supply it."""

    def __init__(self, text: str, *options: str) -> None:
        super().__init__(text)
        self.options = options


class LargeScan(MissingInformation):
    """A file is sound, but its scan takes so much memory that it is asked first how much of it is wanted."""


class ParameterError(UnrollError):
    """A parameter is out of its range or does not apply to this scan."""


class WeightsError(UnrollError):
    """A checkpoint is missing, damaged or made for another problem."""


class DeviceError(UnrollError):
    """The asked device or back end is not available here."""


class MemoryExceeded(UnrollError):
    """The work does not fit the memory of the device, even in the smallest patches."""


class Cancelled(UnrollError):
    """The user cancelled; raised only inside a run, reported as an outcome."""


class FinishNow(UnrollError):
    """The user asked to finish with what there is; raised inside a step, caught where the best so far is known."""


EXHAUSTED = (
    "not enough memory", "out of memory", "can't allocate", "status_alloc_failed", "status_not_initialized",
    "could not create a primitive",
)  # fmt: skip
"""How torch, cuBLAS, cuDNN and oneDNN say that memory is exhausted, in lower case; those of cuBLAS when there is no room to begin.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, cuBLAS, cuDNN, oneDNN or numpy could not allocate; torch's own class derives from RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in EXHAUSTED)
