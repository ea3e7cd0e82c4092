"""The timeline of profiled steps: spans of threads, their file, and the bars of the report."""

import json
import threading

import pytest

from rljax.processes.processes import ONE
from rljax.reporting.timeline import LEARNER, Span, StepSpan, as_perfetto, pieces, read_perfetto
from rljax.training.run import timeline
from rljax.training.run.phases import phase
from rljax.training.run.profile import Profiled, Profiler, read_profile


class Named:
    """As much of a stage as is needed."""

    def __init__(self, name, steps):
        self.name, self.steps = name, steps


STAGES = [Named("warmup", 10), Named("grpo", 400)]
SPANS = [
    Span(LEARNER, "experience", 0.0, 4.0),
    Span(LEARNER, "sampling", 1.0, 2.0),
    Span(LEARNER, "queue", 2.0, 3.0),
    Span(LEARNER, "update", 4.0, 7.0),
    Span(LEARNER, "evaluation", 8.0, 10.0),
    Span(LEARNER, "scoring", 9.0, 10.0),
]


def test_the_inner_phase_counts_and_gaps_are_idle():
    assert pieces(SPANS, 0.0, 10.0) == [
        *(("other", 1.0), ("sampling", 1.0), ("idle", 1.0), ("other", 1.0), ("update", 3.0)),
        *(("idle", 1.0), ("other", 2.0)),  # what an evaluation scores is its own
    ]
    assert pieces(SPANS, 1.5, 4.5) == [
        *(("sampling", 0.5), ("idle", 1.0), ("other", 1.0), ("update", 0.5)),
    ]
    assert pieces([], 2.0, 5.0) == [("idle", 3.0)]


def test_the_file_is_read_back_and_has_what_perfetto_needs():
    steps = [StepSpan("grpo", 3, 0.0, 10.0)]
    spans = [*SPANS, Span("sampler-ahead", "sampling", 0.25, 9.0)]
    events = json.loads(json.dumps(as_perfetto(steps, spans)))
    found_steps, found_spans = read_perfetto(events)
    assert found_steps == steps and sorted(found_spans) == sorted(spans)
    for event in events["traceEvents"]:
        assert event["ph"] in "XM" and isinstance(event["pid"], int)
        assert event["ph"] == "M" or {"name", "cat", "tid", "ts", "dur"} <= set(event)
    tracks = {
        e["args"]["name"]: e["tid"] for e in events["traceEvents"] if "tid" in e and e["ph"] == "M"
    }
    assert len({tracks[name] for name in ("steps", LEARNER, "sampler-ahead")}) == 3


@pytest.mark.parametrize("broken", [{}, {"traceEvents": 3}, {"traceEvents": [1, {"ph": "X"}, {}]}])
def test_a_damaged_file_shows_nothing(broken):
    assert read_perfetto(broken) == ([], [])


def test_phases_of_all_threads_are_recorded_and_cut_at_both_ends():
    entered, leave = threading.Event(), threading.Event()

    def sample():
        with phase("sampling"):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=sample, name="sampler-ahead")
    with phase("experience"):  # it began before the recording
        made = timeline.Timeline()
        timeline.start(made)
    thread.start()
    entered.wait(10)
    timeline.stop()  # and the sampler goes on after it
    leave.set()
    thread.join()
    with phase("update"):
        pass
    assert [(span.track, span.phase) for span in made.spans] == [
        (LEARNER, "experience"),
        ("sampler-ahead", "sampling"),
    ]
    assert made.spans[0].began == 0.0
    assert all(0 <= span.began <= span.ended for span in made.spans)


def test_profiled_steps_leave_a_trace_and_a_timeline(tmp_path):
    profiler = Profiler(Profiled("grpo", 2, 3), tmp_path, ONE)
    assert list(profiler.steps("warmup", range(1, 4))) == [1, 2, 3] and not profiler.on
    seen = []
    for step in profiler.steps("grpo", range(1, 6)):
        seen.append((step, profiler.on))
        with phase("update"):
            pass
    assert seen == [(1, False), (2, True), (3, True), (4, False), (5, False)]
    assert profiler.close() == []
    steps, spans = read_perfetto(json.loads((tmp_path / "timeline.json").read_text()))
    assert [(each.stage, each.step) for each in steps] == [("grpo", 2), ("grpo", 3)]
    assert [span.phase for span in spans] == ["update", "update"]
    assert list(tmp_path.glob("profile/plugins/profile/*/*.xplane.pb"))


def test_a_run_that_is_past_the_profiled_steps_says_so(tmp_path):
    profiler = Profiler(Profiled("grpo", 2, 3), tmp_path, ONE)
    assert list(profiler.steps("grpo", range(4, 6))) == [4, 5]
    assert profiler.close() == ["nothing was profiled: this process took no step of grpo 2-3"]
    assert Profiler(None, tmp_path, ONE).close() == [] and not list(tmp_path.iterdir())


def test_steps_are_read():
    assert read_profile("3", STAGES) == ("grpo", 3, 3)
    assert read_profile("3-5", STAGES) == ("grpo", 3, 5)
    assert read_profile("warmup:10", STAGES) == ("warmup", 10, 10)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"\[STAGE:\]FIRST\[-LAST\], such as 3-5, got ''"),
        ("3-", "got '3-'"),
        ("0", "grpo has steps 1 to 400, .* got '0'"),
        ("5-3", "in their order, got '5-3'"),
        ("warmup:9-11", "warmup has steps 1 to 10"),
        ("warm:1", "stage 'warm'.*Did you mean 'warmup'"),
        ("1-101", "At most 100 steps .* got 101"),
    ],
)
def test_bad_steps_are_refused(text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_profile(text, STAGES)
    assert "(--profile)" in str(error.value)
