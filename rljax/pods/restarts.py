"""Which exit statuses are worth another start, and how long is waited for machines.

The table of statuses is in rljax/commands/statuses.py. Besides RESTART and TERMINATED a process is
started again that was killed (SIGKILL: its machine, or the memory of it), or aborted by jax's own
service when process 0 was gone (SIGABRT). All else, an error to mend, a fault of rljax, a command
that is not there, fails the same way again: it ends the job at once.
"""

import signal

from rljax.commands.statuses import Status

RESTARTED = tuple(
    sorted({*(Status.RESTART, Status.TERMINATED), 128 + signal.SIGABRT, 128 + signal.SIGKILL})
)

# Kubernetes waits before it starts a failed pod again: doubling from the first to the longest. Its
# releases have 6 and 10 minutes for the longest; the shorter one is reckoned with.
FIRST_SECONDS, LONGEST_SECONDS = 10, 360


def retries_for(seconds: float) -> int:
    """The fewest retries whose waits together last so long."""
    waited, retries = 0.0, 0
    while waited < seconds:
        waited += min(FIRST_SECONDS * 2**retries, LONGEST_SECONDS)
        retries += 1
    return retries
