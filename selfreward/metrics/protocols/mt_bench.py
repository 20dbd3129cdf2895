"""MT-Bench human agreement (arXiv 2306.05685): does a judge side with the people who voted?

80 questions with two turns, six models, about 3,300 votes. Every couple of the judge's vote and a
human vote on the same question, turn and two models is counted, so a pair with five votes counts
five times. Only couples without a tie are counted: the setup "non-tie" of FastChat's
`compute_agreement`. Which of the two models is called a does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from selfreward.metrics.headline_intervals import RateRow, headline_interval
from selfreward.metrics.intervals import DEFAULT_RESAMPLING, Resampling
from selfreward.metrics.pairwise import PairOutcome
from selfreward.records import Outcome, Verdict

DATA_NEEDED: str = (
    "mt_bench: pair file with id, source, subset, prompt (the conversation up to the turn judged),"
    " chosen and rejected (the answers of two models), meta (question_id, turn, chosen_model,"
    " rejected_model, votes_chosen and votes_rejected: how many people preferred each, without"
    " ties); one line for each question, turn and two models; published, one line a vote, as"
    " lmsys/mt_bench_human_judgments on Hugging Face, split human"
)

Winner = Literal["model_a", "model_b", "tie", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One vote, of a person or of a judge, between two models' answers.

    Example: `Vote(question_id="81", turn=1, model_a="gpt-4", model_b="vicuna-13b-v1.2",
    winner="model_a")`
    """

    question_id: str
    turn: int
    """1 or 2, a number."""
    model_a: str
    model_b: str
    winner: Winner
    """FastChat's "tie (inconsistent)" is a tie; failed is a judge that gave no verdict."""

    @property
    def game(self) -> tuple[str, int, str, str]:
        """Question, turn and the two models in sorted order, whichever is called a."""
        first, second = sorted((self.model_a, self.model_b))
        return (self.question_id, self.turn, first, second)

    @property
    def winning_model(self) -> str | None:
        """Name of the model voted for; None in a tie or a failed vote."""
        if self.winner == "model_a":
            return self.model_a
        return self.model_b if self.winner == "model_b" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanVotes:
    """The human votes on one labelled pair, without ties.

    Example: `HumanVotes(question_id="81", turn=2, chosen_model="gpt-4",
    rejected_model="vicuna-13b-v1.2", votes_chosen=3, votes_rejected=1)`
    """

    question_id: str
    turn: int
    chosen_model: str
    rejected_model: str
    votes_chosen: int
    votes_rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement in two scorings, 0-1; None without couples.

    Example: `Agreement(published=0.79, num_published=1180, ours=0.74, num_ours=1264)`
    """

    published: float | None
    """Over the couples in which neither vote is a tie. A failed verdict does not agree."""
    num_published: int
    ours: float | None
    """Over all couples with a human choice: a judge that ties does not agree either, so it gains
    nothing by declining the hard pairs."""
    num_ours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MTBenchReport:
    """A judge's agreement with people on MT-Bench.

    Example: `MTBenchReport(turn_1=Agreement(…), turn_2=Agreement(…), both=Agreement(…),
    overall_ci=(0.76, 0.82), num_human_ties=400, num_not_judged=0)`
    """

    turn_1: Agreement
    turn_2: Agreement
    both: Agreement
    """Over the couples of both turns together."""
    overall_ci: tuple[float, float] | None
    """Bootstrap interval of `both.published` over questions: both turns and all votes
    of one are resampled together."""
    num_human_ties: int
    """Human votes without a choice; they are left out."""
    num_not_judged: int
    """Human votes with a choice on which the judge gave no vote; they are left out."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)

    def headline(self) -> float | None:
        """The paper's agreement without ties, over both turns."""
        return self.both.published

    def section_values(self) -> dict[str, float | None]:
        """The same of each turn."""
        return {"first turn": self.turn_1.published, "second turn": self.turn_2.published}


def _winner(verdict: Verdict, first: Winner, second: Winner) -> Winner:
    if verdict.outcome is Outcome.CHOICE:
        return first if verdict.choice == "first" else second
    return "tie" if verdict.outcome is Outcome.TIE else "failed"


