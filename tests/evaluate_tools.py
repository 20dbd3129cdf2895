"""The command line of `evaluate` and `compare` run in this process, and the files it reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfreward import cli

SCRIPTED = ["engine.kind=scripted", "engine.num_cpus=0.5", "judge.rubric=pairwise_verdict_only"]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pair(number: int, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"Ask number {number}"}]
    return {"id": f"p{number}", "prompt": turns, "chosen": chosen, "rejected": rejected, **more}


class Command:
    """Runs the command line in this process; what it prints is read as JSON."""

    def __init__(self, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch

    def run(self, *arguments: str) -> str:
        self._monkeypatch.chdir(self.folder)
        self._monkeypatch.setattr("sys.argv", ["selfreward", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = self._capsys.readouterr()
        assert stop.value.code == 0, out.err
        return str(out.out)

    def evaluate(self, judge: str, *arguments: str) -> dict[str, Any]:
        out = self.run("evaluate", "--judge", judge, "--format", "json", *arguments)
        report: dict[str, Any] = json.loads(out)
        return report

    def line(self, *arguments: str) -> str:
        """The one line of a mistake."""
        self._monkeypatch.chdir(self.folder)
        self._monkeypatch.setattr("sys.argv", ["selfreward", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        # Ray's own loggers may complain about the stream that this test has taken away.
        return str(self._capsys.readouterr().err.strip().splitlines()[-1])


def make_classifier(tiny_model: Path, folder: Path, weight: float | None = None) -> Path:
    """Saves a reward model with a random head, or one whose weights are all `weight`."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    if weight is not None:
        torch.nn.init.constant_(model.score.weight, weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder
