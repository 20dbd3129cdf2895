"""How much of a published benchmark was measured: figures of a part are not comparable."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What was measured beside what the benchmark publishes.

    Example: `Coverage(benchmark="RewardBench", unit="pairs", expected=2985, measured=2870,
    is_complete=False, incomplete={"math-prm": (332, 447)})`
    """

    benchmark: str
    unit: str
    expected: int
    measured: int
    """Without what is no part of the benchmark."""
    is_complete: bool
    """Whether every part has as many as are published."""
    incomplete: dict[str, tuple[int, int]]
    """For each part that has not: measured and published."""

    @classmethod
    def of(
        cls, benchmark: str, unit: str, measured: Mapping[str, int], expected: Mapping[str, int]
    ) -> "Coverage":
        """Compares counts by part; names that `expected` lacks count nowhere."""
        counts = {name: (measured.get(name, 0), number) for name, number in expected.items()}
        differing = {name: both for name, both in counts.items() if both[0] != both[1]}
        return cls(
            benchmark=benchmark,
            unit=unit,
            expected=sum(expected.values()),
            measured=sum(number for number, _ in counts.values()),
            is_complete=not differing,
            incomplete=differing,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary, without the benchmark's name."""
        return {name: value for name, value in asdict(self).items() if name != "benchmark"}

    def line(self, dropped: Mapping[str, int]) -> str:
        """What a person is told of an incomplete benchmark; `dropped` are the rows left out, by
        reason.

        Example: "RewardBench: 2,870 of 2,985 pairs measured; the overall is not comparable
        (dropped: too_long 115)".
        """
        reasons = ", ".join(f"{reason} {number}" for reason, number in dropped.items())
        return (
            f"{self.benchmark}: {self.measured:,} of {self.expected:,} {self.unit} measured; the"
            f" overall is not comparable{f' (dropped: {reasons})' if reasons else ''}"
        )
