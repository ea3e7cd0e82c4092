"""Compares methods over seeds on a small exact task.

    python launch/compare.py --task=sort --methods=grpo,rloo,dapo --seeds=8 --workdir=DIR

Every method runs all seeds side by side in one compiled program, from the same warmed-up policy,
and within the same budget.
DIR then holds table.md, table.csv, curves.svg and report.html. The same command goes on where it
was interrupted and reads what is finished; more methods can be added to a DIR.

    --sweep=FILE        a file with get_sweep() -> {"objective.clip_high": (0.2, 0.28), ...}; every
                        combination runs in the same program
    --baseline=NAME     what the others are compared with; the first method by default
    --budget=updates    updates, tokens or seconds: each seed of every method may spend what the
                        baseline spends in the steps of its config, or AXIS:AMOUNT
    --tune=1e-4,3e-4    the learning rate of each method is the best of these on seeds that are
                        not reported; --tune_seeds=4 says on how many
    --threshold=0.8     held-out accuracy whose cost is reported
    --config=FILE       configs/compare.py by default
    --config.a.b=VALUE  changes a field of every run's config
    --summary=DIR,DIR   alone: prints what several comparisons have found, as markdown
    --time=1,8          instead of running: what a step costs with so many seeds side by side
    --smoke             two seeds and two steps of everything, in about two minutes
"""

import os
import sys
from pathlib import Path
from typing import Any

USAGE = "usage: python launch/compare.py --task=TASK --methods=A,B --seeds=N --workdir=DIR"
KNOWN = (
    "task",
    "methods",
    "seeds",
    "workdir",
    "sweep",
    "baseline",
    "threshold",
    "budget",
    "tune",
    "tune_seeds",
    "config",
    "time",
    "summary",
)


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
    if "summary" in options:
        return options, overrides, smoke
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
    use_all_cores()
    from rljax.rewards.pool import ScoringError
    from rljax.training.step_log import NonFiniteError

    try:
        if "summary" in options:
            summarise(options)
        elif "time" in options:
            time_seeds(options, overrides)
        else:
            compare(options, overrides, smoke)
    except (ValueError, ScoringError, NonFiniteError) as error:
        raise SystemExit(f"error: {error}") from None


def use_all_cores() -> None:
    """Makes every core of a CPU a device of its own; runs are spread over them.

    That is faster than two cores on one run after the other.
    """
    flag, given = "--xla_force_host_platform_device_count", os.environ.get("XLA_FLAGS", "")
    if flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} {flag}={os.cpu_count()}".strip()


def compare(options: dict[str, str], overrides: list[str], smoke: bool) -> None:
    """Runs and compares."""
    from rljax.comparison import compare

    compare.compare(_asked(compare, options, overrides, smoke))


def time_seeds(options: dict[str, str], overrides: list[str]) -> None:
    """Times steps of each method with so many seeds side by side."""
    from rljax.benchmarks.side_by_side import print_side_by_side, time_side_by_side
    from rljax.comparison import compare

    counts = [_number({"time": word}, "time", int) for word in options["time"].split(",")]
    asked = _asked(compare, options, overrides, False)
    for method in asked.methods:
        print(f"{asked.task}/{method}")
        print_side_by_side(time_side_by_side(compare.alone(asked.load(method)), counts))


def summarise(options: dict[str, str]) -> None:
    """Prints what finished comparisons have found."""
    from rljax import comparison

    print(comparison.summarise([Path(folder) for folder in options["summary"].split(",")]))


def _asked(module: Any, options: dict[str, str], overrides: list[str], smoke: bool) -> Any:
    return module.Comparison(
        task=options["task"],
        methods=tuple(options["methods"].split(",")),
        seeds=_number(options, "seeds", int),
        workdir=Path(options.get("workdir", "")),
        config=options["config"],
        overrides=tuple(overrides),
        sweep=options.get("sweep", ""),
        baseline=options.get("baseline", ""),
        threshold=_number(options, "threshold", float),
        budget=options.get("budget", "updates"),
        rates=tuple(
            _number({"tune": word}, "tune", float)
            for word in options.get("tune", "").split(",")
            if word
        ),
        tuning_seeds=_number({"tune_seeds": "4", **options}, "tune_seeds", int),
        smoke=smoke,
    )


def _number(options: dict[str, str], name: str, kind: type) -> int | float:
    try:
        return kind(options[name])
    except ValueError:
        raise SystemExit(
            f"error: --{name} must be a number, got {options[name]!r}; {USAGE}"
        ) from None


if __name__ == "__main__":
    main(sys.argv[1:])
