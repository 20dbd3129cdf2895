"""How fast the filters of new instructions test and add among many kept ones, each and together."""

import random
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

from selfreward.config_self_rewarding import SelfInstructConfig
from selfreward.judging.instruction_filters import Found
from selfreward.judging.new_instructions import (
    Candidate,
    Filter,
    NewInstructions,
    filters_of,
)
from selfreward.records import Message

KEYWORDS = (
    *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps"),
    *("draw", "plot", "go to", "video", "audio", "music", "flowchart", "diagram"),
)
"""Those of Self-Instruct's code (arXiv 2212.10560): a recipe names none by itself."""
NUM_COINED = 40_000
"""Rare words: names of people, places and things, drawn by Zipf's law."""

_SENTENCES = (
    "{ask} {topic} {relation} {topic2}{tail}.",
    "{ask} {topic}{tail}.",
    "{ask} how {topic} {event}{tail}.",
    "{situation}: {topic} {event}. {ask} what {topic2} {relation} it.",
    "{situation}, and {topic} {relation} {topic2}. {ask} that{tail}.",
    "Why would {topic} {event}{tail}?",
    "If {topic} {event}, what {relation} {topic2}{tail}?",
    "{name} of {place}, a {person}, has {number} {thing}s and loses {number2} each {period}."
    " When is {count} all that is left?",
    "Is {topic} {quality} because {topic2} {event}, or {relation} {name}?",
    "Which {count} {thing}s {relation} {topic}{tail}?",
)
_CLOSINGS = (
    "No more than {number} words.",
    "End with a question for {reader}.",
    "Mention {name} and {place}.",
    "Keep it {tone} and {tone2}.",
    "Assume that {topic} {event}.",
    "{count} examples from {place} will do.",
    "A {person} will read it aloud{tail}.",
    "Leave out whatever {relation} {topic}.",
)
_FILLERS = {
    "ask": "Explain|Tell me briefly|Write a short letter about|Draft two verses on"
    "|Compare notes on|Summarise the case against|List objections to|Invent a riddle around"
    "|Plan a lesson on|Define|Give three reasons for|Correct my picture of|Estimate the cost of"
    "|Outline a speech defending|Debate with yourself|Find a metaphor for|Turn into a dialogue"
    "|Suggest a shop name inspired by|Describe the smell and sound of|Imagine a world without"
    "|Rank by usefulness|Teach me|Criticise|Help me understand|Compose a limerick mocking"
    "|Predict the future of|Translate into plain words|I need a checklist for"
    "|Write code that models|Classify|Give me a history of|Argue for|Advise on"
    "|What should beginners know about|How do experts judge|Who first thought of|Work out",
    "relation": "compared with|depends on|has replaced|is confused with|grew out of|pays for"
    "|ruins|should follow|inspires|competes with|cannot exist without|was once banned by"
    "|costs less than|tells us about|is taught before|slowly changes|protects|is older than"
    "|borrows from|outlives",
    "tail": "||||, for {reader}| in {place}| during a {tone} {period}|, as {name} once did"
    "| on a budget|, step by step| with {count} {thing}s| without technical terms"
    "| from the view of a {person}| in the form of a {form}| before the {period} ends"
    "|, and name one risk| when nobody is looking",
    "situation": "My {person} and I disagree|Suppose you run {place}|It is a {tone} {period}"
    "|Picture {number} {thing}s|At work {reader} asked me something"
    "|Last {period} {name} wrote to us|Here is a puzzle|I am a {person} in {place}"
    "|Someone offers you {count} {thing}s|News from {place}|For years {name} kept a secret"
    "|Yesterday we met {reader}|Our {form} needs a new idea",
    "reader": "a child of nine|a busy nurse|someone new to it|my neighbour|a sceptical engineer"
    "|the town council|an impatient customer|two students|a retired sailor"
    "|people who dislike reading",
    "form": "letter|speech|poem|report|dialogue|review|notice|memo|story|summary|column|leaflet",
    "count": "two|three|four|five|six|seven|eight|ten|a dozen",
    "number": "12|15|18|24|30|36|45|60|75|80|96|120|144|150|200|250|365|400|1024",
    "number2": "2|3|4|5|6|7|8|9|11",
    "person": "teacher|farmer|baker|pilot|judge|dentist|lodger|cousin|gardener|translator|barber"
    "|librarian|plumber|coach|midwife|referee|colleague|landlord|beekeeper|tailor|violinist",
    "thing": "ticket|letter|apple|crate|parcel|lamp|brick|bottle|chair|invoice|seed|button|book",
    "period": "morning|day|week|month|season|year|winter|term|quarter|decade",
    "tone": "calm|dry|warm|solemn|playful|formal|blunt|hopeful|modest|brisk",
    "event": "became free|stopped working|was forbidden|doubled in price|grew twice as fast"
    "|moved abroad|turned out to be wrong|was done by machines|had never been tried"
    "|took only an hour",
    "quality": "cheap|ancient|modern|public|private|rural|urban|seasonal|digital|handmade|hidden"
    "|reliable|fragile|noisy|silent|frozen|dangerous|forgotten|popular|rare|northern|tropical",
    "subject": "tides|taxes|bridges|vaccines|compost|grammar|batteries|markets|orchards|vowels"
    "|elections|glaciers|contracts|pensions|sleep|rhythm|chess|pottery|radio|soil|cheese|maps"
    "|triangles|proverbs|insurance|lighthouses|antibiotics|irrigation|volcanoes|debts|enzymes"
    "|museums|satire|welding|knots|earthquakes|libraries|currencies|dialects|mushrooms|fractions"
    "|railways|gossip|bread|gravity|memory|strikes|apprenticeships|sailing|bees|statistics",
    "activity": "repairing|teaching|measuring|selling|storing|painting over|predicting|recycling"
    "|insuring|banning|growing|explaining|collecting|financing|replacing|studying|inspecting",
}
_CHOICES = {name: words.split("|") for name, words in _FILLERS.items()}
_SYLLABLES = "ba be bri cal dor el fen gar hul im jo ka lor mi nev os pra qui ral sto tum ver wy"


