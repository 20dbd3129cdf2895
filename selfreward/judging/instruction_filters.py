"""Which new instructions are worth keeping, looked at one by one.

Source: the filters of Self-Instruct (arXiv 2212.10560, section 2.2: length, key words for what a
language model cannot process, punctuation at the start). There one word such as "graph" or "file"
drops a task; here a pattern asks for something to see, hear, open or draw, so that graph theory and
file systems stay. Similarity to other instructions is in `rouge_filter.py` and `filters.py`.
"""

import re
import unicodedata
from collections.abc import Callable

from selfreward.config_self_rewarding import SelfInstructConfig
from selfreward.judging.filters import words_of
from selfreward.records import DropReason

_OPENING_SIGNS = "\"'`\u00bf\u00a1#@\u2019"


Found = tuple[DropReason, str]
"""Why an instruction is dropped, with a detail in words."""


def filter_reason(text: str, config: SelfInstructConfig) -> Found | None:
    """Returns why an instruction is dropped, with a detail in words, or None to keep it.

    Words are counted as near-duplicates are (scripts without spaces by letter). The first reason
    counts, in the order: empty, not an instruction, too short, too long, one of the user's
    `keywords` (whole words in any letter case), not answerable in text.
    """
    found = (check(text.strip(), config) for check in TEXT_FILTERS.values())
    return next((reason for reason in found if reason is not None), None)


def _form(text: str, config: SelfInstructConfig) -> Found | None:
    if not text:
        return DropReason.EMPTY_INSTRUCTION, "no text"
    if not any(char.isalpha() for char in text):
        return DropReason.NOT_AN_INSTRUCTION, "no letters"
    if _starts_with_punctuation(text):
        return DropReason.NOT_AN_INSTRUCTION, f"starts with {text[0]}"
    return None


def _length(text: str, config: SelfInstructConfig) -> Found | None:
    num_words = len(words_of(text))
    if num_words < config.min_words:
        return DropReason.TOO_SHORT, f"{num_words} of at least {config.min_words} words"
    if num_words > config.max_words:
        return DropReason.TOO_LONG, f"{num_words} of at most {config.max_words} words"
    return None


def _keywords(text: str, config: SelfInstructConfig) -> Found | None:
    for keyword in config.keywords:
        if keyword.strip() and _keyword_pattern(keyword).search(text):
            return DropReason.KEYWORD, f"keyword {keyword!r}"
    return None


def _answerable(text: str, config: SelfInstructConfig) -> Found | None:
    asked = _not_answerable(text)
    return None if asked is None else (DropReason.NOT_ANSWERABLE, asked)


TEXT_FILTERS: dict[str, Callable[[str, SelfInstructConfig], Found | None]] = {
    "form": _form,
    "length": _length,
    "keywords": _keywords,
    "answerable": _answerable,
}
"""What looks at one text alone, without white space around it; the order is that of asking."""


def _starts_with_punctuation(text: str) -> bool:
    """True for signs with which no sentence opens; quotes, brackets and signed numbers do."""
    first = text[0]
    if first in _OPENING_SIGNS or (first in "-+." and text[1:2].isdigit()):
        return False
    kind = unicodedata.category(first)
    return first in "=+|~^>" or (kind.startswith("P") and kind not in ("Ps", "Pi"))


def _keyword_pattern(keyword: str) -> re.Pattern[str]:
    """A keyword is matched as whole words; its blanks match any white space."""
    words = r"\s+".join(re.escape(part) for part in keyword.split())
    return re.compile(rf"(?<!\w){words}(?!\w)", re.I)


def _not_answerable(text: str) -> str | None:
    """Returns what the task asks for that text cannot give, or None."""
    about_code = _TEXT_MEDIUM.search(text) is not None
    for name, pattern, code_excuses in _PATTERNS:
        match = pattern.search(text)
        if match and not (code_excuses and about_code) and not _described(text, match):
            return f"{name}: {' '.join(match[0].split())}"
    return _nothing_given(text)


