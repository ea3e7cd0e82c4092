"""A reward of text as an environment: a reply that is not right may be tried again.

With `reward="reasoning_gym"` a puzzle with several tries; with `reward="python_tests"` a program
that is run against its tests in the sandbox, and whose failures are shown to the model.
"""

from collections.abc import Mapping
from typing import Any

from rljax.environments.environment import FIELD, Start, Turn, as_messages
from rljax.rewards.compose import Composition
from rljax.rewards.judging import warm


class Retries:
    """Any reward of rljax/rewards/functions.py, or a user's own."""

    def __init__(
        self,
        *,
        reward: str = "reasoning_gym",
        options: Mapping[str, Any] | None = None,
        right_at: float | None = None,
        tries: int = 3,
        again: str = "That is not right. Try again.",
        discount: float = 1.0,
    ) -> None:
        """Checks the reward.

        Args:
            reward: its name, as in config.scoring.rewards.
            options: of the reward.
            right_at: the value from which a reply is right; by default the reward's own.
            tries: replies of an episode.
            again: what the model is told; before it stands what the reward itself says.
            discount: factor of the reward for each try before.

        Raises:
            ValueError: for what `Composition` refuses, or values out of range.
        """
        if tries < 1 or not 0 <= discount <= 1:
            raise ValueError(
                f"retries needs tries >= 1 and discount in [0, 1], got {tries} and {discount} "
                f"({FIELD}.options)."
            )
        spec = {"name": reward, "options": dict(options or {}), "right_at": right_at}
        self.composition = Composition([spec])
        if self.composition.needs_episodes:
            raise ValueError(f"retries cannot ask {reward!r}, which reads episodes ({FIELD}).")
        self.tries, self.again, self.discount = tries, again, discount

    def warm(self) -> None:
        """Imports and starts what the reward needs."""
        warm(self.composition)

    def reset(self, record: Mapping[str, Any]) -> Start:
        """The record's own prompt."""
        state = {"prompt": record["prompt"], "reference": record["reference"], "tried": 0}
        return Start(as_messages(record["prompt"]), state)

    def step(self, state: dict[str, Any], reply: str) -> Turn:
        """The reward of the reply; with a try left, and wrong, what there is to say."""
        prompt = state["prompt"] if isinstance(state["prompt"], str) else ""
        judged = self.composition.judge(prompt, reply, state["reference"], len(reply))
        values, said = judged
        worth = self.composition.total(values) or 0.0
        worth *= self.discount ** state["tried"]
        state["tried"] += 1
        if self.composition.is_right(values) or state["tried"] == self.tries:
            return Turn(None, worth, True)
        text = f"{said}\n{self.again}" if said else self.again
        return Turn([{"role": "user", "content": text}])
