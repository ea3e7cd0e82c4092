"""Rewards of texts and of models: one protocol, their sum, their order."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rljax.models.heads import sequence_rewards, token_values
from rljax.rewards.judges.answers import expected_score
from rljax.rewards.references import gold_text
from rljax.training.collect.judge_scorer import expected_scores, preferences
from rljax.training.collect.rewards import ModelReward, TextReward, make_reward, make_scorer
from rljax.training.collect.rollouts import Samples
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.run.models import Model, models_of
from rljax.training.update.rows import completion_rows


def samples_of(tokenizer, problems, texts):
    """Two samples of each of three prompts."""
    encoded = [[*tokenizer.encode(text), tokenizer.eos_id] for text in texts]
    tokens, mask = np.zeros((6, 6), np.int32), np.zeros((6, 6), bool)
    for row, ids in enumerate(encoded):
        tokens[row, : len(ids)], mask[row, : len(ids)] = ids, True
    records = [{**problems[index], "id": index} for index in range(3)]
    prompts = np.array([tokenizer.encode(record["prompt"]) for record in records], np.int32)
    return Samples(
        records=records,
        prompt_texts=[record["prompt"] for record in records],
        prompts=prompts,
        prompt_mask=np.ones(prompts.shape, bool),
        rollouts=SimpleNamespace(
            tokens=tokens.reshape(3, 2, 6), mask=mask.reshape(3, 2, 6), inserted=None
        ),
        versions=None,
        texts=texts,
        seconds=0.0,
    )


def test_a_model_scores_beside_the_texts(pieces):
    """Six samples in passes of four, the last of which is filled up."""
    words = ("weight=2.0", "text_weight=0.5")
    made = pieces(
        "rlhf",
        *(f"--config.ppo.models.reward.{word}" for word in words),
        "--config.ppo.batch.sequences_per_micro_batch=4",
    )
    network = made.context.networks["rm"]
    params = network.init(jax.random.key(5), made.context.mesh)
    model = Model("reward", network, "rm", trained=False, params=params)
    context = dataclasses.replace(made.context, models={"reward": model})
    reward = make_reward(context, made.stage)
    right = ["<answer>0</answer>", "", "<answer>1</answer>", "1", "2", "<answer>2</answer>"]
    samples = samples_of(context.tokenizer, context.train_problems, right)
    assert isinstance(reward, ModelReward)
    with pytest.raises(ValueError, match="reward model of stage 'ppo' is not read here"):
        make_reward(made.context, made.stage)
    alone = dataclasses.replace(made.stage, models={})
    assert isinstance(make_reward(made.context, alone), TextReward)
    scores = reward.score(samples)
    texts = TextReward(made.context).score(samples)
    rows = completion_rows(
        np.repeat(samples.prompts, 2, axis=0),
        np.repeat(samples.prompt_mask, 2, axis=0),
        samples.flat("tokens"),
        samples.flat("mask"),
    )
    inputs = (rows[name] for name in ("tokens", "positions", "segment_ids"))
    own = np.asarray(sequence_rewards(network, params, *inputs))[:, 0]
    np.testing.assert_allclose(scores.parts["reward_model"], own, atol=1e-5)
    assert list(scores.parts) == ["exact_match", "reward_model"]
    assert list(texts.total) == [1, 0, 1, 0, 0, 1] == list(scores.parts["exact_match"])
    np.testing.assert_allclose(scores.total, 2 * own + 0.5 * texts.total, atol=1e-5)
    # What counts as right is said by the verifier.
    np.testing.assert_array_equal(scores.correct, texts.correct)
    assert reward.scores(samples).dtype == np.float32 and np.ptp(own) > 0


def test_a_model_reads_a_whole_episode(pieces):
    """Two replies with an answer between them: the score at the end of the last reply."""
    made = pieces("rlhf", "--config.ppo.batch.sequences_per_micro_batch=4")
    network = made.context.networks["rm"]
    params = network.init(jax.random.key(5), made.context.mesh)
    model = Model("reward", network, "rm", trained=False, params=params)
    reward = make_reward(dataclasses.replace(made.context, models={"reward": model}), made.stage)
    samples = samples_of(made.context.tokenizer, made.context.train_problems, ["12345"] * 6)
    whole = reward.scores(samples)
    inserted = np.zeros(samples.rollouts.mask.shape, bool)
    inserted[..., 2:4] = True
    holes = SimpleNamespace(
        tokens=samples.rollouts.tokens, mask=samples.rollouts.mask & ~inserted, inserted=inserted
    )
    np.testing.assert_array_equal(reward.scores(samples._replace(rollouts=holes)), whole)


def test_named_parts_of_a_models_reward(pieces, tmp_path):
    """Normalised by reference completions, clipped, and less for every token."""
    path = tmp_path / "reference.jsonl"
    rows = [{"prompt": f"{a}+1=", "completion": f"<answer>{a + 1}</answer>"} for a in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("normalise=reference", f"reference_path={path}", "clip=0.5", "length_penalty=0.01")
    made = pieces(
        "rlhf",
        *(f"--config.ppo.models.reward.{word}" for word in words),
        "--config.ppo.batch.sequences_per_micro_batch=4",
    )
    network = made.context.networks["rm"]
    params = network.init(jax.random.key(5), made.context.mesh)
    model = Model("reward", network, "rm", trained=False, params=params)
    reward = make_reward(dataclasses.replace(made.context, models={"reward": model}), made.stage)
    # The reference completions, scored as samples are.
    expected = []
    for row in rows:
        tokenizer = made.context.tokenizer
        ids = tokenizer.encode(row["prompt"] + row["completion"]) + [tokenizer.eos_id]
        tokens = np.array([ids], np.int32)
        inputs = (tokens, np.arange(len(ids))[None], np.ones_like(tokens))
        expected.append(float(sequence_rewards(network, params, *inputs)[0, 0]))
    assert reward.parts.means == pytest.approx((np.mean(expected),), abs=1e-5)
    assert reward.parts.deviations == pytest.approx((np.std(expected),), rel=1e-3)
    texts = ["<answer>0</answer>", "", "<answer>1</answer>", "1", "2", "<answer>2</answer>"]
    scores = reward.score(samples_of(made.context.tokenizer, made.context.train_problems, texts))
    raw = scores.parts["reward_model"]
    clipped = np.clip((raw - np.mean(expected)) / np.std(expected), -0.5, 0.5)
    lengths = np.array([len(made.context.tokenizer.encode(text)) + 1 for text in texts])
    np.testing.assert_allclose(scores.total, clipped - 0.01 * lengths, atol=1e-3)
    assert np.abs(clipped).max() == 0.5 and np.ptp(scores.total) > 0


@pytest.mark.parametrize(
    "row, message",
    [
        ({"prompt": "1234567"}, r"The prompt of .*ref.jsonl, line 2 has 7 tokens, at most 6 are "),
        ({"completion": None}, r"ref.jsonl, line 2 lacks the column 'completion'"),
        ({"completion": [{"role": "user", "content": "a"}]}, r"ref.jsonl, line 2: the completion"),
    ],
)
def test_reference_completions_are_read_before_the_run_starts(pieces, tmp_path, row, message):
    path, good = tmp_path / "ref.jsonl", {"prompt": "1+1=", "completion": "2"}
    path.write_text("".join(json.dumps(each) + "\n" for each in (good, good | row)))
    words = ("normalise=reference", f"reference_path={path}")
    made = pieces("rlhf", *(f"--config.ppo.models.reward.{word}" for word in words))
    with pytest.raises(ValueError, match=message) as caught:
        PolicyGradient.check(made.context, made.stage)
    if "prompt" in row:
        fields = "(config.data.max_prompt_tokens; config.ppo.models.reward.reference_path)"
        assert fields in str(caught.value)


TEXTS = ["<answer>0</answer>", "", "<answer>1</answer>", "1", "2", "<answer>2</answer>"]


def rows_of(samples):
    return completion_rows(
        np.repeat(samples.prompts, 2, axis=0),
        np.repeat(samples.prompt_mask, 2, axis=0),
        samples.flat("tokens"),
        samples.flat("mask"),
    )


def drawn(context, role, network, key):
    params = network.init(jax.random.key(key), context.mesh)
    return Model(role, network, "rm", trained=False, params=params)


def test_several_models_are_an_ensemble(pieces):
    words = ("members=('rm',)", "ensemble=mean_minus_deviation", "ensemble_weight=2.0")
    made = pieces("rlhf", *(f"--config.ppo.models.reward.{word}" for word in words))
    network = made.context.networks["rm"]
    roles = ("reward", "reward_2")
    assert {"reward", "reward_2"} <= set(models_of(made.context.network, made.context.stages, 2))
    models = {r: drawn(made.context, r, network, 5 + n) for n, r in enumerate(roles)}
    context = dataclasses.replace(made.context, models=models)
    samples = samples_of(context.tokenizer, context.train_problems, TEXTS)
    scores = make_reward(context, made.stage).score(samples)
    rows = rows_of(samples)
    inputs = [rows[name] for name in ("tokens", "positions", "segment_ids")]
    own = np.stack([sequence_rewards(network, m.params, *inputs)[:, 0] for m in models.values()])
    assert np.abs(own[0] - own[1]).min() > 1e-3
    np.testing.assert_allclose(scores.parts["reward_model"], own.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(scores.parts["reward_disagreement"], own.std(axis=0), atol=1e-5)
    expected = own.mean(axis=0) - 2 * own.std(axis=0)
    np.testing.assert_allclose(scores.total, expected, atol=1e-5)


def test_steps_are_scored_where_they_end(pieces):
    made = pieces(
        "rlhf",
        "--config.rm.method=process_reward",
        "--config.rm.data.step_separator=>",
        "--config.ppo.models.reward.step_score=min",
        "--config.ppo.models.reward.step_separator=>",  # a token of its own, or the end of a tag
    )
    network = made.context.networks["rm"]
    model = drawn(made.context, "reward", network, 5)
    context = dataclasses.replace(made.context, models={"reward": model})
    texts = ["1>2", "1>>2>", ">", "", "ab", "<answer>1"]
    samples = samples_of(context.tokenizer, context.train_problems, texts)
    found = make_reward(context, made.stage).score(samples).parts["reward_model"]
    rows = rows_of(samples)
    inputs = (rows[name] for name in ("tokens", "positions", "segment_ids"))
    values = np.asarray(token_values(network, model.params, *inputs))[..., 0]
    chances = 1 / (1 + np.exp(-values[:, -rows["mask"].shape[1] :]))
    # Slots in which steps end; a text without any is one step, at its end.
    ends = [[1, 2], [2, 4], [1], [0], [1], [0, 1]]
    expected = [row[places].min() for row, places in zip(chances, ends, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_language_model_says_by_its_next_token_whether_a_sample_is_right(pieces):
    words = ("start_from=warmup", "question=ok", "verdicts=('1','0')")
    made = pieces("rlhf", *(f"--config.ppo.models.reward.{word}" for word in words))
    network = made.context.network
    model = drawn(made.context, "reward", network, 7)
    context = dataclasses.replace(made.context, models={"reward": model})
    samples = samples_of(context.tokenizer, context.train_problems, TEXTS)
    found = make_reward(context, made.stage).score(samples).parts["reward_model"]
    bound, expected = network.bind(model.params), []
    for n in range(6):
        kept = samples.flat("tokens")[n][samples.flat("mask")[n]].tolist()
        ids = [*samples.prompts[n // 2].tolist(), *kept, *b"ok"]
        tokens = np.array([ids], np.int32)
        hidden = bound(tokens, np.arange(len(ids))[None], np.ones_like(tokens)).hidden
        logits = np.asarray(bound.logits(hidden[0, -1]))
        expected.append(logits[ord("1")] - logits[ord("0")])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(found) > 1e-3


def test_a_judge_in_a_role_is_asked_about_the_texts(pieces):
    """Expected scores, and preferences in both orders, by hand from the model's logits."""
    own = "--config.ppo.models.reward"
    words = (f"{own}.start_from=warmup", f"{own}.judge=score", f"{own}.lowest=2")
    question = "{prompt}|{completion}|{rubric}{lowest}-{highest}"
    made = pieces(
        "rlhf", *words, f"{own}.highest=4", f"{own}.question={question}", f"{own}.rubric=r"
    )
    network = made.context.network
    model = drawn(made.context, "reward", network, 7)
    context = dataclasses.replace(made.context, models={"reward": model})
    samples = samples_of(context.tokenizer, context.train_problems, TEXTS)
    bound, text_format = network.bind(model.params), context.text_format

    def logits_behind(text: str) -> np.ndarray:
        ids = text_format.prompt(text, where="here", field="here").tokens
        tokens = np.array([ids], np.int32)
        hidden = bound(tokens, np.arange(len(ids))[None], np.ones_like(tokens)).hidden
        return np.asarray(bound.logits(hidden[0, -1]))

    found = make_reward(context, made.stage).score(samples).parts["reward_model"]
    prompts, expected = samples.repeated(samples.prompt_texts), []
    for prompt, text in zip(prompts, TEXTS, strict=True):
        logprobs = np.asarray(jax.nn.log_softmax(logits_behind(f"{prompt}|{text}|r2-4")))
        tops = [{"token": f" {n}", "logprob": float(logprobs[ord(str(n))])} for n in (2, 3, 4)]
        choice = {"logprobs": {"content": [{"token": "3", "top_logprobs": tops}]}}
        expected.append(expected_score(choice, 2, 4))  # as of a judge at an address
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(found) > 1e-3

    fields = made.stage.models["reward"] | {"judge": "pair", "question": "{prompt}{first};{second}"}
    pairs = make_scorer(context, model, fields, 4, "here").of_samples(samples)
    for row, (prompt, text) in enumerate(zip(prompts, TEXTS, strict=True)):
        other = gold_text(context.references(samples.records)[row // 2])
        first, second = (
            logits_behind(f"{prompt}{a};{b}") for a, b in ((text, other), (other, text))
        )
        wins = (first[ord("A")] > first[ord("B")]) + (second[ord("B")] > second[ord("A")])
        assert pairs[row] == wins / 2


def test_what_is_made_of_a_judges_answers():
    said = np.log(np.array([[0.1, 0.3], [0.2, 0.0001], [0.02, 0.02]], np.float32))
    np.testing.assert_allclose(expected_scores(said, 5), [5.75, 5.0005, 5.5], atol=1e-4)
    both = [[-1.0, -2.0], [-2.0, -1.0]]  # the sample wins as A, and as B
    place = [[-1.0, -2.0], [-1.0, -2.0]]  # A wins, whatever it is
    other = [[-2.0, -1.0], [-1.0, -2.0]]
    tie = [[-1.0, -1.0], [-2.0, -1.0]]
    found = preferences(np.array([*both, *place, *other, *tie], np.float32))
    np.testing.assert_array_equal(found, [1.0, 0.5, 0.0, 0.75])


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ("start_from=warmup", "judge=score", "lowest=5", "highest=5"),
            "lowest=5 must be below highest=5",
        ),
        (("judge=pair", "highest=5"), "highest=5 is never read with judge='pair'"),
        (("rubric=kind",), "rubric='kind' is never read with judge=''"),
        (("judge=pair", "question={prompt} {first}"), "has no place {second}"),
        (("judge=score", "step_score=min"), "step_score='min' reads the tokens of a sample"),
        (
            ("judge=score", "normalise=reference", "reference_path=x.jsonl"),
            "normalise='reference' reads the tokens of a sample",
        ),
        (("judge=score",), "'rm' has the head 'reward'; a model that is asked a question is a lan"),
        (
            ("start_from=warmup", "judge=score", "verdicts=('1','0')"),
            "is never read with judge='score'",
        ),
        (
            ("step_score=min", "question=ok"),
            "step_score='min' reads a reward head, and question='ok' a lang",
        ),
        (("ensemble=min",), r"ensemble='min' is never read with members=\(\)"),
        (("ensemble_weight=2.0",), "ensemble_weight=2.0 is never read with ensemble='mean'"),
        (("step_separator=x",), "step_separator='x' is never read with step_score=''"),
        (("verdicts=('1','0')",), "is never read with question=''"),
        (("members=('ppo',)",), "members='ppo' is the stage itself"),
        (
            ("question=ok", "verdicts=('1','0')"),
            "'rm' has the head 'reward'; a model that is asked a question is a lan",
        ),
        (("start_from=warmup",), "'warmup' has the head 'language_model' .* or a question"),
        (("members=('warmup',)",), r"models.reward.members='warmup' has the head 'language_model'"),
        (
            ("start_from=warmup", "question=ok", "verdicts=('yes','0')"),
            r"verdicts \('yes', '0'\) have the ids .*config.ppo.models.reward.verdicts",
        ),
        # 6 tokens of a prompt, 6 of a sample and 2 of the question.
        (
            ("start_from=warmup", "question=ok", "verdicts=('1','0')"),
            r"reward model 'warmup' reads .*reward.question\) can have 14 tokens, .* for 13 posit",
        ),
    ],
)
def test_fields_of_a_reward_model_that_do_not_fit_are_refused(pieces, words, message):
    given = [f"--config.ppo.models.reward.{word}" for word in words]
    if "for 13" in message:
        given += ["--config.model.max_positions=13", "--config.rm.data.max_completion_tokens=7"]
    with pytest.raises(ValueError, match=message):
        pieces("rlhf", *given)
