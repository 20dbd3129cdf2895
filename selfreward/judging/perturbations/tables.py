"""Small word tables: common words, opposites, negations, months, words in four languages."""


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words too common to be the topic of anything.
STOPWORDS = word_set(
    "about above after again against also although always another because been before being below"
    " between both could does doing during each either every from further have having here into"
    " itself just like many might more most much must never none only other ought over same shall"
    " should since some such than that their theirs them then there these they this those through"
    " under until very were what when where which while will with within without would your yours"
    " please write give make list tell explain describe name find show using short"
    " following"
)

_OPPOSITE_PAIRS = (
    "increase/decrease increases/decreases increased/decreased increasing/decreasing"
    " before/after always/never more/less higher/lower larger/smaller greater/smaller"
    " faster/slower longer/shorter stronger/weaker easier/harder better/worse hotter/colder"
    " warmer/cooler older/newer high/low large/small big/little long/short fast/slow strong/weak"
    " hot/cold wet/dry early/late first/last true/false correct/incorrect"
    " yes/no possible/impossible likely/unlikely safe/dangerous common/rare"
    " positive/negative maximum/minimum most/least inside/outside above/below"
    " left/right north/south east/west northern/southern eastern/western"
    " start/end starts/ends begin/finish begins/finishes open/closed open/close buy/sell"
    " gain/lose gains/loses gained/lost win/lose add/remove adds/removes allow/forbid"
    " allows/forbids allowed/forbidden accept/reject include/exclude includes/excludes"
    " rise/fall rises/falls rose/fell expand/contract expands/contracts absorb/emit"
    " absorbs/emits attract/repel attracts/repels with/without often/rarely usually/seldom"
    " everyone/nobody everything/nothing many/few both/neither"
    " legal/illegal required/forbidden necessary/unnecessary internal/external public/private"
    " ancient/modern acid/alkaline deep/shallow thick/thin wide/narrow full/empty"
    # German, French and Spanish.
    " immer/nie mehr/weniger höher/niedriger größer/kleiner schneller/langsamer"
    " toujours/jamais avant/après augmente/diminue"
    " siempre/nunca antes/después aumenta/disminuye grande/pequeño"
)


def _both_ways(pairs: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for pair in pairs.split():
        first, second = pair.split("/")
        # The first pair a word stands in counts.
        table.setdefault(first, second)
        table.setdefault(second, first)
    return table


OPPOSITES = _both_ways(_OPPOSITE_PAIRS)

NEGATED_FORMS = {
    "isn't": "is",
    "aren't": "are",
    "wasn't": "was",
    "weren't": "were",
    "don't": "do",
    "doesn't": "does",
    "didn't": "did",
    "can't": "can",
    "cannot": "can",
    "couldn't": "could",
    "won't": "will",
    "wouldn't": "would",
    "shouldn't": "should",
    "mustn't": "must",
    "hasn't": "has",
    "haven't": "have",
    "hadn't": "had",
    "kein": "ein",
    "keine": "eine",
}
NEGATABLE = word_set("is are was were can could will would should must may might")
"""Verbs behind which `not` makes a sentence say the opposite."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

_FIRST_NUMBERS = "one two three four five six seven eight nine ten eleven twelve"
NUMBER_WORDS = {
    **{word: value for value, word in enumerate(_FIRST_NUMBERS.split(), start=1)},
    **{"fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50, "hundred": 100},
}

_EVERYDAY_WORDS = {
    "de": (
        "the=die and=und or=oder but=aber not=nicht with=mit for=für from=von in=in on=auf to=zu"
        " is=ist are=sind was=war were=waren has=hat have=haben can=kann will=wird must=muss"
        " this=dies that=das these=diese it=es they=sie we=wir you=du he=er she=sie"
        " because=weil if=wenn when=wann also=auch very=sehr more=mehr only=nur first=erst"
        " water=Wasser time=Zeit people=Leute day=Tag year=Jahr good=gut new=neu many=viele"
    ),
    "fr": (
        "the=le and=et or=ou but=mais not=pas with=avec for=pour from=de in=dans on=sur to=à"
        " is=est are=sont was=était were=étaient has=a have=ont can=peut will=va must=doit"
        " this=ceci that=cela these=ces it=il they=ils we=nous you=vous he=il she=elle"
        " because=parce-que if=si when=quand also=aussi very=très more=plus only=seulement"
        " first=premier water=eau time=temps people=gens day=jour year=an good=bon new=nouveau"
        " many=beaucoup"
    ),
    "es": (
        "the=el and=y or=o but=pero not=no with=con for=para from=de in=en on=sobre to=a"
        " is=es are=son was=era were=eran has=ha have=han can=puede will=va must=debe"
        " this=esto that=eso these=estos it=ello they=ellos we=nosotros you=tú he=él she=ella"
        " because=porque if=si when=cuando also=también very=muy more=más only=solo"
        " first=primero water=agua time=tiempo people=gente day=día year=año good=bueno new=nuevo"
        " many=muchos"
    ),
}
WORD_TABLES: dict[str, dict[str, str]] = {
    language: {word: other for word, _, other in (e.partition("=") for e in table.split())}
    for language, table in _EVERYDAY_WORDS.items()
}

LANGUAGE_WORDS = {
    "en": word_set("the and of to is that it with for are this was not you have"),
    "de": word_set("der die das und ist nicht ein eine zu mit auf für von den im"),
    "fr": word_set("le la les et est que des une un pour dans pas du au sont"),
    "es": word_set("el los las y es que una un para con por del en se no"),
}
"""Words by which the language of a text is told; what has none of them counts as English."""
