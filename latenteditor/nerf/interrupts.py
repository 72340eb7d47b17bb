"""What becomes of an interrupt from the keyboard, or of a request to end, while a run trains."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def caught(catch: Callable[[int], object]) -> Iterator[Callable[[], None]]:
    """Calls `catch` with the number of each signal; what this yields puts back what was there before, early."""
    before = {}

    def put_back() -> None:
        while before:
            signal.signal(*before.popitem())

    if threading.current_thread() is threading.main_thread():  # No other may.
        for number in SIGNALS:
            before[number] = signal.signal(number, lambda caught_number, _: catch(caught_number)) or signal.SIG_DFL
    try:
        yield put_back
    finally:
        put_back()
