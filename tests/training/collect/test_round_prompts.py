"""Which problems the rounds of a stage sample, and what its curriculum knows of them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.round_prompts import RoundPrompts, check_round_prompts
from rljax.training.collect.sampled_once import Sampled
from rljax.training.collect.sampled_pairs import pair_rounds

GROUP = 2


def made(tmp_path, *, problems=12, method="dpo", rounds=3, **objective):
    source = {"dpo": "sampled_pairs", "kto": "sampled_labels"}[method]
    rl = {
        "method": method,
        "steps": 6,
        "objective": objective,
        "data": {"source": source, "rounds": rounds, "pair_prompts": 4},
        "batch": {"samples_per_prompt": GROUP, "sequences_per_update": 4},
    }
    config = complete({"stages": ("rl",), "rl": rl})
    context = SimpleNamespace(
        config=config,
        stages=validate(config),
        train_problems=[{"prompt": f"{n}="} for n in range(problems)],
        processes=SimpleNamespace(is_first=True),
    )

    def path(number):
        return tmp_path / "pairs" / f"rl-{number + 1}.jsonl"

    return context, context.stages[0], path


def sampled(places, right):
    """Samples of some problems, both right or both wrong; the last one only fills the batch up."""
    places = [*places, places[0]]
    shape = len(places), GROUP, 1
    mask, zeros = np.ones(shape, bool), np.zeros(shape, np.float32)
    rollouts = Rollouts(
        tokens=np.zeros(shape, np.int32),
        mask=mask,
        **{n: zeros for n in ("logprobs", "model_logprobs", "tempered_logprobs")},
        entropy=zeros,
        temperature=zeros,
        stop_reason=np.full(shape[:2], StopReason.STOP_TOKEN),
        slot_steps=np.zeros(shape[0], int),
    )
    prompts, count = np.zeros((shape[0], 1), np.int32), shape[0] * GROUP
    records = [{"id": place} for place in places]
    samples = Samples(
        records, ["p"] * shape[0], prompts, prompts == 0, rollouts, zeros, ["a"] * count, 0.0
    )
    good = np.repeat([place in right for place in places], GROUP)
    good[-GROUP:] ^= True  # which nobody is to learn of
    none, total = np.zeros(count, bool), good.astype(np.float32)
    return Sampled(samples, Scores(total, {}, good, ~none, none, none, None), len(places) - 1)


def played(prompts, number, right=()):
    places = prompts.begin(number)
    for start in (0, 2):
        prompts.observe(sampled(places[start : start + 2], right))
    prompts.end(number)
    return places


def test_without_a_curriculum_problems_come_in_turn_and_nothing_is_kept(tmp_path):
    context, stage, path = made(tmp_path, problems=6)
    prompts = RoundPrompts(context, stage, path)
    found = [played(prompts, number) for number in range(3)]
    assert found == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_what_was_hard_comes_again_in_the_next_round(tmp_path, method):
    words = {"curriculum": "hard_replay", "replay_share": 0.5}
    context, stage, path = made(tmp_path, method=method, **words)
    prompts = RoundPrompts(context, stage, path)
    first = played(prompts, 0, right=prompts.begin(0)[:3])
    assert len(set(first)) == 4
    second = played(prompts, 1, right=range(12))
    assert second[0] == first[3] and not set(second[1:]) & set(first)
    # Another process finds the same: the state of round 1 is that of the file.
    assert RoundPrompts(context, stage, path).begin(1) == second
    third = RoundPrompts(context, stage, path).begin(2)
    assert not set(third) & {*first, *second}  # nothing is hard, and the epoch goes on
    path(0).with_suffix(".curriculum.npz").unlink()
    with pytest.raises(ValueError, match="rl-1.curriculum.npz is gone.*of round 2 goes by"):
        RoundPrompts(context, stage, path).begin(1)


def test_the_rows_of_a_round_are_of_its_problems(pieces):
    words = ("data.pair_prompts=8", "data.placeholder_pairs=true", "objective.curriculum=vade")
    piece = pieces("dpo", *(f"--config.dpo.{word}" for word in words))
    path = pair_rounds(piece.context, piece.stage, piece.params).file(None, 1)
    rows = [json.loads(line)["problem"] for line in path.read_text().splitlines()]
    expected = RoundPrompts(piece.context, piece.stage, lambda number: path).begin(0)
    assert rows == expected and rows != list(range(8))
    with np.load(path.with_suffix(".curriculum.npz")) as state:
        counts = state["right"] + state["wrong"]
        assert counts.sum() == 8 * 4 and (counts[rows] == 4).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"objective": {"curriculum": "pcl"}}, "Unknown curriculum 'pcl'"),
        ({"objective": {"curriculum": "dump"}}, "Unknown curriculum 'dump'"),
        (
            {"objective": {"curriculum": "vade"}, "data": {"path": "pairs.jsonl"}},
            "data.source='jsonl' reads rows of a file.*'in_turn'",
        ),
        (
            {"objective": {"curriculum": "hard_replay", "replay_share": 0.0}},
            r"replay_share.*in \(0, 1\]",
        ),
    ],
)
def test_what_no_round_can_follow_is_refused(words, message):
    rl = {"method": "dpo", "data": {"source": "sampled_pairs"}, **words}
    with pytest.raises(ValueError, match=message):
        validate(complete({"stages": ("rl",), "rl": rl}))


def test_columns_that_a_curriculum_reads_are_named(tmp_path):
    context, stage, _ = made(tmp_path, curriculum="easy_to_hard")
    with pytest.raises(ValueError, match="difficulty_column names none"):
        check_round_prompts(context, stage)
    context, stage, _ = made(tmp_path, problems=3, curriculum="vade")
    check_round_prompts(context, stage)  # a round then has all of them