def _described(text: str, match: re.Match[str]) -> bool:
    """True where the picture itself follows in words: `… this photo: two men on a bench`."""
    behind = re.match(r"\s*:\s*(\S.*)", text[match.end() :], re.S)
    return behind is not None and len(words_of(re.sub(r"https?://\S+", "", behind[1]))) >= 3


_SEEN = (
    r"(?:image|picture|photo|photograph|screenshot|painting|drawing|illustration|infographic|logo"
    r"|video|clip|film clip|animation|gif|slideshow|audio|audio (?:file|clip)|recording|podcast"
    r" episode|soundtrack)s?"
)
_PICTURE = r"(?:image|picture|photo|photograph|screenshot|video|clip|diagram|figure|map)s?"
_FILE = (
    r"(?:file|document|attachment|spreadsheet|pdf|csv|workbook|folder|slides?|slide deck|report"
    r"|data ?set|data|table|article|text|paper|resume|cv|contract|chart|graph|diagram|map)s?"
)
_DRAWN = (
    r"(?:pictures?|images?|photos?|paintings?|sketch(?:es)?|portraits?|cartoons?|diagrams?|graphs?"
    r"|histograms?|flow ?charts?|(?:bar|pie|line|flow|gantt) charts?|mind ?maps?|maps?|logos?"
    r"|infographics?|collages?|animations?|gifs?|videos?|slideshows?|posters?)"
)
# "logo design brief", "video script": text about the thing, or a program for it.
_TEXT_ABOUT_IT = (
    r"(?![ \t-]+(?:scripts?|titles?|descriptions?|ideas?|captions?|prompts?|concepts?|outlines?"
    r"|brief|games?|apps?|players?|galler(?:y|ies)|editors?|theory|database|algorithms?|search"
    r"|classifiers?|books?|plan|essays?|poem|story|stories|transcripts?|slogans?|names?))"
)
# Up to four words before the noun, none of which begins a phrase about something else.
_ADJECTIVES = (
    r"(?:(?!(?:of|for|about|from|to|in|on|with|that|which|how|and|or|using|by|list|plan|guide"
    r"|story|poem|script|description|set|series)\b)[\w'\u2019-]+[ \t]+){0,4}"
)
_SENTENCE_START = (
    r"(?:^|(?<=[.!?:;])\s+|\n\s*)(?:(?:please|kindly|now|then|next|finally|first|also),?\s+)?"
    r"(?:(?:can|could|would|will) you (?:please )?|i (?:want|need) you to |your task is to )?"
)
_AND = rf"(?:{_SENTENCE_START}|\band (?:then |also )?)"
# Drawn in the figurative sense, or from an urn.
_NOT_DRAWN = (
    r"(?!(?:[\w'\u2019-]+[ \t]+){0,4}?(?:conclusions?|inferences?|comparisons?|analog(?:y|ies)"
    r"|parallels?|distinctions?|lessons?|attention|inspiration|contrasts?|connections?|links?"
    r"|line between|boundar(?:y|ies)|cards?|balls?|marbles?|lots?|straws?|numbers?|samples?|names?"
    r"|tickets?|bath|breath|blood|water|crowds?|salary|weapons?|swords?|curtains?|upon|up)\b)"
)
# Drawings that are text: code, markup, letters, or words.
_TEXT_MEDIUM = re.compile(
    r"\b(?:ascii|svg|tikz|latex|mermaid|graphviz|dot language|markdown|html|css|javascript|python"
    r"|java|sql|matplotlib|ggplot2?|numpy|opencv|pillow|turtle|canvas api|code|pseudo-?code"
    r"|functions? (?:that|to|which|called|named)|program (?:that|to|which|in)|script (?:that|to"
    r"|which)|class (?:that|to|which|called|named)|algorithm|regex|api|in words|using (?:only )?"
    r"(?:words|text)|emojis?|text-based|c\+\+|c#|rust|golang|typescript|bash|shell)(?!\w)",
    re.I,
)


