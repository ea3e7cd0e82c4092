"""The sampler's two threads and the queue: one draws samples, one scores them.

Everything that both sides know is guarded by one condition. What goes wrong in a thread is raised
by the next call of the trainer; a thread that ended without a word is found too.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rljax.errors import StoppedError
from rljax.models.network import Params
from rljax.training.ahead.agreement import Agreement
from rljax.training.ahead.schedule import Schedule
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import State

SAMPLER, SCORER = "sampler-ahead", "scorer-ahead"  # names of the threads

# Seconds between two looks at threads that say nothing.
LOOK = 1.0


class Published(NamedTuple):
    """What the sampler is told after a step of the trainer."""

    policy: Policy  # without parameters and weights
    content: Any  # that `receive` makes weights of


class Drawn(NamedTuple):
    """A step's samples that are to be scored."""

    step: int
    weights: tuple[int, ...]  # of each piece: the step after which its weights were taken
    made: Any
    waited: float  # seconds for weights or for room


class Ready(NamedTuple):
    """A step's experience in the queue."""

    experience: Experience
    weights: tuple[int, ...]  # of each piece: the step after which its weights were taken
    waited: float  # seconds of the sampler before it could begin


class Writing(NamedTuple):
    """A step whose samples are not drawn to their ends."""

    work: Any  # of the writer; None before the first piece
    weights: tuple[int, ...]  # of the pieces that are drawn
    waited: float  # seconds for weights or for room


NOTHING = Writing(None, (), 0.0)


