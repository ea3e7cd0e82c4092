"""What a whole data set of feedback says: rows twice, rows that contradict, columns that are wrong.

Rows are compared as ids, prompts and answers with everything that the template writes. Of each row
only digests are kept.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rljax.data.feedback import Demonstration, Groups, Labelled, Scored, Stepwise
from rljax.data.pairs import Pair

Row = Pair | Demonstration | Labelled | Groups | Scored | Stepwise

# A data set of fewer rows may well have one and the same answer everywhere.
ENOUGH_ROWS = 10

# Rows that a remark names.
NAMED_ROWS = 5

# The answers that are wanted: if they are all the same, a prompt has no say in them.
WANTED = ("chosen", "completion")


class FeedbackSurvey:
    """Rows of one file, added one after another.

    Attributes:
        rows: how many there are.
        duplicates: (row, the earlier one that says the same).
        contradictions: (row, the earlier one that says the opposite): the same pair the other way
            round, the same completion with the other label.
        prompt_lengths, answer_lengths: in tokens, before anything is cut.
        margins: of pairs that have one.
        labels: how many completions or steps are [wrong, right].
    """

    def __init__(self) -> None:
        self.rows = 0
        self.duplicates: list[tuple[int, int]] = []
        self.contradictions: list[tuple[int, int]] = []
        self.prompt_lengths: list[int] = []
        self.answer_lengths: list[int] = []
        self.margins: list[float] = []
        self.labels = [0, 0]
        self.level = 0  # rows whose scores are all the same
        self._said: dict[bytes, int] = {}
        self._prompts: dict[bytes, int] = {}
        self._texts: dict[str, set[bytes]] = {}

    def add(self, row: Row) -> None:
        """Takes the next row into account."""
        index, answers = self.rows, row.answers()
        said, opposite = _meanings(row)
        for meaning, found in ((said, self.duplicates), (opposite, self.contradictions)):
            if meaning is not None and meaning in self._said:
                found.append((index, self._said[meaning]))
        self._said.setdefault(said, index)
        self._prompts.setdefault(digest_of(row.prompt), index)
        for name, ids in answers.items():
            self._texts.setdefault(name, set()).add(digest_of(ids))
        self.prompt_lengths.append(len(row.prompt))
        self.answer_lengths.extend(map(len, answers.values()))
        if isinstance(row, Pair) and row.margin is not None:
            self.margins.append(row.margin)
        if isinstance(row, Labelled):
            self.labels[row.label] += 1
        if isinstance(row, Stepwise):
            for label in row.labels:
                self.labels[label] += 1
        if isinstance(row, Scored) and len(row.scores) > 1:
            self.level += len(set(row.scores)) == 1
        self.rows += 1

    def refusal(self) -> str | None:
        """Why the columns cannot be meant as they are; None if they can.

        Every wanted answer is the same although prompts differ; every chosen side has the lower
        score.
        """
        if self.rows >= ENOUGH_ROWS and len(self._prompts) > 1:
            same = [name for name in WANTED if len(self._texts.get(name, ())) == 1]
            if same:
                return (
                    f"the column {same[0]!r} holds the same text in all {self.rows} rows, whose "
                    "prompts differ: another column is meant"
                )
        if len(self.margins) == self.rows >= ENOUGH_ROWS and max(self.margins) < 0:
            return (
                f"the chosen side has the lower score in all {self.rows} rows: chosen and rejected "
                "are swapped"
            )
        return None

    def remarks(self, place: Callable[[int], str]) -> list[str]:
        """What should be known before training, in words.

        Args:
            place: where a row stands, by its index.
        """
        said = []
        for found, what in ((self.duplicates, "repeat"), (self.contradictions, "contradict")):
            if found:
                said.append(f"{len(found)} of {self.rows} rows {what} earlier ones: ")
                said[-1] += _named(found, place)
        if self.rows >= ENOUGH_ROWS and len(self._texts.get("rejected", ())) == 1:
            said.append(f"the column 'rejected' holds the same text in all {self.rows} rows")
        worse = sum(margin < 0 for margin in self.margins)
        if worse:
            said.append(f"the chosen side has the lower score in {worse} of {self.rows} rows")
        if sum(self.labels) > 1 and 0 in self.labels:
            said.append(f"all {sum(self.labels)} labels are {bool(self.labels[1])}")
        if self.level:
            said.append(f"all scores are the same in {self.level} of {self.rows} rows")
        return said

    def overlap(self, other: "FeedbackSurvey") -> tuple[int, int]:
        """How many different rows, and prompts, of another data set are in this one too."""
        rows = len(self._said.keys() & other._said.keys())
        return rows, len(self._prompts.keys() & other._prompts.keys())


def overlap_remark(trained: FeedbackSurvey, heldout: FeedbackSurvey) -> list[str]:
    """What held-out rows have in common with those that are learned, in words; [] for nothing."""
    rows, prompts = trained.overlap(heldout)
    if not prompts:
        return []
    return [
        f"{prompts} prompts of the {heldout.rows} held-out rows, {rows} of them with the same "
        "answers, are in the training rows too"
    ]


def _named(found: Sequence[tuple[int, int]], place: Callable[[int], str]) -> str:
    named = [
        f"{short_place(place(row))} (as {short_place(place(earlier))})"
        for row, earlier in found[:NAMED_ROWS]
    ]
    more = f" and {len(found) - NAMED_ROWS} more" if len(found) > NAMED_ROWS else ""
    return ", ".join(named) + more


def short_place(place: str) -> str:
    """The place of a row without its file: "line 7" of "rows.jsonl, line 7"."""
    return place.rpartition(", ")[2]


def _meanings(row: Row) -> tuple[bytes, bytes | None]:
    """Digests of what a row says, and of the opposite; None where nothing is."""
    if isinstance(row, Pair):
        chosen, rejected = row.sides
        return digest_of(row.prompt, chosen, rejected), digest_of(row.prompt, rejected, chosen)
    if isinstance(row, Groups):
        # Members have no order.
        chosen, rejected = ([[len(group)], *sorted(group)] for group in (row.chosen, row.rejected))
        opposite = digest_of(row.prompt, *rejected, *chosen)
        return digest_of(row.prompt, *chosen, *rejected), opposite
    if isinstance(row, Demonstration):
        return digest_of(row.prompt, row.completion), None
    if isinstance(row, Labelled):
        said, opposite = ([label] for label in (row.label, not row.label))
        texts = row.prompt, row.completion
        return digest_of(*texts, said), digest_of(*texts, opposite)
    if isinstance(row, Scored):
        return digest_of(row.prompt, *row.completions, map(repr, row.scores)), None
    return digest_of(row.prompt, row.completion, row.ends, row.labels, [row.outcome]), None


def digest_of(*parts: Iterable[Any]) -> bytes:
    """16 bytes of a hash of some lists, each with its length, so that none are confused."""
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        values = list(part)
        plain = all(type(value) is int for value in values)
        held = np.asarray(values, np.int64).tobytes() if plain else repr(values).encode()
        made.update(f"{len(held)}:".encode() + held)
    return made.digest()
