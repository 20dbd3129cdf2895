"""The filters of a round of new instructions, in the order in which they are asked.

Each is an object with a name, so that what one costs can be measured by itself. Source: the filters
of Self-Instruct (arXiv 2212.10560, section 2.2), cheap ones first: what is dropped early costs
nothing later.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from selfreward.config_self_rewarding import SelfInstructConfig
from selfreward.judging.filters import NearDuplicateIndex, exact_key
from selfreward.judging.instruction_filters import TEXT_FILTERS, Found
from selfreward.judging.rouge_filter import RougeFilter
from selfreward.records import Conversation, DropReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An instruction to be kept or dropped.

    Example: `Candidate(id="ins-4b…", messages=(Message(role="user", content="Name a lake."),))`
    """

    id: str
    messages: Conversation

    @property
    def text(self) -> str:
        """Its last turn."""
        return self.messages[-1].content


class Filter(Protocol):
    """One reason, or some of a kind, to drop an instruction."""

    name: str

    def know(self, one: Candidate) -> None:
        """Takes one that is there already and was never tested, such as a seed."""

    def reason(self, one: Candidate) -> Found | None:
        """Says why one is dropped; None lets it pass."""

    def keep(self, one: Candidate) -> None:
        """Takes one that every filter let pass."""


class NewInstructions:
    """What is known and kept so far, and why another one is dropped.

    Example: with `filters_of(SelfInstructConfig(), frozenset(), seed=0)`, after
    `know(Candidate(id="ins-1", …))`, `take` of the same words is
    `(DropReason.EXACT_DUPLICATE, "of ins-1")`, and of new ones None.
    """

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._filters = tuple(filters)

    def know(self, one: Candidate) -> None:
        for filter in self._filters:
            filter.know(one)

    def take(self, one: Candidate) -> Found | None:
        """Keeps an instruction and returns None, or returns the first reason not to."""
        for filter in self._filters:
            found = filter.reason(one)
            if found is not None:
                return found
        for filter in self._filters:
            filter.keep(one)
        return None


def filters_of(config: SelfInstructConfig, held_out: Set[str], seed: int) -> list[Filter]:
    """Returns the filters of a recipe; `held_out` are keys of what models are measured on."""
    filters: list[Filter] = [_OfText(name, check, config) for name, check in TEXT_FILTERS.items()]
    filters += [_HeldOut(held_out), _Exact(), _Rouge(config.max_rouge_l)]
    if config.near_duplicate_threshold is not None:
        filters.append(_Near(config.near_duplicate_threshold, seed))
    return filters


class _OfText:
    """Looks at the text alone."""

    def __init__(
        self,
        name: str,
        check: Callable[[str, SelfInstructConfig], Found | None],
        config: SelfInstructConfig,
    ) -> None:
        self.name, self._check, self._config = name, check, config

    def know(self, one: Candidate) -> None:
        pass

    def reason(self, one: Candidate) -> Found | None:
        return self._check(one.text.strip(), self._config)

    def keep(self, one: Candidate) -> None:
        pass


class _HeldOut:
    name = "held_out"

    def __init__(self, keys: Set[str]) -> None:
        self._keys = keys

    def know(self, one: Candidate) -> None:
        pass

    def reason(self, one: Candidate) -> Found | None:
        if exact_key(one.messages) not in self._keys:
            return None
        return DropReason.HELD_OUT, "models are measured on this prompt"

    def keep(self, one: Candidate) -> None:
        pass


class _Exact:
    name = "exact"

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def know(self, one: Candidate) -> None:
        self._seen.setdefault(exact_key(one.messages), one.id)

    def reason(self, one: Candidate) -> Found | None:
        earlier = self._seen.get(exact_key(one.messages))
        return None if earlier is None else (DropReason.EXACT_DUPLICATE, f"of {earlier}")

    def keep(self, one: Candidate) -> None:
        self.know(one)


class _Rouge:
    name = "rouge_l"

    def __init__(self, max_rouge_l: float) -> None:
        self._index = RougeFilter(max_rouge_l)

    def know(self, one: Candidate) -> None:
        self._index.add(one.id, one.text)

    def reason(self, one: Candidate) -> Found | None:
        similar = self._index.nearest(one.text)
        if similar is None:
            return None
        return (
            DropReason.SIMILAR_INSTRUCTION,
            f"ROUGE-L {similar.rouge_l:.2f} with {similar.id}",
        )

    def keep(self, one: Candidate) -> None:
        self.know(one)


class _Near:
    """Must be asked last: what it does not know it adds at once, so only what is kept may come."""

    name = "near_duplicate"

    def __init__(self, threshold: float, seed: int) -> None:
        self._index = NearDuplicateIndex(threshold, seed=seed)

    def know(self, one: Candidate) -> None:
        self._index.is_duplicate_then_add(one.id, one.text)

    def reason(self, one: Candidate) -> Found | None:
        duplicate = self._index.is_duplicate_then_add(one.id, one.text)
        return None if duplicate is None else (DropReason.NEAR_DUPLICATE, f"of {duplicate}")

    def keep(self, one: Candidate) -> None:
        pass
