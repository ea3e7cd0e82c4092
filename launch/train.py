"""Trains: `python launch/train.py --config=FILE[:ARG] [--config.a.b=value ...] [--workdir=DIR]`.

The same command on the same workdir continues an interrupted run.
"""

import os
import sys
from pathlib import Path

USAGE = "usage: python launch/train.py --config=FILE[:ARG] [--config.a.b=value ...] [--workdir=DIR]"


def main(arguments: list[str]) -> None:
    """Loads, checks and runs; a bad config ends with one error line and status 1."""
    given = {word.split("=", 1)[0]: word.split("=", 1)[1] for word in arguments if "=" in word}
    if "--help" in arguments or "--config" not in given:
        raise SystemExit(f"{__doc__}\n{USAGE}")
    # Imported late, so that --help is instant.
    from rljax.config.load import load_config
    from rljax.rewards.pool import ScoringError
    from rljax.training.loop import NonFiniteError, run
    from rljax.training.workdir import default_workdir

    overrides = [w for w in arguments if not w.startswith(("--config=", "--workdir="))]
    try:
        config = load_config(given["--config"], overrides)
        workdir = Path(given["--workdir"]) if "--workdir" in given else default_workdir(config.name)
        run(config, workdir)
    except (ValueError, ScoringError, NonFiniteError) as error:
        if os.environ.get("RLJAX_TRACEBACK"):
            raise
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