def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.I)


# (what is asked for, pattern, whether a task about code or a drawing in letters is excused)
_PATTERNS: tuple[tuple[str, re.Pattern[str], bool], ...] = (
    (
        "something attached",
        _pattern(
            rf"\b(?:attached|uploaded|enclosed|linked)[ \t]+(?:[\w-]+[ \t]+)?(?:{_SEEN}|{_FILE})\b"
            rf"|\b(?:{_SEEN}|{_FILE})[ \t]+(?:(?:is|are|that is|i have|i)[ \t]+)?"
            r"(?:attached|uploaded|enclosed)\b(?![ \t]+(?:to|by|from|with)\b)"
            r"|\b(?:see|open|read|in) (?:the|my) attachments?\b"
        ),
        False,
    ),
    (
        "something to see or hear",
        _pattern(
            rf"\b(?:this|these|the following|the given|the provided|the above)[ \t]+{_SEEN}\b"
            r"(?![ \t]*['\u2019-]|[ \t]+(?:file|format|library|size|quality)s?\b)"
            rf"|\b(?:{_SEEN})[ \t]+(?:below|(?:shown|provided|given|displayed)[ \t]+(?:here|below"
            r"|above))\b"
            r"|\b(?:what|who|which|where|how many|describe|identify|count|name|list|label"
            rf"|analy[sz]e|find)\b[^.?!\n]{{0,60}}\b(?:in|on) the {_PICTURE}[ \t]*(?:[.?!,]|$)"
            r"|\b(?:describe|caption|analy[sz]e|look at|colou?r|crop|edit|resize|rotate|transcribe"
            rf"|watch|listen to|summari[sz]e) the {_SEEN}[ \t]*(?:[.?!,]|$|and\b)"
        ),
        True,
    ),
    (
        "something to draw or to record",
        _pattern(
            rf"{_AND}(?:draw|paint|sketch|illustrate|create|make|generate|produce|design|construct"
            rf"|show|give) (?:me )?{_ADJECTIVES}{_DRAWN}\b{_TEXT_ABOUT_IT}"
            rf"|{_SENTENCE_START}(?:draw|sketch) {_NOT_DRAWN}(?:me |us )?(?:an?|the|my|your|two"
            r"|three|four|five|some)\b"
            rf"|{_SENTENCE_START}paint (?:me |us )?(?:an?|the|my) (?!picture (?:of|with)\b"
            r".*\bwords\b)"
            rf"|{_AND}plot (?:the|these|this|a)[ \t]+(?:[\w-]+[ \t]+)?(?:graphs?|functions?|data"
            r"|points?|curves?|equations?|lines?|results?|histogram|values?)\b"
            rf"|{_SENTENCE_START}graph (?:the |this |these )?(?:[\w-]+[ \t]+)?(?:functions?"
            r"|equations?|lines?|inequalit(?:y|ies)|parabola|data|solutions?|y\b|f\()"
            rf"|{_SENTENCE_START}(?:film|record|take|shoot|capture) (?:an?|the|some|your|yourself)"
            rf"[ \t]+(?:[\w-]+[ \t]+){{0,2}}?(?:{_SEEN}|selfies?|voice message)\b{_TEXT_ABOUT_IT}"
            rf"|{_SENTENCE_START}play (?:me )?(?:an?|the|some|this|that|my)[ \t]+(?:[\w-]+[ \t]+)"
            r"{0,2}?(?:song|music|video|audio|track|sound|playlist)s?\b"
        ),
        True,
    ),
    (
        "a link or file to open",
        _pattern(
            r"\b(?:visit|open|click(?: on)?|go to|browse|watch|read|summari[sz]e|check out|see"
            r"|follow|access|download)\b[^.?!\n]{0,50}?(?:https?://|\bwww\.)\S+"
            r"|\b(?:visit|open|click(?: on)?|go to|follow|browse|use|at|from) (?:this|the following"
            r"|the given|the provided|the) (?:link|url|hyperlink)s?\b(?![ \t]+(?:between|of|from"
            r"|to)\b)"
            rf"|{_SENTENCE_START}(?:open|download|upload|print|save|rename|delete) (?:the|this|my"
            r"|your|these)[ \t]+(?:[\w-]+[ \t]+)?(?:file|document|folder|attachment|spreadsheet"
            r"|pdf)s?\b"
            r"|\b(?:this|the given|the provided) (?:file|pdf|spreadsheet|web ?site|web ?page)"
            r"[ \t]*(?:[.?!,]|$)"
        ),
        True,
    ),
)

