"""Another response in place of the right one, whole or in part: off the topic, evasive, or empty.

What another response supplies comes from `Given.others`, which must hold no response to the same
instruction: it could be as good.
"""

import re

from selfreward.judging.perturbations.base import (
    WORD,
    Given,
    content_words,
    is_content,
    joined,
    pieces,
)
from selfreward.judging.perturbations.lengths import MIN_TRIMMED_CHARS, fitted, match_length
from selfreward.judging.perturbations.phrases import (
    APOLOGIES,
    ECHO_FRAMES,
    ECHO_PROMISES,
    GENERIC_TOPICS,
    REFUSAL_ALTERNATIVES,
    REFUSAL_REASONS,
    REFUSALS,
    VAGUE_CLOSINGS,
    VAGUE_MIDDLES,
    VAGUE_OPENINGS,
    about,
    shuffled_forever,
)
from selfreward.judging.perturbations.text import cut_mid_sentence

NUM_CANDIDATES = 32
MAX_SHARED_WORDS = 0.8
"""A response that shares more of its words (Jaccard) may be an answer to the same instruction."""

MIN_ROOM_CHARS = 30
"""What a shorter splice leaves for the other response."""

MAX_SENTENCES = 400
"""No vague answer and no refusal grows beyond this, however long the response it stands against."""

# Where a refusal could be the better response, none is made. Rough on purpose: a pair less costs
# nothing, a wrong label does.
_SENSITIVE = re.compile(
    r"\b(?:kill|murder|suicid|bomb|explosiv|weapon|guns?\b|poison|drug|cocaine|meth\b|steal|stolen|hack"
    r"|malware|virus|phish|fraud|scam|launder|illegal|terror|extrem|racis|nazi|sexual|sex\b|porn|nude|rape\b"
    r"|abus|tortur|self-harm|overdos|password|credit card|social security|blackmail|forger|counterf"
    r"|hate\b|slur|insult|smuggl|traffick|cheat|spy\b|stalk|medical|diagnos|dosage|dose|lawsuit|invest)",
    re.IGNORECASE,
)
_REFUSES = re.compile(
    r"\W*(?:i['\u2019]?m sorry|i am sorry|sorry|i apologi[sz]e|unfortunately|i can(?:no|['\u2019])t"
    r"|i won['\u2019]?t|i am unable|i['\u2019]?m unable|as an ai)\b",
    re.IGNORECASE,
)


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text[:4000])}


def pick_other(text: str, given: Given) -> str | None:
    """Picks a response to another instruction: alike in words (1), at random (2), or unlike (3).

    Prefers one on the side of the length that is asked for.
    """
    rng = given.rng
    sample = rng.sample(given.others, min(NUM_CANDIDATES, len(given.others)))
    own = _words(text)
    candidates: list[tuple[float, str]] = []
    for other in (s.strip() for s in sample):
        theirs = _words(other)
        shared = len(own & theirs) / max(1, len(own | theirs))
        if other and other != text and shared <= MAX_SHARED_WORDS:
            candidates.append((shared, other))
    if given.longer is not None:
        fitting = [c for c in candidates if (len(c[1]) > len(text)) == given.longer]
        candidates = fitting or candidates
    if not candidates:
        return None
    if given.severity == 2:
        return rng.choice(candidates)[1]
    return max(candidates)[1] if given.severity == 1 else min(candidates)[1]


def other_answer(text: str, given: Given) -> str | None:
    """Answers another instruction. Longer or shorter: another one, else padded or trimmed."""
    other = pick_other(text, given)
    return None if other is None else fitted(other, text, given)


