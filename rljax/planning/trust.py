"""Plans beside what others have measured: published, predicted, ratio.

    python launch/plan.py --trust

A plan's times are the least that a chip can take. A prediction divides them by one efficiency for
all training, and one for all sampling: the geometric mean of least / published over all cases. Its
error is told twice: with that factor, and with the factor of all other cases (left out).
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from rljax.errors import unknown_name
from rljax.planning import llamarl, published
from rljax.planning.compiling import Compiler
from rljax.planning.plan import make_plan
from rljax.planning.published import Case, cases, decode_cases


class Compared(NamedTuple):
    """A case.

    Attributes:
        name: of the case.
        published: seconds.
        least: seconds of the plan.
        bound: what the plan says bounds it.
    """

    name: str
    published: float
    least: float
    bound: str


class Ratios(NamedTuple):
    """How far predictions lie off, predicted / published.

    Attributes:
        factor: the efficiency of all cases.
        fitted: with `factor`, one for each case.
        left_out: with the factor of all others; NaN where there is one case.
    """

    factor: float
    fitted: list[float]
    left_out: list[float]

    @property
    def worst(self) -> float:
        """The largest |ratio - 1| of those left out."""
        return max(abs(ratio - 1) for ratio in self.left_out)


def ratios(compared: Sequence[Compared]) -> Ratios:
    """One factor for all cases, and how far each then lies off.

    Args:
        compared: one case or more.
    """
    logs = [math.log(each.least / each.published) for each in compared]
    mean = sum(logs) / len(logs)

    def left_out(own: float) -> float:
        if len(logs) == 1:
            return math.nan
        return math.exp(own - (sum(logs) - own) / (len(logs) - 1))

    return Ratios(
        math.exp(mean), [math.exp(own - mean) for own in logs], [left_out(own) for own in logs]
    )


def chosen(names: str) -> list[Case]:
    """Cases by their names, "all" or some with commas between.

    Raises:
        ValueError: for an unknown one.
    """
    if names == "all":
        return list(cases().values())
    for name in names.split(","):
        if name not in cases():
            raise unknown_name("published run", name, ["all", *cases()], "--trust")
    return [cases()[name] for name in names.split(",")]


def plan_of(case: Case, cache: Path, memory_gb: int = 0) -> dict[str, Any]:
    """The plan of a case's update (plan.py), from the cache where it was compiled before."""
    config = f"{Path(published.__file__)}:{case.name}"
    return make_plan(Compiler(config, (), case.slice, cache, memory_gb))


def compare_training(
    found: Sequence[Case],
    plan: Callable[[Case], dict[str, Any]],
    told: Callable[[str], None] = lambda line: None,
) -> tuple[list[Compared], list[str]]:
    """Each case's update as it is planned, and a line on each that cannot be.

    Args:
        found: the cases.
        plan: gives a case's plan.
        told: is called with a line as each case is done.
    """
    compared, refused = [], []
    for case in found:
        phase = plan(case)["phases"]["update"]
        if not phase["compiles"]:
            size = phase["bytes_per_chip"] / 2**30
            refused.append(f"{case.name}: does not fit as compiled here ({size:.1f} GiB a chip)")
        else:
            compared.append(
                Compared(case.name, case.seconds, phase["seconds"], phase["dominating"])
            )
        told(f"{case.name}: planned")
    return compared, refused


def compare_decoding() -> list[Compared]:
    """Seconds of a token: what is published, and what reading weights and caches takes."""
    return [
        Compared(each.name, 1 / each.tokens_per_second, 1 / each.bound, "memory")
        for each in decode_cases()
    ]


def as_table(title: str, compared: Sequence[Compared], unit: str, scale: float) -> Table:
    """Published, predicted and ratio of each case.

    Args:
        title: of the table.
        compared: one case or more.
        unit: of `scale` x seconds.
        scale: what seconds are multiplied by.
    """
    found = ratios(compared)
    made = Table(title=title, title_justify="left", box=MARKDOWN)
    names = ("least", "predicted", "ratio", "ratio, left out")
    for name in ("case", f"published, {unit}", *names, "bound by"):
        made.add_column(name, justify="left" if name in ("case", "bound by") else "right")
    rows = zip(compared, found.fitted, found.left_out, strict=True)
    for each, fitted, left_out in rows:
        times = (each.published, each.least, each.least / found.factor)
        made.add_row(
            each.name,
            *(f"{seconds * scale:.4g}" for seconds in times),
            f"{fitted:.2f}",
            f"{left_out:.2f}",
            each.bound,
        )
    made.caption = f"one efficiency {found.factor:.3f}; left out, {found.worst:.0%} off at most"
    return made


def llamarl_table() -> Table:
    """Steps in turns and side by side: the paper's, ours, and the theory's bound."""
    made = Table(title="LlamaRL", title_justify="left", box=MARKDOWN)
    for name in ("model", "paper, s", "paper, faster", "ours, s", "ours, faster", "bound", "theta"):
        made.add_column(name, justify="left" if name == "model" else "right")
    for name in llamarl.PAPER:
        row = llamarl.compare(name)
        made.add_row(
            name,
            f"{row['paper_turns']:.4g} / {row['paper_ahead']:.4g}",
            f"{row['paper_speedup']:.2f}",
            f"{row['turns']:.4g} / {row['ahead']:.4g}",
            f"{row['speedup']:.2f}",
            f"{row['bound']:.2f}",
            f"{row['share']:.2f}",
        )
    return made


def print_trust(names: str, cache: Path, memory_gb: int = 0) -> None:
    """Prints all tables, those of the training runs that `names` chooses first.

    Raises:
        ValueError: for an unknown name, and for what cannot be planned.
    """
    compared, refused = compare_training(
        chosen(names),
        lambda case: plan_of(case, cache, memory_gb),
        told=lambda line: print(line, file=sys.stderr, flush=True),
    )
    tables = [as_table("training", compared, "s a step", 1.0)] if compared else []
    tables += [as_table("sampling", compare_decoding(), "ms a token", 1e3), llamarl_table()]
    console = Console(width=160)
    for table in tables:
        console.print(table)
    for line in refused:
        console.print(line)
