"""Combinations of a posterior stage that cannot work, refused before anything runs."""

from rljax.config.stage import Stage


def check_posterior(stage: Stage, where: str) -> None:
    """Raises ValueError for settings that do not go together, naming the fields."""
    choices, samples = stage.objective.choices, stage.batch.samples_per_prompt
    if choices["posterior"] == "chain":
        if samples != 1:
            raise ValueError(
                f"samples_per_prompt={samples}: a chain is offered one fresh sample at each visit, "
                f"so with posterior='chain' it must be 1 ({where}.batch.samples_per_prompt)."
            )
        return
    for name in ("control_variate", "guide"):
        if choices[name] != "none":
            raise ValueError(
                f"{name}={choices[name]!r} is of chains, and posterior='fresh' keeps none: it must "
                f"be 'none' ({where}.objective.{name}, {where}.objective.posterior)."
            )
