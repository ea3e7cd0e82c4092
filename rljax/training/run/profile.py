"""--profile: an xprof trace of some steps, and a timeline of their phases.

    --profile=3            step 3 of the last stage
    --profile=3-5          steps 3 to 5 of it
    --profile=warmup:3-5   of that stage

The trace lies in WORKDIR/profile (xprof or TensorBoard show it), of several processes in a folder
for each. The timeline is WORKDIR/timeline.json, in the format of Perfetto (ui.perfetto.dev), and in
the report; with several processes it is that of process 0. In these steps the learner waits for the
device after each step, so that its time is seen where it belongs.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from rljax.config.stage import Stage
from rljax.errors import shown, unknown_name
from rljax.processes.processes import Processes
from rljax.reporting.files import TIMELINE_FILE, write_json_atomic
from rljax.reporting.timeline import StepSpan, as_perfetto
from rljax.training.run import timeline

FLAG = "--profile"
FOLDER = "profile"
MOST_STEPS = 100  # a trace of more is too large to be read
FORM = re.compile(r"(?:([^:]+):)?(\d{1,9})(?:-(\d{1,9}))?")


class Profiled(NamedTuple):
    """Steps of a stage, from the first to the last."""

    stage: str
    first: int
    last: int


def read_profile(text: str, stages: Sequence[Stage]) -> Profiled:
    """The steps that "[STAGE:]FIRST[-LAST]" names.

    Raises:
        ValueError: for another form, an unknown stage, or steps that it does not have.
    """
    match = FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"Profiled steps are [STAGE:]FIRST[-LAST], such as 3-5, got {shown(text)} ({FLAG})."
        )
    steps = {stage.name: stage.steps for stage in stages}
    name = match[1] or stages[-1].name
    if name not in steps:
        raise unknown_name("stage", name, steps, FLAG)
    first, last = int(match[2]), int(match[3] or match[2])
    if not 1 <= first <= last <= steps[name]:
        raise ValueError(
            f"{name} has steps 1 to {steps[name]}, in their order, got {shown(text)} ({FLAG})."
        )
    if last - first >= MOST_STEPS:
        raise ValueError(
            f"At most {MOST_STEPS} steps are profiled at once, got {last - first + 1} ({FLAG})."
        )
    return Profiled(name, first, last)


class Profiler:
    """Records the profiled steps of a run; without any it does nothing."""

    def __init__(self, profiled: Profiled | None, workdir: Path, processes: Processes) -> None:
        """Nothing is recorded yet."""
        self.profiled, self.workdir, self.processes = profiled, workdir, processes
        self._timeline: timeline.Timeline | None = None
        self._steps: list[StepSpan] = []
        self._written = False

    @property
    def on(self) -> bool:
        """Whether a step is being recorded."""
        return self._timeline is not None

    def steps(self, stage: str, steps: Iterable[int]) -> Iterator[int]:
        """The steps themselves; those that are profiled are recorded meanwhile."""
        for step in steps:
            if self.profiled is None or self.profiled.stage != stage:
                yield step
            elif self.profiled.first <= step <= self.profiled.last:
                if not self.on:
                    self._start()
                began = self._timeline.seconds()
                with jax.profiler.StepTraceAnnotation("step", step_num=step):
                    yield step
                self._steps.append(StepSpan(stage, step, began, self._timeline.seconds()))
                if step == self.profiled.last:
                    self.close()
            else:
                yield step

    def close(self) -> list[str]:
        """Ends the recording and writes the timeline; may be called at any time, and twice.

        Returns:
            Lines to say: where it lies, or that no profiled step was taken.
        """
        if self.profiled is None or self._written:
            return []
        if not self.on:
            where = f"{self.profiled.stage} {self.profiled.first}-{self.profiled.last}"
            return [f"nothing was profiled: this process took no step of {where}"]
        timeline.stop()
        jax.profiler.stop_trace()
        found, self._timeline, self._written = self._timeline, None, True
        if self.processes.is_first and self.workdir.exists():
            events = as_perfetto(self._steps, found.spans)
            write_json_atomic(self.workdir / TIMELINE_FILE, events)
        return []

    def _start(self) -> None:
        folder = self.workdir / FOLDER
        if self.processes.count > 1:
            folder /= f"process-{self.processes.index}"
        jax.profiler.start_trace(str(folder))
        self._timeline = timeline.Timeline()
        timeline.start(self._timeline)
