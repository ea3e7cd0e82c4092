"""What a scoring process is asked: the values of a composition for one sample."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from rljax.rewards import functions
from rljax.rewards.compose import Composition, Value

# The job of a worker (worker.py).
WORK = "rljax.rewards.judging:prepare"


# The episode of a reward that is only tried out (environments/record.py).
NOTHING_PLAYED = {
    "messages": [],
    "turns": [],
    "end": "done",
    "error": None,
    "role": "",
    "measures": {},
}


class Sample(NamedTuple):
    """What a reward may look at."""

    prompt: str
    completion: str
    reference: Any
    completion_tokens: int | None
    episode: Mapping[str, Any] | None = None


def judging(composition: Composition) -> Callable[..., tuple[list[Value], str]]:
    """A composition as what answers requests, which are the fields of a `Sample`."""

    def ask(*sample: Any) -> tuple[list[Value], str]:
        return composition.judge(*sample)

    return ask


def prepare(spec: Iterable[Any]) -> Callable[..., tuple[list[Value], str]]:
    """`judging` of a composition in a new process, whose verifiers are imported before it starts.

    Args:
        spec: of the composition (`Composition.portable`).
    """
    composition = Composition(spec)
    warm(composition)
    return judging(composition)


def warm(composition: Composition) -> None:
    """Imports and starts what rewards need, so that no sample's time pays for it.

    Raises:
        ValueError: for what does not work here.
    """
    for member in composition.members:
        if member.name in functions.WARM_IMPORTS:
            importlib.import_module(functions.WARM_IMPORTS[member.name])
        if member.name in functions.PREPARED:
            functions.PREPARED[member.name].prepare(**member.options)
