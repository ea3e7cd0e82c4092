"""A verdict for the console."""

from rich.markup import escape
from rich.table import Table

from rljax.chaos.campaign import Verdict
from rljax.chaos.plan import FLIP, FULL, SIGNALS


def kills_table(verdict: Verdict) -> Table:
    """Kills by the phase in which they came, and by signal."""
    used = {each.kill.signal for each in verdict.killed}
    signals = [name for name in (*SIGNALS, FULL, FLIP) if name in used]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("killed in")
    for name in (*signals, "all"):
        table.add_column(name, justify="right")
    phases = sorted({each.hit for each in verdict.killed})
    for phase in (*phases, None):
        counts = [
            sum(each.kill.signal == name and phase in (each.hit, None) for each in verdict.killed)
            for name in signals
        ]
        cells = [str(count or "–") for count in (*counts, sum(counts))]
        table.add_row(escape(phase or "all"), *cells)
    return table


def verdict_line(verdict: Verdict, kills: int) -> str:
    """The end of it, in one line."""
    held = sum(not each.problems for each in verdict.killed)
    told = f" ({verdict.restarts} asked for a restart without a kill)" if verdict.restarts else ""
    what = "and nothing differs" if verdict.good else f"but {len(verdict.problems)} things differ"
    return (
        f"{held} of {kills} kills held, in {verdict.rounds} "
        f"run{'s' * (verdict.rounds != 1)} of {verdict.processes} processes{told}, {what}"
    )
