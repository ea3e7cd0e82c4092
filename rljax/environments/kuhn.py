"""Kuhn poker: two players, three cards, one bet. The policy plays both sides.

Both put one chip in. The first player checks or bets a chip; what is possible next:

    check, check           the higher card wins 1
    bet, fold              the first player wins 1
    bet, call              the higher card wins 2
    check, bet, fold       the second player wins 1
    check, bet, call       the higher card wins 2

With best play of both the game is worth -1/18 to the first player (Kuhn 1950). A reply that names
no move that is possible loses the chip that has been put in.
"""

import random
import re
from collections.abc import Mapping
from typing import Any

from rljax.environments.environment import FIELD
from rljax.environments.players import Move, Opening, seen

CARDS = "JQK"

# What has happened -> what may be said, and the letter that is written for it.
MOVES = {
    "": {"check": "k", "bet": "b"},
    "b": {"fold": "f", "call": "c"},
    "k": {"check": "k", "bet": "b"},
    "kb": {"fold": "f", "call": "c"},
}
# How a game ends -> chips that change hands, and who wins them: None, the higher card.
ENDS = {"kk": (1, None), "bf": (1, 0), "bc": (2, None), "kbf": (1, 1), "kbc": (2, None)}

_MOVE = re.compile(r"\[\s*(\w+)\s*\]")


class Kuhn:
    """The game; a reply names its move in brackets, such as [bet]."""

    roles = ("first", "second")

    def __init__(self, *, reward: str = "chips") -> None:
        """Sets the reward: "chips" that are won, or "win", 1 or -1.

        Raises:
            ValueError: for another reward.
        """
        if reward not in ("chips", "win"):
            raise ValueError(
                f"reward must be 'chips' or 'win', got {reward!r} ({FIELD}.options.reward)."
            )
        self.reward = reward

    def record(self, seed: int) -> dict[str, Any]:
        """Deals two cards."""
        return {"cards": "".join(random.Random(seed).sample(CARDS, 2)), "seed": seed}

    def demonstration(self, record: Mapping[str, Any]) -> list[dict[str, str]]:
        """What one of the players sees of a game with random moves."""
        draw = random.Random(repr(sorted(record.items())))
        return draw.choice(
            seen(self, record, lambda state: f"[{draw.choice(list(MOVES[state['moves']]))}]")
        )

    def reset(self, record: Mapping[str, Any]) -> Opening:
        """Shows each player its card."""
        texts = [
            f"Kuhn poker, you are {role}. Card: {card}. Say [check], [bet], [fold] or [call]."
            for role, card in zip(self.roles, record["cards"], strict=True)
        ]
        conversations = [[{"role": "user", "content": text}] for text in texts]
        return Opening(conversations, {"cards": record["cards"], "moves": ""})

    def step(self, state: dict[str, Any], reply: str) -> Move:
        """Makes the last move that the reply names in brackets."""
        moves = state["moves"]
        player = len(moves) % 2
        said = _MOVE.findall(reply)
        letter = MOVES[moves].get(said[-1].lower()) if said else None
        if letter is None:
            return self._over(1, winner=1 - player, impossible=True)
        state["moves"] = moves = moves + letter
        if moves not in ENDS:
            return Move(1 - player, {1 - player: self._told(said[-1].lower())})
        chips, winner = ENDS[moves]
        if winner is None:
            first, second = map(CARDS.index, state["cards"])
            winner = int(second > first)
        return self._over(chips, winner=winner, impossible=False)

    def _over(self, chips: int, *, winner: int, impossible: bool) -> Move:
        worth = float(chips) if self.reward == "chips" else 1.0
        measures = {"impossible_moves": float(impossible), "first_wins": float(winner == 0)}
        return Move(None, {}, {winner: worth, 1 - winner: -worth}, measures)

    @staticmethod
    def _told(word: str) -> str:
        return f"The other player: {word}."
