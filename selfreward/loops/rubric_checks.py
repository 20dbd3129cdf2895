"""Whether a recipe leaves a judge room for the reason its rubric asks for, and whether its model's
tokenizer can give expected scores: both would otherwise read as a judge that gives no verdict."""

from selfreward.config import RunConfig
from selfreward.errors import ConfigError
from selfreward.judging.meta_judging import META_RUBRICS, get_meta_rubric
from selfreward.judging.pointwise import PointwiseRubric, score_labels
from selfreward.judging.rubrics import PAIRWISE_RUBRICS, PairwiseRubric, get_pairwise_rubric
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import on_cluster
from selfreward.loops.steps import Run
from selfreward.loops.turns import token_counts

MIN_REASON_TOKENS = 64
"""Tokens that a rubric with a reason must be given: half of the longest reason it may write, with
the verdict behind it. Room costs nothing where a judge is shorter."""

# A rubric without a reason, of the kind that was named.
_WITHOUT_REASON = {
    "pointwise_additive": "pointwise_additive_short",
    "pointwise_choice": "pointwise_choice_short",
    **dict.fromkeys(PAIRWISE_RUBRICS, "pairwise_verdict_only"),
    **dict.fromkeys(META_RUBRICS, "meta_verdict_only"),
}


def check_pairwise_room(config: RunConfig, sections: tuple[str, ...]) -> None:
    """Checks `judge.rubric` against `max_tokens` of each of these sections' sampling.

    Raises:
        ConfigError: an unknown rubric, or one with a reason that cannot be written.
    """
    rubric = get_pairwise_rubric(config.judge.rubric)
    if rubric.verdict_first:
        # It is read however early the reason behind it is cut.
        return
    for name in sections:
        sampling = getattr(config, name).sampling
        _check_room("judge.rubric", rubric.id, rubric, f"{name}.sampling", sampling.max_tokens)


def check_rating_room(config: RunConfig, rubric: PointwiseRubric) -> None:
    """The same of `rating.rubric`, and of `meta_judge.rubric` where the model meta-judges."""
    rating, meta = config.rating, config.meta_judge
    _check_room(
        "rating.rubric", rating.rubric, rubric, "rating.sampling", rating.sampling.max_tokens
    )
    of_meta = get_meta_rubric(meta.rubric)
    if meta.enabled:
        _check_room(
            "meta_judge.rubric",
            of_meta.id,
            of_meta,
            "meta_judge.sampling",
            meta.sampling.max_tokens,
        )


def _check_room(
    key: str,
    named: str,
    rubric: PointwiseRubric | PairwiseRubric,
    sampling: str,
    max_tokens: int,
) -> None:
    if not rubric.wants_reason or max_tokens >= MIN_REASON_TOKENS:
        return
    short = _WITHOUT_REASON.get(rubric.id)
    other = f"{key}={short}" if short else f"wants_reason: false in {named}"
    raise ConfigError(
        f"{key}={named} writes a reason before its verdict, and {sampling}.max_tokens={max_tokens}"
        f" cuts it off; set {sampling}.max_tokens to {MIN_REASON_TOKENS} or more, or {other}"
    )


def check_score_tokens(run: Run, model: PlacedModel, rubric: PointwiseRubric) -> None:
    """Checks that every score of the rubric is one token, where `rating.expected` reads them so.

    Raises:
        ConfigError: one is several; every rating would fail.
        ModelNotFoundError: no node of the cluster reaches the model.
    """
    config = run.config
    if not config.rating.expected or config.engine.kind != "vllm":
        return
    trust = config.model.trust_remote_code
    counts = on_cluster(run, token_counts, model, trust, score_labels(rubric))
    for label, count in counts.items():
        if count != 1:
            low, high = rubric.scale
            raise ConfigError(
                f"rating.expected=true reads the probability of each score of {rubric.id} ({low:g}"
                f" to {high:g}), and {label!r} is {count} tokens to the tokenizer of"
                f" {model.ref.name}; set rating.expected=false, or a rubric whose scores are one"
                " token each"
            )
