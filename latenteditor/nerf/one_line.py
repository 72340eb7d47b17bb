"""What a user can mend, shown as one line instead of a traceback."""

import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

DEBUG_VARIABLE = "LATENTEDITOR_DEBUG"
"""Set, and not to 0, it brings the traceback of what is otherwise shown as one line."""
PACKAGE = Path(__file__).parents[1]


class OneLine:
    """Shows what a user can mend as that line alone, and everything else as before."""

    def __init__(self, otherwise: Any) -> None:
        """`otherwise` shows everything else."""
        self.otherwise = otherwise

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Called by Python with what nobody caught, before the process ends with status 1."""
        if can_be_mended(error, trace) and not wants_traceback():
            sys.stderr.write(f"Error: {error}\n")
        else:
            self.otherwise(kind, error, trace)


def wants_traceback() -> bool:
    """Whether somebody asked for the traceback."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def show_mistakes_as_one_line() -> None:
    """Lets this process end with one line instead of a traceback where the mistake is the user's."""
    if not isinstance(sys.excepthook, OneLine):
        sys.excepthook = OneLine(sys.excepthook)


def can_be_mended(error: BaseException, trace: TracebackType | None) -> bool:
    """Whether an error is one of the sentences in which this package refuses something."""
    if not isinstance(error, ValueError) or trace is None:
        return False
    return Path(traceback.extract_tb(trace)[-1].filename).is_relative_to(PACKAGE)
