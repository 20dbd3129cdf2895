"""Sections of the config that only the self-rewarding loop reads (arXiv 2401.10020)."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from selfreward.config_base import DataPath, Fraction, SamplingConfig, Section, added


def _prompts_or_share(part: float) -> float:
    if part <= 0 or (part >= 1 and part != int(part)):
        raise ValueError("it is a whole number of prompts, or a share of them below 1")
    return part


class SeedsConfig(Section):
    """What M1 is trained on: instructions with answers (IFT) and judgments that agree with people
    (EFT), sections 2.1 and 3.1.1."""

    ift: tuple[DataPath, ...] = ("sample:ift",)
    """Files with {messages|instruction, response}; the first turns also seed self-instruct. Of
    several responses to a prompt the best by `score` or `rank` is taken, of a ranking its best."""
    ift_from_ranked: Annotated[float, AfterValidator(_prompts_or_share)] | None = None
    """Of so many prompts of `ranked`, or this share of them, the best response is an answered seed
    too; judgments are learnt from the other prompts."""
    max_ift: int | None = Field(default=None, ge=1)
    ift_heldout: int = Field(default=8, ge=0)
    """Rows kept out of training, whose perplexity is measured after each iteration."""
    ranked: tuple[DataPath, ...] = ("sample:ranked",)
    """Files with several responses to a prompt that people ranked, as rows {messages|prompt,
    response, score|rank}, {…, responses, ranks} or {…, chosen, rejected}: judgments of them become
    EFT. Empty: no EFT."""
    max_ranked: int | None = Field(default=None, ge=1)
    """At most so many responses, a sample of whole prompts."""
    sft_before_judging: bool = False
    """True: a model trained on IFT alone writes the EFT judgments, as in the paper, which starts
    from a base model; False: the seed itself writes them."""
    draws_per_response: int = Field(default=8, ge=1)
    """Judgments of each ranked response; those of one draw are compared with people's order."""
    min_agreement: float = Field(default=1.0, ge=-1, le=1)
    """Least Kendall tau-b between the scores of one draw and people's."""
    max_modal_share: Fraction = 0.4
    """The most common score is thinned out to this share of the judgments."""


def _created() -> SamplingConfig:
    return SamplingConfig(temperature=0.6, top_p=0.9, max_tokens=128)


class SelfInstructConfig(Section):
    """New instructions written after examples (section 2.2; arXiv 2212.10560)."""

    enabled: bool = True
    """False: each iteration takes its slice of `pool`."""
    by: Literal["seed", "current"] = "seed"
    """The paper asks a fixed model; later ones ramble into several instructions at once."""
    completions: int = Field(default=256, ge=1)
    """Completions asked for in each iteration."""
    rounds: int = Field(default=4, ge=1)
    """The completions are made in so many rounds; what a round kept can be an example in the next
    and is what the next is compared with."""
    seed_shots: int = Field(default=6, ge=1)
    generated_shots: int = Field(default=2, ge=0)
    """Examples from earlier rounds; seeds stand in while there are none."""
    several: Literal["split", "drop"] = "split"
    """What becomes of a completion that holds several instructions."""
    max_rouge_l: float = Field(default=0.7, gt=0, le=1)
    """A new instruction is dropped if its ROUGE-L with any kept one reaches this."""
    min_words: int = Field(default=3, ge=1)
    max_words: int = Field(default=150, ge=1)
    keywords: tuple[str, ...] = ()
    """Words of one's own that drop an instruction, beside the built-in ones for tasks that text
    cannot answer."""
    near_duplicate_threshold: float | None = Field(default=0.8, gt=0, le=1)
    """As `pool.near_duplicate_threshold`, against all kept instructions."""
    sampling: SamplingConfig = Field(default_factory=_created)


class CandidatesConfig(Section):
    num_candidates: int = Field(default=4, ge=2)
    """N: responses of each instruction."""
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.7, top_p=0.9)
    )
    keep_truncated: bool = False


