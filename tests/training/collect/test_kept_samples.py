"""Demonstrations that the policy wrote itself: which samples are kept, and that they stay."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rljax.config.load import load_config
from rljax.config.validate import validate
from rljax.training.collect.kept_samples import _kept, kept_numbers
from rljax.training.collect.sampled_once import Sampled
from rljax.training.families.supervised import Supervised
from tests.training.steps import take_step

# Two prompts with four samples each; 0 is padding.
TOKENS = [[1, 2], [1, 2], [3, 0], [4, 5], [6, 0], [7, 0], [8, 0], [9, 9]]
CORRECT = [True, True, False, True, False, True, True, False]
TOTAL = [1.0, 1.0, 0.2, 1.5, 0.0, 1.0, 1.0, 0.5]


def sampled(**changes):
    flat = {
        "tokens": np.array(TOKENS),
        "mask": np.array(TOKENS) > 0,
        "finished": np.ones(8, bool),
        **changes,
    }
    whole = SimpleNamespace(inserted=None)
    return SimpleNamespace(samples_per_prompt=4, flat=flat.__getitem__, rollouts=whole)


def kept(samples, scores, prompts, keep, most):
    return kept_numbers(Sampled(samples, scores, prompts), keep, most)


def scored(**changes):
    arrays = {name: np.zeros(8, bool) for name in ("failed", "left_out")}
    arrays |= {"judged": np.ones(8, bool), "correct": np.array(CORRECT), "total": np.array(TOTAL)}
    return SimpleNamespace(satisfied=None, **(arrays | changes))


def test_right_samples_are_kept_and_equal_ones_once():
    assert kept(sampled(), scored(), 2, "right", 4) == [0, 3, 5, 6]
    assert kept(sampled(), scored(), 2, "right", 1) == [0, 5]
    assert kept(sampled(), scored(), 1, "right", 4) == [0, 3]


def test_the_best_of_each_prompt_are_kept():
    assert kept(sampled(), scored(), 2, "best", 1) == [3, 5]
    assert kept(sampled(), scored(), 2, "best", 2) == [0, 3, 5, 6]


def test_what_did_not_end_or_was_not_scored_is_never_kept():
    ended = np.ones(8, bool)
    ended[[0, 3]] = False
    assert kept(sampled(finished=ended), scored(), 2, "right", 4) == [1, 5, 6]
    failed = np.zeros(8, bool)
    failed[5] = True
    for name in ("failed", "left_out"):
        assert kept(sampled(), scored(**{name: failed}), 2, "best", 1) == [3, 6]
    unjudged = scored(judged=~failed)
    assert kept(sampled(), unjudged, 2, "right", 1) == [0, 6]
    assert kept(sampled(), unjudged, 2, "best", 1) == [3, 5]


@pytest.mark.slow
def test_a_stage_learns_what_it_kept_and_goes_on_with_it(pieces):
    made = pieces("rft", "--config.rft.sampling.forbidden_tokens=()")
    family = Supervised(made.context, made.stage, None, 0)
    Supervised.check(made.context, made.stage)
    first = take_step(family, made.state, 1)[1].batches[0]
    path = family.source.rounds.path(0)
    assert path == made.context.workdir / "samples" / "rft.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    problems = [row["problem"] for row in rows]
    assert max(map(problems.count, problems)) <= 2 and set(problems) <= set(range(24))
    assert len(family.examples) == len(rows) > 0
    learned = {tuple(row["completion_tokens"]) for row in rows}
    for tokens, segments, mask in zip(
        first["tokens"], first["segment_ids"], first["mask"], strict=True
    ):
        targets = np.concatenate([[False], mask])
        for segment in range(1, segments.max() + 1):
            assert tuple(tokens[(segments == segment) & targets].tolist()) in learned
    # Another process goes on from the file, and not without it.
    again = Supervised(made.context, made.stage, None, 0)
    np.testing.assert_array_equal(
        take_step(again, made.state, 2)[1].batches[0]["tokens"],
        take_step(family, made.state, 2)[1].batches[0]["tokens"],
    )
    path.unlink()
    lost = Supervised(made.context, made.stage, None, 0)
    with pytest.raises(ValueError, match=r"is gone, .*config.rft.data.source"):
        take_step(lost, made.state, 2)


def test_a_prompt_with_its_sample_must_fit_into_a_row(pieces):
    made = pieces("rft", "--config.rft.data.row_tokens=11")
    with pytest.raises(ValueError, match="may have 12 tokens .* a row holds 11"):
        Supervised.check(made.context, made.stage)


def test_fields_of_samples_are_read_by_sampled_demonstrations_alone(tiny_config):
    with pytest.raises(ValueError, match="warmup.data.keep='best' is never read"):
        validate(tiny_config("rft", "--config.warmup.data.keep=best"))
    with pytest.raises(ValueError, match="temperature=0 gives the same sample"):
        validate(tiny_config("rft", "--config.rft.sampling.temperature=0"))


def test_the_config_of_the_repository_is_whole_and_shortened():
    for argument in ("", ":smoke"):
        stages = validate(load_config(f"configs/rejection_sampling.py{argument}"))
        assert [stage.data["source"] for stage in stages][1:] == ["sampled", "sampled"]


def hinted_config(*words):
    config = load_config(
        "configs/rejection_sampling.py", [f"--config.round1.{word}" for word in words]
    )
    return validate(config)


@pytest.mark.parametrize(
    "words, message",
    [
        (("data.hint_pattern={prompt}",), r"must be a text with \{context\} and one \{prompt\}"),
        (("data.hint_pattern={context}{prompt}", "data.keep=best"), r"keep='best' keeps wrong"),
    ],
)
def test_hints_that_cannot_work_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        hinted_config(*words)


def test_hinted_samples_stand_in_for_prompts_without_a_right_one():
    """Prompt 0 is solved by itself, prompt 1 by two of its hinted samples."""
    records = [{"id": 5}, {"id": 6}]
    prompts = np.array([[0, 1], [2, 3]])
    shared = dict(records=records, prompts=prompts, prompt_mask=prompts > 0, episodes=None)
    texts = dict(prompt_texts=["p", "q"], texts=list("abcdefgh"))
    plain = SimpleNamespace(**vars(sampled()), **shared, **texts)
    wrong = np.array(CORRECT) & (np.arange(8) < 4)
    hinted = SimpleNamespace(**vars(sampled()), **shared, **(texts | {"texts": list("ABCDEFGH")}))
    stage = SimpleNamespace(
        data={"keep": "right", "keep_most": 4}, batch=SimpleNamespace(samples_per_prompt=4)
    )
    drawn = Sampled(plain, scored(correct=wrong), 2, Sampled(hinted, scored(), 2))
    rows = _kept(drawn, stage)
    assert [(row["completion"], row["problem"], "hinted" in row) for row in rows] == [
        ("a", 5, False),
        ("d", 5, False),
        ("F", 6, True),
        ("G", 6, True),
    ]
    # Learned behind the plain prompt.
    assert rows[-1]["prompt"] == "q" and rows[-1]["prompt_tokens"] == [2, 3]


@pytest.mark.slow
def test_a_round_of_star_starts_from_the_first_model_with_samples_of_the_last(pieces):
    made = pieces(
        "rft",
        "--config.rft.sampling.forbidden_tokens=()",
        "--config.rft.start_from=model",
        "--config.rft.models.teacher.start_from=warmup",
        "--config.rft.data.keep=right",
        "--config.rft.data.hint_pattern={context};{prompt}",
        "--config.rft.data.max_context_tokens=8",
    )
    Supervised.check(made.context, made.stage)
    assert made.stage.models["teacher"]["start_from"] == "warmup"
