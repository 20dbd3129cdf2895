"""API keys: what the file holds, what the environment may hold, who is let in after a change."""

import hashlib
import json
import os
import pickle
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfreward.cli_keys import app
from selfreward.config_serving import AuthConfig, ServingConfig
from selfreward.errors import ConfigError
from selfreward.serving.access import Access
from selfreward.serving.keys import (
    Caller,
    KeyRing,
    add_key,
    digest_of,
    keys_of_environment,
    list_keys,
    revoke_key,
)

# Made up for these tests; it opens nothing.
PLAIN = "sr-" + "A" * 43


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.jsonl")


def ring(file: str | None, environment: str = "") -> KeyRing:
    return KeyRing.load(
        AuthConfig(keys_file=file), keys_of_environment({"SELFREWARD_API_KEYS": environment})
    )


def test_a_key_is_kept_as_a_digest_in_a_file_for_its_owner_alone(file: str) -> None:
    key = add_key(file, "ci", "user")
    assert re.fullmatch(r"sr-[A-Za-z0-9_-]{43}", key)  # 32 bytes are 43 characters of base64
    text = Path(file).read_text()
    assert key not in text
    row = json.loads(text)
    assert sorted(row) == ["created", "digest", "id", "name", "role"]
    assert (row["name"], row["role"]) == ("ci", "user")
    assert row["digest"] == hashlib.sha256(key.encode()).hexdigest()
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert ring(file).identify(key) == Caller(name="ci", role="user")


def test_every_key_is_another(file: str) -> None:
    keys = {add_key(file, f"k{n}", "user") for n in range(20)}
    assert len(keys) == 20
    assert [entry.name for entry in list_keys(file)] == [f"k{n}" for n in range(20)]
    assert len({entry.id for entry in list_keys(file)}) == 20


def test_only_the_very_key_is_known(file: str) -> None:
    key = add_key(file, "ci", "admin")
    keys = ring(file)
    assert keys.identify(key) == Caller(name="ci", role="admin")
    for wrong in ("", key[:-1], key + "A", key.upper(), digest_of(key), "sr-é\N{SNOWMAN}"):
        assert keys.identify(wrong) is None


@pytest.mark.parametrize("by", ["name", "id"])
def test_a_revoked_key_stops_working_without_a_restart(file: str, by: str) -> None:
    mine, other = add_key(file, "mine", "user"), add_key(file, "other", "user")
    keys = ring(file)
    assert keys.identify(mine) is not None
    gone = revoke_key(file, "mine" if by == "name" else list_keys(file)[0].id)
    assert gone.name == "mine"
    assert keys.identify(mine) is None
    assert keys.identify(other) == Caller(name="other", role="user")
    # A new one works at once, and the last one may go too.
    new = add_key(file, "new", "admin")
    assert keys.identify(new) == Caller(name="new", role="admin")
    revoke_key(file, "new")
    revoke_key(file, "other")
    assert keys.identify(other) is None
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


def test_keys_made_at_the_same_time_are_all_kept(file: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: add_key(file, f"k{n}", "user"), range(24)))
    keys = ring(file)
    assert {keys.identify(key) for key in made} == {
        Caller(name=f"k{n}", role="user") for n in range(24)
    }
    assert os.listdir(os.path.dirname(file)) == ["keys.jsonl"]  # nothing is left beside it


def test_a_link_to_the_file_stays_a_link(file: str, tmp_path: Path) -> None:
    add_key(file, "one", "user")
    link = tmp_path / "link.jsonl"
    link.symlink_to(file)
    add_key(str(link), "two", "user")
    assert link.is_symlink()
    assert [entry.name for entry in list_keys(file)] == ["one", "two"]


def test_keys_of_the_process_that_deploys_are_known_where_they_are_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "sr-" + "x" * 43
    monkeypatch.setenv("SELFREWARD_API_KEYS", f"ada:user:{key}")
    sent = pickle.loads(pickle.dumps(keys_of_environment()))
    assert key not in repr(sent)
    monkeypatch.delenv("SELFREWARD_API_KEYS")
    keys = Access.of(ServingConfig(), sent).keys
    assert keys is not None
    assert keys.identify(key) == Caller(name="ada", role="user")


