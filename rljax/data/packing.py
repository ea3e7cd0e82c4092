"""Several examples to a row, with a plan that is addressable by step."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Example(NamedTuple):
    """What is learned together. Both are as long as the example.

    Attributes:
        tokens: ids; the ends of answers among them.
        learned: True on tokens of answers, their ends included.
    """

    tokens: list[int]
    learned: list[bool]


class Packed(NamedTuple):
    """Rows of examples.

    Attributes:
        tokens: [R, S] i32, padding at the end of each row.
        positions: [R, S] i32, restarts at 0 with each example; 0 on padding.
        segment_ids: [R, S] i32, 1, 2, ... per example of the row; 0 on padding.
        loss_mask: [R, S] bool, True on tokens that are learned.
    """

    tokens: np.ndarray
    positions: np.ndarray
    segment_ids: np.ndarray
    loss_mask: np.ndarray


def pack_rows(
    examples: Sequence[Example] | Mapping[int, Example],
    plan: Sequence[Sequence[int]],
    *,
    row_tokens: int,
    pad_id: int,
) -> Packed:
    """Writes planned rows.

    Example, S = 8: prompt [7 8] completion [9], then prompt [5] completion [6 4]:
        tokens      7 8 9 5 6 4 p p
        positions   0 1 2 0 1 2 0 0
        segment_ids 1 1 1 2 2 2 0 0
        loss_mask   . . X . X X . .

    Args:
        examples: all of them, or those of the plan by number.
        plan: per row, the indices of its examples in order (of `PackedEpochs`).
        row_tokens: S.
        pad_id: fills the rest of a row.

    Raises:
        ValueError: if a row's examples do not fit, or one has an empty prompt: the first token of
            its completion would be predicted from the example before it.
    """
    shape = (len(plan), row_tokens)
    tokens = np.full(shape, pad_id, np.int32)
    positions, segment_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    loss_mask = np.zeros(shape, bool)
    for row, members in enumerate(plan):
        start = 0
        for segment, index in enumerate(members, start=1):
            example = examples[index]
            if example.learned[0]:
                raise ValueError(
                    f"Example {index}: the prompt is empty (config.<stage>.data.path)."
                )
            end = start + len(example.tokens)
            if end > row_tokens:
                raise _too_long(f"Row {row} with example {index}", end, row_tokens)
            tokens[row, start:end] = example.tokens
            positions[row, start:end] = np.arange(end - start)
            segment_ids[row, start:end] = segment
            loss_mask[row, start:end] = example.learned
            start = end
    return Packed(tokens, positions, segment_ids, loss_mask)


def first_fit(lengths: Sequence[int], *, row_tokens: int) -> list[list[int]]:
    """Puts each item, in order, into the first row with room; opens a row when none has.

    A tree over the rows' free space finds that row in O(log rows).
    """
    leaves = 1
    while leaves < max(len(lengths), 1):
        leaves *= 2
    free = [row_tokens] * (2 * leaves)  # free[1] is the root, free[leaves + r] is row r
    rows: list[list[int]] = []
    for index, length in enumerate(lengths):
        node = 1
        while node < leaves:
            node = 2 * node if free[2 * node] >= length else 2 * node + 1
        row = node - leaves
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        free[node] -= length
        while node > 1:
            node //= 2
            free[node] = max(free[2 * node], free[2 * node + 1])
    return rows


class PackedEpochs:
    """The order of rows over endless epochs; a pure function of (lengths, seed, epoch).

    Each epoch shuffles the examples, packs them first-fit and shuffles the rows. Every example is
    in exactly one row of an epoch. Rows are numbered through all epochs, so a step's rows are known
    without reading the steps before it.

    Args:
        lengths: tokens of each example, prompt and completion and eos together.
        seed: of the epochs' orders.
        row_tokens: S.
        packed: False puts one example in each row.

    Raises:
        ValueError: no examples, an empty example, or one longer than a row.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        seed: int,
        row_tokens: int,
        packed: bool = True,
    ) -> None:
        self.lengths = np.asarray(lengths, np.int64)
        if self.lengths.size == 0:
            raise ValueError("There is nothing to pack: no example (config.<stage>.data.path).")
        longest, shortest = int(self.lengths.argmax()), int(self.lengths.argmin())
        if self.lengths[shortest] < 1:
            raise ValueError(f"Example {shortest} has no tokens (config.<stage>.data.path).")
        if self.lengths[longest] > row_tokens:
            raise _too_long(f"Example {longest}", int(self.lengths[longest]), row_tokens)
        self.seed, self.row_tokens = int(seed), int(row_tokens)
        self.packed = packed
        self._ends: list[int] = []  # rows up to and including epoch e
        self._plans: dict[int, list[list[int]]] = {}

    def plan(self, epoch: int) -> list[list[int]]:
        """The rows of one epoch, each a list of example indices."""
        if epoch not in self._plans:
            if len(self._plans) >= 2:  # a step touches at most neighbouring epochs
                self._plans.pop(next(iter(self._plans)))
            self._plans[epoch] = self._make_plan(epoch)
        return self._plans[epoch]

    def rows_for_step(self, step: int, rows_per_step: int) -> list[list[int]]:
        """The rows of one step; a step may reach over the end of an epoch."""
        start = step * rows_per_step
        return [self._row(start + place) for place in range(rows_per_step)]

    def _make_plan(self, epoch: int) -> list[list[int]]:
        generator = np.random.default_rng([self.seed % 2**64, epoch])
        order = generator.permutation(len(self.lengths))
        if not self.packed:
            return [[int(index)] for index in order]
        rows = first_fit(self.lengths[order].tolist(), row_tokens=self.row_tokens)
        rows = [[int(order[place]) for place in row] for row in rows]
        # First-fit leaves the emptiest rows last.
        return [rows[place] for place in generator.permutation(len(rows))]

    def _row(self, number: int) -> list[int]:
        epoch, place = self._locate(number)
        return self.plan(epoch)[place]

    def _locate(self, number: int) -> tuple[int, int]:
        if not self.packed:
            return divmod(number, len(self.lengths))
        while not self._ends or number >= self._ends[-1]:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + len(self.plan(len(self._ends))))
        epoch = int(np.searchsorted(self._ends, number, side="right"))
        return epoch, number - (self._ends[epoch - 1] if epoch else 0)


def _too_long(what: str, tokens: int, row_tokens: int) -> ValueError:
    return ValueError(
        f"{what} needs {tokens} tokens, a row holds {row_tokens} (config.<stage>.data.row_tokens)."
    )