def judge_vote(
    question_id: str,
    turn: int,
    model_a: str,
    model_b: str,
    a_first: Verdict | None,
    b_first: Verdict | None,
) -> Vote:
    """Returns the vote of a judge that read both orders, or one of them (the other is None).

    All readings name the same model: that model. They differ, or one ties: a tie, as in FastChat.
    One of them is unparsed, truncated or refused: failed. Raises ValueError without a reading.
    """
    winners: list[Winner] = []
    if a_first is not None:
        winners.append(_winner(a_first, "model_a", "model_b"))
    if b_first is not None:
        winners.append(_winner(b_first, "model_b", "model_a"))
    if not winners:
        raise ValueError(f"the judge did not read question {question_id}, turn {turn}")
    agreed: Winner = winners[0] if len(set(winners)) == 1 else "tie"
    return Vote(
        question_id=question_id,
        turn=turn,
        model_a=model_a,
        model_b=model_b,
        winner="failed" if "failed" in winners else agreed,
    )


def _agreement(couples: Sequence[tuple[Vote, Vote]]) -> Agreement:
    agrees = [judge.winning_model == human.winning_model for judge, human in couples]
    untied = [
        agree for agree, (judge, _) in zip(agrees, couples, strict=True) if judge.winner != "tie"
    ]
    return Agreement(
        published=fmean(untied) if untied else None,
        num_published=len(untied),
        ours=fmean(agrees) if agrees else None,
        num_ours=len(agrees),
    )


def mt_bench_report(
    judge_votes: Sequence[Vote],
    human_votes: Sequence[Vote],
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> MTBenchReport:
    """Counts the couples of judge and human votes, by turn and together.

    Raises ValueError for a turn other than 1 and 2, and for two judge votes on one question, turn
    and two models.
    """
    for vote in (*judge_votes, *human_votes):
        if vote.turn not in (1, 2):
            raise ValueError(f"MT-Bench has turns 1 and 2, not {vote.turn}")
    judged: dict[tuple[str, int, str, str], Vote] = {}
    for vote in judge_votes:
        if vote.game in judged:
            raise ValueError(f"two judge votes on {vote.game}")
        judged[vote.game] = vote
    choices = [vote for vote in human_votes if vote.winning_model is not None]
    couples = [(judged[vote.game], vote) for vote in choices if vote.game in judged]
    rows = [
        RateRow(
            stratum="",
            prompt=human.question_id,
            rate="agreement",
            value=float(judge.winning_model == human.winning_model),
        )
        for judge, human in couples
        if judge.winner != "tie"
    ]
    return MTBenchReport(
        turn_1=_agreement([couple for couple in couples if couple[1].turn == 1]),
        turn_2=_agreement([couple for couple in couples if couple[1].turn == 2]),
        both=_agreement(couples),
        overall_ci=headline_interval(rows, lambda rates: rates.get("agreement"), resampling),
        num_human_ties=len(human_votes) - len(choices),
        num_not_judged=len(choices) - len(couples),
    )


def mt_bench_from_pairs(
    outcomes: Sequence[PairOutcome],
    human_votes: Mapping[str, HumanVotes],
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> MTBenchReport:
    """As `mt_bench_report`, from the readings of pairs and the votes on each pair by its id.

    Raises ValueError for a pair without an entry in `human_votes`, and as `mt_bench_report` does.
    """
    judged: list[Vote] = []
    people: list[Vote] = []
    for outcome in outcomes:
        votes = human_votes.get(outcome.pair_id)
        if votes is None:
            raise ValueError(f"no human votes are given for the pair {outcome.pair_id}")
        game = (votes.question_id, votes.turn, votes.chosen_model, votes.rejected_model)
        judged.append(judge_vote(*game, outcome.chosen_first, outcome.rejected_first))
        counts: tuple[tuple[Winner, int], ...] = (
            ("model_a", votes.votes_chosen),
            ("model_b", votes.votes_rejected),
        )
        for winner, count in counts:
            vote = Vote(
                question_id=votes.question_id,
                turn=votes.turn,
                model_a=votes.chosen_model,
                model_b=votes.rejected_model,
                winner=winner,
            )
            people.extend([vote] * count)
    return mt_bench_report(judged, people, resampling)
