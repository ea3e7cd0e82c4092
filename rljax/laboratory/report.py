"""What the laboratory finds, as rows, JSON and a table."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rljax.errors import unknown_name
from rljax.laboratory.entries import all_entries
from rljax.laboratory.entry import Entry
from rljax.laboratory.measure import Measured, keeps_its_claims, measure
from rljax.laboratory.problem import make_params

DRAWS, SEED = 20_000, 0
OF_ONE = ("single_sample", "upper")  # bounds whose samples are only averaged
ROUNDING = 1e-9  # exact numbers below this are printed as 0

Row = dict[str, Any]


def find_rows(
    names: Sequence[str] = (),
    *,
    draws: int = DRAWS,
    seed: int = SEED,
    told: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Measures entries.

    Args:
        names: of `all_entries`; none: all.
        draws: sampled of each entry.
        seed: of problem and sampling.
        told: gets a line as an entry begins.

    Raises:
        ValueError: for a name that is no entry's.
    """
    known = all_entries()
    for name in names:
        if name not in known:
            raise unknown_name("bound or estimator", name, known, "--bounds")
    params, rows = make_params(seed), []
    for name in names or known:
        for entry in known[name]:
            told(f"{name}, {entry.samples} samples, baseline {entry.baseline}")
            rows.append(row_of(entry, measure(entry, params, draws=draws, seed=seed)))
    return rows


def row_of(entry: Entry, found: Measured) -> Row:
    """A row of the results: what the entry is, and what was found."""
    cost = entry.cost
    return {
        "estimator": entry.name,
        "samples": entry.samples,
        "baseline": entry.baseline,
        "side": entry.side,
        "claims_value": entry.claims_value and entry.has_value,
        "claims_gradient": entry.claims_gradient and entry.has_gradient,
        **found._asdict(),
        "cost": cost,
        "variance_times_cost": None if found.variance is None else found.variance * cost,
        "kept": keeps_its_claims(entry, found),
    }


def bounds_of(rows: Sequence[Row]) -> list[tuple[str, float]]:
    """The certified bounds that were measured, and the truth, in the order that they must have.

    Returns:
        (what it is, its expected value): lower bounds with more and more samples, log p(a* | x),
        upper bounds.
    """
    # One for each bound, whatever its baseline, and the mean of however many single samples.
    found = {(row["estimator"], row["aim"]): row for row in rows if row["side"]}
    lower = [row for row in found.values() if row["side"] == "lower"]
    upper = [row for row in found.values() if row["side"] == "upper"]
    lower.sort(key=lambda row: 1 if row["estimator"] in OF_ONE else row["samples"])
    ordered = [(_named(row), row["aim"]) for row in lower]
    truth = [("log p(a* | x)", rows[0]["truth"])] if rows else []
    return ordered + truth + [(_named(row), row["aim"]) for row in upper]


def order_holds(rows: Sequence[Row]) -> bool:
    """Whether lower <= multi-sample <= true <= upper, by exact values."""
    values = [value for _, value in bounds_of(rows)]
    return all(a <= b + ROUNDING for a, b in zip(values, values[1:], strict=False))


def write_json(path: Path, rows: Sequence[Row], *, draws: int, seed: int) -> None:
    """Writes all that was found."""
    found = {
        "draws": draws,
        "seed": seed,
        "bounds": [{"bound": name, "value": value} for name, value in bounds_of(rows)],
        "order_holds": order_holds(rows),
        "rows": list(rows),
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


COLUMNS = (
    ("estimator", "estimator"),
    ("n", "samples"),
    ("baseline", "baseline"),
    ("bias of value", "value_bias"),
    ("bias of gradient", "gradient_bias"),
    ("within 3 s.e.", "kept"),
    ("variance", "variance"),
    ("variance x cost", "variance_times_cost"),
)


def as_markdown(rows: Sequence[Row]) -> str:
    """The table of README.md, and the line of bounds below it."""
    lines = [
        "| " + " | ".join(title for title, _ in COLUMNS) + " |",
        "| " + " | ".join("---" for _ in COLUMNS) + " |",
        *(f"| {' | '.join(_cell(row, name) for _, name in COLUMNS)} |" for row in rows),
    ]
    bounds = " ≤ ".join(f"{value:.4f} ({name})" for name, value in bounds_of(rows))
    holds = "yes" if order_holds(rows) else "no"
    return "\n".join([*lines, "", f"Bounds in order: {bounds}. Ordering holds: {holds}.", ""])


def _named(row: Mapping[str, Any]) -> str:
    samples = "" if row["estimator"] in OF_ONE else f", n={row['samples']}"
    return f"{row['estimator']}{samples}"


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if name == "kept":
        return "yes" if value else "no"
    if name in ("value_bias", "gradient_bias"):
        claims = row[f"claims_{name.removesuffix('_bias')}"]
        return _bias(value, row, name, claims)
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _bias(value: float | None, row: Mapping[str, Any], name: str, claims: bool) -> str:
    """0 where it is no more than rounding; "sampled" where it could not be enumerated."""
    if value is None:
        z = row["value_z" if name == "value_bias" else "gradient_z"]
        return "-" if z is None else "sampled"
    size = "0" if abs(value) < ROUNDING else f"{value:.3g}"
    return size if claims else f"{size}, by design"