def test_keys_of_the_environment_join_those_of_the_file(file: str) -> None:
    key = add_key(file, "ci", "user")
    other = "sr-" + "B" * 43
    keys = ring(file, f"ops:admin:{digest_of(PLAIN).upper()}, eval:user:{other},")
    assert keys.identify(key) == Caller(name="ci", role="user")
    assert keys.identify(PLAIN) == Caller(name="ops", role="admin")
    assert keys.identify(other) == Caller(name="eval", role="user")
    # They stay when the file changes.
    revoke_key(file, "ci")
    assert keys.identify(key) is None
    assert keys.identify(PLAIN) == Caller(name="ops", role="admin")
    assert ring(None, f"ops:admin:{digest_of(PLAIN)}").identify(PLAIN) is not None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("ops:admin:password123", "entry 1: neither a SHA-256 digest nor a key made by"),
        (f"ops:admin:{PLAIN},ci:root:{PLAIN}", "entry 2: the role is user or admin"),
        (PLAIN, "entry 1: it is name:role:digest"),
        (f":user:{PLAIN}", "entry 1: it is name:role:digest"),
        (f"ops:{PLAIN}", "entry 1: it is name:role:digest"),
        (f"a:user:{PLAIN},b:user:{PLAIN}", "two keys have one digest, see 'a'"),
        (f"a:user:{PLAIN},a:user:{PLAIN[:-1]}B", "two keys have one name, see 'a'"),
    ],
)
def test_a_garbled_environment_is_told_without_its_secret(environment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ring(None, environment)
    assert message in str(caught.value)
    assert "SELFREWARD_API_KEYS" in str(caught.value)
    assert PLAIN not in str(caught.value)
    assert "password123" not in str(caught.value)


def test_a_name_in_both_places_is_refused(file: str) -> None:
    add_key(file, "ops", "user")
    with pytest.raises(ConfigError, match="two keys have one name, see 'ops'"):
        ring(file, f"ops:admin:{PLAIN}")


GOOD = {"id": "k-1", "name": "a", "role": "user", "digest": "0" * 64, "created": "2026-01-01"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "line 1: not JSON"),
        (b"[" * 100_000, "line 1: not JSON"),
        (b'\n"sr-x"\n', "line 2: not a key"),
        (json.dumps({**GOOD, "digest": "short"}).encode(), "line 1: not a key"),
        (json.dumps({**GOOD, "more": "x"}).encode(), "line 1: not a key"),
        (json.dumps({**GOOD, "name": 3}).encode(), "line 1: not a key"),
        (json.dumps({**GOOD, "name": "a\nb"}).encode(), "line 1: not a key"),
        (json.dumps({**GOOD, "role": "root"}).encode(), "line 1: the role is user or admin"),
        ((json.dumps(GOOD) + "\n").encode() * 2, "two keys have one name, see 'a'"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_a_garbled_file_is_told_in_one_line(file: str, content: bytes, message: str) -> None:
    Path(file).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        ring(file)
    assert message in str(caught.value)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_no_keys_at_all_are_told(file: str) -> None:
    with pytest.raises(ConfigError, match=r"no keys file .*keys\.jsonl: make it with"):
        ring(file)
    with pytest.raises(ConfigError, match="no keys file"):
        revoke_key(file, "ci")
    assert not os.path.exists(file)
    with pytest.raises(ConfigError, match=r"auth\.enabled needs a key: run `selfreward keys add"):
        ring(None)
    Path(file).touch()
    with pytest.raises(ConfigError, match=r"auth\.enabled needs a key"):
        ring(file)


def test_a_file_anybody_may_write_to_is_refused(file: str) -> None:
    add_key(file, "ci", "user")
    os.chmod(file, 0o666)
    with pytest.raises(ConfigError, match=r"anybody may write to keys file .*`chmod 600"):
        ring(file)


def test_a_file_that_breaks_while_serving_lets_nobody_in_until_it_is_mended(file: str) -> None:
    key = add_key(file, "ci", "user")
    keys = ring(file)
    good = Path(file).read_bytes()
    Path(file).write_bytes(good + b"{")
    for _ in range(2):
        with pytest.raises(ConfigError, match="line 2: not JSON"):
            keys.identify(key)
    os.unlink(file)
    with pytest.raises(ConfigError, match="no keys file"):
        keys.identify(key)
    Path(file).write_bytes(good)
    assert keys.identify(key) == Caller(name="ci", role="user")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a,b", "-a", "a\n", "x" * 65])
def test_a_name_that_would_garble_lists_or_logs_is_refused(file: str, name: str) -> None:
    with pytest.raises(ConfigError, match="key name"):
        add_key(file, name, "user")
    assert not os.path.exists(file)


def test_the_command_line_makes_lists_and_revokes(file: str) -> None:
    run = CliRunner()
    made = run.invoke(app, ["add", "ops", "--file", file, "--role", "admin"])
    assert made.exit_code == 0
    key = made.stdout.strip()
    assert ring(file).identify(key) == Caller(name="ops", role="admin")
    # What is said beside the key serves as the variable's value, and has the key nowhere.
    assert key not in made.stderr
    (value,) = re.findall(r"SELFREWARD_API_KEYS=(\S+)", made.stderr)
    assert ring(None, value).identify(key) == Caller(name="ops", role="admin")

    shown = run.invoke(app, ["list", "--file", file]).stdout
    assert re.fullmatch(r"k-[0-9a-f]{8}  20\d\d-\S+\+00:00  admin  ops\n", shown)
    assert run.invoke(app, ["revoke", "ops", "--file", file]).stdout.startswith("revoked ops (k-")
    assert list_keys(file) == ()

    for arguments, message in [
        (["revoke", "ops", "--file", file], "no key 'ops' in"),
        (["add", "x", "--file", file, "--role", "root"], "the role is user or admin"),
    ]:
        assert message in str(run.invoke(app, arguments).exception)


def test_a_taken_name_is_refused(file: str) -> None:
    add_key(file, "ci", "user")
    with pytest.raises(ConfigError, match=r"key 'ci' is in .* already"):
        add_key(file, "ci", "admin")
    assert len(list_keys(file)) == 1
