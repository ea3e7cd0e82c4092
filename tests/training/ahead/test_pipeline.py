"""The threads of a sampler ahead: order, bounds, errors, ends."""

import threading
import time
from types import SimpleNamespace
from unittest.mock import ANY

import pytest

from rljax.errors import StoppedError
from rljax.training.ahead import pipeline as pipelines
from rljax.training.ahead.agreement import Agreement
from rljax.training.ahead.pipeline import NOTHING, Pipeline, Ready
from rljax.training.ahead.schedule import Fixed, Latest
from rljax.training.ahead.writers import InOneGo
from rljax.training.collect.experience import Policy
from tests.training.ahead.meeting import Meeting


class Source:
    """Draws the step's number with the weights' number; counts what happens at once."""

    splits = True

    def __init__(self, fail_at: int = 0, fail_in: str = "draw") -> None:
        self.fail_at, self.fail_in = fail_at, fail_in
        self.drawing = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def draw(self, policy, state, step):
        self.drawing.set()
        assert self.go.wait(20)
        if (step, "draw") == (self.fail_at, self.fail_in):
            raise ValueError("the prompt is too long (config.data.max_prompt_tokens).")
        return (step, policy.weights, policy.version), state + [step]

    def judge(self, made):
        if (made[0], "judge") == (self.fail_at, self.fail_in):
            raise ValueError("the verifier is broken (config.scoring.rewards).")
        return made

    def collect(self, policy, state, step):
        made, state = self.draw(policy, state, step)
        return self.judge(made), state


@pytest.fixture
def make():
    """make(source, schedule, ...) -> a pipeline of 8 steps that runs, and what it forgot."""
    made = []

    def build(
        source,
        schedule=Fixed(2),  # noqa: B008
        *,
        state=(),
        queue=None,
        writing=NOTHING,
        done=0,
        room=2,
        agreement=None,
    ):
        forgotten = []
        pipeline = Pipeline(
            source if hasattr(source, "begin") else InOneGo(source),
            schedule,
            receive=lambda content: content,
            forget=forgotten.append,
            log=lambda step, weights, experience: None,
            state=list(state) if isinstance(state, tuple) else state,
            queue=queue or {},
            writing=writing,
            done=done,
            steps=8,
            room=room,
            agreement=agreement,
        )
        pipeline.start()
        made.append((source, pipeline))
        return SimpleNamespace(pipeline=pipeline, forgotten=forgotten)

    yield build
    for source, _ in made:
        source.go.set()
    # Those of several processes end together.
    ends = [threading.Thread(target=pipeline.close) for _, pipeline in made]
    for end in ends:
        end.start()
    for end, (_, pipeline) in zip(ends, made, strict=True):
        end.join(20)
        assert not any(thread.is_alive() for thread in pipeline.threads)


def publish(pipeline: Pipeline, weights: int) -> None:
    """The weights after a step, if anybody will ask for them."""
    content = f"weights {weights}" if pipeline.needs(weights) else None
    pipeline.publish(weights, Policy({}, version=10 * weights), content)


@pytest.mark.parametrize("splits", [True, False])
def test_every_step_has_the_weights_of_its_schedule(make, splits):
    source = Source()
    source.splits = splits
    found = make(source)
    taken = []
    for step in range(1, 9):
        publish(found.pipeline, step - 1)
        taken.append(found.pipeline.take(step).experience)
    wanted = [max(0, step - 3) for step in range(1, 9)]
    assert taken == [(n + 1, f"weights {w}", 10 * w) for n, w in enumerate(wanted)]
    # Weights 6 and 7 would be of steps 9 and 10: they were never sent.
    assert found.forgotten == [f"weights {w}" for w in range(6)]
    assert found.pipeline.settled() == (list(range(1, 9)), {}, NOTHING)


def test_the_queue_is_bounded_and_settles_at_the_schedule_s_end(make):
    found = make(Source())
    publish(found.pipeline, 0)
    found.pipeline.take(1)
    state, queue, _ = found.pipeline.settled()
    assert (state, sorted(queue)) == ([1, 2, 3], [2, 3])
    publish(found.pipeline, 1)
    found.pipeline.wait_drawn()
    assert found.pipeline.drawn == 4


