"""The exit statuses of all commands.

| status | name | what happened | start again? |
| --- | --- | --- | --- |
| 0 | DONE | the command has done what it should | no |
| 1 | FAILED | bad input, or a run that stopped itself; told in one line | not before it is mended |
| 70 | FAULT | a fault of rljax, with its traceback | no |
| 75 | RESTART | machines failed: a process is lost, hung or missing | yes, the same command |
| 130 | INTERRUPTED | Ctrl-C; a run is saved | as you like |
| 141 | CLOSED | nobody reads the output any more | no |
| 143 | TERMINATED | SIGTERM; a run is saved | yes, the same command |

70 and 75 are EX_SOFTWARE and EX_TEMPFAIL of sysexits.h; 128 + n is what shells say of signal n.
"""

import enum


class Status(enum.IntEnum):
    """An exit status."""

    DONE = 0
    FAILED = 1
    FAULT = 70
    RESTART = 75
    INTERRUPTED = 130
    CLOSED = 141
    TERMINATED = 143


# Ends that were asked for, or are the end of the work.
CALM = (Status.DONE, Status.INTERRUPTED, Status.TERMINATED)
