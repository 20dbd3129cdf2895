"""Perplexity and bits per byte by hand, and the comparison of two models on the same documents."""

import math

import pytest

from selfreward.metrics.intervals import sign_flip_test
from selfreward.metrics.perplexity import (
    DocumentNll,
    compare_documents,
    document_report,
)

LN2 = math.log(2)


def made(*rows: tuple[float, int, int]) -> list[DocumentNll]:
    return [
        DocumentNll(id=f"doc-{i}", nll_nats=nll, num_tokens=tokens, num_bytes=size)
        for i, (nll, tokens, size) in enumerate(rows)
    ]


def test_perplexity_and_bits_by_hand() -> None:
    # 4 tokens at 1/2 each and 2 tokens at 1/8 each: 4 + 6 = 10 bits over 6 tokens and 20 bytes.
    # Perplexity 2^(10/6) = 3.174802; 10 / 20 = 0.5 bits per byte. Their mean over documents,
    # which would be (2 + 8) / 2 = 5, is another thing.
    report = document_report(made((4 * LN2, 4, 8), (6 * LN2, 2, 12)))
    assert (report.n, report.num_tokens, report.num_bytes) == (2, 6, 20)
    assert report.perplexity == pytest.approx(3.174802, abs=1e-6)
    assert report.bits_per_byte == pytest.approx(0.5)
    # A sample of two documents is twice the first, one of each, or twice the second; the two
    # extremes have a quarter each, far more than the 2.5% an interval leaves out at an end.
    assert report.perplexity_ci == pytest.approx((2.0, 8.0))
    assert report.bits_per_byte_ci == pytest.approx((0.5, 0.5))


def test_a_finer_tokenizer_changes_perplexity_but_not_bits_per_byte() -> None:
    coarse = document_report(made((40 * LN2, 10, 50)))
    fine = document_report(made((40 * LN2, 40, 50)))
    assert (coarse.perplexity, fine.perplexity) == (pytest.approx(16.0), pytest.approx(2.0))
    assert coarse.bits_per_byte == fine.bits_per_byte == pytest.approx(0.8)


def test_a_document_of_one_token_counts_for_nothing() -> None:
    rows = ((4 * LN2, 4, 8), (0.0, 0, 0))
    assert document_report(made(*rows)) == document_report(made(rows[0]))
    with pytest.raises(ValueError, match="at least one document of two tokens"):
        document_report(made((0.0, 0, 0)))


def test_a_broken_model_has_no_interval() -> None:
    report = document_report(made((4.0, 4, 8), (math.nan, 4, 8)))
    assert math.isnan(report.perplexity) and math.isnan(report.bits_per_byte)
    assert report.perplexity_ci is None and report.bits_per_byte_ci is None
    found = compare_documents(made((4.0, 4, 8)), made((math.inf, 4, 8)))
    assert (found.after, found.ci, found.p_value) == (math.inf, None, None)


def test_the_same_better_by_the_same_in_every_document() -> None:
    # 12 documents, each half a bit per byte better: the interval is that number, and of the 2^12
    # tosses only the one that changes nothing is as low, so p is near 1/4096 + 1/2001.
    before = made(*[(20 * LN2, 5, 10)] * 12)
    after = made(*[(15 * LN2, 5, 10)] * 12)
    better = compare_documents(before, after)
    assert (better.n, better.before, better.after) == (12, pytest.approx(2.0), pytest.approx(1.5))
    assert better.difference == pytest.approx(-0.5)
    assert better.ci == pytest.approx((-0.5, -0.5))
    assert better.p_value is not None and better.p_value < 0.003
    worse = compare_documents(after, before)
    assert worse.difference == pytest.approx(0.5)
    assert worse.p_value == 1.0


def test_equal_models_differ_in_nothing() -> None:
    rows = made((20.0, 5, 10), (9.0, 4, 7))
    found = compare_documents(rows, rows)
    assert (found.difference, found.ci, found.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_p_is_that_of_sign_flips_where_bytes_are_equal() -> None:
    before = [3.1, 2.9, 4.0, 3.3, 2.2, 3.6, 2.8, 3.0, 3.7, 2.5]
    after = [2.8, 3.0, 3.6, 3.4, 2.0, 3.1, 2.9, 2.7, 3.5, 2.6]
    found = compare_documents(
        made(*[(v, 5, 10) for v in before]), made(*[(v, 5, 10) for v in after]), num_samples=20_000
    )
    # Better is lower, so the signs turn. Two draws of 20,000 differ by about 0.004 at most.
    oracle = sign_flip_test([-v for v in before], [-v for v in after], num_samples=20_000)
    assert found.p_value == pytest.approx(oracle.p_value, abs=0.015)
    # Nats of 10 bytes into bits per byte; the difference of the means is -0.15.
    assert found.difference == pytest.approx(-0.15 / 10 / LN2)
    assert found.ci is not None
    assert found.ci == pytest.approx([-v / 10 / LN2 for v in reversed(oracle.ci)], abs=2e-3)


def test_only_the_same_documents_compare() -> None:
    with pytest.raises(ValueError, match="same documents in the same order"):
        compare_documents(made((4.0, 4, 8), (5.0, 4, 8)), made((4.0, 4, 8), (5.0, 4, 8))[::-1])
    with pytest.raises(ValueError, match="at least one document"):
        compare_documents(made((0.0, 0, 0)), made((4.0, 4, 8)))


def test_dictionaries_hold_plain_values() -> None:
    rows = made((4 * LN2, 4, 8), (6 * LN2, 2, 12))
    assert isinstance(document_report(rows).to_dict()["perplexity_ci"], list)
    assert compare_documents(rows, rows).to_dict()["ci"] == [0.0, 0.0]
