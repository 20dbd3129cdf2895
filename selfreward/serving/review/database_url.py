"""The address of the review store's database: how long to wait there, and what may be told of it.

A URL holds a password, which belongs into no error and no log.
"""

from typing import Any

from sqlalchemy import URL

CONNECT_SECONDS = 10
"""How long a connection to PostgreSQL may take."""


def connect_limits(url: URL) -> dict[str, Any]:
    """What the driver is told beside the URL.

    libpq by itself waits for a server that does not answer until the system gives up.
    """
    known = url.get_driver_name() in ("psycopg", "psycopg2") and "connect_timeout" not in url.query
    return {"connect_timeout": CONNECT_SECONDS} if known else {}


def shown_url(url: URL) -> str:
    """What may be told of a URL: a password can stand in a query too, and one with an unquoted @,
    : or / reaches into what follows it."""
    if url.get_backend_name() == "sqlite":
        return f"{url.drivername}:///{url.database or ''}"
    return f"{url.drivername}://{_host(url)}/…"


def _host(url: URL) -> str:
    return (url.host or "").rpartition("@")[2]


def without_secrets(text: str, url: URL) -> str:
    """A text about a URL, such as a driver's error, without the passwords of the URL."""
    queried = [value for name, value in url.query.items() if "pass" in name.lower()]
    secrets = [each for each in (url.password, *queried) if isinstance(each, str) and each]
    # The longest first: one may hold another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text.replace(url.host, _host(url)) if url.host else text
