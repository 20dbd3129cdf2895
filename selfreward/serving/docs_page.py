"""`/docs`: the OpenAPI document as a page, with nothing from another site.

FastAPI's own page loads its scripts from a CDN, which the service's Content-Security-Policy
forbids and many clusters cannot reach. The scripts here come from the package `fastapi-offline`.
"""

from importlib.resources import files

from fastapi import FastAPI, HTTPException, Response

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>selfreward judge: API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<main id="swagger"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """\
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger", deepLinking: true });
"""
# Swagger UI sets styles on its elements and draws its icons from data URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
_FROM_PACKAGE = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}


def mount_docs(app: FastAPI) -> None:
    """Adds the page to an application that was made with `docs_url=None`."""

    @app.get("/docs", include_in_schema=False)
    async def page() -> Response:
        return _sent(_PAGE.encode(), "text/html; charset=utf-8")

    @app.get("/docs/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name == "start.js":
            return _sent(_START.encode(), "text/javascript; charset=utf-8")
        if name not in _FROM_PACKAGE:
            raise HTTPException(404)
        content = files("fastapi_offline").joinpath("static", name).read_bytes()
        return _sent(content, _FROM_PACKAGE[name])


def _sent(content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers={"content-security-policy": _POLICY})
