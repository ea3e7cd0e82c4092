"""Scorers of the tests, and whether a process is still there."""

from pathlib import Path

from rljax.rewards.pool import Scorer


def score(scorer, completions, references=None, **arguments):
    count = len(completions)
    return scorer.score([""] * count, completions, references or [None] * count, **arguments)


def lenient(user_file, function="mischief", **options):
    options = {"workers": 2, "timeout_seconds": 0.5, "max_failed_share": 1.0, **options}
    return Scorer([{"name": f"{user_file}:{function}", "as": "it"}], **options)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # nobody may be left to collect it
