"""Compares methods over seeds on a small exact task.

    python launch/compare.py --task=sort --methods=grpo,rloo,dapo --seeds=8 --workdir=DIR

Every method runs all seeds side by side in one compiled program, from the same warmed-up policy.
DIR then holds table.md, table.csv, curves.svg and report.html. The same command goes on where it
was interrupted and reads what is finished; more methods can be added to a DIR.

    --sweep=FILE        a file with get_sweep() -> {"objective.clip_high": (0.2, 0.28), ...}; every
                        combination runs in the same program
    --baseline=NAME     what the others are compared with; the first method by default
    --threshold=0.8     held-out accuracy whose cost is reported
    --config=FILE       configs/compare.py by default
    --config.a.b=VALUE  changes a field of every run's config
    --time=1,8          instead of running: what a step costs with so many seeds side by side
    --smoke             two seeds and two steps of everything, in about two minutes
"""

import os
import sys
from pathlib import Path

USAGE = "usage: python launch/compare.py --task=TASK --methods=A,B --seeds=N --workdir=DIR"
KNOWN = ("task", "methods", "seeds", "workdir", "sweep", "baseline", "threshold", "config", "time")


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str], bool]:
    """Options by name, overrides of the config, and whether it is a smoke run."""
    options = {"seeds": "8", "threshold": "0.8", "config": "configs/compare.py"}
    overrides, smoke = [], False
    for word in arguments:
        name, equals, value = word.removeprefix("--").partition("=")
        if word == "--smoke":
            smoke = True
        elif name.startswith("config."):
            overrides.append(word)
        elif word.startswith("--") and equals and name in KNOWN:
            options[name] = value
        else:
            raise SystemExit(f"error: unknown argument {word!r}; {USAGE}")
    for name in ("task", "methods") if "time" in options else ("task", "methods", "workdir"):
        if not options.get(name):
            raise SystemExit(f"error: --{name} is missing; {USAGE}")
    return options, overrides, smoke


def main(arguments: list[str]) -> None:
    """Runs what is missing and writes the comparison; an error is one line and status 1."""
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n{USAGE}")
        return
    options, overrides, smoke = parse(arguments)
    # On CPU every core is a device of its own, over which runs are spread: that is faster than
    # two cores on one run after the other.
    flag, given = "--xla_force_host_platform_device_count", os.environ.get("XLA_FLAGS", "")
    if flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} {flag}={os.cpu_count()}".strip()
    from rljax.benchmarks.side_by_side import print_side_by_side, time_side_by_side
    from rljax.rewards.pool import ScoringError
    from rljax.training.device_loop.compare import Comparison, alone, compare
    from rljax.training.loop import NonFiniteError

    try:
        asked = Comparison(
            task=options["task"],
            methods=tuple(options["methods"].split(",")),
            seeds=_number(options, "seeds", int),
            workdir=Path(options.get("workdir", "")),
            config=options["config"],
            overrides=tuple(overrides),
            sweep=options.get("sweep", ""),
            baseline=options.get("baseline", ""),
            threshold=_number(options, "threshold", float),
            smoke=smoke,
        )
        if "time" in options:
            counts = [_number({"time": word}, "time", int) for word in options["time"].split(",")]
            for method in asked.methods:
                print(f"{asked.task}/{method}")
                print_side_by_side(time_side_by_side(alone(asked.load(method)), counts))
        else:
            compare(asked)
    except (ValueError, ScoringError, NonFiniteError) as error:
        raise SystemExit(f"error: {error}") from None


def _number(options: dict[str, str], name: str, kind: type) -> int | float:
    try:
        return kind(options[name])
    except ValueError:
        raise SystemExit(
            f"error: --{name} must be a number, got {options[name]!r}; {USAGE}"
        ) from None


if __name__ == "__main__":
    main(sys.argv[1:])
