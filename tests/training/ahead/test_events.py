"""The event log: small, cut back to the checkpoint, read back as an order; lags of tokens."""

import json

import numpy as np
import pytest

from rljax.reporting.files import read_rows
from rljax.training.ahead.events import EVENTS_FILE, Events, Replay
from rljax.training.ahead.lag import lag_metrics
from tests.training.ahead.test_packing import example


def write(folder, stage: str, steps: int, **options) -> Events:
    """A log of steps that were drawn two steps before they were trained."""
    options = {"done": 0, "drawn": 0, "earlier": [], **options}
    log = Events(folder, stage, options.pop("earlier"), **options)
    experience = with_ids(example())
    for step in range(options["done"] + 1, steps + 1):
        if step > options["drawn"]:
            log.drawn(step, [max(0, step - 3)], experience)
        log.trained(step, step - 1, experience)
    log.close()
    return log


def with_ids(experience):
    """Records as problems have them."""
    samples = experience.samples
    records = [{"id": number} for number in samples.records]
    return experience._replace(records=records, samples=samples._replace(records=records))


def test_the_log_is_less_than_a_hundredth_of_the_rollouts(tmp_path):
    """At the sizes of the quickstart: 32 prompts, 8 samples, 44 tokens."""
    experience = with_ids(example(prompts=32, samples=8, tokens=44))
    log = Events(tmp_path, "grpo", [], done=0, drawn=0)
    log.drawn(1, [0], experience)
    log.trained(1, 0, experience)
    log.close()
    rollouts = experience.samples.rollouts
    held = (rollouts.tokens, rollouts.mask, rollouts.logprobs, experience.samples.versions)
    size = sum(array.nbytes for array in held)
    assert 0 < (tmp_path / EVENTS_FILE).stat().st_size < 0.01 * size


def test_what_comes_after_the_checkpoint_is_dropped(tmp_path):
    write(tmp_path, "warmup", 2)
    write(tmp_path, "grpo", 6, earlier=["warmup"])
    before = (tmp_path / EVENTS_FILE).read_text()
    # Killed after a checkpoint of step 2 whose queue held steps 3 and 4; then it goes on.
    Events(tmp_path, "grpo", ["warmup"], done=2, drawn=4).close()
    kept = read_rows(tmp_path / EVENTS_FILE)
    assert [row["step"] for row in kept if row["event"] == "trained"] == [1, 2, 1, 2]
    assert [row["step"] for row in kept if row["event"] == "drawn"] == [1, 2, 1, 2, 3, 4]
    write(tmp_path, "grpo", 6, earlier=["warmup"], done=2, drawn=4)
    again = (tmp_path / EVENTS_FILE).read_text()
    assert sorted(again.splitlines()) == sorted(before.splitlines())


def test_the_order_is_read_back(tmp_path):
    write(tmp_path, "grpo", 5)
    (tmp_path / "config.json").write_text("{}")
    replay = Replay(tmp_path)
    assert replay.weights("grpo", 5) == {1: [0], 2: [0], 3: [0], 4: [1], 5: [2]}
    assert len(replay.digest("grpo", 3)) == 16
    assert "no summary" in replay.compared("00")
    with pytest.raises(ValueError, match=r"step 6 of stage 'grpo'.*\(--replay\)"):
        replay.weights("grpo", 6)


@pytest.mark.parametrize("broken", ["missing", "damaged", "nowhere"])
def test_a_folder_without_a_log_is_one_line(tmp_path, broken):
    (tmp_path / "config.json").write_text("{}")
    if broken == "damaged":
        (tmp_path / EVENTS_FILE).write_text('{"a": 1}\nno json\n{"a": 1}\n')
    with pytest.raises(ValueError, match=r"\(--replay\)") as error:
        Replay(tmp_path / "o" if broken == "nowhere" else tmp_path)
    assert "\n" not in str(error.value)


def test_the_digest_tells_samples_apart(tmp_path):
    experience = with_ids(example())
    log = Events(tmp_path, "grpo", [], done=0, drawn=0)
    log.drawn(1, [0], experience)
    rollouts = experience.samples.rollouts
    other = rollouts._replace(logprobs=np.nextafter(rollouts.logprobs, np.float32(9)))
    log.drawn(2, [0], experience._replace(samples=experience.samples._replace(rollouts=other)))
    log.close()
    rows = [json.loads(line) for line in (tmp_path / EVENTS_FILE).read_text().splitlines()]
    assert rows[0]["samples"] != rows[1]["samples"]
    assert rows[0]["prompts"] == [0, 1] and rows[0]["versions"] == [7, 7]


def test_the_lag_of_tokens_in_steps_and_updates():
    """Version 8, 2 updates a step: lags of 0, 2, 4 and 8 updates; the last bar holds the rest."""
    versions = np.array([[8, 6, 4], [0, 1, 99]])
    mask = np.array([[True, True, True], [True, False, False]])
    found = lag_metrics(versions, mask, version=8, updates_per_step=2, most=2)
    assert found == {
        "staleness_mean": 7 / 4,
        "staleness_max": 4.0,
        "staleness_updates_mean": 14 / 4,
        "staleness_updates_max": 8.0,
        "staleness_share/0": 0.25,
        "staleness_share/1": 0.25,
        "staleness_share/2": 0.5,
    }
    nothing = lag_metrics(versions, mask & False, version=8, updates_per_step=2, most=0)
    assert nothing["staleness_max"] == 0 and nothing["staleness_share/0"] == 1