_TEXTS = (
    r"(?:sentence|paragraph|passage|article|text|excerpt|essay|e-?mail|poem|snippet|list|table"
    r"|dialogue|conversation|statement|review|tweet|headline|data ?set|data|words?|phrase|quote"
    r"|story|letter|document|report|numbers?|code|equation|expression|problem|question|speech"
    r"|lyrics|transcript|abstract|options|choices|sequence|recipe|message|post)s?"
)
_FOLLOWING = re.compile(
    r"\b(?:the|these|this) following\b(?!(?:[ \t]+(?:few|two|three|several))?[ \t]+(?:days?|weeks?"
    r"|months?|years?|mornings?|evenings?|afternoons?|nights?|hours?|minutes?|seasons?|decades?"
    r"|centur(?:y|ies)|(?:mon|tues|wednes|thurs|fri|satur|sun)day|summer|winter|spring|autumn"
    r"|chapters?|generations?|spring|game|match|round)\b)",
    re.I,
)
_POINTED_AT = re.compile(
    rf"\b(?:the (?:given|provided)[ \t]+(?:[\w-]+[ \t]+)?{_TEXTS}|(?:the|this|these)[ \t]+"
    rf"(?:[\w-]+[ \t]+)?{_TEXTS}[ \t]+(?:above|below|given|provided)"
    r"|(?:rewrite|rephrase|paraphrase|summari[sz]e|translate|correct|proofread|edit|classify"
    rf"|shorten|complete|continue|punctuate) (?:this|these)[ \t]+(?:[\w-]+[ \t]+)?{_TEXTS})\b",
    re.I,
)
# What shows that the material itself is there: a colon, a new line, quotation marks, another
# sentence, a dash, a formula, a list with commas, or a sentence that begins without any mark.
_MATERIAL = re.compile(
    r":\s*\S|\n\s*\S|[\"\u201c\u201e\xab\u300c`(\[{]|(?<=\s)['\u2018]\w|[.?!]\s+\S|\s[-\u2013\u2014]\s"
    r"|[=+*/^<>|]|\d\s*[-,]\s*\d|,[^,]+,|,\s*\w+\s+(?:and|or)\s+\w+\s*[.?!]?\s*$"
    r"|\s(?:She|He|They|The|It|We|You|My|This|There|His|Her|Our|A|An)\s"
)
_MANY_WORDS = 20
"""So many words behind "the following" hold what follows, however they are punctuated."""


def _nothing_given(text: str) -> str | None:
    """Returns the words that point at material which is not in the task, or None."""
    last = list(_FOLLOWING.finditer(text))[-1:]
    if last and not _holds_material(text[last[0].end() :]):
        return f"nothing follows: {last[0][0]}"
    match = _POINTED_AT.search(text)
    if match and not _holds_material(text[match.end() :]):
        before = text[: match.start()]
        # "The cat sat. Rewrite this sentence …": the material came first.
        if not re.search(r"[.?!:\"\u201d\n]", before):
            return f"nothing given: {' '.join(match[0].split())}"
    return None


def _holds_material(behind: str) -> bool:
    return _MATERIAL.search(behind) is not None or len(behind.split()) >= _MANY_WORDS