class Pipeline:
    """Draws and scores the steps of a stage in their order, as far as the schedule allows."""

    def __init__(
        self,
        writer: Any,
        schedule: Schedule,
        *,
        receive: Callable[[Any], Params],
        forget: Callable[[Any], None],
        log: Callable[[int, Sequence[int], Experience], None],
        state: State,
        queue: dict[int, Ready],
        writing: Writing = NOTHING,
        done: int,
        steps: int,
        room: int,
        agreement: Agreement | None = None,
    ) -> None:
        """Takes what a run continues from; `start` begins.

        Args:
            writer: draws samples and scores them (writers.py).
            schedule: which weights a step's samples are drawn with.
            receive: what was published -> the sampler's weights; called in its thread.
            forget: what was published and will not be used again.
            log: called with step, weights and experience when a step enters the queue.
            state: of the source after the last step in the queue.
            queue: experience of the steps after `done`, none missing between.
            writing: the step after these, as far as it is drawn.
            done: steps that are trained on.
            steps: of the stage.
            room: steps that may wait, besides the one that the trainer asks for.
            agreement: of several processes, where timing decides on weights.
        """
        self.writer, self.schedule, self.writing = writer, schedule, writing
        self.receive, self.forget, self.log = receive, forget, log
        self.steps, self.room = steps, room
        self.state, self.queue, self.taken = state, dict(queue), done
        self.drawn = self.scored = done + len(queue)  # the last step that is
        self.published: dict[int, Published] = {}
        self.newest = -1  # weights that are published
        self.agreement, self.agreed = agreement, 0  # the oldest weights that may be agreed on next
        self.in_use: int | None = None  # weights that the sampler is taking
        self.to_score: list[Drawn] = []
        self.failed: dict[str, BaseException] = {}  # by the thread that it ended
        self.closed = False
        self.changed = threading.Condition()
        self.threads = [
            threading.Thread(target=self._guarded, args=(name, work), name=name, daemon=True)
            for name, work in ((SAMPLER, self._draw), (SCORER, self._score))
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self.threads:
            thread.start()

    # The trainer's side.

    def publish(self, weights: int, policy: Policy, content: Any) -> None:
        """Tells the weights after a step.

        Args:
            weights: the step that they are after.
            policy: without parameters.
            content: that `receive` understands; None if the schedule will not ask for them.
        """
        with self.changed:
            self.newest = weights
            if content is not None:
                self.published[weights] = Published(policy, content)
            self._tidy()
            self.changed.notify_all()

    def needs(self, weights: int) -> bool:
        """Whether the weights after a step will be asked for; the same on all processes.

        How far each has drawn is not: where they agree on weights, all of them are sent.
        """
        with self.changed:
            return self.agreement is not None or self._needs(weights, newest=weights)

    def wait_drawn(self) -> None:
        """Waits until all is drawn that may be: the sampler's devices are free then."""
        with self.changed:
            self._wait(lambda: not self._may_draw() or SAMPLER in self.failed)

    def take(self, step: int) -> Ready:
        """The experience of the next step; waits for it.

        What is drawn already is scored and taken, also where a later step has failed.
        """
        with self.changed:
            self._wait(lambda: step in self.queue, drawn=lambda: step <= self.drawn)
            self.taken = step
            self.changed.notify_all()
            return self.queue.pop(step)

    def settled(self) -> tuple[State, dict[int, Ready], Writing]:
        """The source's state, the queue and what is half drawn, once the sampler can do no more.

        How far that is then follows from the schedule alone.
        """
        with self.changed:
            self._wait(lambda: not self._may_draw() and self.scored == self.drawn)
            return self.state, dict(self.queue), self.writing

    def close(self) -> None:
        """Ends the threads after what they are doing; may be called twice."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join()
        for published in self.published.values():
            self.forget(published.content)
        self.published.clear()

    def _wait(
        self, condition: Callable[[], bool], drawn: Callable[[], bool] = lambda: False
    ) -> None:
        """Waits for the sampler; raises what went wrong there. Holds the condition.

        Args:
            condition: that is waited for.
            drawn: whether the thread that draws has done its part of it.
        """
        while not condition():
            for name, error in self.failed.items():
                if name != SAMPLER or not drawn():
                    raise error
            ended = [thread.name for thread in self.threads if not thread.is_alive()]
            if silent := [name for name in ended if name not in self.failed]:
                raise StoppedError(
                    f"The thread {silent[0]!r} has ended without a word after step {self.drawn}: "
                    "the last checkpoint counts, and the same command continues the run."
                )
            self.changed.wait(LOOK)

    # The sampler's side.

    def _may_draw(self) -> bool:
        """Whether the next piece may be drawn: in time, with weights, and with room for it."""
        step, piece = self.drawn + 1, len(self.writing.weights)
        room = step - self.taken <= self.room + 1
        return step <= self.steps and room and self.schedule.may_draw(step, piece, self.newest)

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # the trainer raises it
            with self.changed:
                self.failed[name] = error
                self.changed.notify_all()

    def _draw(self) -> None:
        while True:
            started = time.perf_counter()
            weights = self._next_weights()
            if weights is None:
                return
            with self.changed:
                while weights not in self.published:
                    self.changed.wait()
                step, writing = self.drawn + 1, self.writing
                published = self.published[weights]
            waited = writing.waited + time.perf_counter() - started
            policy = published.policy._replace(weights=self.receive(published.content))
            work = self.writer.begin(self.state, step) if writing.work is None else writing.work
            work = self.writer.go_on(work, policy)
            del policy  # the weights are not kept while waiting
            writing = Writing(work, (*writing.weights, weights), waited)
            with self.changed:
                self._advance(step, writing)
                self.in_use = None
                self._tidy()
                self.changed.notify_all()

    def _next_weights(self) -> int | None:
        """The weights of the next piece, once it may be drawn; None: nothing more is drawn.

        What is agreed on is drawn by all processes, also by one that is closed meanwhile: the
        others' devices wait for its own.
        """
        if self.agreement is None:
            return self._own_choice()
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.drawn < self.steps)
            if self.drawn == self.steps:
                return None
        if self.agreement.leads:
            weights = self._own_choice()
            self.agreement.say(weights)
            return weights
        weights = self.agreement.hear()
        with self.changed:
            if weights is not None:
                self.in_use = self.agreed = weights
        return weights

    def _own_choice(self) -> int | None:
        """The weights that the schedule says, once it allows the next piece; None: closed."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self._may_draw())
            if self.closed:
                return None
            step, piece = self.drawn + 1, len(self.writing.weights)
            self.in_use = self.schedule.weights_of(step, piece, self.newest)
            return self.in_use

    def _advance(self, step: int, writing: Writing) -> None:
        """Keeps what is drawn of a step, or hands it on when it is all. Holds the condition."""
        if not self.writer.is_done(writing.work):
            self.writing = writing
            return
        made, self.state = self.writer.finished(writing.work)
        self.to_score.append(Drawn(step, writing.weights, made, writing.waited))
        self.writing, self.drawn = NOTHING, step

    def _score(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closed or self.to_score)
                if self.closed:
                    return
                drawn = self.to_score.pop(0)
            experience = self.writer.judge(drawn.made)
            self.log(drawn.step, drawn.weights, experience)
            with self.changed:
                self.queue[drawn.step] = Ready(experience, drawn.weights, drawn.waited)
                self.scored = drawn.step
                self.changed.notify_all()

    def _tidy(self) -> None:
        """Forgets weights that nobody will ask for. Holds the condition."""
        for weights in list(self.published):
            if weights != self.in_use and not self._needs(weights):
                self.forget(self.published.pop(weights).content)

    def _needs(self, weights: int, newest: int | None = None) -> bool:
        """Whether weights may be asked for, once the newest are there."""
        newest = self.newest if newest is None else newest
        step, piece = self.drawn + 1, len(self.writing.weights)
        if self.agreement is not None and not self.agreement.leads:
            return step <= self.steps and weights >= self.agreed
        return self.schedule.needs(weights, newest, step, piece, self.steps)