class _Writer:
    """Writes instructions of some 8 to 60 words from templates, common fillers and rare words."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        syllables = _SYLLABLES.split()
        coined: dict[str, None] = {}
        while len(coined) < NUM_COINED:
            coined["".join(self._rng.choices(syllables, k=self._rng.randint(2, 4)))] = None
        self._coined = list(coined)
        self._zipf = list(accumulate(1 / (rank + 20) for rank in range(NUM_COINED)))

    def _rare(self) -> str:
        return self._rng.choices(self._coined, cum_weights=self._zipf)[0]

    def _topic(self) -> str:
        pick, rng = self._rng.choice, self._rng
        topic = pick(_CHOICES["subject"])
        if rng.random() < 0.6:
            topic = f"{pick(_CHOICES['quality'])} {topic}"
        if rng.random() < 0.4:
            topic = f"{pick(_CHOICES['activity'])} {topic}"
        return f"{self._rare()} {topic}" if rng.random() < 0.5 else topic

    def _filled(self, text: str) -> str:
        """Fills the fields, and those inside what filled them."""
        while "{" in text:
            fields = {name: self._rng.choice(words) for name, words in _CHOICES.items()}
            fields |= {"tone2": self._rng.choice(_CHOICES["tone"])}
            fields |= {"topic": self._topic(), "topic2": self._topic()}
            fields |= {"name": self._rare().capitalize(), "place": self._rare().capitalize()}
            text = text.format(**fields)
        return text[0].upper() + text[1:]

    def texts(self) -> Iterator[str]:
        """Yields distinct instructions without end."""
        seen: set[str] = set()
        while True:
            text = self._filled(self._rng.choice(_SENTENCES))
            for closing in self._rng.sample(_CLOSINGS, self._rng.choice((0, 0, 1, 1, 2, 3))):
                text += f" {self._filled(closing)}"
            if text not in seen:
                seen.add(text)
                yield text


class _Timed:
    """A filter with the time it took and what came to it."""

    def __init__(self, filter: Filter) -> None:
        self._filter = filter
        self.name = filter.name
        self.seconds = 0.0
        self.num_asked = 0
        self.num_dropped = 0

    def know(self, one: Candidate) -> None:
        begin = time.perf_counter()
        self._filter.know(one)
        self.seconds += time.perf_counter() - begin

    def reason(self, one: Candidate) -> Found | None:
        begin = time.perf_counter()
        found = self._filter.reason(one)
        self.seconds += time.perf_counter() - begin
        self.num_asked += 1
        self.num_dropped += found is not None
        return found

    def keep(self, one: Candidate) -> None:
        begin = time.perf_counter()
        self._filter.keep(one)
        self.seconds += time.perf_counter() - begin

    def taken(self) -> float:
        """Returns the seconds so far and begins anew."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def filter_throughput(
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000), num_probes: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Measures all filters of the self-instruct stage beside so many kept instructions, in one
    process.

    The instructions are made up, the same for the same seed; every tenth probe is a kept one in
    capitals. Each probe goes through the filters in the loop's order and is kept where all let it
    pass.

    Returns:
        `sizes`, a row for each: `kept` before the probes, `seconds_to_build`, `probes_per_s`
        through all filters, `share_dropped`, and for each of the `filters` how many probes came to
        it (`asked`) and were `dropped`, how many it does a second, adding those kept (`per_s`; None
        where none came), and its `seconds_to_build`. `growth`: how many times as long a probe
        takes, in all and by filter, beside the largest number of kept ones as beside the smallest.
    """
    # The texts exist before the clock starts: writing them is no part of the filters.
    texts = list(islice(_Writer(seed).texts(), max(sizes) + num_probes))
    rows = [_measured(texts[: size + num_probes], size, seed) for size in sizes]
    return {"sizes": rows, "growth": _growth(rows[0], rows[-1])}


def _measured(texts: Sequence[str], size: int, seed: int) -> dict[str, Any]:
    config = SelfInstructConfig(keywords=KEYWORDS)
    filters = [_Timed(filter) for filter in filters_of(config, frozenset(), seed)]
    instructions = NewInstructions(filters)
    kept = [_candidate(f"kept-{n}", text) for n, text in enumerate(texts[:size])]
    probes = [
        _candidate(f"probe-{n}", texts[n % size].upper() if n % 10 == 9 else text)
        for n, text in enumerate(texts[size:])
    ]
    begin = time.perf_counter()
    for one in kept:
        instructions.know(one)
    built = time.perf_counter() - begin
    built_by = {filter.name: filter.taken() for filter in filters}
    begin = time.perf_counter()
    num_dropped = sum(instructions.take(one) is not None for one in probes)
    seconds = time.perf_counter() - begin
    return {
        "kept": size,
        "seconds_to_build": round(built, 3),
        "probes_per_s": round(len(probes) / seconds, 1),
        "share_dropped": round(num_dropped / len(probes), 4),
        "filters": {
            f.name: {
                "asked": f.num_asked,
                "dropped": f.num_dropped,
                "per_s": round(f.num_asked / f.taken(), 1) if f.num_asked else None,
                "seconds_to_build": round(built_by[f.name], 3),
            }
            for f in filters
        },
    }


def _candidate(ident: str, text: str) -> Candidate:
    return Candidate(id=ident, messages=(Message(role="user", content=text),))


def _growth(small: dict[str, Any], large: dict[str, Any]) -> dict[str, float | None]:
    """How many times as long one takes in `large` as in `small`."""
    rates = {"all": (small["probes_per_s"], large["probes_per_s"])}
    for name, found in small["filters"].items():
        rates[name] = found["per_s"], large["filters"][name]["per_s"]
    return {
        name: round(before / after, 2) if before and after else None
        for name, (before, after) in rates.items()
    }
