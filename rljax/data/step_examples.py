"""Answers in labelled steps as demonstrations: what is learned of them, and what they become.

| rule | what is learned |
| --- | --- |
| `right_steps` | the right steps, in an answer that holds the wrong ones too |
| `until_error` | the steps before the first wrong one, and a marker in its place |
| `without_errors` | the right steps alone; where none is right, the marker |

`right_steps` is the first stage of SPOC (arXiv:2506.06923): an answer goes on from a wrong attempt
to the verdict on it and a right solution, and the attempt is read, but not learned. The others are
those of HALT (arXiv:2506.04051), whose answers are the model's own, judged step by step: it is
taught to say what it gets right, and to stop where it does not. Steps that build on each other are
cut at the first error, facts that stand by themselves are left out one by one. Of several answers
to a prompt HALT learns one, by its rank among them (`ranked_answers`).
"""

import json
import math
from collections.abc import Sequence

from rljax.data.feedback import Stepwise, stepwise_of
from rljax.data.packing import Example
from rljax.data.rows import Record
from rljax.data.sources import place_of
from rljax.data.text_format import PROMPTS, TextFormat
from rljax.data.values import UnusableRow, label_of

STEP_RULES = ("right_steps", "until_error", "without_errors")
# Those that write another answer.
REWRITTEN = STEP_RULES[1:]
UNSURE = "Unsure from Here"


def example_of_steps(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    rule: str,
    marker: str = UNSURE,
    field: str = PROMPTS,
    check_whole: bool = False,
) -> Example:
    """What is learned of a row of labelled steps.

    Args:
        record: with the columns prompt, completions (the steps of one answer) and labels.
        text_format: of the run.
        where: file and row, for errors.
        rule: one of `STEP_RULES`.
        marker: what an answer says in place of what is wrong; of `REWRITTEN` rules.
        field: the config field of the file, for errors.
        check_whole: compare the ids with those of the whole text.

    Returns:
        The example. Of "right_steps", the end of the answer is learned where its last step is.

    Raises:
        ValueError: for a row that cannot be read.
        UnusableRow: for one without a right step, with the rule "right_steps".
    """
    words = {"where": where, "field": field, "check_whole": check_whole}
    row = stepwise_of(record, text_format, **words)
    if rule in REWRITTEN:
        steps = rewritten(record["completions"], row.labels, rule, marker)
        record = {**record, "completions": steps, "labels": [True] * len(steps)}
        row = stepwise_of(record, text_format, **words)
    if not any(row.labels):
        raise UnusableRow(f"{where}: no step is right, so that nothing of the answer is learned.")
    learned = [False] * len(row.prompt) + _learned(row)
    return Example([*row.prompt, *row.completion], learned)


def rewritten(steps: Sequence[str], labels: Sequence[bool], rule: str, marker: str) -> list[str]:
    """The steps of an answer that says what is right.

    Args:
        steps: of the answer.
        labels: whether each is right.
        rule: one of `REWRITTEN`.
        marker: a step in place of the first wrong one, or of all of them where none is right.

    Returns:
        The steps themselves where all are right.
    """
    if rule == "until_error":
        return list(steps) if all(labels) else [*steps[: labels.index(False)], marker]
    return [step for step, right in zip(steps, labels, strict=True) if right] or [marker]


def ranked_answers(records: Sequence[Record], rank: float) -> list[int]:
    """Which answer of each prompt is learned: HALT's threshold (arXiv:2506.04051).

    The N answers of a prompt are sorted by their share of right steps, the best one first, and the
    one at place ceil(rank * N) is taken. So at least that share of the model's own answers say as
    much that is right as what it learns to say: a higher rank teaches it to say less. The paper's
    direction of the sort is not known; this one is ours.

    Args:
        records: with the columns prompt and labels. A row whose labels are no list is kept, and
            refused where it is read.
        rank: alpha, in (0, 1].

    Returns:
        Places of the records, in their order; of equally good answers the first in the file.

    Raises:
        ValueError: for a label that is neither true nor false, of an answer that is not taken, too.
    """
    answers: dict[str, list[int]] = {}
    wrong: dict[int, float] = {}  # share of the steps of each
    unread = []
    for index in range(len(records)):
        record = records[index]
        labels = record.get("labels")
        if not isinstance(labels, list) or not labels:
            unread.append(index)
            continue
        where = place_of(records, index)
        read = [
            label_of(label, f"{where}: the label of step {n}") for n, label in enumerate(labels)
        ]
        wrong[index] = 1 - sum(read) / len(read)
        answers.setdefault(json.dumps(record.get("prompt")), []).append(index)

    chosen = [
        sorted(places, key=wrong.__getitem__)[_place(rank, len(places))]
        for places in answers.values()
    ]
    return sorted([*chosen, *unread])


def _place(rank: float, count: int) -> int:
    """The place, from 0, of a rank; 0.28 * 25 is 7.000000000000001 in float64, and means 7."""
    return max(math.ceil(rank * count - 1e-9), 1) - 1


def _learned(row: Stepwise) -> list[bool]:
    """Tokens of right steps, and the end of the answer behind one."""
    learned: list[bool] = []
    for end, right in zip(row.ends, row.labels, strict=True):
        learned += [right] * (end - len(learned))
    return learned + [row.labels[-1]] * (len(row.completion) - len(learned))
