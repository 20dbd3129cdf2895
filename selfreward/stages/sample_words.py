"""Word lists of our own for the samples made by rule: words by topic, adjectives, verbs, days.

A word belongs to one topic only, so that a question of belonging has one answer.
"""


def words_in(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_TOPICS = {
    "animals": "cat dog horse cow goat rabbit fox bear tiger lion monkey camel",
    "birds": "owl eagle robin sparrow hawk duck swan crow pigeon parrot heron finch",
    "fruits": "apple pear plum lemon orange cherry peach banana melon grape berry fig",
    "vegetables": "carrot onion bean turnip leek radish cabbage pepper pumpkin beet cucumber pea",
    "tools": "hammer drill wrench chisel ladder nail screw rake shovel axe plane clamp",
    "kitchens": "pan pot spoon fork plate bowl cup kettle oven tray whisk jug",
    "furniture": "chair table bed desk bench lamp couch stool wardrobe drawer cradle mirror",
    "clothes": "hat coat shirt dress glove boot sock belt jacket skirt cap sweater",
    "vehicles": "car bus train truck ship boat bicycle tram van ferry taxi tractor",
    "buildings": "house church castle tower barn hotel shop palace temple museum bakery cottage",
    "schools": "pupil teacher lesson pencil book ruler blackboard exam notebook eraser map essay",
    "music": "drum flute violin trumpet harp guitar organ bell song singer choir concert",
    "jobs": "baker doctor farmer nurse painter lawyer pilot sailor tailor plumber waiter driver",
    "bodies": "arm leg hand finger eye ear nose knee shoulder elbow chin ankle",
    "gardens": "flower tree hedge lawn seed rose tulip daisy pond fence bush gate",
    "sports": "ball match player team race goal referee trophy racket coach medal athlete",
    "computers": "screen keyboard file program folder printer cable server browser cursor disk tab",
    "toys": "doll kite puzzle robot marble puppet balloon block swing scooter rattle wagon",
    "insects": "ant bee wasp moth beetle cricket butterfly ladybird hornet cicada flea gnat",
    "shapes": "circle square triangle cube cone line curve sphere cylinder oval pyramid spiral",
    "money": "coin wallet price bill cheque budget loan tax market debt purse salary",
    "mail": "letter stamp parcel envelope postcard address courier mailbox label sender note card",
    "rivers": "water stream bank delta flood current source bridge ford island mud shore",
    "weather": "rain snow wind storm cloud thunder lightning fog hail frost sun ice",
    "colours": "red blue green yellow purple brown white black grey pink violet scarlet",
    "seas": "wave tide coast harbour salt sand shell reef anchor whale gull depth",
    "mountains": "peak slope rock cliff valley summit glacier cave ridge trail stone pass",
    "space": "star planet moon comet orbit rocket galaxy meteor telescope astronaut crater eclipse",
    "food": "bread cheese butter soup rice pasta honey salad cake biscuit sugar flour",
    "time": "hour minute second day week month year century morning evening noon night",
    "fire": "flame smoke ash coal candle torch spark ember heat hearth chimney lighter",
    "forests": "oak pine moss fern path log acorn squirrel root branch mushroom leaf",
    "feelings": "joy fear anger hope love pride sorrow calm envy trust surprise shame",
}

TOPICS: dict[str, tuple[str, ...]] = {name: words_in(w) for name, w in _TOPICS.items()}

COUNTABLE: tuple[str, ...] = tuple(
    word for words in list(TOPICS.values())[: list(TOPICS).index("rivers")] for word in words
)
"""Nouns with a regular plural: those of the topics above `rivers`."""

ADJECTIVES: tuple[str, ...] = words_in(
    "big small old new young tall short long wide narrow deep shallow bright dark clean dirty dry"
    " wet warm cold hot cool soft hard smooth rough heavy light quiet loud fast slow strong weak"
    " sharp round flat thick thin empty full open broken plain rare common busy lazy gentle fresh"
    " sweet sour rich poor safe simple strange tiny huge famous"
)

VERBS: tuple[str, ...] = words_in(
    "get set read write open close load save send parse build find count sort merge split copy"
    " move check test run start stop make draw print update remove add join clear reset fetch"
    " store select format convert create delete list match filter group"
)

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_ONES = words_in(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)
_TENS = words_in("twenty thirty forty fifty sixty seventy eighty ninety")


def number_words(number: int) -> str:
    """Example: `number_words(407)` is `"four hundred seven"`; from 0 to 999."""
    if not 0 <= number <= 999:
        raise ValueError(f"number must be from 0 to 999, not {number}")
    hundreds, rest = divmod(number, 100)
    words = [f"{_ONES[hundreds]} hundred"] if hundreds else []
    if rest >= 20:
        words.append(_TENS[rest // 10 - 2] + (f" {_ONES[rest % 10]}" if rest % 10 else ""))
    elif rest or not words:
        words.append(_ONES[rest])
    return " ".join(words)


def plural(noun: str) -> str:
    """The plural of a regular noun: `box` to `boxes`, `city` to `cities`, `day` to `days`."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
