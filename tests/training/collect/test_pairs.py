"""Pairs from the policy's own samples."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rljax.config.validate import validate
from rljax.data.tokenizers import ByteTokenizer
from rljax.parallel.mesh import make_mesh
from rljax.processes.processes import Processes
from rljax.rewards.pool import Scores
from rljax.sampling.engine import Engine
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect import sampled_once
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled_once import Sampled
from rljax.training.collect.sampled_pairs import labelled_of_samples, pair_rounds, pairs_of


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def placed(made, params):
    """Parameters from a file, on the mesh of the pieces."""
    return jax.device_put(params, made.context.network.shardings(made.context.mesh))


def test_chosen_is_right_and_rejected_wrong(tiny_run):
    found = read(tiny_run("dpo").workdir / "pairs" / "dpo.jsonl")
    assert len(found) > 3 and len({pair["problem"] for pair in found}) == len(found)
    for pair in found:
        a, b = pair["prompt"].rstrip("=").split("+")
        assert pair["chosen"].endswith(f"<answer>{int(a) + int(b)}</answer>")
        assert f"<answer>{int(a) + int(b)}</answer>" not in pair["rejected"]
        assert pair["problem"] < 40


@pytest.mark.parametrize("prompts_per_batch", [64, 16])
def test_pairs_do_not_depend_on_how_prompts_are_batched(
    prompts_per_batch, tiny_run, pieces, final_params, monkeypatch
):
    """40 prompts at once, or in 16s with the last batch filled up."""
    monkeypatch.setattr(sampled_once, "PROMPTS_PER_BATCH", prompts_per_batch)
    made = pieces("dpo")
    params = placed(made, final_params("dpo", "warmup"))
    path = pair_rounds(made.context, made.stage, params).file(None, 1)
    assert path == made.context.workdir / "pairs" / "dpo.jsonl"
    assert read(path) == read(tiny_run("dpo").workdir / "pairs" / "dpo.jsonl")
    assert [p.name for p in path.parent.iterdir()] == ["dpo.jsonl"]
    # A complete file is taken as it is.
    path.write_text("kept")
    assert pair_rounds(made.context, made.stage, params).file(None, 1).read_text() == "kept"


class First:
    """A channel on which process 0 says that the file is there."""

    def exchange(self, name, payload):
        assert name == "dpo.jsonl is there"
        return [b"true", payload]


def test_process_0_looks_for_the_pairs_of_all(pieces):
    made = pieces("dpo")
    context = dataclasses.replace(made.context, processes=Processes(1, 2, First()))
    path = pair_rounds(context, made.stage, made.params).file(None, 1)
    assert path == context.workdir / "pairs" / "dpo.jsonl"


def test_no_pair_is_an_error_and_leaves_no_file(pieces):
    made = pieces("dpo", "--config.dpo.data.pair_prompts=8")
    words = "'first_right_first_wrong' finds nothing in round 1: none of 8 prompts .*pair_prompts"
    with pytest.raises(ValueError, match=words):
        pair_rounds(made.context, made.stage, made.params).file(None, 1)  # never right
    assert not list((made.context.workdir / "pairs").glob("*"))


def test_placeholders_let_an_untrained_policy_try_the_stage_out(pieces):
    words = ["pair_prompts=8", "placeholder_pairs=true"]
    made = pieces("dpo", *(f"--config.dpo.data.{word}" for word in words))
    found = read(pair_rounds(made.context, made.stage, made.params).file(None, 1))
    assert [(pair["chosen"], pair["rejected"]) for pair in found] == [("1", "0")] * 8


def test_which_samples_make_a_pair():
    """The first right and the first wrong one that ended, with the ids that were sampled."""
    tokenizer = ByteTokenizer()
    eos = tokenizer.eos_id
    completions = [
        [0xFF, eos],  # no text: read again it would be three other bytes
        [ord("a")],  # did not end
        [ord("b"), eos],
        [ord("c"), eos],
    ]
    correct = np.array([True, False, True, False, True, False, True, True])
    failed = np.zeros(8, bool)
    there = np.ones(len(failed), bool)
    worth = correct.astype(np.float32)
    scores = Scores(worth, {"r": worth}, correct.astype(bool), there, failed, ~there, None)
    tokens = np.zeros((2, 4, 2), np.int32)
    mask = np.zeros((2, 4, 2), bool)
    for g, ids in enumerate(completions):
        tokens[:, g, : len(ids)], mask[:, g, : len(ids)] = ids, True
    finished = np.array([[True, False, True, True]] * 2)
    reasons = np.where(finished, StopReason.STOP_TOKEN, StopReason.LENGTH)
    zeros = np.zeros(tokens.shape, np.float32)
    rollouts = Rollouts(
        tokens, mask, zeros, zeros, zeros, zeros, zeros, reasons, np.zeros(len(tokens), np.int32)
    )
    texts = [tokenizer.decode(ids) for ids in completions] * 2
    records = [{"id": 5}, {"id": 6}]
    prompts = np.array([[256, 112], [256, 113]]), np.array([[False, True], [False, True]])
    samples = Samples(records, ["p", "q"], *prompts, rollouts, None, texts, 0.0)
    expected = {
        "prompt": "p",
        "prompt_tokens": [112],
        "chosen": "\ufffd",
        "chosen_tokens": [0xFF, eos],
        "score_chosen": 1.0,
        "rejected": "c",
        "rejected_tokens": [ord("c"), eos],
        "score_rejected": 0.0,
        "problem": 5,
    }

    def made(prompts, unfinished="left_out"):
        context = SimpleNamespace(config=SimpleNamespace(seed=0))
        data = dict(pair_rule="first_right_first_wrong", pair_margin=0.0, pairs_most=1)
        data["unfinished"] = unfinished
        stage = SimpleNamespace(data=data)
        return list(pairs_of(context, stage, Sampled(samples, scores, prompts), 0))

    def labelled(prompts, unfinished="left_out"):
        data = dict(label_rule="right", label_threshold=0.0, unfinished=unfinished)
        stage = SimpleNamespace(data=data)
        rows = labelled_of_samples(stage, Sampled(samples, scores, prompts))
        return [(row["problem"], row["completion"], row["label"], row["score"]) for row in rows]

    # Of the second prompt no wrong sample ended.
    assert made(2) == [expected]
    assert made(0) == []
    both = [(5, "\ufffd", True, 1.0), (5, "b", True, 1.0), (5, "c", False, 0.0)]
    assert labelled(1) == both
    other = [(6, "\ufffd", True, 1.0), (6, "b", True, 1.0), (6, "c", True, 1.0)]
    assert labelled(2) == both + other
    # What did not end is bad, whatever the verifier says of its beginning.
    cut = made(2, "worst")[1]
    assert (cut["problem"], cut["rejected"], cut["rejected_tokens"]) == (6, "a", [ord("a")])
    assert labelled(2, "worst")[1] == (5, "a", False, 0.0) and len(labelled(2, "worst")) == 8
    failed[3] = True  # never scored: neither right nor wrong
    assert made(2) == []
    assert labelled(1) == both[:2]


def test_the_batch_divides_over_the_mesh(tiny_config, tmp_path, monkeypatch):
    """10 prompts on 8 devices: two batches of 8."""
    from rljax.config.validate import validate
    from rljax.training.run import context

    config = tiny_config("dpo", "--config.dpo.data.pair_prompts=10")
    stages = validate(config)
    made = context.build_context(config, stages, tmp_path)
    assert made.mesh.shape == make_mesh({"data": -1}).shape
    sizes = []

    def stop(context, engine, weights, records, *, key, step, noise_ids):
        sizes.append([record["id"] for record in records])
        raise KeyboardInterrupt

    monkeypatch.setattr(sampled_once, "drawn_samples", stop)
    monkeypatch.setattr(Engine, "load", lambda engine, params: params)
    with made.scorer, pytest.raises(KeyboardInterrupt):
        pair_rounds(made, stages[-1], {}).file(None, 1)
    assert sizes == [list(range(8))]


@pytest.mark.parametrize(
    "words, message",
    [
        (["pair_rule=top_lower", "pairs_most=4"], "leaves none of samples_per_prompt=4 to be low"),
        (["pairs_most=2"], "pairs_most=2 is never read with pair_rule='best_worst'"),
    ],
)
def test_rules_without_a_pair_are_refused(tiny_config, words, message):
    config = tiny_config("online", *[f"--config.online.data.{word}" for word in words])
    with pytest.raises(ValueError, match=message):
        validate(config)
