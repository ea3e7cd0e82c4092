"""Combinations of preference parts that cannot work, refused before anything runs."""

from collections.abc import Mapping, Sequence

from rljax.config.stage import Stage
from rljax.objectives.parts import inputs_of
from rljax.objectives.preference import DIVERGENCES, MARGIN_LINKS, QUANTILE_LINKS, RATED_LINKS

# Links that a group's margins can be given to: they read them and nothing else.
GROUP_LINKS = tuple(name for name, link in MARGIN_LINKS.items() if inputs_of(link) == ("margins",))


def check_preference(stage: Stage, where: str) -> None:
    """Raises ValueError for parts of a preference loss that do not go together, naming the fields.

    Args:
        stage: resolved.
        where: its path in the config.
    """
    choices = stage.objective.choices
    if choices["group_estimator"] != "none":
        _check_groups(stage, where)
    if choices["link"] in RATED_LINKS:
        _check_rated(stage, where)
    if stage.moves_reference:
        _check_moving_reference(stage, where)
    score = choices["score"]
    for field in ("link", "second_link"):
        link = choices[field]
        if link == "none":
            continue
        fields = f"({where}.objective.score, {where}.objective.{field})"
        if score in DIVERGENCES and link not in (*MARGIN_LINKS, *RATED_LINKS):
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


def _check_moving_reference(stage: Stage, where: str) -> None:
    """A reference that follows the policy: there is one, nothing else says what it is."""
    field = f"{where}.objective.reference_update"
    if not stage.needs_reference:
        raise ValueError(
            f"reference_update='moving' moves nothing: method {stage.objective.method.name!r} has "
            f"no reference ({field})."
        )
    if folder := stage.data.get("reference_cache"):
        raise ValueError(
            f"reference_cache={folder!r} keeps what a reference says that never changes, and "
            f"reference_update='moving' changes it ({where}.data.reference_cache, {field})."
        )
    if "reference" in stage.models:
        raise ValueError(
            f"reference_update='moving' begins with what the stage starts from; another model "
            f"cannot be its reference ({where}.models.reference.start_from, {field})."
        )
    every = stage.objective.values["reference_update_steps"]
    if every >= stage.steps:
        raise ValueError(
            f"reference_update_steps={every} in a stage of {stage.steps} steps: the reference "
            f"would never move ({where}.objective.reference_update_steps, {where}.steps)."
        )


def _check_groups(stage: Stage, where: str) -> None:
    """Two groups of completions: links of their margins, members that are there or not."""
    choices, estimator = stage.objective.choices, stage.objective.choices["group_estimator"]
    links = ("squared",) if estimator == "unbiased" else GROUP_LINKS
    allowed = {"link": links, "second_link": ("none", *links)}
    if estimator == "unbiased":
        # Its correction is that of one square.
        allowed["second_link"] = ("none",)
    _refuse_others(choices, allowed, f"group_estimator={estimator!r}", where)
    _check_several(stage, f"group_estimator={estimator!r}", where)


def _check_rated(stage: Stage, where: str) -> None:
    """Completions with a rating each: none of them is the chosen one."""
    choices, link = stage.objective.choices, stage.objective.choices["link"]
    allowed = dict.fromkeys(("second_link", "group_estimator", "chosen_nll"), ("none",))
    _refuse_others(choices, allowed, f"link={link!r}", where)
    _check_several(stage, f"link={link!r}", where)


def _check_several(stage: Stage, chosen: str, where: str) -> None:
    """Rows that are no pairs: what knows of two sides alone does not go with them."""
    allowed = {"pair_weight": ("none",)}
    if stage.objective.choices["score"] == "length_desensitised":
        allowed["score"] = ("log_ratio",)
    _refuse_others(stage.objective.choices, allowed, chosen, where)
    if stage.batch.samples_per_prompt < 2:
        raise ValueError(
            f"samples_per_prompt={stage.batch.samples_per_prompt} with {chosen}: at least 2 "
            f"completions of a prompt are compared ({where}.batch.samples_per_prompt)."
        )


def _refuse_others(
    choices: Mapping[str, str], allowed: Mapping[str, Sequence[str]], chosen: str, where: str
) -> None:
    """Raises ValueError for a choice that does not go with another one, naming those that do."""
    for field, options in allowed.items():
        if choices[field] not in options:
            raise ValueError(
                f"{field}={choices[field]!r} does not go with {chosen}; it must be "
                f"{' or '.join(map(repr, options))} ({where}.objective.{field})."
            )
