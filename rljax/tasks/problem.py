"""The record that every task produces."""

from typing import Any, NamedTuple


class Problem(NamedTuple):
    """One problem with whatever its verifier needs.

    Attributes:
        id: stable index inside its data set.
        prompt: the text that the model continues.
        reference: what a reward compares with; JSON-able, so that it can be stored and sent.
        demonstration: a worked solution that ends in the tagged answer, or None.
        level: how hard it is, in steps of the task's own; of a mixture the place of its task.
    """

    id: int
    prompt: str
    reference: Any
    demonstration: str | None
    level: int | None = None
