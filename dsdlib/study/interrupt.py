"""Stopping: after some minutes, at Ctrl-C, and at SIGTERM, which clusters send before their time limit."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dsdlib.config import ConfigError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


def check_minutes(minutes: float | None) -> None:
    """Raise `ConfigError` for a time after which nothing can be stopped."""
    if minutes is not None and not 0 < minutes < 1e6:
        raise ConfigError(f"--minutes {minutes:g}: more than 0 and less than a million")


@contextmanager
def interruptible(minutes: float | None = None) -> Iterator[None]:
    """Raise KeyboardInterrupt after so many minutes and at SIGTERM, as Ctrl-C does. For the main thread only."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS[1:]}
    signal.setitimer(signal.ITIMER_REAL, 60 * (minutes or 0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def gentle_stop() -> Iterator[Callable[[], bool]]:
    """Take these signals as a request, which a training can heed at the end of an epoch.

    Yields a function that says whether there was a request, and raises KeyboardInterrupt afterwards if there was one.
    A signal that comes more than three seconds after the first interrupts at once. Only the main thread of a process
    gets signals; in another thread nothing changes.
    """
    asked: list[float] = []

    def ask(*_: Any) -> None:
        asked.append(time.perf_counter())
        if asked[-1] - asked[0] > 3:
            raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, ask) for number in SIGNALS} if main else {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt
