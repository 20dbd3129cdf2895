"""A candidate that reads a share of the traffic too, and how often it agrees.

Nobody waits for it: answers never depend on the shadow, and when it is busy or gone it is left
out.
"""

import asyncio
import logging
import zlib
from collections.abc import Sequence

from selfreward.serving.admin_wire import ShadowReport
from selfreward.serving.calls import EngineCalls
from selfreward.serving.engine import Judgment
from selfreward.serving.judge_wire import PairwiseJudgment, PairwiseRequest
from selfreward.serving.rubric_choice import JudgeRequest
from selfreward.serving.telemetry import Telemetry
from selfreward.serving.versions import ServedVersion

MAX_WAITING = 8
"""Pairs the shadow may be behind; more are not offered to it."""

_log = logging.getLogger("selfreward.serving")


class Shadow:
    """Offers pairs to the candidate's engine and counts."""

    def __init__(
        self,
        engine: EngineCalls,
        version: ServedVersion,
        share: float,
        timeout_s: float,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.judged = 0
        self.both = 0
        self.agreed = 0
        self._engine = engine
        self._version = version
        self._share = share
        self._timeout_s = timeout_s
        self._telemetry = telemetry
        self._waiting: set[asyncio.Task[None]] = set()

    def offer(
        self, requests: Sequence[JudgeRequest], judgments: Sequence[Judgment], request_id: str
    ) -> None:
        """Has some of these pairs read by the candidate, in the background."""
        for index, (request, judgment) in enumerate(zip(requests, judgments, strict=True)):
            if not isinstance(request, PairwiseRequest):
                continue
            assert isinstance(judgment, PairwiseJudgment)
            name = f"{request_id}-{index}"
            if len(self._waiting) >= MAX_WAITING or not self._is_chosen(name):
                continue
            task = asyncio.get_running_loop().create_task(self._compare(request, judgment, name))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    def _is_chosen(self, name: str) -> bool:
        return zlib.crc32(name.encode()) < self._share * 2**32

    async def _compare(
        self, request: PairwiseRequest, judgment: PairwiseJudgment, name: str
    ) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                (other,) = await self._engine.judge([request], self._version, f"shadow-{name}")
        except Exception as error:  # whatever befalls the shadow, the service goes on
            _log.warning("the shadow judge did not answer: %s", type(error).__name__)
            self._count("failed")
            return
        assert isinstance(other, PairwiseJudgment)
        self.judged += 1
        if judgment.choice is None or other.choice is None:
            self._count("no_choice")
            return
        self.both += 1
        agrees = judgment.choice == other.choice
        self.agreed += agrees
        self._count("agrees" if agrees else "differs")

    def _count(self, what: str) -> None:
        if self._telemetry is not None:
            self._telemetry.shadow.labels(what).inc()

    async def wait(self) -> None:
        """Waits for what is under way, which has its own time limit."""
        await asyncio.gather(*self._waiting)

    def report(self) -> ShadowReport:
        return ShadowReport(
            judge=self._version.wire(),
            share=self._share,
            judged=self.judged,
            both_have_choice=self.both,
            agreed=self.agreed,
            agreement=self.agreed / self.both if self.both else None,
        )
