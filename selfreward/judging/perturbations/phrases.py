"""Sentences that fit anywhere: padding, vague answers, refusals, and phrases in four languages.

All of it is data and the few lines that combine it; every sentence is in our own words. Many short
parts are combined, so that a judge has little to gain from learning a phrase by heart.
"""

import random
from collections.abc import Iterator

HEDGES = (
    "It is worth keeping in mind that",
    "As many people have noticed,",
    "Generally speaking,",
    "In a sense,",
    "It goes without saying that",
    "From one point of view,",
    "To a certain degree,",
    "All things considered,",
    "As is often the case,",
    "Needless to say,",
    "When one stops to think about it,",
    "In this context,",
    "Broadly put,",
    "Seen as a whole,",
    "For what it is worth,",
    "At the end of the day,",
    "One might add that",
    "By and large,",
)
EMPTY_CLAUSES = (
    "there is a great deal that could be said here",
    "every situation has its own details",
    "the particulars matter in their own way",
    "this is a subject with many sides",
    "one thing tends to lead to another",
    "the circumstances play a part",
    "opinions on this may well differ",
    "it depends on how one looks at it",
    "some aspects deserve more attention than others",
    "things are seldom as simple as they seem",
    "a balanced view is usually the best one",
    "there are good reasons to consider the wider picture",
    "what has been said so far is only part of it",
    "the importance of this should not be overlooked",
    "a closer look is always worthwhile",
    "it helps to take one step at a time",
    "the points made here belong together",
    "experience shows that patience pays off",
    "much has been written about matters like this",
    "the same can be said of many other things",
    "being aware of this is already a good start",
    "there is more than one way to go about it",
)
FILLERS = (
    "This point is an important one.",
    "Let us dwell on that for a moment.",
    "That said, let us move on.",
    "With this in mind, we can continue.",
    "This brings us to what comes next.",
    "It bears repeating.",
    "Such is the nature of the subject.",
    "Hopefully this is clear so far.",
    "There is, as always, a bigger picture.",
    "This is something to think about.",
    "As mentioned, this is worth a thought.",
    "And that is, in essence, the idea.",
)

VAGUE_OPENINGS = (
    "There are several ways of looking at {topic}.",
    "That is an interesting question, and {topic} is something many people wonder about.",
    "When it comes to {topic}, it is best to begin with the basics.",
    "{Topic}: a broad field in which a lot depends on the details.",
    "Thank you for bringing up {topic}, which deserves some thought.",
    "Before saying anything about {topic}, one should look at the whole.",
    "Much could be said about {topic}.",
    "Let us take a general look at {topic}.",
)
VAGUE_MIDDLES = (
    "A number of factors come into play, and they influence each other.",
    "What works in one case may not work in another.",
    "It is sensible to weigh the advantages and the drawbacks.",
    "Reliable information is a good basis for any decision about {topic}.",
    "Over time, a clearer picture usually emerges.",
    "People approach {topic} differently, depending on their background.",
    "There is a technical side to it and a human one.",
    "Both short-term and long-term effects should be taken into account.",
    "Preparation helps, and so does a willingness to adapt.",
    "Some consider this aspect central, while others pay it little attention.",
    "The right approach to {topic} depends on what one wants to achieve.",
    "It can be useful to compare a few examples.",
    "Different sources put the emphasis on different things.",
    "In practice, a combination of methods often gives the best results.",
    "The history of {topic} offers a few lessons as well.",
    "Asking the right questions is half of the work.",
    "One should neither rush nor wait too long.",
    "The basic principles are easy to understand, the details less so.",
    "As with most things, quality matters more than quantity.",
    "Keeping an overview of {topic} is a good habit.",
)
VAGUE_CLOSINGS = (
    "In the end, the best answer is the one that fits your needs.",
    "In short, {topic} is a matter that rewards attention.",
    "I hope this gives you a first idea.",
    "With the right attitude, a good outcome is likely.",
    "There is always more to learn about {topic}.",
    "All in all, it comes down to finding the right balance.",
)
GENERIC_TOPICS = ("this", "all of this", "this subject", "a question like this", "the whole issue")

