"""Whether people's answers let a judge be promoted. Moving the pointer is not done here."""

# Shares such as 7 / 10 and thresholds such as 1 - 0.3 are not exact: on the limit is not below it.
_ROUNDING = 1e-9


def human_agreement_gate(
    agreement: float | None, num: int, minimum: float, min_answers: int
) -> str | None:
    """Returns why a judge is not promoted, in words; None if it may be.

    `agreement` is the share, 0 to 1, of `num` comparisons by people in which the judge names the
    same winner; None where it could not be measured. Fewer than `min_answers` comparisons refuse
    the promotion, since nothing is known, and so does an agreement below `minimum`. An agreement
    exactly on it passes. Raises ValueError for a share outside 0 to 1, NaN, and negative counts.
    """
    for name, share in (("agreement", agreement), ("minimum", minimum)):
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name} must be a share of 0 to 1, not {share}")
    if num < 0 or min_answers < 0:
        raise ValueError(f"counts must be 0 or more, not {num} and {min_answers}")
    if num < min_answers:
        return f"people have compared {num} of its choices, {min_answers} are wanted"
    if agreement is None:
        return f"the agreement with people cannot be measured on {num} comparisons"
    if agreement < minimum - _ROUNDING:
        return f"people agree with {agreement:.3f} of {num} choices, below {minimum:g}"
    return None
