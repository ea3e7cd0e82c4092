"""Rows that are longer than there is room for: one named rule for a whole data set.

    refuse                  an error that names the row (the default)
    drop                    the row is left out and counted
    keep_end_of_prompt      the prompt loses its beginning, but for bos
    keep_start_of_prompt    the prompt loses its end

No rule cuts an answer, whose end is what is learned: with every rule but "refuse" a row is left
out whose answer is too long.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rljax.data.encode import check_length
from rljax.data.packing import Example

TRUNCATIONS = ("refuse", "drop", "keep_end_of_prompt", "keep_start_of_prompt")


class Budgets(NamedTuple):
    """Tokens that there is room for, and the config fields that say so."""

    prompt: int
    answer: int
    prompt_field: str
    answer_field: str


def fitting_prompt(
    prompt: Sequence[int],
    answers: Mapping[str, Sequence[int]],
    budgets: Budgets,
    rule: str,
    *,
    bos_id: int | None,
    where: str,
) -> Sequence[int] | None:
    """What is kept of a row's prompt.

    Args:
        prompt: ids.
        answers: ids with their ends, by what they are called.
        budgets: of the stage.
        rule: one of `TRUNCATIONS`.
        bos_id: stays where a prompt that begins with it loses its beginning.
        where: file and row, for errors.

    Returns:
        At most `budgets.prompt` ids; None where the row is left out.

    Raises:
        ValueError: with "refuse", for a prompt or an answer that is too long.
    """
    if rule == "refuse":
        check_length(prompt, budgets.prompt, f"The prompt of {where}", budgets.prompt_field)
        for name, ids in answers.items():
            check_length(ids, budgets.answer, f"{name} of {where}", budgets.answer_field)
        return prompt
    if any(len(ids) > budgets.answer for ids in answers.values()):
        return None
    if len(prompt) <= budgets.prompt:
        return prompt
    if rule == "drop":
        return None
    if rule == "keep_start_of_prompt":
        return prompt[: budgets.prompt]
    kept = prompt[-budgets.prompt :]
    return [prompt[0], *kept[1:]] if prompt[0] == bos_id else kept


def fitting_example(
    example: Example, room: int, rule: str, *, bos_id: int | None, where: str, field: str
) -> Example | None:
    """What is kept of a demonstration: all that is learned, and what fits before it.

    Of a conversation whose answers are all learned, only what comes before the first one is cut.

    Args:
        example: prompt and answer.
        room: tokens of a row.
        rule: one of `TRUNCATIONS`.
        bos_id: stays where a prompt that begins with it loses its beginning.
        where: file and row, for errors.
        field: the config field of the room.

    Returns:
        An example of at most `room` tokens; None where the row is left out.

    Raises:
        ValueError: with "refuse", for one that is too long.
    """
    tokens, first = example.tokens, example.learned.index(True)
    if rule == "refuse":
        check_length(tokens, room, where, field)
    rest = tokens[first:]
    # A token is needed that the first learned one is predicted from.
    budgets = Budgets(max(room - len(rest), 1), room - 1, field, field)
    answers = {"completion": rest}
    prompt = fitting_prompt(tokens[:first], answers, budgets, rule, bos_id=bos_id, where=where)
    if prompt is None:
        return None
    return Example([*prompt, *rest], [False] * len(prompt) + example.learned[first:])


class Losses:
    """What the rule of a data set costs, counted row by row."""

    def __init__(self) -> None:
        self.rows = self.left_out = self.cut = self.lost = self.tokens = 0

    def add(self, prompt: Sequence[int], kept: Sequence[int] | None) -> None:
        """Counts a row.

        Args:
            prompt: its ids.
            kept: what `fitting_prompt` leaves of them.
        """
        self.rows += 1
        if kept is None:
            self.left_out += 1
            return
        self.tokens += len(prompt)
        self.cut += len(kept) < len(prompt)
        self.lost += len(prompt) - len(kept)

    def remarks(self) -> list[str]:
        """In words; [] where nothing is lost."""
        said = []
        if self.left_out:
            said.append(f"{self.left_out} of {self.rows} rows are too long and are left out")
        if self.cut:
            said.append(
                f"{self.cut} of {self.rows - self.left_out} prompts lose {self.lost} of "
                f"{self.tokens} tokens"
            )
        return said
