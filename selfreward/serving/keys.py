"""API keys: made, kept as digests, looked up, revoked while the service runs.

A key is `sr-` and 32 random bytes in URL-safe base64. Only its SHA-256 digest is kept. A slow hash
(bcrypt, scrypt) makes guessing expensive where people choose passwords from a few billion likely
ones; against 2^256 equally likely keys there is nothing to guess, and a fast hash lets each request
be checked at once. This is why a key somebody thought up is not taken.

The keys file has one JSON object a line: {id, name, role, digest, created}. It is replaced whole
and atomically under a lock, so any number of processes may read it while one is writing.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from selfreward.config_serving import AuthConfig
from selfreward.errors import ConfigError
from selfreward.serving.locked_file import locked, replace_private

ENVIRONMENT = "SELFREWARD_API_KEYS"
Role = Literal["user", "admin"]
"""`admin` may do all that `user` may."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEY = re.compile(r"sr-[A-Za-z0-9_-]{43}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAKE_ONE = "`selfreward keys add NAME --file FILE`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sends a request.

    Example: `Caller(name="ci", role="user")`
    """

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """What is kept of a key.

    Example: `KeyEntry(id="k-5f0c21aa", name="ci", role="user", digest="9f86d081…",
    created="2026-03-01T09:30:00+00:00")`
    """

    id: str
    name: str
    role: Role
    digest: str
    """SHA-256 of the key, 64 hexadecimal digits."""
    created: str
    """ISO 8601 in UTC; empty for a key from the environment."""


def digest_of(key: str) -> str:
    """Returns the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def add_key(file: str, name: str, role: Role) -> str:
    """Makes a key, adds its digest to a file (made if absent, mode 0600), and returns the key.

    The key cannot be had a second time.

    Raises:
        ConfigError: the name or role cannot be used, the name is taken, or the file cannot be
            read or written.
    """
    path = _resolved(file)
    _check_name(name)
    _check_role(role, f"key {name}")
    key = f"sr-{secrets.token_urlsafe(32)}"
    with _changed(path, create=True):
        entries = list_keys(file)
        entry = KeyEntry(
            id=f"k-{secrets.token_hex(4)}",
            name=name,
            role=role,
            digest=digest_of(key),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if any(other.name == name for other in entries):
            raise ConfigError(f"key {name!r} is in {file} already: revoke it or take another name")
        _write(path, [*entries, entry])
    return key


def revoke_key(file: str, name_or_id: str) -> KeyEntry:
    """Takes a key out of a file and returns what was kept of it.

    Raises:
        ConfigError: there is no such key, or the file cannot be read or written.
    """
    path = _resolved(file)
    with _changed(path, create=False):
        entries = list_keys(file)
        gone = [entry for entry in entries if name_or_id in (entry.id, entry.name)]
        if not gone:
            raise ConfigError(
                f"no key {name_or_id!r} in {file}: `selfreward keys list --file {file}` names them"
            )
        _write(path, [entry for entry in entries if entry is not gone[0]])
    return gone[0]


def list_keys(file: str) -> tuple[KeyEntry, ...]:
    """Reads a keys file, oldest key first.

    Raises:
        ConfigError: it is missing, unreadable, garbled, or anybody may write to it.
    """
    path = _resolved(file)
    try:
        with open(path, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            lines = opened.read().decode().splitlines()
    except FileNotFoundError:
        raise ConfigError(f"no keys file {file}: make it with {_MAKE_ONE}") from None
    except OSError as error:
        raise ConfigError(f"cannot read keys file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"keys file {file} is not text: make a new one with {_MAKE_ONE}"
        ) from None
    if mode & 0o002:
        raise ConfigError(f"anybody may write to keys file {file}: run `chmod 600 {file}`")
    entries = [
        _parsed(line, f"keys file {file}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    _check_unique(entries, f"keys file {file}")
    return tuple(entries)


class KeyRing:
    """The keys of a service: those of a file, which may change at any time, and of the environment.

    The variable SELFREWARD_API_KEYS holds entries `name:role:digest`, parted by commas; in place of
    the digest, which is to be preferred since it opens nothing, a whole key may stand.
    """

    def __init__(self, file: str | None, fixed: tuple[KeyEntry, ...]) -> None:
        self._file = file
        self._fixed = fixed
        self._entries = fixed
        self._stamp: tuple[int, int, int] | None = None
        self._refresh()

    @classmethod
    def load(cls, auth: AuthConfig, fixed: tuple[KeyEntry, ...] | None = None) -> "KeyRing":
        """Reads all keys of a service; `fixed` are those of the environment, read here if None.

        Raises:
            ConfigError: the file is missing or garbled, an entry of the environment is garbled, or
                there is no key at all.
        """
        ring = cls(auth.keys_file, keys_of_environment() if fixed is None else fixed)
        if not ring._entries:
            raise ConfigError(
                f"auth.enabled needs a key: run {_MAKE_ONE} and set auth.keys_file=FILE, set"
                f" {ENVIRONMENT}, or set auth.enabled=false to serve on loopback without keys"
            )
        return ring

    def identify(self, token: str) -> Caller | None:
        """Returns whose key a token is, or None. A file that changed is read first.

        Raises:
            ConfigError: the file has become missing or garbled. Nobody is let in then: whether a
                key was revoked cannot be known.
        """
        self._refresh()
        digest = digest_of(token)
        found = None
        # All are compared, each in constant time: how long it takes tells nothing of the keys.
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        return None if found is None else Caller(name=found.name, role=found.role)

    def _refresh(self) -> None:
        if self._file is None:
            return
        try:
            status = os.stat(_resolved(self._file))
            # A replaced file has another inode, should the clock be too coarse to tell.
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        except OSError:
            stamp = None
        if stamp is not None and stamp == self._stamp:
            return
        entries = (*list_keys(self._file), *self._fixed)
        _check_unique(entries, f"keys file {self._file} and {ENVIRONMENT}")
        self._entries, self._stamp = entries, stamp


def keys_of_environment(environ: Mapping[str, str] | None = None) -> tuple[KeyEntry, ...]:
    """Reads the keys of the variable SELFREWARD_API_KEYS, as digests.

    Raises:
        ConfigError: an entry is garbled.
    """
    variables = os.environ if environ is None else environ
    entries = []
    text = variables.get(ENVIRONMENT, "")
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        # What stands there may be a key, so no message quotes it.
        where = f"{ENVIRONMENT}, entry {number}"
        name, _, rest = part.partition(":")
        role, _, secret = rest.partition(":")
        if not _NAME.fullmatch(name) or not secret:
            raise ConfigError(f"{where}: it is name:role:digest, role being user or admin")
        _check_role(role, where)
        if _KEY.fullmatch(secret):
            digest = digest_of(secret)
        elif _DIGEST.fullmatch(secret.lower()):
            digest = secret.lower()
        else:
            raise ConfigError(f"{where}: neither a SHA-256 digest nor a key made by {_MAKE_ONE}")
        entries.append(
            KeyEntry(id=f"env-{number}", name=name, role=_role(role), digest=digest, created="")
        )
    _check_unique(entries, ENVIRONMENT)
    return tuple(entries)


def _parsed(line: str, where: str) -> KeyEntry:
    wanted = [field.name for field in fields(KeyEntry)]
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: not JSON; mend it, or make the file anew") from None
    if (
        not isinstance(row, dict)
        or sorted(row) != sorted(wanted)
        or not all(isinstance(value, str) for value in row.values())
        or not _NAME.fullmatch(row["name"])
        or not _DIGEST.fullmatch(row["digest"])
    ):
        raise ConfigError(f"{where}: not a key ({', '.join(wanted)}); mend it, or make it anew")
    _check_role(row["role"], where)
    return KeyEntry(**row)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"key name {name[:80]!r}: 1 to 64 letters, digits, dots, @, - and _, a letter or digit"
            " first"
        )


def _check_role(role: str, where: str) -> None:
    if role not in get_args(Role):
        raise ConfigError(f"{where}: the role is {' or '.join(get_args(Role))}")


def _role(text: str) -> Role:
    return "admin" if text == "admin" else "user"


def _check_unique(entries: list[KeyEntry] | tuple[KeyEntry, ...], where: str) -> None:
    for what in ("name", "id", "digest"):
        values = [getattr(entry, what) for entry in entries]
        if len(set(values)) < len(values):
            twice = next(entry.name for entry in entries if values.count(getattr(entry, what)) > 1)
            raise ConfigError(f"{where}: two keys have one {what}, see {twice!r}; take one out")


def _resolved(file: str) -> str:
    # Through links, so that replacing the file does not turn a link into a file.
    return os.path.realpath(os.path.expanduser(file))


@contextmanager
def _changed(path: str, *, create: bool) -> Iterator[None]:
    try:
        with locked(path, create=create):
            yield
    except FileNotFoundError:
        raise ConfigError(f"no keys file {path}: make it with {_MAKE_ONE}") from None
    except OSError as error:
        raise ConfigError(f"cannot write keys file {path}: {error.strerror}") from None


def _write(path: str, entries: list[KeyEntry]) -> None:
    replace_private(path, "".join(json.dumps(asdict(entry)) + "\n" for entry in entries))
