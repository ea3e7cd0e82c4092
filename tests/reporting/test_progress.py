"""The bar on a terminal, lines elsewhere, and the table at the end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rljax.reporting.progress import Progress, format_seconds, format_value
from rljax.reporting.summary import print_summary, rollout_steps

ONLINE = {
    "reward": 0.5123,
    "accuracy": 0.48,
    "loss": -0.011,
    "completion_tokens": 33.42,
    "entropy": 0.31,
    "kl_to_start": 0.0123,
    "tokens_per_second": 12345.6,
}


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves by hand."""
    now = [100.0]
    monkeypatch.setattr("rljax.reporting.progress.time.monotonic", lambda: now[0])
    return now


def test_lines_hold_every_figure_unbroken_and_without_control_characters(clock):
    console = plain_console()
    with Progress(10, "grpo", console) as progress:
        for step in (1, 2):
            clock[0] += 2.0
            progress.update(step, ONLINE)
        progress.message("saved [step 2]")
    lines = console.file.getvalue().splitlines()
    assert lines[1] == (
        "grpo 2/10 | reward 0.512 | accuracy 0.480 | length 33.4 | entropy 0.310 | KL 0.012 "
        "| 12,346 tok/s | ETA 16 s"
    )
    assert lines[2:] == ["saved [step 2]"]
    assert "\x1b" not in console.file.getvalue()


def test_eta_forgets_the_compiling_first_step_and_the_steps_before_a_resume(clock):
    console = plain_console()
    progress = Progress(100, "grpo", console, start_step=50)
    clock[0] += 60.0
    progress.update(51, {})
    for step in range(52, 61):
        clock[0] += 1.0
        progress.update(step, {})
    assert console.file.getvalue().splitlines()[-1] == "grpo 60/100 | ETA 40 s"


def test_there_is_no_eta_before_a_step_without_compilation(clock):
    console = plain_console()
    progress = Progress(10, "grpo", console)
    for seconds in (90.0, 2.0, 40.0, 2.0):  # compiles, trains, evaluates, trains
        clock[0] += seconds
        progress.update(progress._step + 1, {})
    shown = [line.rpartition(" | ")[2] for line in console.file.getvalue().splitlines()]
    assert shown == ["ETA –", "ETA 16 s", "ETA 14 s", "ETA 12 s"]


def test_one_update_may_stand_for_several_steps(clock):
    console = plain_console()
    progress = Progress(105, "warmup", console, start_step=5)
    # (steps at once, seconds): the first ones compile, then each step takes two seconds.
    for steps, seconds in ((10, 90.0), (10, 20.0), (1, 2.0), (14, 28.0), (25, 50.0), (40, 80.0)):
        clock[0] += seconds
        progress.update(progress._step + steps, {"loss": 1.0, "token_accuracy": 0.25})
    lines = console.file.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines] == [
        f"warmup {step}/105" for step in (15, 25, 26, 40, 65, 105)
    ]
    assert [line.split(" | ")[-1] for line in lines[3:]] == ["ETA 2:10", "ETA 1:20", "done in 4:30"]
    assert "loss 1.000 | accuracy 0.250" in lines[0]


def test_a_long_stretch_weighs_more_than_a_single_step(clock):
    console = plain_console()
    progress = Progress(40, "grpo", console)
    for step, seconds in ((10, 10.0), (11, 6.0), (21, 10.0), (22, 6.0)):
        clock[0] += seconds
        progress.update(step, {})
    assert console.file.getvalue().splitlines()[-1] == "grpo 22/40 | ETA 18 s"


def test_a_second_update_of_a_step_does_not_swallow_its_time(clock):
    console = plain_console()
    progress = Progress(4, "grpo", console)
    clock[0] += 3.0
    progress.update(1, {})
    clock[0] += 2.0
    progress.update(1, {"accuracy_greedy": 0.5})
    clock[0] += 1.0
    progress.update(2, {})
    assert console.file.getvalue().splitlines()[-1] == "grpo 2/4 | held-out 0.500 | ETA 6.0 s"


@pytest.mark.parametrize("width, lines", [(60, 3), (80, 3), (120, 2)])
def test_the_live_bar_fits_its_terminal(width, lines, clock):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, record=True)
    with Progress(300, "grpo", console) as progress:
        clock[0] += 2.0
        progress.update(12, {**ONLINE, "accuracy_greedy": 0.625})
        shown = console.render_lines(progress._render(), pad=False)
    text = ["".join(segment.text for segment in line) for line in shown]
    assert len(text) == lines and max(map(len, text)) <= width
    whole = "\n".join(text)
    for part in ("grpo", "12/300", "12,346 tok/s", "ETA", "reward 0.512", "held-out 0.625", "KL"):
        assert part in whole


def test_the_terminal_is_given_back_when_the_stage_fails():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with pytest.raises(RuntimeError), Progress(3, "grpo", console) as progress:
        progress.update(1, ONLINE)
        raise RuntimeError
    assert console.file.getvalue().count("\x1b[?25l") == 1  # cursor hidden
    assert console.file.getvalue().rindex("\x1b[?25h") > 0  # and shown again
    progress.close()


@pytest.mark.parametrize(
    "value, text",
    [(None, "–"), (0.0, "0.000"), (0.5, "0.500"), (-12.34, "-12.3"), (12345.6, "12,346"), (7, "7")]
    + [(1e-5, "1.0e-05"), (float("nan"), "nan"), ("nan", "nan"), (True, "True"), ("adam", "adam")],
)
def test_format_value(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(0.44, "0.4 s"), (12, "12 s"), (59.7, "60 s"), (220, "3:40"), (3723, "1:02:03")],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    "total, steps", [(0, ()), (1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (300, (1, 150, 300))]
)
def test_rollout_steps(total, steps):
    assert rollout_steps(total) == steps


def test_summary_shows_the_headline_the_rest_and_the_stages():
    console = plain_console()
    stages = {"warmup": {"steps": 200, "loss": 0.31}, "grpo": {"steps": 100, "wall_seconds": 200.0}}
    figures = {"heldout_accuracy_before": 0.31, "heldout_accuracy_after": 0.875}
    figures |= {"wall_seconds": 301.0, "seed": 3, "parameters_sha256": 8 * "0123abcd"}
    print_summary({**figures, "stages": stages}, console)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["held-out", "accuracy", "0.310", "→", "0.875"] in lines
    assert ["wall", "time", "5:01"] in lines and ["seed", "3"] in lines
    assert ["steps", "200", "100"] in lines and ["loss", "0.310", "–"] in lines
    assert ["wall", "seconds", "–", "3:20"] in lines
    assert "sha256" not in console.file.getvalue()  # for programs; a line has no room for it


def test_a_name_with_brackets_is_printed_as_it_is():
    console = plain_console()
    print_summary({"best_checkpoint": "runs/[red]/3", "stages": {"rl": {"[b]": "[/]"}}}, console)
    assert "runs/[red]/3" in console.file.getvalue() and "[/]" in console.file.getvalue()
