"""Combinations of preference parts that cannot work, refused before anything runs."""

from rljax.config.stage import Stage
from rljax.objectives.preference import DIVERGENCES, MARGIN_LINKS, QUANTILE_LINKS


def check_preference(stage: Stage, where: str) -> None:
    """Raises ValueError for parts of a preference loss that do not go together, naming the fields.

    Args:
        stage: resolved.
        where: its path in the config.
    """
    choices = stage.objective.choices
    score = choices["score"]
    for field in ("link", "second_link"):
        link = choices[field]
        if link == "none":
            continue
        fields = f"({where}.objective.score, {where}.objective.{field})"
        if score in DIVERGENCES and link not in MARGIN_LINKS:
            raise ValueError(
                f"score={score!r} is known up to a constant of the prompt, which cancels in a "
                f"difference of two scores only, and {field}={link!r} reads more than that; "
                f"links of differences: {', '.join(MARGIN_LINKS)} {fields}."
            )
        if link in QUANTILE_LINKS and score != "log_ratio":
            raise ValueError(
                f"{field}={link!r} sorts log-ratios itself and never reads score={score!r}; "
                f"the score must be 'log_ratio' {fields}."
            )
        if link == "odds_ratio" and score != "mean_log_likelihood":
            raise ValueError(
                f"{field}='odds_ratio' takes scores for the log-probability of a mean token, got "
                f"score={score!r}; it must be 'mean_log_likelihood' {fields}."
            )
        if link in QUANTILE_LINKS and choices["pair_weight"] != "none":
            raise ValueError(
                f"pair_weight={choices['pair_weight']!r} weighs pairs, and {field}={link!r} "
                f"compares sides of different pairs; it must be 'none' "
                f"({where}.objective.pair_weight, {where}.objective.{field})."
            )