def splice_other(text: str, given: Given) -> str | None:
    """Begins as itself and ends as another response: after 80%, 50% or 25% of its pieces.

    Shorter: the end is trimmed to the room there is. Longer: padded.
    """
    other = pick_other(text, given)
    if other is None or len(text) < MIN_TRIMMED_CHARS:
        return None
    share = (0.8, 0.5, 0.25)[given.severity - 1]
    parts = pieces(text)
    if len(parts) >= 2:
        head = joined(parts[: min(len(parts) - 1, max(1, round(share * len(parts))))])
    else:
        head = cut_mid_sentence(text, int(share * len(text)))
    theirs = pieces(other)
    tail = joined(theirs[len(theirs) // 2 :])
    if given.longer is False and len(head) > len(text) - MIN_ROOM_CHARS:
        head = match_length(head, len(text) - MIN_ROOM_CHARS, given.rng)
    room = len(text) - len(head) - 1
    if given.longer is False and len(tail) > room:
        tail = match_length(tail, max(1, room), given.rng)
    return fitted(f"{head}{parts[0].gap or ' '}{tail}", text, given)


def off_topic_append(text: str, given: Given) -> str | None:
    """Adds what belongs to another response: a sentence or two, a paragraph, or all of it.

    Shorter: gives up its own end for that.
    """
    other = pick_other(text, given)
    if other is None:
        return None
    extra = other
    if given.severity == 1:
        sentences = [part.body for part in pieces(other) if is_content(part)]
        start = given.rng.randrange(len(sentences)) if sentences else 0
        extra = " ".join(sentences[start : start + 2]) or other
    elif given.severity == 2:
        extra = given.rng.choice([p.strip() for p in other.split("\n\n") if p.strip()])
    if given.longer is False and len(text) >= 60:
        if len(extra) > len(text) // 2:
            extra = match_length(extra, len(text) // 2, given.rng)
        text = match_length(text, len(text) - len(extra) - 2, given.rng)
    return f"{text}\n\n{extra}"


def _topic(given: Given) -> str:
    """What the instruction is about, in two of its words; at severity 3 nothing definite."""
    words = [w for w in content_words(given.instruction[:2000]) if len(w) >= 5][:12]
    if given.severity == 3 or len(words) < 2:
        return given.rng.choice(GENERIC_TOPICS)
    return " and ".join(given.rng.sample(words, 2))


def _target(text: str, given: Given, low: float, high: float) -> float:
    """A length to write to, on the side that is asked for."""
    if given.longer is True:
        low, high = 1.02, 1.4
    elif given.longer is False:
        low, high = min(low, 0.4), 0.95
    return len(text) * given.rng.uniform(low, high)


def vague(text: str, given: Given) -> str | None:
    """Talks about the topic, or at severity 3 about anything, and says nothing.

    About as long as the response; at severity 3 down to a third of it.
    """
    target = _target(text, given, 0.3 if given.severity == 3 else 0.85, 1.15)
    topic = _topic(given)
    closing = about(given.rng.choice(VAGUE_CLOSINGS), topic)
    made = [about(given.rng.choice(VAGUE_OPENINGS), topic)]
    middles = shuffled_forever(VAGUE_MIDDLES, given.rng)
    size = len(made[0]) + len(closing) + 1
    while size < target and len(made) < MAX_SENTENCES:
        made.append(about(next(middles), topic))
        size += len(made[-1]) + 1
    separator = "\n\n" if len(made) > 6 and given.rng.random() < 0.5 else " "
    half = len(made) // 2
    blocks = [" ".join(made[:half]), " ".join([*made[half:], closing])]
    return fitted(separator.join(blocks).strip(), text, given)


def refuse(text: str, given: Given) -> str | None:
    """Declines without need: after a first sentence (1), with reasons (2), or flatly (3).

    None where the instruction touches on something that may well be declined, and where the
    response declines itself. Longer: more reasons and advice, as many as it takes.
    """
    if _SENSITIVE.search(given.instruction) or _REFUSES.match(text):
        return None
    rng, topic = given.rng, _topic(given)
    refusal = rng.choice(APOLOGIES) + rng.choice(REFUSALS)
    if rng.random() < 0.3:
        refusal = rng.choice(REFUSALS)
        refusal = refusal[:1].upper() + refusal[1:]
    made = [about(refusal, topic)]
    if given.severity == 1:
        parts = pieces(text)
        if len(parts) >= 3 and not parts[0].is_code:
            made.insert(0, parts[0].body)
    if given.severity < 3:
        reasons = rng.sample(REFUSAL_REASONS, rng.randint(1, 2))
        made += [about(s, topic) for s in [*reasons, rng.choice(REFUSAL_ALTERNATIVES)]]
    more = shuffled_forever(REFUSAL_REASONS + REFUSAL_ALTERNATIVES, rng)
    size = sum(len(sentence) + 1 for sentence in made)
    while given.longer is True and size <= len(text) + 1 and len(made) < MAX_SENTENCES:
        sentence = about(next(more), topic)
        if sentence not in made or len(made) > 20:
            made.append(sentence)
            size += len(sentence) + 1
    return " ".join(made)


def echo_instruction(text: str, given: Given) -> str | None:
    """Says the question again in place of an answer.

    Severity 1 adds the response's first sentence, 2 remarks on the question, 3 nothing. Longer:
    the question again in other frames, then padding. Shorter: the question trimmed.
    """
    question = given.instruction.strip()
    if not question:
        return None
    rng = given.rng
    if given.longer is False and MIN_TRIMMED_CHARS <= len(text) < len(question):
        question = match_length(question, max(1, len(text) * 2 // 3), rng)
    frames = shuffled_forever(ECHO_FRAMES, rng)
    made = [question]
    if given.severity < 3:
        made = [next(frames).replace("{question}", question), rng.choice(ECHO_PROMISES)]
    # Of a short response the first sentence may be all of the answer.
    parts = pieces(text)
    if given.severity == 1 and len(parts) >= 3 and not parts[0].is_code:
        made.append(parts[0].body)
    for _ in range(3):
        if given.longer is not True or sum(len(sentence) + 1 for sentence in made) > len(text):
            break
        made.append(next(frames).replace("{question}", question))
    return fitted(" ".join(made), text, given)