APOLOGIES = (
    "I'm sorry, but ",
    "I apologise, but ",
    "Unfortunately, ",
    "Regrettably, ",
    "Thank you for your message, but ",
    "I appreciate that you ask; however, ",
    "I understand what you are after, yet ",
    "My apologies: ",
)
REFUSALS = (
    "I can't help with that.",
    "I am unable to answer this request.",
    "this is something I have to decline.",
    "I won't be able to provide what you ask for.",
    "I'd rather not respond to this.",
    "I am not in a position to assist here.",
    "requests of this kind are outside what I do.",
    "I have to pass on this one.",
    "I cannot take part in this.",
    "I must leave this question unanswered.",
)
REFUSAL_REASONS = (
    "It touches on matters that I am not supposed to comment on.",
    "As an automated assistant I have to be careful with questions like this.",
    "I could not be certain that my answer would do no harm.",
    "Information about {topic} might be misused by somebody.",
    "My guidelines ask me to stay away from {topic}.",
    "I have no way of knowing what the answer would be used for.",
    "Anything I said about {topic} could be taken the wrong way.",
    "I do not have the qualifications that a proper answer would require.",
    "Giving a definite answer would not be responsible of me.",
    "There is a risk that somebody could rely on what I say about {topic}.",
    "Sensitive subjects need more care than I can give them.",
    "I am designed to avoid statements about {topic}.",
)
REFUSAL_ALTERNATIVES = (
    "You may want to turn to a qualified professional.",
    "Please look for a reliable source on {topic} instead.",
    "Perhaps there is something else I can do for you?",
    "A local library or an expert might be of help.",
    "If you have a different question, feel free to ask it.",
    "I would be glad to talk about a more general subject.",
    "Thank you for your understanding.",
    "I hope you see why I have to be cautious.",
)

ECHO_FRAMES = (
    "You asked: {question}",
    "Your question is the following: {question}",
    "So this is what you would like to know: {question}",
    "The request reads as follows. {question}",
    "Let me repeat what has been asked. {question}",
    "To put the task in front of us once more: {question}",
    "What we have here is this: {question}",
)
ECHO_PROMISES = (
    "That is what has to be answered.",
    "This is a good question, and it deserves a good answer.",
    "I have understood the task and will keep it in mind.",
    "Now that the question is clear, it can be dealt with.",
    "An answer to this would be very useful indeed.",
    "It is important to read the question carefully.",
)

FOREIGN = {
    "en": (
        "This depends on several things.",
        "More about this can be found elsewhere.",
        "It is important to think about it calmly.",
        "Many people see it that way too.",
        "In most cases that is entirely sufficient.",
        "The next step follows from what was said.",
        "One should not forget that it takes some time.",
        "There are examples of it in everyday life.",
        "Experts have been discussing this for years, without reaching an agreement.",
    ),
    "de": (
        "Das hängt von mehreren Dingen ab.",
        "Mehr dazu findet man an anderer Stelle.",
        "Es ist wichtig, in Ruhe darüber nachzudenken.",
        "Viele Menschen sehen das genauso.",
        "In den meisten Fällen reicht das völlig aus.",
        "Der nächste Schritt ergibt sich aus dem Gesagten.",
        "Man darf nicht vergessen, dass es etwas Zeit braucht.",
        "Im Alltag gibt es dafür viele Beispiele.",
        "Fachleute streiten darüber seit Jahren, ohne sich zu einigen.",
    ),
    "fr": (
        "Cela dépend de plusieurs choses.",
        "On en trouve davantage ailleurs.",
        "Il est important d'y réfléchir calmement.",
        "Beaucoup de gens le voient de la même façon.",
        "Dans la plupart des cas, cela suffit amplement.",
        "L'étape suivante découle de ce qui a été dit.",
        "Il ne faut pas oublier que cela demande du temps.",
        "La vie quotidienne en offre de nombreux exemples.",
        "Les spécialistes en débattent depuis des années sans se mettre d'accord.",
    ),
    "es": (
        "Eso depende de varias cosas.",
        "Se puede encontrar más en otro lugar.",
        "Es importante pensarlo con calma.",
        "Mucha gente lo ve de la misma manera.",
        "En la mayoría de los casos eso basta.",
        "El siguiente paso se deduce de lo dicho.",
        "No hay que olvidar que lleva su tiempo.",
        "En la vida diaria hay muchos ejemplos de ello.",
        "Los expertos lo discuten desde hace años sin ponerse de acuerdo.",
    ),
}


def filler_sentence(rng: random.Random) -> str:
    """Returns a fluent sentence that says nothing, one of about 400."""
    if rng.random() < 0.15:
        return rng.choice(FILLERS)
    return f"{rng.choice(HEDGES)} {rng.choice(EMPTY_CLAUSES)}."


def shuffled_forever(sentences: tuple[str, ...], rng: random.Random) -> Iterator[str]:
    """Yields the sentences in random order, each once a round."""
    while True:
        yield from rng.sample(sentences, len(sentences))


def about(sentence: str, topic: str) -> str:
    """Fills `{topic}` or, at the start of a sentence, `{Topic}`."""
    # Not str.format: topics come from users and may hold braces.
    return sentence.replace("{topic}", topic).replace("{Topic}", topic[:1].upper() + topic[1:])