def test_a_queue_that_was_saved_is_trained_on_first(make):
    queue = {3: Ready("third", (0,), 0.0), 4: Ready("fourth", (1,), 0.0)}
    found = make(Source(), state=[1, 2, 3, 4], queue=queue, done=2)
    publish(found.pipeline, 2)
    assert found.pipeline.take(3).experience == "third"
    assert found.pipeline.settled()[0] == [1, 2, 3, 4, 5]
    publish(found.pipeline, 3)
    assert found.pipeline.take(4).experience == "fourth"
    assert found.pipeline.take(5).experience == (5, "weights 2", 20)


def test_weights_that_are_being_taken_are_not_forgotten(make):
    """Of the newest ones: newer ones come while a step is drawn."""
    source = Source()
    source.go.clear()
    found = make(source, Latest(2))
    publish(found.pipeline, 0)
    assert source.drawing.wait(20)
    publish(found.pipeline, 1)
    assert found.forgotten == []
    source.go.set()
    assert found.pipeline.take(1).experience == (1, "weights 0", 0)
    assert found.pipeline.take(2).experience == (2, "weights 1", 10)
    assert found.forgotten == ["weights 0"]


@pytest.mark.parametrize("where", ["draw", "judge"])
def test_an_error_ends_the_run_in_the_trainer_s_thread_after_what_is_there(make, where):
    found = make(Source(fail_at=2, fail_in=where))
    publish(found.pipeline, 0)
    assert found.pipeline.take(1).experience == (1, "weights 0", 0)
    with pytest.raises(ValueError, match=r"\(config\."):
        found.pipeline.take(2)
    with pytest.raises(ValueError, match=r"\(config\."):
        found.pipeline.settled()


def test_a_thread_that_ends_without_a_word_is_found(make, monkeypatch):
    monkeypatch.setattr(pipelines, "LOOK", 0.01)
    monkeypatch.setattr(Pipeline, "_draw", lambda self: None)
    found = make(Source())
    publish(found.pipeline, 0)
    with pytest.raises(StoppedError, match="'sampler-ahead' has ended without a word"):
        found.pipeline.take(1)


def test_an_end_waits_for_the_step_that_is_drawn(make):
    source = Source()
    source.go.clear()
    found = make(source)
    publish(found.pipeline, 0)
    assert source.drawing.wait(20)
    threading.Timer(0.05, source.go.set).start()
    started = time.perf_counter()
    found.pipeline.close()
    assert 0.04 < time.perf_counter() - started < 10
    assert found.forgotten == ["weights 0"]


def test_scores_and_samples_overlap(make):
    """The second step is drawn while the first one is scored."""
    together = threading.Barrier(2, timeout=20)

    class Slow(Source):
        def draw(self, policy, state, step):
            if step == 2:
                together.wait()
            return super().draw(policy, state, step)

        def judge(self, made):
            if made[0] == 1:
                together.wait()
            return made

    found = make(Slow())
    publish(found.pipeline, 0)
    assert found.pipeline.take(1).experience[0] == 1


