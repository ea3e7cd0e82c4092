"""Several processes answer the requests of a step together, each its share."""

import threading
from collections.abc import Callable, Sequence

from rljax.processes.processes import Processes
from rljax.rewards.worker import Outcome


def shared_outcomes(
    processes: Processes,
    requests: Sequence[tuple],
    ask: Callable[[Sequence[tuple]], list[Outcome]],
) -> list[Outcome]:
    """The outcomes of N requests, of which each process answers N / processes.

    Every process is given the same requests, calls this together with the others, and gets all
    outcomes, in the order of the requests. Which process answers one changes nothing.

    Args:
        processes: of the run.
        requests: N.
        ask: answers some of them here.
    """
    if processes.count == 1:
        return ask(requests)
    own = ask(requests[share(len(requests), processes.index, processes.count)])
    # Calls of different threads are told apart, as they have no common order.
    parts = processes.gather_json(f"answers of {threading.current_thread().name}", own)
    return [Outcome(*outcome) for part in parts for outcome in part]


def share(count: int, index: int, parts: int) -> slice:
    """Which of `count` requests belong to part `index`: a run of them, equal up to one."""
    return slice(count * index // parts, count * (index + 1) // parts)
