"""Nim with one heap: two players take stones in turn, and who takes the last one wins.

Whoever moves with a multiple of (most + 1) stones left loses against best play.
"""

import random
import re
from collections.abc import Mapping
from typing import Any

from rljax.environments.environment import FIELD
from rljax.environments.players import Move, Opening

_NUMBER = re.compile(r"\d+")


class Nim:
    """A heap of 2 to `largest` stones, of which 1 to `most` are taken at a time; 1 or -1."""

    roles = ("first", "second")

    def __init__(self, *, largest: int = 9, most: int = 3) -> None:
        """Raises ValueError unless largest > most >= 1."""
        if not 1 <= most < largest:
            raise ValueError(
                f"nim needs largest > most >= 1, got {largest} and {most} ({FIELD}.options)."
            )
        self.largest, self.most = largest, most

    def record(self, seed: int) -> dict[str, Any]:
        """A heap."""
        return {"stones": random.Random(seed).randint(2, self.largest)}

    def reset(self, record: Mapping[str, Any]) -> Opening:
        """Shows both players the heap."""
        stones = record["stones"]
        text = f"Nim: {stones} stones, take 1-{self.most}, the last one wins. You are {{}}."
        conversations = [[{"role": "user", "content": text.format(role)}] for role in self.roles]
        return Opening(conversations, {"stones": stones, "player": 0})

    def step(self, state: dict[str, Any], reply: str) -> Move:
        """Takes the first number of the reply; what is not possible loses."""
        player, found = state["player"], _NUMBER.search(reply)
        taken = int(found[0]) if found and len(found[0]) < 9 else 0
        if not 1 <= taken <= min(self.most, state["stones"]):
            return self._over(1 - player, impossible=True)
        state["stones"] -= taken
        state["player"] = 1 - player
        if not state["stones"]:
            return self._over(player, impossible=False)
        told = f"The other player took {taken}, {state['stones']} left."
        return Move(1 - player, {1 - player: told})

    @staticmethod
    def _over(winner: int, *, impossible: bool) -> Move:
        measures = {"impossible_moves": float(impossible), "first_wins": float(winner == 0)}
        return Move(None, {}, {winner: 1.0, 1 - winner: -1.0}, measures)