class Pieces:
    """A step is three pieces; what is drawn is the weights of each."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def begin(self, state, step):
        return step, []

    def go_on(self, work, policy):
        return work[0], [*work[1], policy.weights]

    def is_done(self, work):
        return len(work[1]) == 3

    def finished(self, work):
        return work[1], work[0]

    def judge(self, made):
        return made


def test_a_step_is_drawn_in_pieces_with_newer_weights_at_last(make):
    found = make(Pieces(), Fixed(2, pieces=3))
    for step in range(1, 9):
        publish(found.pipeline, step - 1)
        ready = found.pipeline.take(step)
        wanted = [max(0, step - 3), max(0, step - 3), max(0, step - 2)]
        assert list(ready.weights) == wanted
        assert ready.experience == [f"weights {w}" for w in wanted]
    assert len(found.forgotten) == 7, "weights 7 would be of step 9"


def test_a_half_drawn_step_is_saved_and_goes_on(make):
    """After step 3, with the weights after step 2: step 4 is drawn, and two pieces of step 5."""
    found = make(Pieces(), Fixed(2, pieces=3))
    for step in (1, 2, 3):
        publish(found.pipeline, step - 1)
        found.pipeline.take(step)
    state, queue, writing = found.pipeline.settled()
    assert (state, sorted(queue)) == (4, [4])
    assert writing.weights == (2, 2) and writing.work == (5, ["weights 2", "weights 2"])
    again = make(Pieces(), Fixed(2, 3), state=state, queue=queue, writing=writing, done=3)
    publish(again.pipeline, 3)
    assert again.pipeline.take(4).weights == (1, 1, 2)
    assert again.pipeline.settled()[0] == 5
    publish(again.pipeline, 4)
    assert again.pipeline.take(5) == Ready([f"weights {w}" for w in (2, 2, 3)], (2, 2, 3), ANY)


@pytest.fixture
def two(make):
    """two(source, source) -> pipelines of two processes that draw with the newest weights."""

    def build(*sources, schedule=Latest(1)):  # noqa: B008
        sides = zip(Meeting(2).processes(), sources, strict=True)
        return [make(source, schedule, agreement=Agreement(one, "grpo")) for one, source in sides]

    return build


@pytest.mark.parametrize("late", [0, 1])
def test_two_processes_draw_with_the_weights_that_the_first_one_says(two, late):
    """One of them publishes later than the other, at every step in another measure."""
    found = two(Source(), Source())
    taken = [[], []]

    def train(index):
        for step in range(1, 9):
            if index == late:
                time.sleep(0.01 * (step % 3))
            publish(found[index].pipeline, step - 1)
            taken[index].append(found[index].pipeline.take(step).experience)

    trainers = [threading.Thread(target=train, args=(index,)) for index in range(2)]
    for trainer in trainers:
        trainer.start()
    for trainer in trainers:
        trainer.join(20)
    assert taken[0] == taken[1] and [drawn[0] for drawn in taken[0]] == list(range(1, 9))
    versions = [drawn[2] // 10 for drawn in taken[0]]
    assert versions == sorted(versions)
    assert all(0 <= step - version <= 1 for step, version in enumerate(versions))
    # All weights are sent on both, whoever has drawn how much, and all are forgotten.
    for each in found:
        assert each.pipeline.settled()[0] == list(range(1, 9))
        assert sorted(each.forgotten)[:7] == [f"weights {w}" for w in range(7)]


def test_the_second_process_keeps_weights_until_the_first_one_has_said_which(two):
    slow, source = Source(), Source()
    slow.go.clear()
    first, second = two(slow, source)
    for each in (first, second):
        publish(each.pipeline, 0)
    assert slow.drawing.wait(20)  # with weights 0, which are newest still
    second.pipeline.take(1)
    for weights in (1, 2):  # its trainer is two steps ahead of what it was told
        publish(second.pipeline, weights)
    assert second.forgotten == []
    publish(first.pipeline, 1)
    slow.go.set()
    assert second.pipeline.take(2).experience == (2, "weights 1", 10)
    assert [first.pipeline.take(step).experience[2] for step in (1, 2)] == [0, 10]


def test_two_processes_end_with_the_same_piece(two):
    """Both are closed while the first one draws; the second one draws that piece, too."""
    slow, source = Source(), Source()
    slow.go.clear()
    first, second = two(slow, source)
    for each in (first, second):
        publish(each.pipeline, 0)
    assert slow.drawing.wait(20)
    ends = [threading.Thread(target=each.pipeline.close) for each in (second, first)]
    for end in ends:
        end.start()
    slow.go.set()
    for end in ends:
        end.join(20)
        assert not end.is_alive()
    assert first.pipeline.drawn == second.pipeline.drawn >= 1
