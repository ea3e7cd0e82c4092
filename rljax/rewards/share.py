"""Several processes score the samples of a step together, each its share."""

import threading
from collections.abc import Callable, Sequence

from rljax.processes.processes import Processes
from rljax.rewards.worker import Outcome, Sample


def shared_outcomes(
    processes: Processes,
    samples: Sequence[Sample],
    score: Callable[[Sequence[Sample]], list[Outcome]],
) -> list[Outcome]:
    """The outcomes of N samples, of which each process scores N / processes.

    Every process is given the same samples, calls this together with the others, and gets all
    outcomes, in the order of the samples. Which process scores a sample changes nothing.

    Args:
        processes: of the run.
        samples: N.
        score: scores some of them here.
    """
    if processes.count == 1:
        return score(samples)
    own = score(samples[share(len(samples), processes.index, processes.count)])
    # Calls of different threads are told apart, as they have no common order.
    parts = processes.gather_json(f"scores of {threading.current_thread().name}", own)
    return [Outcome(*outcome) for part in parts for outcome in part]


def share(count: int, index: int, parts: int) -> slice:
    """Which of `count` samples belong to part `index`: a run of them, equal up to one."""
    return slice(count * index // parts, count * (index + 1) // parts)
