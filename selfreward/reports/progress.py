"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_EVERY_S = 15.0
POLL_EVERY_S = 1.0

Read = Callable[[], tuple[int, int] | None]


class Display:
    """Prints stages as they run; `read` gives (rows done, completion tokens) when asked."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._start = time.monotonic()

    def line(self, text: str) -> None:
        elapsed = int(time.monotonic() - self._start)
        self.console.print(
            f"[{elapsed // 60:02d}:{elapsed % 60:02d}] {text}", markup=False, soft_wrap=True
        )

    @contextmanager
    def stage(self, title: str, num_rows: int, read: Read) -> Iterator[None]:
        """Shows a stage of `num_rows` rows until the block ends."""
        begin = time.monotonic()
        if self.console.is_terminal:
            with self._bar(title, num_rows, read, begin):
                yield
        else:
            self.line(f"{title}: {num_rows} rows")
            with _repeat(PLAIN_EVERY_S, lambda: self._plain(title, num_rows, read, begin)):
                yield
        done = read()
        elapsed = max(1e-9, time.monotonic() - begin)
        # A stage without an engine makes no tokens.
        speed = f", {done[1] / elapsed:.0f} tok/s" if done and done[1] else ""
        self.line(f"{title}: done in {elapsed:.1f} s{speed}")

    @contextmanager
    def waiting(self, title: str, said: Callable[[], str] | None = None) -> Iterator[None]:
        """Shows something that has no rows, such as an engine start; `said` gives what the work
        says of itself, which is shown where it is something new."""
        begin = time.monotonic()
        self.line(f"{title} ...")
        if said is None:
            yield
        else:
            last = ""

            def show() -> None:
                nonlocal last
                text = said()
                if text and text != last:
                    self.line(f"{title}: {text}")
                last = text

            with _repeat(PLAIN_EVERY_S, show):
                yield
        self.line(f"{title}: {time.monotonic() - begin:.1f} s")

    def _plain(self, title: str, num_rows: int, read: Read, begin: float) -> None:
        done = read()
        if done is None or done[0] == 0:
            return
        elapsed = time.monotonic() - begin
        left = elapsed / done[0] * max(0, num_rows - done[0])
        self.line(
            f"{title}: {done[0]}/{num_rows} rows, {done[1] / elapsed:.0f} tok/s, {left:.0f} s left"
        )

    @contextmanager
    def _bar(self, title: str, num_rows: int, read: Read, begin: float) -> Iterator[None]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(title, total=num_rows, speed="")

            def show() -> None:
                done = read()
                if done is not None:
                    speed = f"{done[1] / max(1e-9, time.monotonic() - begin):.0f} tok/s"
                    bar.update(task, completed=min(done[0], num_rows), speed=speed)

            with _repeat(POLL_EVERY_S, show):
                yield


@contextmanager
def _repeat(every_s: float, call: Callable[[], None]) -> Iterator[None]:
    """Calls something again and again from a thread while the block runs."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(every_s):
            call()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=every_s + 15)
