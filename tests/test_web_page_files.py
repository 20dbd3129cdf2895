"""The files of the web page: how they are sent, and that they keep to the page's own policy."""

from html.parser import HTMLParser
from importlib.resources import files

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from selfreward.judging.rubrics import PAIRWISE_RUBRICS
from selfreward.serving.web_page import mount_page

WEB = files("selfreward.serving").joinpath("web")
NAMES = sorted(entry.name for entry in WEB.iterdir())


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    mount_page(app)
    return TestClient(app)


@pytest.mark.parametrize("name", NAMES)
def test_each_file_has_its_type_and_is_sent_once(client: TestClient, name: str) -> None:
    path = "/" if name == "index.html" else f"/static/{name}"
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg"}

    first = client.get(path)
    assert first.status_code == 200
    assert first.content == WEB.joinpath(name).read_bytes()
    assert first.headers["content-type"].startswith(kinds[name.rsplit(".")[-1]])
    assert first.headers["content-security-policy"].startswith("default-src 'self';")

    tag = first.headers["etag"]
    for held in (tag, f"W/{tag}", f'"other", {tag}'):
        again = client.get(path, headers={"If-None-Match": held})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.head(path).headers["content-length"] == str(len(first.content))


def test_nothing_but_the_page_is_served(client: TestClient) -> None:
    for path in (
        "/static/nothing.js",
        "/static/..%2fweb_page.py",
        "/static/",
        "/static/index.html",
    ):
        assert client.get(path).status_code == 404, path
    assert client.get("/openapi.json").json()["paths"] == {}


def test_the_page_holds_to_its_own_policy() -> None:
    """No inline script or style, nothing from elsewhere, no address that leaves the prefix."""
    found: list[tuple[str, dict[str, str | None]]] = []

    class Collect(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Collect().feed(WEB.joinpath("index.html").read_text())
    for tag, attributes in found:
        assert tag != "style" and "style" not in attributes
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or not value.startswith(("/", "http", "data:")), value
    rubrics = [attributes["value"] for tag, attributes in found if tag == "option"]
    assert rubrics == list(PAIRWISE_RUBRICS)
    for name in NAMES:
        text = WEB.joinpath(name).read_text()
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text
