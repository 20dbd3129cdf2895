import json
from importlib.resources import files

import pytest

from selfreward.config_self_rewarding import SelfInstructConfig
from selfreward.judging.instruction_filters import filter_reason
from selfreward.records import DropReason


def reason(text: str, **config: object) -> DropReason | None:
    found = filter_reason(text, SelfInstructConfig.model_validate(config))
    return None if found is None else found[0]


NOT_ANSWERABLE = [
    "Describe this image in three sentences.",
    "What can you see in the picture?",
    "How many people are in the photo?",
    "Write a caption for the attached photo.",
    "Summarize the attached document.",
    "I have uploaded a spreadsheet. I uploaded the file yesterday; check the uploaded file.",
    "Transcribe the following audio into text.",
    "Watch this video and list its main points.",
    "Listen to this recording and name the instruments.",
    "Identify the bird in this photo: https://example.org/bird.jpg",
    "Explain the diagram shown below in the picture below.",
    "Draw a cat sitting on a fence.",
    "Can you draw me a picture of a house?",
    "Sketch a map of your home town.",
    "Create an image of a sunset over the sea.",
    "Generate a realistic picture of a dragon.",
    "Design a logo for a bakery.",
    "Make a short video about recycling.",
    "Explain photosynthesis and draw a diagram of it.",
    "Create a bar chart of the sales of each month.",
    "Plot the function y = x^2 between -3 and 3.",
    "Graph the equation y = 2x + 1.",
    "Draw a graph showing supply and demand.",
    "Record a video of yourself dancing.",
    "Take a photo of your lunch and describe it.",
    "Play a relaxing song for me.",
    "Visit https://example.org/news and summarize the first article.",
    "Read the article at www.example.org and give its main idea.",
    "Click the link and fill in the form.",
    "Download the file and open it in Excel.",
    "Summarize this website.",
    # Nothing follows.
    "Summarize the following article.",
    "Translate the following sentence into French.",
    "Which of the following is a mammal?",
    "Answer the question based on the following passage",
    "Rewrite this sentence in the passive voice.",
    "Classify the given text as positive or negative.",
    "Summarize the passage above in your own words.",
    "Find the error in the code below.",
]

ANSWERABLE = [
    "Explain graph theory to a child of ten.",
    "What conclusion can you draw from a falling birth rate?",
    "Draw a conclusion about the economy from rising prices.",
    "Draw a comparison between the two world wars.",
    "Draw two balls from an urn with three red and four blue ones: how likely are two reds?",
    "Draw an analogy between the heart and a pump.",
    "Picture this scene in words: a storm at sea.",
    "Paint a picture of village life in words.",
    "Explain how to draw a portrait.",
    "Draw a Christmas tree in ASCII art.",
    "Write a Python function that resizes the image and saves it.",
    "Create an SVG image of a red circle.",
    "Plot a histogram of a list with matplotlib: show the code.",
    "Write a video script about recycling.",
    "Create a video game idea for children.",
    "Make a list of famous paintings and their painters.",
    "What are the best ways to store photos?",
    "Why do some people dislike their image in the mirror?",
    "How does image compression work?",
    "Describe the picture of Dorian Gray in Wilde's novel.",
    "Describe this photo: two old men sit on a bench and laugh.",
    "What is the difference between a PDF and a Word file?",
    "How do I open a CSV file in Excel?",
    "Explain the link between smoking and cancer.",
    "Is the URL https://example.org/a?b=1 valid, and which part is the host?",
    "What did the plot of Hamlet borrow from older plays?",
    "Write a story about a boy who finds an old map.",
    "What is the big picture of the French Revolution?",
    "Create a chart with three columns that compares cats and dogs.",
    "How do musicians play a song in tune?",
    "Is audio quality better on vinyl?",
    # What follows is there.
    "Translate the following sentence into French: The cat sleeps.",
    "Which of the following is a mammal? whale, shark, trout",
    "Use the following words in a story - cat, dog and moon.",
    "Write a sentence using the following words cat, dog, and moon",
    "Solve the following equation 2x + 3 = 7.",
    "Correct the following sentence She go to school.",
    "Summarize the following article.\n\nRain fell for a week in the north.",
    "What happened to Rome in the following century?",
    "The cat sat on the mat. Rewrite this sentence in the passive voice.",
    "This sentence is false. Is that a paradox?",
    "Find the error in the code below:\n\nprnt(1)",
]


