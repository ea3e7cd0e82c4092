"""What a study of search at test time tries."""

import dataclasses

# Strategies that compare texts with a model.
SCORED = ("best_of_n", "weighted_vote", "beam", "lookahead")
STRATEGIES = ("vote", "sequential", *SCORED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a study.

    Attributes:
        strategies: of `STRATEGIES`; `pass`, the chance that a right sample is there, is always in.
        budgets: completions of a problem; of beams, how many are written at a time.
        beam_width: children of each beam that is kept; budget / beam_width are kept.
        step_tokens: of a piece that is compared.
        lookahead_steps: pieces that are written greedily behind a piece before it is scored.
        attempts: lengths of the chains of strategy "sequential"; budget / length chains vote.
        again: text between two attempts of a chain.
    """

    strategies: tuple[str, ...] = ("vote",)
    budgets: tuple[int, ...] = (1, 2, 4, 8)
    beam_width: int = 4
    step_tokens: int = 16
    lookahead_steps: int = 1
    attempts: tuple[int, ...] = (1, 2, 4)
    again: str = "\nWait, "

    @property
    def samples(self) -> int:
        """The largest budget, n."""
        return max(self.budgets)

    def beam_budgets(self) -> list[int]:
        """The budgets that beams of this width can have."""
        return [budget for budget in self.budgets if budget % self.beam_width == 0]


def check_settings(settings: Settings, scorer: bool) -> None:
    """Raises ValueError for settings that cannot work, or that nothing would read.

    Args:
        settings: of a study.
        scorer: whether there is a model that scores.
    """
    for strategy in settings.strategies:
        if strategy not in STRATEGIES:
            raise ValueError(
                f"strategies are of {', '.join(STRATEGIES)}, got {strategy!r} (--strategies)."
            )
    asked = [name for name in settings.strategies if name in SCORED]
    if asked and not scorer:
        raise ValueError(
            f"{', '.join(asked)} compare texts with a reward or value model: name one (--scorer), "
            "or leave them out (--strategies)."
        )
    if scorer and not asked:
        raise ValueError(
            f"no strategy reads the model: give one of {', '.join(SCORED)} (--strategies), or "
            "leave it out (--scorer)."
        )
    for name in ("budgets", "attempts"):
        values = getattr(settings, name)
        if not values or min(values) < 1 or list(values) != sorted(set(values)):
            raise ValueError(
                f"{name} must be whole numbers >= 1 that rise, got {list(values)} (--{name})."
            )
    for name, lowest in (("beam_width", 2), ("step_tokens", 1), ("lookahead_steps", 1)):
        if getattr(settings, name) < lowest:
            flag = name.replace("_", "-")
            raise ValueError(f"must be >= {lowest}, got {getattr(settings, name)} (--{flag}).")
    beams = {"beam", "lookahead"} & set(settings.strategies)
    if beams and not settings.beam_budgets():
        raise ValueError(
            f"none of the budgets {list(settings.budgets)} is a multiple of "
            f"beam_width={settings.beam_width} (--budgets, --beam-width)."
        )
    if "sequential" in settings.strategies and max(settings.attempts) > settings.samples:
        raise ValueError(
            f"chains of {max(settings.attempts)} attempts are longer than the largest budget, "
            f"{settings.samples} completions (--attempts, --budgets)."
        )
