"""The web page in a real browser, on a service of fixed answers: what a person meets there."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from selfreward.serving.judge_wire import PairwiseRequest, RankRequest
from tests.web_page_browser import fill_pair, open_browser, text_of, wait_for, watched_page
from tests.web_page_service import (
    FORGED,
    Server,
    Service,
    make_app,
    make_task,
    pair_tasks,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with open_browser() as browser:
        yield browser


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    with Server(make_app(service), prefix="/judge") as server:
        service.base = server.base
        yield service


@pytest.fixture
def page(browser: "Browser", service: Service) -> "Iterator[Page]":
    with watched_page(browser) as page:
        yield page


def test_playground_shows_a_verdict_and_where_it_comes_from(page: "Page", service: Service) -> None:
    page.goto(service.base)
    fill_pair(page, "In 1889.", "In 1899.")
    page.get_by_label("Votes").fill("3")
    page.get_by_label("Rubric").fill("pairwise_reasoned")
    page.get_by_label("Ask for a rationale").check()
    page.keyboard.press("Control+Enter")
    wait_for(page, "#result", "Answer A is better")

    shown = text_of(page.locator("#result"))
    for part in (
        "A is better: 83.0 %",
        "B is better: 17.0 %",
        "A, then B A is better 91.0 % A 3 · B 0",
        "B, then A A is better 75.0 % A 2 · B 0 · no verdict 1",
        "A gives the year 1889; B is ten years off.",
        "All rationales (6)",
        "Both orders name the same answer",
        "version 3 · runs/first/M2 · iteration 2",
        "1204 read · 312 written",
        "pairwise_reasoned",
    ):
        assert part in shown
    page.locator("summary", has_text="All rationales (6)").click()
    assert "The second text names the right year." in text_of(page.locator("#result details"))
    wide, whole = (page.locator(s).bounding_box() for s in (".share", ".track"))
    assert wide and whole and wide["width"] / whole["width"] == pytest.approx(0.83, abs=0.01)
    page.locator("#live").get_by_text("Answer A is better.").wait_for()
    assert service.judged == [
        PairwiseRequest(
            prompt="When was the Eiffel Tower finished?",
            first="In 1889.",
            second="In 1899.",
            votes=3,
            rationale=True,
            rubric="pairwise_reasoned",
        )
    ]


def test_a_failed_judgment_is_words_and_no_number(page: "Page", service: Service) -> None:
    page.goto(service.base)
    fill_pair(page, "cut", "In 1899.")
    page.get_by_role("button", name="Judge", exact=True).click()
    wait_for(page, "#result", "No verdict")
    shown = text_of(page.locator("#result"))
    assert "The judge was cut off before its verdict." in shown
    assert "finish_reason length after 400 tokens" in shown
    assert "%" not in shown and page.locator(".track").count() == 0


def test_playground_ranks_four_answers(page: "Page", service: Service) -> None:
    page.goto(service.base)
    fill_pair(page, "one", "two")
    for name in ("Answer C", "Answer D", "Answer E"):
        page.get_by_role("button", name="Add an answer").click()
        page.get_by_label(name, exact=True).fill(name)
    page.get_by_role("button", name="Remove Answer D").click()
    assert page.get_by_label("Answer D", exact=True).input_value() == "Answer E"
    page.get_by_role("button", name="Judge", exact=True).click()
    wait_for(page, "#result", "D > C > A = B")
    shown = text_of(page.locator("#result"))
    assert "D 3 3 0 0 0" in shown and "A 0.5 0 1 0 0" in shown
    assert "Both orders agree in 90.0 %" in shown
    assert "D and A D is better 83.0 % agree" in shown
    assert "Rationales (6)" in shown
    page.locator("summary", has_text="Rationales (6)").click()
    told = page.locator("#result details blockquote")
    assert text_of(told.first).startswith("A gives the year 1889") and told.count() == 6
    (asked,) = service.judged
    assert isinstance(asked, RankRequest)
    assert asked.responses == ["one", "two", "Answer C", "Answer E"]

    for _ in range(4):
        page.get_by_role("button", name="Add an answer").click()
    assert page.get_by_label("Answer H", exact=True).is_visible()
    assert page.get_by_role("button", name="Add an answer").is_hidden()


def test_an_empty_answer_is_told_before_anything_is_sent(page: "Page", service: Service) -> None:
    page.goto(service.base)
    fill_pair(page, "In 1889.", "  ")
    page.get_by_role("button", name="Judge", exact=True).click()
    wait_for(page, "#answers", "Answer B is empty.")
    assert page.evaluate("document.activeElement.id") == "answer-1"
    assert service.judged == []


def test_a_busy_service_is_asked_again_on_demand(page: "Page", service: Service) -> None:
    page.goto(service.base)
    fill_pair(page, "In 1889.", "In 1899.")
    service.refuse_with = (503, "256 requests are waiting already", "7")
    page.get_by_role("button", name="Judge", exact=True).click()
    alert = page.get_by_role("alert")
    alert.get_by_text("256 requests are waiting already").wait_for()
    assert "wait 7 seconds" in alert.inner_text()
    page.get_by_role("button", name="Try again").click()
    wait_for(page, "#result", "Answer A is better")
    assert page.get_by_role("alert").count() == 0


def test_ten_tasks_by_keyboard_alone(page: "Page", service: Service) -> None:
    service.tasks = pair_tasks(10)
    page.goto(service.base + "#/review")
    picks = ["1", "b", "t", "A", "2", "0", "a", "B", "T", "1"]
    for i, key in enumerate(picks):
        wait_for(page, "#progress", f"{i} done, {10 - i} left")
        wait_for(page, "#task-prompt", f"{i} + {i}?")
        if i == 3:
            page.keyboard.press("h")
            page.keyboard.press("b")
            page.keyboard.press("c")
            page.keyboard.type("both are terse")
            page.keyboard.press("Escape")
        page.keyboard.press(key)
        page.keyboard.press("Enter")
    page.get_by_role("heading", name="All done").wait_for()

    words = {"1": "A", "a": "A", "2": "B", "b": "B", "t": "tie", "0": "tie"}
    assert [a.choice for a in service.answers] == [words[key.lower()] for key in picks]
    assert [a.task_id for a in service.answers] == [f"task-{i}" for i in range(10)]
    assert (service.answers[3].harmful, service.answers[3].comment) == (["B"], "both are terse")
    assert all(
        a.harmful == [] and a.comment == "" for a in service.answers if a.task_id != "task-3"
    )
    assert all(a.seconds is not None for a in service.answers)


def test_four_answers_are_ranked_by_keyboard(page: "Page", service: Service) -> None:
    service.tasks = [make_task(0, ["vier", "4", "2 + 2 = 4", "five"], "2 + 2?")]
    page.goto(service.base + "#/review")
    page.get_by_role("heading", name="Rank the 4 answers, best first").wait_for()
    # The first "=" is taken back, and so is the first D: C and B are left to stand apart.
    for key in ["c", "=", "Backspace", "b", "d", "Backspace", "Enter"]:
        page.keyboard.press(key)
    wait_for(page, "#review-state", "Still to be placed: A, D.")
    for key in ["=", "a", "d", "!", "d"]:
        page.keyboard.press(key)
    places = [(i.get_attribute("value"), text_of(i)) for i in page.locator("#ranking li").all()]
    assert places == [("1", "C"), ("2", "B = A"), ("4", "D")]
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys of the review").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("D is wrong")
    page.keyboard.press("Control+Enter")
    page.get_by_role("heading", name="All done").wait_for()
    (answer,) = service.answers
    assert answer.ranking == [["C"], ["B", "A"], ["D"]]
    assert (answer.harmful, answer.comment) == (["D"], "D is wrong")


def test_an_answer_that_was_not_saved_is_kept(page: "Page", service: Service) -> None:
    service.tasks = pair_tasks(1)
    page.goto(service.base + "#/review")
    wait_for(page, "#task-prompt", "0 + 0?")
    page.keyboard.press("b")
    service.refuse_with = (503, "the store is busy", "1")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("the store is busy").wait_for()
    page.get_by_role("button", name="Try again").press("Enter")
    page.get_by_role("heading", name="All done").wait_for()
    assert [a.choice for a in service.answers] == ["B"]


def test_text_of_a_response_is_never_markup(page: "Page", service: Service) -> None:
    service.tasks = [make_task(0, [FORGED, "  two\n  lines"], FORGED)]
    page.goto(service.base + "#/review")
    wait_for(page, "#task-answers", "onerror")
    assert page.locator("#response-A .text").text_content() == FORGED
    assert page.locator("#review img, #review script, #review b").count() == 0
    assert page.title() == "Review · selfreward judge"
    assert page.locator("#response-B .text").inner_text() == "  two\n  lines"


def test_agreement_and_history(page: "Page", service: Service) -> None:
    page.goto(service.base)
    page.get_by_role("link", name="Agreement").click()
    wait_for(page, "#agreement-body", "People with the judges")
    shown = text_of(page.locator("#agreement-body"))
    for part in (
        "Answers 42",
        "Comparisons 57",
        "anna, ben, chris",
        "Krippendorff's \u03b1 0.619",
        "M2 40 80.0 % 0.600",
        "anna ben 18 83.3 % 0.660",
        "anna chris 0 not defined not defined",
    ):
        assert part in shown

    page.get_by_role("link", name="History").click()
    wait_for(page, "#history-body", "Version 1")
    newest, oldest = page.locator("#history-body article").all()
    first = text_of(newest)
    for part in (
        "Version 3 newest",
        "9:30",
        "promoted by the run",
        "accuracy on held-out pairs rose by 0.04",
        "Accuracy 71.0 %",
        "Pairs measured 64",
        "Choices that change with the order 12.5 %",
        "Score entropy bits 1.400",
        "Self preference not measured",
    ):
        assert part in first
    assert "served from the start" in oldest.inner_text()
    assert "It has no bias card." in oldest.inner_text()


def test_the_key_is_asked_for_sent_and_kept_for_the_tab(page: "Page", service: Service) -> None:
    service.key = "sk-right"
    service.tasks = pair_tasks(1)
    page.goto(service.base + "#/review")
    wait_for(page, "#access-state", "The service wants an API key.")
    page.get_by_role("alert").get_by_text("this service needs an API key").wait_for()
    assert page.evaluate("document.activeElement.id") == "key"
    page.keyboard.type("sk-wrong\n")
    wait_for(page, "#access-state", "The service does not know this key.")
    page.get_by_label("API key").fill("sk-right")
    page.keyboard.press("Enter")
    wait_for(page, "#task-prompt", "0 + 0?")
    assert page.get_by_role("alert").count() == 0
    page.reload()
    wait_for(page, "#task-prompt", "0 + 0?")
    page.get_by_role("button", name="Forget").click()
    wait_for(page, "#access-state", "The service wants an API key.")
    assert page.evaluate("Object.values(sessionStorage).join('')") == ""


def test_without_keys_a_reviewer_may_give_a_name(page: "Page", service: Service) -> None:
    service.tasks = pair_tasks(1)
    page.goto(service.base + "#/review")
    wait_for(page, "#task-prompt", "0 + 0?")
    for name in ("Anna B.", "李 50%"):
        page.get_by_label("Reviewer name").fill(name)
        page.keyboard.press("Enter")
        wait_for(page, "#live", f"Reviews are by {name}.")
        # The task is loaded anew, and takes the focus when it is there.
        page.wait_for_function("document.activeElement.id === 'task-title'")
    # "李" is E6 9D 8E in UTF-8, a space 20 and "%" 25.
    assert service.reviewers == [None, "Anna B.", "%E6%9D%8E%2050%25"]


@pytest.mark.parametrize("width", [320, 375])
def test_nothing_scrolls_sideways_on_a_phone(page: "Page", service: Service, width: int) -> None:
    service.tasks = [make_task(0, ["x" * 300, "4", "2 + 2 = 4", "five"], "y" * 300)]
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(service.base)
    overhang = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    fill_pair(page, "z" * 300, "In 1899.")
    page.get_by_role("button", name="Judge", exact=True).click()
    wait_for(page, "#result", "Answer A is better")
    assert page.evaluate(overhang) == 0
    for link, ready in (("Review", "#ranking"), ("Agreement", "table"), ("History", "table")):
        page.get_by_role("link", name=link).click()
        page.locator(f"#{link.lower()} {ready}").first.wait_for()
        assert page.evaluate(overhang) == 0, link
