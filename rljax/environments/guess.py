"""Guess a number: the environment says whether it is higher or lower."""

import random
import re
from collections.abc import Mapping
from typing import Any

from rljax.environments.environment import FIELD, Start, Turn

_NUMBER = re.compile(r"-?\d+")


class Guess:
    """A number between 1 and `largest`; reward 1 for finding it, within `tries` replies."""

    def __init__(self, *, largest: int = 20, tries: int = 5) -> None:
        """Raises ValueError unless both are at least 1."""
        if largest < 1 or tries < 1:
            raise ValueError(
                f"guess needs largest >= 1 and tries >= 1, got {largest} and {tries} "
                f"({FIELD}.options)."
            )
        self.largest, self.tries = largest, tries

    def record(self, seed: int) -> dict[str, Any]:
        """A problem: the number that is looked for."""
        return {"secret": random.Random(seed).randint(1, self.largest)}

    def demonstration(self, record: Mapping[str, Any]) -> list[dict[str, str]]:
        """A search by halves, as a conversation."""
        start = self.reset(record)
        messages, state, low, high = list(start.messages), dict(start.state), 1, self.largest
        while True:
            guess = (low + high) // 2
            messages.append({"role": "assistant", "content": str(guess)})
            turn = self.step(state, str(guess))
            if turn.done:
                return messages
            messages += turn.observation
            low, high = (guess + 1, high) if record["secret"] > guess else (low, guess - 1)

    def reset(self, record: Mapping[str, Any]) -> Start:
        """Says the range."""
        text = f"1-{self.largest}?"
        return Start(
            [{"role": "user", "content": text}], {"secret": record["secret"], "left": self.tries}
        )

    def step(self, state: dict[str, Any], reply: str) -> Turn:
        """Whether the first number of the reply is the one, too low or too high."""
        state["left"] -= 1
        found = _NUMBER.search(reply)
        if found is not None and int(found[0]) == state["secret"]:
            return Turn(None, 1.0, True)
        if not state["left"]:
            return Turn(None, 0.0, True)
        if found is None:
            said = "no number"
        else:
            said = "higher" if int(found[0]) < state["secret"] else "lower"
        return Turn([{"role": "user", "content": said}])
