"""Trains: `python launch/train.py --config=FILE[:ARG] [--config.a.b=value ...] [--workdir=DIR]`.

The same command on the same workdir continues an interrupted run.
"""

import os
import sys
from pathlib import Path

USAGE = "usage: python launch/train.py --config=FILE[:ARG] [--config.a.b=value ...] [--workdir=DIR]"


def main(arguments: list[str]) -> None:
    """Loads, checks and runs; whatever is wrong ends with one message and status 1."""
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n{USAGE}")
        return
    files = [word.partition("=")[2] for word in arguments if word.startswith("--config=")]
    workdirs = [word.partition("=")[2] for word in arguments if word.startswith("--workdir=")]
    overrides = [w for w in arguments if not w.startswith(("--config=", "--workdir="))]
    if len(files) != 1 or not files[0]:
        raise SystemExit(f"error: one --config=FILE is needed, got {len(files)}; {USAGE}")
    if len(workdirs) > 1 or "" in workdirs:
        raise SystemExit(f"error: --workdir=DIR may be given once, with a name; {USAGE}")
    # Imported late, so that the above is instant.
    from rljax.config.load import load_config
    from rljax.rewards.pool import ScoringError
    from rljax.training.loop import run
    from rljax.training.run.workdir import default_workdir
    from rljax.training.step_log import NonFiniteError

    try:
        config = load_config(files[0], overrides)
        run(config, Path(workdirs[0]) if workdirs else default_workdir(config.name))
    except (ValueError, ScoringError, NonFiniteError) as error:
        if os.environ.get("RLJAX_TRACEBACK"):
            raise
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
