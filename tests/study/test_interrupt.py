"""Signals are heeded at the end of an epoch, or at once if they are repeated seconds later."""

import os
import signal
import threading
import time

import pytest

from dsdlib.study.interrupt import SIGNALS, gentle_stop, interruptible


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request_that_ends_the_work_afterwards(number: int) -> None:
    before, heeded = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt), gentle_stop() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # a cluster and a parent process may both send one
        heeded.append(asked())
    assert heeded == [True] and signal.getsignal(number) == before


def test_a_signal_that_is_repeated_later_interrupts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 4])
    monkeypatch.setattr("dsdlib.study.interrupt.time.perf_counter", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt), gentle_stop():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it was not interrupted")


def test_in_another_thread_signals_stay_as_they_are() -> None:
    handlers = []

    def work() -> None:
        with gentle_stop() as asked:
            handlers.append((signal.getsignal(signal.SIGINT), asked()))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [(before, False)]


def test_time_and_sigterm_interrupt_and_everything_is_restored() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible(0.1 / 60):
        time.sleep(60)
    assert time.monotonic() - started < 30
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
