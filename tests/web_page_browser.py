"""A real headless Chromium for the tests of the web page, and words for what they do in it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


@contextmanager
def open_browser() -> "Iterator[Browser]":
    """Skips the test where there is no playwright or no Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install one, or name it by the variable CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: "Browser") -> "Iterator[Page]":
    """A page with a session of its own. A script error or a breach of the page's policy fails."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, timezone_id="UTC", locale="en-US"
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "console",
        lambda line: (
            troubles.append(line.text)
            # Chromium logs each answer from 400 on, and some tests are about those.
            if line.type == "error" and "Failed to load resource" not in line.text
            else None
        ),
    )
    yield page
    context.close()
    assert troubles == []


def fill_pair(page: "Page", first: str, second: str) -> None:
    prompt = "When was the Eiffel Tower finished?"
    for name, text in (("Prompt", prompt), ("Answer A", first), ("Answer B", second)):
        page.get_by_role("textbox", name=name).fill(text)


def text_of(place: "Locator") -> str:
    """What is shown there, with single spaces."""
    return " ".join(place.inner_text().split())


def wait_for(page: "Page", selector: str, text: str) -> None:
    page.locator(selector).filter(has_text=text).first.wait_for()