@pytest.mark.parametrize("text", NOT_ANSWERABLE)
def test_tasks_that_text_cannot_answer_are_dropped(text: str) -> None:
    assert reason(text) is DropReason.NOT_ANSWERABLE


@pytest.mark.parametrize("text", ANSWERABLE)
def test_tasks_that_only_sound_like_it_are_kept(text: str) -> None:
    assert filter_reason(text, SelfInstructConfig()) is None


def test_the_detail_says_what_was_asked_for() -> None:
    config = SelfInstructConfig()
    found = filter_reason("Describe this image in three sentences.", config)
    assert found == (DropReason.NOT_ANSWERABLE, "something to see or hear: this image")
    found = filter_reason("Summarize the following article.", config)
    assert found == (DropReason.NOT_ANSWERABLE, "nothing follows: the following")
    found = filter_reason("Why so?", config)
    assert found == (DropReason.TOO_SHORT, "2 of at least 3 words")


def test_lengths_are_counted_in_words() -> None:
    assert reason("Name a river.") is None
    assert reason("Name rivers.") is DropReason.TOO_SHORT
    assert reason("Why is it " + "very " * 147) is None
    assert reason("Why is it " + "very " * 148) is DropReason.TOO_LONG
    assert reason("Name a big river.", max_words=3) is DropReason.TOO_LONG
    # Chinese by letter: nine words.
    assert reason("天空为什么是蓝色的?") is None
    assert reason("天空为什么是蓝色的?", min_words=10) is DropReason.TOO_SHORT


def test_keywords_are_whole_words_in_any_case() -> None:
    words = ("stock price", "C++", "Tesla", " ")
    assert reason("Predict the Stock  Price of tomorrow.", keywords=words) is DropReason.KEYWORD
    assert reason("Sort a list in c++ quickly.", keywords=words) is DropReason.KEYWORD
    assert reason("Who was Nikola Tesla, then?", keywords=words) is DropReason.KEYWORD
    assert reason("Measure ten teslas of field.", keywords=words) is None
    assert reason("Why are livestock prices so low?", keywords=words) is None


@pytest.mark.parametrize(
    "text", [", and then what happens?", "... go on with it", "!important for us all", "* * a b c"]
)
def test_punctuation_opens_no_instruction(text: str) -> None:
    assert reason(text) is DropReason.NOT_AN_INSTRUCTION


@pytest.mark.parametrize(
    "text",
    [
        '"Carpe diem" means what, in fact?',
        "(Be brief.) What is a quark?",
        "¿Por qué es azul el cielo?",
        "-5 plus 3 is what?",
        "$100 at 5% for two years grows to what?",
        "\u201eWolke\u201c: what does it mean?",
    ],
)
def test_quotes_brackets_and_signed_numbers_may_open_one(text: str) -> None:
    assert reason(text) is None


def test_texts_without_letters_are_no_instructions() -> None:
    assert reason("12 34 56 78") is DropReason.NOT_AN_INSTRUCTION
    assert reason("  \n ") is DropReason.EMPTY_INSTRUCTION


def test_instructions_that_people_wrote_are_kept() -> None:
    """The sample pool holds tasks that text can answer: hardly one may be dropped."""
    lines = files("selfreward.samples").joinpath("instructions.jsonl").read_text("utf-8")
    rows = [json.loads(line)["messages"] for line in lines.splitlines()]
    first = [messages[0]["content"] for messages in rows if len(messages) == 1]
    config = SelfInstructConfig(min_words=1, max_words=1000)
    dropped = [(text, found) for text in first if (found := filter_reason(text, config))]
    assert len(first) > 200
    assert dropped == []
