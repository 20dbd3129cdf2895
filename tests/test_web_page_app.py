"""The web page in a real browser, on the whole application: a run, its keys, its review store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from selfreward.config_serving import AuthConfig, ReviewConfig
from selfreward.engines.models import model_fingerprint
from selfreward.serving.keeper import Served
from selfreward.serving.keys import add_key
from selfreward.storage.checkpoints import CurrentJudge, write_current
from tests.run_folders import SelfTaught, self_taught_run
from tests.serving_tools import BAD, GOOD, local_app, serving_config
from tests.web_page_browser import fill_pair, open_browser, text_of, wait_for, watched_page
from tests.web_page_service import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@dataclass(frozen=True, kw_only=True)
class Site:
    """A service that is up, and who may use it."""

    base: str
    key: str
    run: SelfTaught


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with open_browser() as browser:
        yield browser


@pytest.fixture
def site(browser: "Browser", tmp_path: Path, tiny_model: Path) -> Iterator[Site]:
    run = self_taught_run(str(tmp_path / "run"))
    current = CurrentJudge(
        iteration=0,
        checkpoint=str(tiny_model),
        fingerprint=model_fingerprint(str(tiny_model)),
        accuracy=None,
        reason="the seed model",
    )
    write_current(run.layout, current)
    file = str(tmp_path / "keys.jsonl")
    key = add_key(file, "ada", "user")
    config = serving_config(auth=AuthConfig(keys_file=file), review=ReviewConfig())
    state = str(tmp_path / "state")
    served = Served(layout=run.layout, model=str(tiny_model), state_dir=state)
    app, _, _ = local_app(served, config)
    with Server(app) as server:
        yield Site(base=server.base, key=key, run=run)


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    with watched_page(browser) as page:
        yield page


def give_key(page: "Page", key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def test_a_pair_and_a_ranking_are_judged_once_the_key_is_given(page: "Page", site: Site) -> None:
    page.goto(site.base)
    fill_pair(page, GOOD, BAD)
    page.get_by_role("button", name="Judge", exact=True).click()
    wait_for(page, "#access-state", "The service wants an API key.")
    give_key(page, "sr-wrong")
    wait_for(page, "#access-state", "The service does not know this key.")
    give_key(page, site.key)
    wait_for(page, "#result", "Answer A is better")
    assert "version 1" in text_of(page.locator("#result"))
    page.get_by_role("button", name="Add an answer").click()
    page.get_by_label("Answer C", exact=True).fill("(quality 5) fair")
    page.get_by_role("button", name="Judge", exact=True).click()
    wait_for(page, "#result", "A > C > B")


def test_what_the_service_refuses_is_told_in_its_words(page: "Page", site: Site) -> None:
    page.goto(site.base)
    give_key(page, site.key)
    fill_pair(page, GOOD, BAD)
    page.get_by_label("Rubric").fill("pairwise_verdict")
    page.get_by_role("button", name="Judge", exact=True).click()
    page.get_by_role("alert").get_by_text("did you mean 'pairwise_verdict_only'?").wait_for()


def test_the_runs_tasks_are_reviewed_blind_and_counted(page: "Page", site: Site) -> None:
    page.goto(site.base + "#/review")
    give_key(page, site.key)
    wait_for(page, "#progress", "0 done, 2 left")
    # The judge wavers on this one, so it comes first.
    asked, better = site.run.pair.messages[-1].content, site.run.pair.chosen
    wait_for(page, "#task-prompt", asked)
    assert "tiny" not in text_of(page.locator("#review"))
    letters = [
        letter
        for letter in "AB"
        if page.locator(f"#response-{letter} .text").text_content() == better
    ]
    page.keyboard.press(letters[0])
    page.keyboard.press("Enter")
    wait_for(page, "#progress", "1 done, 1 left")
    # The count is there before the next task is, which takes the focus.
    page.wait_for_function(
        """asked => document.activeElement.id === "task-title"
            && !document.querySelector("#task-prompt").textContent.includes(asked)""",
        arg=asked,
    )
    page.keyboard.press("t")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="All done").wait_for()

    page.get_by_role("link", name="Agreement").click()
    wait_for(page, "#agreement-body", "People with the judges")
    shown = text_of(page.locator("#agreement-body"))
    assert "Answers 2" in shown and "Comparisons 2" in shown and "ada" in shown
    page.get_by_role("link", name="History").click()
    wait_for(page, "#history-body", "the seed model")


def test_the_page_of_the_api_is_drawn_under_its_own_policy(page: "Page", site: Site) -> None:
    page.goto(site.base + "docs")
    page.get_by_role("heading", name="selfreward judge").wait_for()
    page.locator("#operations-judge-judge_pairwise").wait_for()
