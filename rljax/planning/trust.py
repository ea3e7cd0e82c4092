"""Plans beside what others have measured: published, predicted, ratio.

    python launch/plan.py --trust

A plan's times are the least that a chip can take. A prediction divides them by one efficiency for
all training, and one for all sampling: the geometric mean of least / published over all cases. Its
error is told twice: with that factor, and with the factor of all other cases (left out).

Training is predicted twice: by the terms of an update (expected.py), which is what a plan expects,
and by the roofline of the compiled update.
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from rljax.benchmarks.flops import token_flops, update_flops
from rljax.errors import unknown_name
from rljax.planning import llamarl, published
from rljax.planning.analytic import Layout
from rljax.planning.compiling import Compiler
from rljax.planning.expected import update_seconds, update_terms
from rljax.planning.plan import make_plan
from rljax.planning.published import Case, cases, decode_cases

# Fields of a shape that the terms read by the same name.
SHAPE = ("layers", "width", "heads", "kv_heads", "head_dim", "experts", "experts_per_token")


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
    """Cases to compile by their names: "all", "none", or some with commas between.

    Raises:
        ValueError: for an unknown one.
    """
    if names in ("all", "none"):
        return list(cases().values()) if names == "all" else []
    for name in names.split(","):
        if name not in cases():
            raise unknown_name("published run", name, ["all", "none", *cases()], "--trust")
    return [cases()[name] for name in names.split(",")]


def compiler_of(case: Case, cache: Path, memory_gb: int = 0) -> Compiler:
    """The compiler of a case, that keeps in `cache` what it has compiled."""
    return Compiler(
        f"{published.FILE.with_suffix('.py')}:{case.name}", (), case.slice, cache, memory_gb
    )


def workload(case: Case) -> dict[str, Any]:
    """What the terms read of a case: an update with Adam, parameters in float32."""
    model, rows = case.model, case.rows_per_chip * case.slice.count
    tables = model.width * model.padded_vocab_size * (1 if model.tied_embeddings else 2)
    return {
        "parameters": token_flops(model) / 2 + tables,
        "parameter_bytes": 4,
        "optimizer_bytes": 8,
        "activation_bytes": 2,
        **{name: getattr(model, name) for name in SHAPE},
        "hidden": model.mlp_width,
        "vocabulary": model.padded_vocab_size,
        "update_flops": update_flops(model, rows, 1, 0, case.sequence, shared=False),
        "forward_flops": 0.0,
        "sequences_per_update": rows,
        "sequences_per_step": rows,
        "completion": case.sequence,
        **{"updates": 1, "passes": 0, "samples": 1, "prompt": 0, "sampled": 0},
        **{"reference": False, "critic": False, "adapters": False, "shared": False},
        **{"both_ways": False, "draws": 1, "drawn_again": False, "denoising": None},
        **{"frozen_parameters": 0, "frozen_flops": 0.0},
    }


def by_terms(case: Case) -> Compared:
    """A case by the terms of its update; `bound` is the largest."""
    chips = case.slice.count
    mesh = {"fsdp": chips // case.tensor, "tensor": case.tensor}
    layout = Layout(mesh=mesh, remat=case.remat, micro=case.rows_per_chip * chips)
    terms = update_terms(workload(case), layout, case.slice)
    return Compared(
        case.name, case.seconds, update_seconds(terms), max(terms, key=terms.__getitem__)
    )


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
            "" if math.isnan(left_out) else f"{left_out:.2f}",
            each.bound,
        )
    made.caption = f"one efficiency {found.factor:.3f}"
    if len(compared) > 1:
        made.caption += f"; left out, {found.worst:.0%} off at most"
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
    """Prints all tables; the cases that `names` chooses are compiled as well.

    Raises:
        ValueError: for an unknown name, and for what cannot be planned.
    """
    compiled = chosen(names)

    def told(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    terms = [by_terms(case) for case in cases().values()]
    compared, refused = compare_training(
        compiled, lambda case: make_plan(compiler_of(case, cache, memory_gb)), told
    )
    console = Console(width=160)
    console.print(as_table("training, by terms", terms, "s a step", 1.0))
    if compared:
        console.print(as_table("training, compiled", compared, "s a step", 1.0))
    for line in refused:
        console.print(line)
    console.print(as_table("sampling", compare_decoding(), "ms a token", 1e3))
    console.print(llamarl_table())
