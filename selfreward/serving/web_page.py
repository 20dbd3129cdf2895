"""The web page of the service: playground, review queue, agreement and history.

The files lie in `web/` and are used as they are. The page calls the service's own routes under
relative addresses, so it works under any route prefix.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI, HTTPException, Request, Response

# Named here because what Python knows of media types depends on the machine.
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Nothing inline and nothing from elsewhere: text of a model cannot run even if it became markup.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Kept by browsers, but asked about each time: a new release must not meet an old script.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebFile:
    """A file of the page, as it is sent.

    Example: `WebFile(content=b"<!doctype html>…", media_type="text/html; charset=utf-8",
    etag='"5f2c…"')`
    """

    content: bytes
    media_type: str
    etag: str


def read_web_files() -> dict[str, WebFile]:
    """The files of the package's `web/` folder by name; the ETag is a digest of the content, so
    that all replicas send the same one."""
    found = {}
    for entry in sorted(files("selfreward.serving").joinpath("web").iterdir(), key=str):
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix not in MEDIA_TYPES:
            continue
        content = entry.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        found[entry.name] = WebFile(
            content=content, media_type=MEDIA_TYPES[suffix], etag=f'"{digest[:32]}"'
        )
    return found


def _is_held(request: Request, etag: str) -> bool:
    """Whether the browser says that it has this content already (RFC 9110, 13.1.2)."""
    tags = ",".join(request.headers.getlist("if-none-match")).split(",")
    # A proxy that compresses makes a tag weak, and weak ones count here.
    return etag in {tag.strip().removeprefix("W/") for tag in tags}


def _answer(request: Request, file: WebFile) -> Response:
    headers = {**HEADERS, "ETag": file.etag}
    if _is_held(request, file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def mount_page(app: FastAPI) -> None:
    """Adds `/` and `/static/{name}` to the app, outside its OpenAPI document. Both must be let in
    without a key, since browsers ask for pages without one. A name the page does not have raises
    HTTPException 404, in the form that the app gives to it."""
    static = read_web_files()
    index = static.pop("index.html")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        return _answer(request, index)

    @app.api_route("/static/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def static_file(request: Request, name: str) -> Response:
        if name not in static:
            raise HTTPException(404, f"the web page has no file {name}")
        return _answer(request, static[name])
