"""What a user sees while a stage runs: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rljax.reporting import files

# Metric -> short label, in the order shown.
SHOWN = {
    "reward": "reward",
    "bound": "bound",
    "loss": "loss",
    "accuracy": "accuracy",
    "reward_accuracy": "accuracy",
    "token_accuracy": "accuracy",
    "reward_margin": "margin",
    "answer_logprob": "answer",
    "completion_tokens": "length",
    "entropy": "entropy",
    "kl_to_start": "KL",
    "accuracy_greedy": "held-out",
}


def say(console: Console, line: str) -> None:
    """Prints a line as it is: folders may have brackets in their names."""
    # soft_wrap: without a terminal rich assumes 80 columns and would break lines for grep.
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def format_value(value: Any) -> str:
    """Three significant places for a reader in a hurry; text as it is, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool | str) or files.number(value) is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 100_000 else str(value)
    size = abs(value)
    if size != size or size == float("inf"):
        return str(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if size >= 0.001 or size == 0 else f"{value:.1e}"


def format_seconds(seconds: float) -> str:
    """0.4 s, 12 s, 3:40 (minutes), 1:02:03 (hours)."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Shows how far a stage is and how it goes.

    `update` takes whatever metrics the step has; known ones are shown, and one that a step does
    not bring (a held-out accuracy, say) keeps its last value.
    """

    def __init__(
        self,
        total_steps: int,
        stage: str,
        console: Console | None = None,
        *,
        start_step: int = 0,
    ) -> None:
        """Starts to show the stage.

        Args:
            total_steps: steps of the stage.
            stage: its name.
            console: where to write; standard output by default.
            start_step: steps that an earlier process has done.
        """
        self.console = console or Console()
        self._total, self._stage, self._step = total_steps, stage, start_step
        self._metrics: dict[str, Any] = {}
        self._started = self._updated = time.monotonic()
        # Of the last steps, without those of the first call, which wait for the compiler.
        self._step_seconds: deque[float] = deque(maxlen=25)
        self._compiled = False
        self._live: Live | None = None
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._render, console=self.console, refresh_per_second=4
            )
            self._live.start()

    def update(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Shows that the steps up to `step` (from 1) are done, with the metrics of the last.

        One call may stand for several steps; each then counts with its share of the time.
        """
        now, steps = time.monotonic(), step - self._step
        if steps > 0:
            if self._compiled:
                self._step_seconds.extend([(now - self._updated) / steps] * steps)
            self._updated, self._step, self._compiled = now, step, True
        self._metrics.update(metrics)
        if self._live is None:
            self._print(" | ".join([f"{self._stage} {step}/{self._total}", *self._plain_parts()]))

    def message(self, text: str) -> None:
        """Prints one line, above the bar where there is one."""
        self._print(text)

    def close(self) -> None:
        """Leaves the last state on the screen and gives the terminal back. May be repeated."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _print(self, text: str) -> None:
        say(self.console, text)

    def _figures(self) -> list[tuple[str, str]]:
        """(label, value) of the metrics to show; the loss only where nothing says more."""
        online = "reward" in self._metrics or "bound" in self._metrics
        found: dict[str, str] = {}
        for name, label in SHOWN.items():
            if name in self._metrics and not (name == "loss" and online):
                found.setdefault(label, format_value(self._metrics[name]))
        return list(found.items())

    def _speed(self) -> str:
        speed = files.number(self._metrics.get("tokens_per_second"))
        return "" if speed is None else f"{speed:,.0f} tok/s"

    def _eta(self) -> str:
        if self._step >= self._total:
            return f"done in {format_seconds(time.monotonic() - self._started)}"
        if not self._step_seconds:
            return "ETA –"
        # The lower middle: of two steps, one may still have compiled something, or evaluated.
        seconds = statistics.median_low(self._step_seconds)
        return f"ETA {format_seconds((self._total - self._step) * seconds)}"

    def _plain_parts(self) -> list[str]:
        figures = [f"{label} {value}" for label, value in self._figures()]
        return [*figures, *filter(None, [self._speed()]), self._eta()]

    def _render(self) -> Group:
        """The bar with its step, speed and ETA; below them the metrics."""
        bar = Table.grid(padding=(0, 2, 0, 0), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        for _ in range(3):
            bar.add_column(no_wrap=True, justify="right")
        bar.add_row(
            Text(self._stage, style="bold"),
            ProgressBar(total=max(1, self._total), completed=self._step),
            Text(f"{self._step}/{self._total}"),
            Text(self._speed(), style="dim"),
            Text(self._eta(), style="cyan"),
        )
        # Packed by hand: rich would break a narrow line between a label and its value.
        lines = [Text()]
        for label, value in self._figures():
            figure = Text.assemble((f"{label} ", "dim"), (value, "bold"))
            if lines[-1] and len(lines[-1]) + 2 + len(figure) > self.console.width:
                lines.append(Text())
            lines[-1].append("  " if lines[-1] else "").append_text(figure)
        return Group(bar, *lines)
