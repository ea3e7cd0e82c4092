"""The source of a stage's experience as the loop sees it: in turn with the updates, or ahead.

Both give the experience of a step, the state that a checkpoint keeps, and an end. The loop does not
know which one it has.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from rljax.config.asynchronous import runs_ahead
from rljax.errors import StoppedError
from rljax.training.ahead.agreement import Agreement
from rljax.training.ahead.events import Events, Replay, samples_digest
from rljax.training.ahead.lag import lag_metrics
from rljax.training.ahead.packing import pack, unpack
from rljax.training.ahead.pipeline import NOTHING, Pipeline, Ready
from rljax.training.ahead.schedule import Replayed, make_schedule
from rljax.training.ahead.transfer import FOLDER, make_transfer, sent
from rljax.training.ahead.writers import make_writer, pieces_of
from rljax.training.collect.experience import Experience, ExperienceSource, Policy
from rljax.training.collect.prompts import State
from rljax.training.collect.samplers import engine_of
from rljax.training.families import Family
from rljax.training.run.checkpoints import QUEUE
from rljax.training.run.context import Context, Record
from rljax.training.run.phases import phase

# Timings that lie beside the trainer's step and are no part of its wall time begin with this.
BESIDE = "ahead/"


class StageSource(Protocol):
    """Makes the experience of a stage, step by step."""

    def first_state(self) -> State:
        """The state before the first step, as a checkpoint keeps it."""

    def start(self, state: State, done: int) -> None:
        """Begins after so many steps, with the state that a checkpoint kept."""

    def collect(self, policy: Policy, step: int) -> Experience:
        """The experience of a step (from 1)."""

    def saved(self) -> State:
        """What a checkpoint after the last collected step keeps."""

    def finish(self) -> None:
        """Ends it after the last step, with nothing left behind; all processes call it together."""

    def close(self) -> None:
        """Ends whatever runs beside the trainer, also after an error; may come after `finish`."""


class InTurn:
    """Samples when it is asked, with the policy that it is given."""

    def __init__(self, source: ExperienceSource) -> None:
        self.source = source
        self.state: State = {}

    def first_state(self) -> State:
        """See `StageSource.first_state`."""
        return self.source.first_state()

    def start(self, state: State, done: int) -> None:
        """See `StageSource.start`."""
        self.state = state

    def collect(self, policy: Policy, step: int) -> Experience:
        """See `StageSource.collect`."""
        experience, self.state = self.source.collect(policy, self.state, step)
        return experience

    def saved(self) -> State:
        """See `StageSource.saved`."""
        return self.state

    def finish(self) -> None:
        """Nothing is left."""

    def close(self) -> None:
        """Nothing runs beside the trainer."""


class Ahead:
    """Samples ahead, by earlier weights; what waits is part of every checkpoint."""

    def __init__(
        self,
        family: Family,
        workdir: Path,
        *,
        earlier: Sequence[str] = (),
        replay: Replay | None = None,
    ) -> None:
        """Puts the parts together; nothing runs.

        Args:
            family: of the stage.
            workdir: of the run.
            earlier: names of the stages before it.
            replay: a run whose order is repeated.
        """
        self.family, self.source = family, family.source
        self.context, self.stage = family.context, family.stage
        self.workdir, self.earlier, self.replay = workdir, list(earlier), replay
        given = self.context.config.asynchronous
        self.staleness, self.room = given.max_staleness, max(given.queue_steps, given.max_staleness)
        # Sampler and trainer have the same devices: one waits until the other is done with them.
        self.takes_turns = self.context.own_sampler_mesh is None
        folder = Path(given.transfer_folder) if given.transfer_folder else workdir / FOLDER
        name = f"{workdir.absolute().name}-{self.stage.name}"
        processes = self.context.processes
        engine = engine_of(self.source.sampler)
        self.transfer = make_transfer(given.transfer, engine, folder, name, processes)
        pieces = pieces_of(self.stage, given.partial_tokens)
        self.writer = make_writer(self.context, self.stage, self.source, given.partial_tokens)
        self.schedule = make_schedule(given.schedule, self.staleness, pieces)
        self.agreement: Agreement | None = None
        if given.schedule == "latest" and processes.count > 1 and not self.takes_turns:
            self.agreement = Agreement(processes, self.stage.name)
        if replay is not None:
            self.agreement = None
            self.schedule = Replayed(replay.weights(self.stage.name, self.stage.steps))
        self.pipeline: Pipeline | None = None
        self.events: Events | None = None

    def first_state(self) -> State:
        """The source's own state, and the queue as bytes."""
        return {"source": self.source.first_state(), QUEUE: np.zeros(0, np.uint8)}

    def start(self, state: State, done: int) -> None:
        """See `StageSource.start`; the threads begin."""
        queue, writing = unpack(state[QUEUE]) if done else ({}, NOTHING)
        queue = {step: _with_records(ready, self.context) for step, ready in queue.items()}
        self.events = Events(
            self.workdir,
            self.stage.name,
            self.earlier,
            done=done,
            drawn=done + len(queue),
            writes=self.context.processes.is_first,
        )
        self.pipeline = Pipeline(
            self.writer,
            self.schedule,
            receive=self.transfer.receive,
            forget=self.transfer.forget,
            log=self._drawn,
            state=state["source"],
            queue=queue,
            writing=writing,
            done=done,
            steps=self.stage.steps,
            room=self.room,
            agreement=self.agreement,
        )
        self.pipeline.start()

    def collect(self, policy: Policy, step: int) -> Experience:
        """Publishes the policy, and takes what was drawn for the step by an earlier one."""
        pipeline = self.pipeline
        transferred = self._publish(policy, step)
        waiting = len(pipeline.queue)
        started = time.perf_counter()
        with phase("queue"):
            if self.takes_turns:
                pipeline.wait_drawn()
            ready = pipeline.take(step)
        self.transfer.tidy()
        waited = time.perf_counter() - started
        self.events.trained(step, policy.version, ready.experience)
        beside = {"queue_steps": waiting, "wait_for_weights": ready.waited}
        beside |= ready.experience.seconds | transferred
        seconds = {
            "wait_for_rollouts": waited,
            "transfer": transferred["transfer_seconds"],
            **{f"{BESIDE}{name}": float(value) for name, value in beside.items()},
        }
        samples = ready.experience.samples
        lags = lag_metrics(
            samples.versions,
            samples.rollouts.mask,
            version=policy.version,
            updates_per_step=self.stage.batch.updates_per_step,
            most=self.staleness,
        )
        metrics = ready.experience.metrics | lags
        return ready.experience._replace(metrics=metrics, seconds=seconds)

    def saved(self) -> State:
        """Waits until the sampler can go no further: then the queue follows from the schedule."""
        with phase("queue"):
            state, queue, writing = self.pipeline.settled()
        queue = {step: _without_records(queue[step]) for step in sorted(queue)}
        return {"source": state, QUEUE: pack((queue, writing))}

    def finish(self) -> None:
        """See `StageSource.finish`; the last weights were read since the last `collect`."""
        self.pipeline.close()
        self.transfer.tidy()

    def close(self) -> None:
        """See `StageSource.close`."""
        if self.pipeline is not None:
            self.pipeline.close()
            self.events.close()

    def _publish(self, policy: Policy, step: int) -> dict[str, float]:
        """Tells the sampler the weights after the step before; what the transfer cost."""
        weights, content, cost = step - 1, None, {"transfer_seconds": 0.0, "transfer_bytes": 0.0}
        if self.pipeline.needs(weights):
            with phase("transfer"):
                content, size, seconds = sent(self.transfer, policy.params, policy.version)
            cost = {"transfer_seconds": seconds, "transfer_bytes": float(size)}
        slopes = policy.temperature_slopes
        slopes = None if slopes is None else np.asarray(jax.device_get(slopes))
        told = Policy(params={}, version=policy.version, temperature_slopes=slopes)
        self.pipeline.publish(weights, told, content)
        return cost

    def _drawn(self, step: int, weights: Sequence[int], experience: Experience) -> None:
        """Logs samples that enter the queue; a replay compares them with those of its run."""
        self.events.drawn(step, weights, experience)
        if self.replay is None:
            return
        before, now = self.replay.digest(self.stage.name, step), samples_digest(experience.samples)
        if before != now:
            raise StoppedError(
                f"The replay of {self.replay.workdir} has drawn other samples in step {step} of "
                f"stage {self.stage.name!r}: {now} instead of {before}. Versions of packages, or "
                "the machine, are not those of that run (run.json says both)."
            )


def stage_source(
    family: Family,
    workdir: Path,
    *,
    earlier: Sequence[str] = (),
    replay: Replay | None = None,
) -> StageSource:
    """The source of a stage: ahead where the config says so and the stage samples.

    Args:
        family: of the stage.
        workdir: of the run.
        earlier: names of the stages before it.
        replay: a run whose order is repeated.
    """
    if runs_ahead(family.context.config) and family.stage.online:
        return Ahead(family, workdir, earlier=earlier, replay=replay)
    return InTurn(family.source)


def _without_records(ready: Ready) -> Ready:
    """Problems by their ids: a checkpoint does not repeat the data."""
    return _replaced(ready, lambda records: [record["id"] for record in records])


def _with_records(ready: Ready, context: Context) -> Ready:
    """The problems again."""

    def records(ids: Sequence[Any]) -> list[Record]:
        return [{**context.train_problems[number], "id": number} for number in ids]

    return _replaced(ready, records)


def _replaced(ready: Ready, change: Any) -> Ready:
    experience = ready.experience
    samples = experience.samples._replace(records=change(experience.samples.records))
    experience = experience._replace(records=change(experience.records), samples=samples)
    return ready._replace(experience=experience)
