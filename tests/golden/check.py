"""Compares rljax with golden vectors: `python tests/golden/check.py DIR [--allow-missing]`.

Prints one line per file in DIR: cases passed, failed and missing (the method is not built), and
the worst relative error of the compared ones. With --verbose also the reason of every missing
case. Exit code 0: nothing failed and, without the flag, nothing is missing; 1: something did or
is; 2: DIR holds no golden file or one that cannot be read.

Everything is computed in float64, so that float64 references are compared tightly. The relative
error of a number is |ours - theirs| / max(|theirs|, a tenth of the largest |theirs| of its field).
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parents[1]):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import jax  # noqa: E402
import numpy as np  # noqa: E402
from golden_adapters import ADAPTERS, NotBuilt  # noqa: E402

# Float64 references, printed with 10 to 12 digits. verl adds 1e-8 to some denominators.
DEFAULT_TOLERANCE = 1e-7
# Files whose notes say that the reference, or a part of it, ran in float32.
TOLERANCES = {
    "async_areal": 1e-5,
    "dpo-family": 1e-5,
    "eggroll": 1e-5,
    "policy-gradient-tunix": 1e-5,
    "sft-variants": 1e-5,
    "steer": 1e-5,
    "dllm-rl-baselines": 1e-5,
    "mdlm": 1e-5,
    "spg": 1e-5,
    "gain-rl": 1e-6,  # its centre is float32
    "ma-rlhf": 1e-6,  # its weights by position are float32
}
FLOAT32_CASE = 1e-5
ABSOLUTE_FLOOR = 1e-9


class Result(NamedTuple):
    """What became of one case."""

    name: str
    status: str  # "passed", "failed" or "missing"
    error: float  # worst relative error, nan for a missing case
    reason: str


def tolerance(slug: str, case: dict) -> float:
    limit = TOLERANCES.get(slug, DEFAULT_TOLERANCE)
    args = case.get("args", {})
    in_float32 = "float32" in str(args.get("note", "")) + str(args.get("dtype", ""))
    return max(limit, FLOAT32_CASE) if in_float32 else limit


def _as_numbers(value) -> np.ndarray:
    """Nested lists to float64; None becomes NaN."""
    return np.asarray(value, dtype=object).astype(np.float64)


def _is_record(value) -> bool:
    """True for texts, mappings and lists that hold some: these are compared one by one."""
    return isinstance(value, str | dict) or (
        isinstance(value, list) and any(map(_is_record, value))
    )


def relative_error(ours, theirs) -> float:
    """Worst relative error of a field; infinity for another shape, or NaN on one side only."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or set(ours) != set(theirs):
            return math.inf
        return max((relative_error(ours[key], theirs[key]) for key in theirs), default=0.0)
    if theirs is None or ours is None:
        return 0.0 if theirs is ours else math.inf
    if isinstance(theirs, str):
        return 0.0 if ours == theirs else math.inf
    if isinstance(theirs, list) and any(_is_record(record) for record in theirs):
        if not isinstance(ours, list) or len(ours) != len(theirs):
            return math.inf
        return max(map(relative_error, ours, theirs))
    if not isinstance(ours, list):
        ours = np.asarray(ours)
    ours, theirs = _as_numbers(ours), _as_numbers(theirs)
    if ours.shape != theirs.shape:
        return math.inf
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(ours - theirs))
    finite = np.abs(theirs[np.isfinite(theirs)])
    floor = max(0.1 * finite.max(initial=0.0), ABSOLUTE_FLOOR)
    scale = np.maximum(np.where(np.isfinite(theirs), np.abs(theirs), 0.0), floor)
    errors = np.where(np.isnan(difference), np.inf, difference) / scale
    return float(errors.max(initial=0.0))


def largest_difference(ours, theirs) -> float:
    """Largest |difference| of two fields; infinity for another shape."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or set(ours) != set(theirs):
            return math.inf
        return max(largest_difference(ours[key], theirs[key]) for key in theirs)
    ours, theirs = _as_numbers(np.asarray(ours)), _as_numbers(theirs)
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else math.inf


def check_case(slug: str, case: dict, absolute: float | None = None) -> Result:
    """Runs one case through its adapter and compares every field of its outputs.

    Args:
        slug: of the file.
        case: of it.
        absolute: largest difference of frequencies of random draws; None: of numbers, which are
            compared by their relative error.
    """
    name = case.get("name", "(no name)")
    if slug not in ADAPTERS:
        return Result(name, "missing", math.nan, "no adapter")
    try:
        with jax.enable_x64(True):
            outputs = jax.device_get(ADAPTERS[slug](case))
    except NotBuilt as reason:
        return Result(name, "missing", math.nan, f"not built: {reason}")
    except Exception as problem:  # A broken function must not hide the cases after it.
        return Result(name, "failed", math.inf, f"{type(problem).__name__}: {problem}")
    compare = relative_error if absolute is None else largest_difference
    errors = {
        field: compare(outputs[field], expected) if field in outputs else math.inf
        for field, expected in case["outputs"].items()
    }
    worst = max(errors, key=errors.get, default=None)
    error, limit = errors.get(worst, 0.0), absolute or tolerance(slug, case)
    if error <= limit:
        return Result(name, "passed", error, "")
    kind = "relative error" if absolute is None else "difference"
    return Result(name, "failed", error, f"{worst}: {kind} {error:.2e} > {limit:.0e}")


def check_file(path: Path) -> tuple[str, list[Result]]:
    """The slug of a golden file and the result of each of its cases.

    Raises:
        ValueError: if the file is no golden file.
    """
    try:
        content = json.loads(path.read_text())
        slug, cases = content["system"], content["cases"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as problem:
        raise ValueError(
            f"{path.name} is no golden file; expected JSON with 'system' and 'cases' ({problem!r})."
        ) from problem
    absolute = content.get("tolerance_abs")
    return slug, [check_case(slug, case, absolute) for case in cases]


def _line(slug: str, results: list[Result], width: int) -> str:
    counts = {
        status: sum(result.status == status for result in results)
        for status in ("passed", "failed", "missing")
    }
    errors = [result.error for result in results if result.status != "missing"]
    worst = f"{max(errors):.1e}" if errors else "-"
    return (
        f"{slug:<{width}}  passed {counts['passed']:>3}  failed {counts['failed']:>3}  "
        f"missing {counts['missing']:>3}  worst relative error {worst}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder of golden *.json files")
    parser.add_argument(
        "--allow-missing", action="store_true", help="cases of methods not built are no error"
    )
    parser.add_argument("--verbose", action="store_true", help="say why cases are missing")
    options = parser.parse_args(argv)
    paths = sorted(options.directory.glob("*.json"))
    if not paths:
        print(f"No *.json in {options.directory}.", file=sys.stderr)
        return 2
    width = max(len(path.stem) for path in paths)
    everything, unreadable = [], False
    for path in paths:
        try:
            slug, results = check_file(path)
        except ValueError as problem:
            print(problem, file=sys.stderr)
            unreadable = True
            continue
        print(_line(slug, results, width), flush=True)
        for result in results:
            if result.status == "failed" or (options.verbose and result.status == "missing"):
                print(f"  {result.status}: {result.name}: {result.reason}", flush=True)
        everything += results
    print(_line("total", everything, width))
    statuses = {result.status for result in everything}
    if unreadable:
        return 2
    return int("failed" in statuses or ("missing" in statuses and not options.allow_missing))


if __name__ == "__main__":
    sys.exit(main())