class PreferencesConfig(Section):
    """From scored candidates to training data."""

    kind: Literal["pairs", "positive_only"] = "pairs"
    """`positive_only`: SFT on the responses that scored at least `min_positive_score` (the
    paper's ablation, appendix A.4)."""
    min_positive_score: float = 5.0
    positives_with_seeds: bool = added(False)
    """Of `positive_only`. True: SFT from M_0 on the seeds' examples (IFT and EFT) and the positive
    responses together, as in the paper; False: from M_t-1 on the positive responses alone."""
    min_scored: int = Field(default=2, ge=2)
    """Candidates of an instruction that must have a score."""
    length_rho: Fraction = 0.0
    """Length rule (arXiv 2407.19594, section 2.3): the shortest response within this share of the
    score range from the top is chosen, the longest within it from the bottom rejected. 0 is best
    against worst."""
    min_margin: float = Field(default=0.0, ge=0)
    """Least difference of the two scores; ties are dropped in any case."""
    rejected_from: Literal["current", "first"] = "current"
    """`first`: the rejected response is one of the seed model's (the anchored rejection of
    Temporal, arXiv 2508.06026; its chosen responses curated by a later model are not here)."""
    consistency: bool = False
    """Weigh each preference by how much the implicit-reward rankings of this model and the one
    before agree (CREAM, arXiv 2410.12735, where those rewards make the pairs too)."""


class MetaJudgeConfig(Section):
    """The model compares its own judgments and learns from the best and the worst
    (arXiv 2407.19594)."""

    enabled: bool = False
    rubric: str = "meta_verdict_only"
    guided: bool = True
    max_pairs_per_response: int | None = Field(default=None, ge=1)
    """Pairs of judgments compared for the response whose scores vary most; None: all. At least
    `rating.num_draws` - 1, with which every judgment is compared."""
    max_chosen_chars: int | None = Field(default=1100, ge=1)
    """Judgments longer than this are never the chosen one: judges grow wordy otherwise."""
    last_iteration: int | None = Field(default=None, ge=2)
    """Meta-judge only up to this iteration; None: in all."""
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.7, max_tokens=8)
    )


class CollapseConfig(Section):
    """Thresholds that stop the loop; None watches without stopping."""

    tie_spread: float = Field(default=0.02, ge=0)
    """With `rating.expected`: scores that differ by at most this many points are one score, for
    ties and for the modal share. Written scores must be equal."""
    max_unscored: float | None = Field(default=0.9, gt=0, le=1)
    """Largest share of the model's held-out answers to which it gives no score that can be read."""
    max_saturation: float | None = Field(default=0.95, gt=0, le=1)
    """Largest share of the model's held-out answers to which it gives the highest score."""
    max_modal_share: float | None = Field(default=0.95, gt=0, le=1)
    """Largest share of the model's held-out answers to which it gives one and the same score,
    whichever that is (arXiv 2401.10020, appendix A.3: 4 for everything)."""
    max_tie_rate: float | None = Field(default=0.98, gt=0, le=1)
    """Largest share of instructions whose candidates all got the same score."""
    max_length_ratio: float | None = Field(default=4.0, gt=1)
    """Mean response length against the seed's on the same evaluation instructions."""
    min_distinct_2: float | None = Field(default=0.1, ge=0, le=1)
    """Least share of distinct word pairs among all word pairs of the new instructions."""
    max_near_duplicates: float | None = Field(default=0.9, gt=0, le=1)
    """Largest share of new instructions dropped as too similar to kept ones."""
    min_seed_agreement: float | None = Field(default=None, ge=-1, le=1)
    """Least Kendall tau between the scores of this model and of the frozen seed."""
    max_kl_per_token: float | None = Field(default=1.0, gt=0)
    """Largest KL(M_t || M_0) in nats per token, on responses that M_t samples at temperature 1.
    Per response it would grow with the length of the answers."""
