"""A table to look things up in, with a budget of replies: WebLeaper's rewards (arXiv:2510.24697).

The question asks for all names with a property. A reply is a call `look(NAME)`, answered with what
the table says of that name, `list(PAGE)`, answered with names, or the answer: names with commas
after "answer:". The reward is a soft F-score of the names.
"""

import random
import re
from collections.abc import Mapping
from typing import Any

from rljax.environments.environment import FIELD, Start, Turn

_CALL = re.compile(r"\b(look|list)\(([^)]*)\)")
_ANSWER = re.compile(r"answer:([^\n]*)", re.IGNORECASE)
COLOURS = ("red", "blue", "green")
PAGE = 4  # names of a page


class Lookup:
    """A table of `rows` names; `tries` replies; `recall_weight` is w of the F-score."""

    def __init__(self, *, rows: int = 8, tries: int = 8, recall_weight: float = 1.0) -> None:
        """Raises ValueError for values out of range."""
        if not (1 <= rows <= 500 and tries >= 1 and recall_weight >= 0):
            raise ValueError(
                "lookup needs rows in [1, 500], tries >= 1 and recall_weight >= 0, got "
                f"{rows}, {tries} and {recall_weight} ({FIELD}.options)."
            )
        self.rows, self.tries, self.recall_weight = rows, tries, recall_weight

    def record(self, seed: int) -> dict[str, Any]:
        """A table and the colour that is asked for; at least one name has it."""
        draw = random.Random(seed)
        names = draw.sample([f"{a}{b}{c}" for a in "bdgkm" for b in "aeiou" for c in range(20)],
                            self.rows)  # fmt: skip
        table = {name: draw.choice(COLOURS) for name in names}
        return {"table": table, "colour": draw.choice(list(table.values()))}

    def reset(self, record: Mapping[str, Any]) -> Start:
        """Asks for the names of one colour."""
        text = f"Which names are {record['colour']}? list(PAGE), look(NAME), or answer: NAMES"
        return Start([{"role": "user", "content": text}], {**record, "left": self.tries, "read": 0})

    def step(self, state: dict[str, Any], reply: str) -> Turn:
        """What the table says, or the reward of the answer."""
        state["left"] -= 1
        if answer := _ANSWER.search(reply):
            said = {name.strip() for name in answer[1].split(",") if name.strip()}
            gold = {n for n, colour in state["table"].items() if colour == state["colour"]}
            return Turn(None, f_score(said, gold, self.recall_weight), True)
        if not state["left"]:
            return Turn(None, 0.0, True)
        calls = _CALL.findall(reply)
        said = [self._answer(state, *call) for call in calls] or ["no call"]
        return Turn([{"role": "tool", "content": "; ".join(said)}])

    @staticmethod
    def _answer(state: dict[str, Any], name: str, argument: str) -> str:
        argument, table = argument.strip(), state["table"]
        state["read"] += 1
        if name == "look":
            return f"{argument}: {table.get(argument, 'not there')}"
        page = int(argument) if argument.isdecimal() and len(argument) < 7 else 0
        return ", ".join(list(table)[page * PAGE : (page + 1) * PAGE]) or "nothing"


def f_score(said: set[str], gold: set[str], recall_weight: float = 1.0) -> float:
    """(1 + w^2) P R / (w^2 P + R) of two sets, 0 where nothing is right."""
    right = len(said & gold)
    if not right:
        return 0.0
    precision, recall, square = right / len(said), right / len(gold), recall_weight**2
    return (1 + square) * precision * recall / (square * precision + recall)
