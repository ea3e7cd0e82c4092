"""Two files of completions: read, brought together, and judged by rewards and by models."""

import json

import jax
import numpy as np
import pytest

from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import ByteTokenizer
from rljax.training.run.loaded import Model
from rljax.training.update.rows import completion_rows, group_rows
from rljax.training.update.verdicts import verdict_logprobs
from rljax.training.win_rate.completions import read_completions
from rljax.training.win_rate.preferences import (
    judged_outcomes,
    rewards_of_files,
    scores_of_model,
)

FIRST = [["long answer", "x"], ["a", "bb"], ["yes", "no"]]
SECOND = [["y", "longer answer"], ["a", "c"], ["no {first}", "yes"]]


def written(path, texts, **more):
    lines = [
        {
            "id": 10 + n,
            "prompt": f"question {n}",
            "completions": [{"text": text, "tokens": list(range(len(text) + 1))} for text in row],
            **more,
        }
        for n, row in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def compared(tmp_path):
    second = written(tmp_path / "second.jsonl", SECOND)
    # Lines are found by their ids, wherever they stand.
    second.write_text("\n".join(second.read_text().splitlines()[::-1]) + "\n")
    return read_completions(written(tmp_path / "first.jsonl", FIRST), second, "greedy")


def test_completions_are_brought_together_by_their_prompts(compared):
    texts = [[(one.text, other.text) for one, other in row] for row in compared.sides]
    expected = [list(zip(*rows, strict=True)) for rows in zip(FIRST, SECOND, strict=True)]
    assert texts == expected
    assert compared.lengths[0].tolist() == [[12, 2], [2, 14]]  # tokens, each with its end


def test_other_files_hold_texts_alone_or_what_evaluate_wrote(tmp_path):
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_text(json.dumps({"prompt": "p", "completion": "abc"}) + "\n")
    samples = [{"text": "de", "tokens": 9, "reward": 0.5}] * 2
    line = {"prompt": "p", "greedy": samples[:1], "samples": samples}
    other.write_text(json.dumps(line) + "\n")
    found = read_completions(one, other, "greedy")
    assert found.lengths.tolist() == [[[3, 2]]]  # letters: the first one says no tokens
    found = read_completions(other, other, "samples")
    assert rewards_of_files(found).tolist() == [[[0.5, 0.5]] * 2]
    assert found.lengths.tolist() == [[[9, 9]] * 2]
    with pytest.raises(ValueError, match=r"line 1: a completion has no 'reward' .*--by"):
        rewards_of_files(read_completions(one, other, "greedy"))
    with pytest.raises(ValueError, match="need equally many"):
        read_completions(one, other, "samples")


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    first = written(tmp_path / "first.jsonl", FIRST)
    fewer = written(tmp_path / "fewer.jsonl", SECOND[:2])
    with pytest.raises(ValueError, match="12 and 0 more are in one of them only"):
        read_completions(first, fewer, "greedy")
    with pytest.raises(ValueError, match="line 1 and .*line 1 have different prompts"):
        read_completions(first, written(tmp_path / "o.jsonl", SECOND, prompt="?"), "greedy")
    with pytest.raises(ValueError, match="completion 0 must be a text, or hold one in 'text'"):
        line = json.dumps({"id": 10, "prompt": "question 0", "completions": [3]})
        (tmp_path / "bad.jsonl").write_text(line + "\n")
        read_completions(tmp_path / "bad.jsonl", tmp_path / "bad.jsonl", "greedy")


@pytest.fixture
def model(tiny_network, one_device):
    """model("reward"): a tiny model of bytes."""

    def make(head, **more):
        network = tiny_network(head=head, vocab_size=ByteTokenizer().vocab_size, **more)
        params = network.init(jax.random.key(3), one_device)
        params = jax.tree.map(lambda x: 3 * x, params)  # so that it is not sure of nothing
        return Model(network, params, TextFormat(ByteTokenizer()))

    return make


def test_a_reward_model_scores_each_completion_by_itself(compared, model, one_device):
    made = model("reward")
    found = scores_of_model(compared, made, one_device)
    assert found.shape == (3, 2, 2) and len(np.unique(found)) == 10  # "a" is compared with "a"
    assert found[1, 0, 0] == found[1, 0, 1]
    ids = [*b"question 2", *b"yes", ByteTokenizer().eos_id]
    tokens = np.array([ids], np.int32)
    hidden = made.network.bind(made.params)(
        tokens, np.arange(len(ids))[None], np.ones_like(tokens)
    ).hidden
    expected = made.network.bind(made.params).scores(hidden[:, -1])[0, 0]
    np.testing.assert_allclose(found[2, 0, 0], expected, atol=1e-4)
    assert found[2, 0, 0] == pytest.approx(found[2, 1, 1], abs=1e-5)
    with pytest.raises(ValueError, match="head 'language_model' .*--reward-model"):
        scores_of_model(compared, model("language_model"), one_device)
    with pytest.raises(ValueError, match="the model is made for 8 positions .*FIRST, SECOND"):
        scores_of_model(compared, model("reward", max_positions=8), one_device)


SHORT = "{prompt}|{first}|{second}|"


def test_a_judge_reads_both_orders(compared, model, one_device, tmp_path):
    made = model("language_model")
    outcomes, more = judged_outcomes(compared, made, one_device, question=SHORT)
    bound = made.network.bind(made.params)

    def says_first(text):
        tokens = np.array([list(text.encode())], np.int32)
        hidden = bound(tokens, np.arange(tokens.shape[1])[None], np.ones_like(tokens)).hidden
        logits = bound.logits(hidden[0, -1])
        return float(logits[ord("A")] > logits[ord("B")])

    expected, places = [], []
    for n, rows in enumerate(zip(FIRST, SECOND, strict=True)):
        for one, other in zip(*rows, strict=True):
            # What stands in braces inside of an answer is no field.
            orders = [says_first(f"question {n}|{a}|{b}|") for a, b in ((one, other), (other, one))]
            expected.append((orders[0] + 1 - orders[1]) / 2)
            places += orders
    assert outcomes.reshape(-1).tolist() == expected and len(set(expected)) > 1
    assert outcomes[1, 0] == 0.5  # of equal answers the place alone decides
    assert more["first_place_share"] == pytest.approx(np.mean(places))
    agreed = np.mean([a != b for a, b in zip(places[::2], places[1::2], strict=True)])
    assert more["position_agreement"] == pytest.approx(agreed)
    swapped = compared._replace(sides=[[pair[::-1] for pair in row] for row in compared.sides])
    other, _ = judged_outcomes(swapped, made, one_device, question=SHORT)
    np.testing.assert_array_equal(other, 1 - outcomes)


def test_a_judge_that_cannot_judge_is_refused(compared, model, one_device):
    made = model("language_model")
    with pytest.raises(ValueError, match="head 'reward'; a judge is a language model"):
        judged_outcomes(compared, model("reward"), one_device)
    with pytest.raises(ValueError, match="lacks the field {second}"):
        judged_outcomes(compared, made, one_device, question="{prompt} {first}")
    with pytest.raises(ValueError, match="two different tokens"):
        judged_outcomes(compared, made, one_device, answers=("yes", "no"))


def test_verdicts_are_the_same_in_both_layouts(model):
    made = model("language_model")
    random = np.random.default_rng(0)
    prompts, tokens = (random.integers(1, 200, shape) for shape in ((3, 4), (3, 2, 5)))
    lengths = np.array([[3, 1], [5, 0], [2, 4]])
    mask, there = np.arange(5) < lengths[..., None], np.ones((3, 4), bool)
    arrays = prompts.astype(np.int32), there, tokens.astype(np.int32), mask
    found, _ = verdict_logprobs(made.network, made.params, group_rows(*arrays), (65, 66))
    repeated = (np.repeat(array, 2, axis=0) for array in arrays[:2])
    apart = completion_rows(*repeated, arrays[2].reshape(6, 5), mask.reshape(6, 5))
    rows, _ = verdict_logprobs(made.network, made.params, apart, (65, 66))
    assert found.shape == (3, 2, 2)
    np.testing.assert_allclose(found.reshape(6, 2), rows, atol=1e-4)
    # Of the whole vocabulary, not of the two alone.
    assert (np.exp(rows).sum(axis=1) < 0.9).all()
