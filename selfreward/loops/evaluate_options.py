"""The options of `evaluate` and `compare`, read into a request."""

from collections.abc import Sequence
from typing import cast, get_args

from selfreward.config_base import from_anywhere
from selfreward.errors import ConfigError
from selfreward.evaluation.benchmarks import BENCHMARKS, get_benchmark
from selfreward.evaluation.judges import parse_judge
from selfreward.evaluation.reports import Method
from selfreward.loops.evaluate_request import By, EvaluateRequest, Orders, check
from selfreward.metrics.length_glm import LengthGlm
from selfreward.stages.row_limit import RowLimit


def make_request(
    *,
    judge: str,
    data: Sequence[str],
    config: str | None,
    overrides: Sequence[str],
    votes: int,
    orders: str,
    verdict: str,
    columns: Sequence[str],
    max_rows: int | None,
    work: str | None,
    by: By = "ratings",
    benchmark: str | None = None,
    glm: LengthGlm | None = None,
    split: str = "train",
) -> EvaluateRequest:
    """Reads what the command line says, and checks it before anything is started.

    Raises:
        ConfigError: an option or a key that does not fit.
    """
    if orders not in get_args(Orders):
        raise ConfigError(f"--orders {orders!r}: it is both or random")
    if verdict not in get_args(Method):
        raise ConfigError(f"--verdict {verdict!r}: it is one of {', '.join(get_args(Method))}")
    if not data:
        raise ConfigError("--data names no file: give one or more pair or score files")
    if votes < 1:
        raise ConfigError(f"--votes {votes}: at least one")
    if max_rows is not None and max_rows < 1:
        raise ConfigError(f"--max-rows {max_rows}: at least one")
    if votes > 1 and verdict == "greedy":
        raise ConfigError(
            "--votes above 1 needs --verdict sampled (or probability): greedy draws are all alike"
        )
    # A benchmark's figures are over all rows of a prompt.
    whole = benchmark is not None
    limit = None if max_rows is None else RowLimit(max_rows, whole_prompts=whole)
    request = EvaluateRequest(
        judge=judge,
        data=tuple(map(from_anywhere, data)),
        config=config,
        overrides=tuple(overrides),
        votes=votes,
        orders=cast("Orders", orders),
        verdict=cast("Method", verdict),
        columns=dict(_column(text) for text in columns),
        limit=limit,
        by=by,
        benchmark=benchmark,
        glm=glm,
        split=split,
        work=work,
    )
    check(request)
    return request


def asked_by(judge: str, benchmark: str | None, by: str | None) -> By:
    """How a benchmark is put to a judge: as published, or as `by` says.

    RewardBench 2 asks judges that write for the best of four (arXiv 2506.01937).

    Raises:
        ConfigError: `by` does not fit the benchmark or the judge.
    """
    has_choice = benchmark is not None and get_benchmark(benchmark).of_choices is not None
    writes = parse_judge(judge).writes if has_choice else False
    if by is None:
        return "choice" if writes else "ratings"
    if by not in get_args(By):
        raise ConfigError(f"--by {by!r}: it is choice or ratings")
    if not has_choice:
        known = ", ".join(name for name, b in BENCHMARKS.items() if b.of_choices is not None)
        raise ConfigError(f"--by belongs to --benchmark {known}: leave it out")
    if by == "choice" and not writes:
        raise ConfigError(f"--by choice: {judge} writes no verdicts, leave it out")
    return cast("By", by)


COLUMNS = frozenset(
    {
        *("id", "source", "subset", "prompt", "messages", "chosen", "rejected", "meta"),
        *("response", "score", "scale", "group", "model", "chosen_model", "rejected_model"),
    }
)


def _column(text: str) -> tuple[str, str]:
    ours, sign, theirs = text.partition("=")
    if not (ours and sign and theirs):
        raise ConfigError(f"--column {text!r}: write it as ours=theirs")
    if ours not in COLUMNS:
        raise ConfigError(
            f"--column {text!r}: there is no {ours!r}; ours are {', '.join(sorted(COLUMNS))}"
        )
    return ours, theirs
