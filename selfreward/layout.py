"""Every path of a run, as strings relative to nothing: `Layout(root).pool`, and so on.

The root is any fsspec URL (a folder, `s3://…`, `gs://…`, `memory://…`). No other module joins
path pieces of a run.
"""

import os
from dataclasses import dataclass


def absolute_path(path: str) -> str:
    """A local path as it is known from any working directory; a URL as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def join(root: str, *parts: str) -> str:
    """Joins URL or path pieces with single slashes."""
    # The slashes of `memory://` belong to the protocol.
    start = root if root.endswith("://") else root.rstrip("/")
    return "/".join([start, *(p.strip("/") for p in parts)])


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of a run folder.

    Example: `Layout("runs/quickstart").judgments(1)` is `runs/quickstart/iter_01/judgments`.
    """

    root: str

    @property
    def config(self) -> str:
        return join(self.root, "config.yaml")

    @property
    def run_json(self) -> str:
        return join(self.root, "run.json")

    @property
    def current(self) -> str:
        return join(self.root, "current.json")

    @property
    def report(self) -> str:
        """The page of the run, for people."""
        return join(self.root, "report.html")

    @property
    def pool(self) -> str:
        return join(self.root, "pool")

    def split(self, split: str, stage: str) -> str:
        """A stage's folder of a split kept out of training (`validation` or `heldout`)."""
        return join(self.root, split, stage)

    def iteration(self, iteration: int) -> str:
        return join(self.root, f"iter_{iteration:02d}")

    def stage(self, iteration: int, stage: str) -> str:
        return join(self.iteration(iteration), stage)

    @property
    def categorised(self) -> str:
        """The pool with the model's categories, before selection."""
        return join(self.root, "categorised")

    def selected(self, iteration: int) -> str:
        """Training rows chosen from judgments, before the labels are balanced."""
        return self.stage(iteration, "selected")

    @property
    def instructions(self) -> str:
        return join(self.root, "instructions")

    def responses(self, iteration: int) -> str:
        return self.stage(iteration, "responses")

    def pairs(self, iteration: int) -> str:
        return self.stage(iteration, "pairs")

    def judgments(self, iteration: int) -> str:
        return self.stage(iteration, "judgments")

    def examples(self, iteration: int) -> str:
        return self.stage(iteration, "examples")

    def preferences(self, iteration: int) -> str:
        return self.stage(iteration, "preferences")

    def training(self, iteration: int) -> str:
        """Ray Train's own state: resumable checkpoints and metrics."""
        return self.stage(iteration, "training")

    def checkpoint(self, iteration: int) -> str:
        """The model this iteration trained, as a plain Hugging Face folder."""
        return self.stage(iteration, "checkpoint")

    def evaluation(self, iteration: int) -> str:
        return self.stage(iteration, "evaluation")


def manifest_of(stage_folder: str) -> str:
    """The manifest's path of a stage folder."""
    return join(stage_folder, "manifest.json")
