"""An interrupt that a library swallows is not lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from selfreward import interrupts


class Swallowing:
    """Asks for an interrupt where Python forgets it: in a destructor."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        for _ in range(1000):  # the handler runs between two of these instructions
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_interrupt_is_raised_at_the_next_check(number: signal.Signals) -> None:
    with interrupts.interruptible():
        interrupts.check()
        swallowing = Swallowing(number)
        del swallowing
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wait_ends_with_a_swallowed_interrupt() -> None:
    def slowly() -> Iterator[int]:
        yield 1
        time.sleep(60)
        yield 2

    seen = []
    with interrupts.interruptible(), pytest.raises(KeyboardInterrupt):
        for item in interrupts.iterate_in_thread(slowly(), "slow"):
            seen.append(item)
            swallowing = Swallowing(signal.SIGINT)
            del swallowing
    assert seen == [1]


def test_items_and_errors_come_through_in_order() -> None:
    def failing() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("the third is broken")

    seen = []
    with pytest.raises(ValueError, match="the third is broken"):
        for item in interrupts.iterate_in_thread(failing(), "failing"):
            seen.append(item)
    assert seen == [1, 2]
    assert list(interrupts.iterate_in_thread(range(100), "all")) == list(range(100))


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupts.interruptible():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


ON_RAY = """
import os, signal, time
from selfreward import interrupts
from selfreward.config import RayConfig
from selfreward.preflight import ray_session

with interrupts.interruptible():
    try:
        with ray_session(RayConfig(num_cpus=1)):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
            print("went on")
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.ray
def test_a_termination_on_ray_is_an_interrupt_and_no_crash() -> None:
    """Ray's start puts a handler of its own beneath Python's, which would end the process with a
    native trace."""
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=os.environ | {"RAY_ADDRESS": ""},
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
    assert "SIGTERM received" not in done.stderr
