"""One player makes up a sum, others solve it: a proposer and several solvers.

Solvers earn 1 for the value of the sum. The proposer earns 4 s (1 - s), s the share of solvers that
are right: a sum that all can solve, or none, teaches nothing. What is no sum ends the episode.
"""

from collections.abc import Mapping
from typing import Any

from rljax.environments.environment import FIELD
from rljax.environments.players import Move, Opening
from rljax.rewards.answers import last_tagged
from rljax.rewards.arithmetic import evaluate

LONGEST = 64  # letters of a sum


class Proposals:
    """A proposer, who is player 0, and `solvers` solvers."""

    roles = ("proposer", "solver")

    def __init__(self, *, solvers: int = 4, largest: int = 1000) -> None:
        """Sets the sizes.

        Args:
            solvers: of an episode.
            largest: value of a sum, without its sign.

        Raises:
            ValueError: unless both are at least 1.
        """
        if solvers < 1 or largest < 1:
            raise ValueError(
                f"proposals needs solvers >= 1 and largest >= 1, got {solvers} and {largest} "
                f"({FIELD}.options)."
            )
        self.solvers, self.largest, self.players = solvers, largest, solvers + 1

    def record(self, seed: int) -> dict[str, Any]:
        """A number that the sum should have, so that problems differ."""
        return {"number": seed % self.largest}

    def reset(self, record: Mapping[str, Any]) -> Opening:
        """Asks for a sum."""
        asked = f"Make up a sum with the number {record['number']}: <answer>...</answer>"
        told = "Give the value: <answer>...</answer>"
        roles = ["proposer"] + ["solver"] * self.solvers
        return Opening([asked] + [told] * self.solvers, {"sum": None, "right": []}, roles=roles)

    def step(self, state: dict[str, Any], reply: str) -> Move:
        """The sum, then one solution after the other."""
        if state["sum"] is None:
            return self._proposed(state, (last_tagged(reply, "answer") or "").strip())
        said = last_tagged(reply, "answer")
        value = None if said is None else self._value(said.strip())
        right = value is not None and value == self._value(state["sum"])
        state["right"].append(right)
        solver = len(state["right"])
        rewards = {solver: float(right)}
        if solver < self.solvers:
            return Move(solver + 1, {}, rewards)
        share = sum(state["right"]) / self.solvers
        rewards[0] = 4 * share * (1 - share)
        return Move(None, {}, rewards, {"sums": 1.0, "solved": share})

    def _proposed(self, state: dict[str, Any], text: str) -> Move:
        if self._value(text) is None:
            return Move(None, {}, {0: 0.0}, {"sums": 0.0})
        state["sum"] = text
        return Move(1, {solver + 1: text for solver in range(self.solvers)})

    def _value(self, text: str) -> Any:
        """The value of a sum; None for what is none, or too large."""
        if len(text) > LONGEST:
            return None
        try:
            value = evaluate(text)
        except (ValueError, ArithmeticError):
            return None
        return value if abs(value) <= self.largest else None
