"""Reward models on pairs, labels and ratings: what a batch holds, and what is learned of it.

That no split of a batch changes a number is in test_reward_rows.py.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.heads import token_values
from rljax.objectives.reward_models import goal_similarities, length_discrepancy
from rljax.parallel.rules import put_rows
from rljax.planning.batches import step_rows
from rljax.training.families.reward import RewardModel
from rljax.training.update.rows import model_inputs
from rljax.training.update.sequence_scores import (
    completion_scores,
    completion_states,
    last_states,
    scores_at_end,
)
from tests.training.steps import take_step

METHODS = ("rated_margin", "binary_reward", "reward_regression", "all_pairs", "plackett_luce")
SINGLE = ("process_reward", "generative_reward")  # rows of one completion, read otherwise
WORDS = {
    "process_reward": ("data.max_completion_tokens=8",),
    "generative_reward": (
        "network.head=language_model",
        "data.question=?",
        "data.verdicts=('1','0')",
    ),
}
STEPS = [
    {
        "prompt": f"{a}+1=",
        "completions": [str(a), "x", "yz"][: 1 + a % 3],
        "labels": [True, bool(a % 2), False][: 1 + a % 3],
    }
    for a in range(1, 41)
]
ROWS = [
    {
        "prompt": f"{a}+1=",
        "completions": [str(a + 1), "no", f"{a}", "x y"][: 2 + a % 3],
        "scores": [1.0, 0.25 * (a % 2), 0.5, 0.0][: 2 + a % 3],
        "completion": str(a + a % 2),
        "label": bool(a % 2),
        "chosen": str(a + 1),
        "rejected": "no" * (1 + a % 2),
        "margin": 0.5 + a % 3,
    }
    for a in range(1, 41)
]


@pytest.fixture
def built(pieces, tmp_path):
    """built("all_pairs", override, ...): the family on `ROWS`, with parameters and a batch."""
    path = tmp_path / "rows.jsonl"

    def build(method: str, *words: str, rows: list[dict] = ROWS):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = (f"method={method}", f"data.path={path}", "data.max_completion_tokens=6", *words)
        words = ("batch.sequences_per_update=8", "batch.sequences_per_micro_batch=8", *words)
        given = [f"--config.rm.{word}" for word in dict.fromkeys(words)]
        if "network.head=language_model" in words:  # the stage that it scores asks the same
            asked = [word for word in words if word.startswith(("data.question", "data.verdicts"))]
            given += [f"--config.ppo.models.reward.{word[len('data.') :]}" for word in asked]
        if method == "process_reward":
            given.append("--config.ppo.models.reward.step_score=last")
        made = pieces("rlhf", *given)
        stage = next(stage for stage in made.context.stages if stage.name == "rm")
        context = made.context.of("rm")
        RewardModel.check(context, stage)
        family = RewardModel(context, stage, None, 0)
        params = context.network.init(jax.random.key(3), context.mesh)
        state = dataclasses.replace(made.state, params=params)
        return family, params, state

    return build


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_is_the_mean_over_the_rows_of_the_file(built, method, shared):
    if method == "binary_reward" and shared:
        pytest.skip("a labelled completion has its prompt to itself")
    family, params, state = built(method, f"batch.share_prompts={shared}")
    (batch,) = take_step(family, state, 1)[1].batches
    placed = put_rows(batch, family.context.mesh)
    loss, metrics = jax.jit(family.loss_fn)(params, placed)
    scores, _ = completion_scores(family.context.network, params, model_inputs(placed))
    arrays = {name: batch[name] for name in ("present", "labels", "ratings") if name in batch}
    scores = np.asarray(scores).reshape(-1, family.count)
    if method == "rated_margin":
        arrays = {"chosen_scores": scores[:, 0], "rejected_scores": scores[:, 1]}
        arrays |= {"rated_margins": batch["rated_margins"]}
    else:
        arrays |= {"side_scores": scores}
    each, _ = family.loss(**arrays)
    assert float(loss) == pytest.approx(float(np.mean(each)), rel=1e-5)
    assert np.isfinite(float(metrics["reward_accuracy"].mean()))
    assert batch["weights"].sum() == pytest.approx(1.0)
    found = family.evaluate(state, None)
    assert 0 <= found["reward_accuracy"] <= 1 and np.isfinite(found["calibration_error"])


def test_the_goal_term_is_a_function_of_the_whole_batch(built):
    """-log mean(q+) - log(1 - mean(q-)): halves of a batch add up to it, value and gradient."""
    family, params, state = built("goal_conditioned", "batch.sequences_per_micro_batch=4")
    (batch,) = take_step(family, state, 1)[1].batches
    assert batch["goal_uniforms"].shape == (4, 4, 16)
    network, mask = family.context.network, batch["mask"]

    def prepared(params, batch):
        return family.prepare(params, put_rows(batch, family.context.mesh))

    def direct(params):
        states, _ = completion_states(network, params, model_inputs(batch))
        states = states.reshape(*mask.shape[:2], *states.shape[-2:])
        scores = scores_at_end(network, params, states, mask)
        lengths = mask.sum(axis=-1)
        good, bad = goal_similarities(states, lengths, batch["goal_uniforms"])
        pairs = -jax.nn.log_sigmoid(scores[:, 0] - scores[:, 1]).mean()
        return pairs + 0.5 * (-jnp.log(good.mean()) - jnp.log(1 - bad.mean()))

    ready = jax.jit(prepared)(params, batch)
    halves = [{name: array[half::2] for name, array in ready.items()} for half in (0, 1)]
    value_and_grad = jax.jit(jax.value_and_grad(lambda p, part: family.loss_fn(p, part)[0]))
    parts = [value_and_grad(params, half) for half in halves]
    value, gradient = jax.value_and_grad(direct)(params)
    assert float(parts[0][0] + parts[1][0]) == pytest.approx(float(value), rel=1e-5)
    summed = jax.tree.map(lambda a, b: a + b, parts[0][1], parts[1][1])
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    again = take_step(family, state, 1)[1].batches[0]["goal_uniforms"]
    np.testing.assert_array_equal(batch["goal_uniforms"], again)
    with pytest.raises(ValueError, match="representation='goal_conditioned' compares .* of pairs"):
        built("all_pairs", "objective.representation=goal_conditioned")


def test_the_length_term_is_a_function_of_the_whole_batch(built):
    """Halves of a batch add up to it, value and gradient; prepared in parts, or in one."""
    words = ("objective.invariance_bins=2", "objective.invariance_weight=3.0")
    family, params, state = built(
        "causal_reward",
        *words,
        "batch.sequences_per_update=16",
        "batch.sequences_per_micro_batch=8",
    )
    (batch,) = take_step(family, state, 1)[1].batches
    network, mask = family.context.network, batch["mask"]

    def prepared(params, batch):
        return family.prepare(params, put_rows(batch, family.context.mesh))

    def direct(params):
        states, _ = completion_states(network, params, model_inputs(batch))
        states = states.reshape(*mask.shape[:2], *states.shape[-2:])
        scores = scores_at_end(network, params, states, mask)
        pairs = -jax.nn.log_sigmoid(scores[:, 0] - scores[:, 1]).mean()
        lengths, there = mask.sum(axis=-1), np.ones(len(mask), bool)
        term = length_discrepancy(
            last_states(states, mask), lengths, there, invariance_bins=2, invariance_weight=3.0
        )
        return pairs + term, term

    ready = jax.jit(prepared)(params, batch)
    halves = [{name: array[half::2] for name, array in ready.items()} for half in (0, 1)]
    value_and_grad = jax.jit(jax.value_and_grad(lambda p, part: family.loss_fn(p, part)[0]))
    parts = [value_and_grad(params, half) for half in halves]
    (value, term), gradient = jax.value_and_grad(direct, has_aux=True)(params)
    assert abs(float(term)) > 1e-3
    assert float(parts[0][0] + parts[1][0]) == pytest.approx(float(value), rel=1e-4)
    summed = jax.tree.map(lambda a, b: a + b, parts[0][1], parts[1][1])
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert float(np.abs(summed["embedding"]).max()) > 1e-3  # the trunk learns


def test_what_a_row_says_stays_beside_its_completions(built):
    family, _, state = built("all_pairs")
    (batch,) = take_step(family, state, 1)[1].batches
    decode = family.context.tokenizer.decode
    mask = batch["mask"].reshape(2, 4, -1)
    assert batch["ratings"].shape == batch["present"].shape == (2, 4)
    np.testing.assert_array_equal(batch["present"], mask.any(axis=-1))
    tokens = batch["tokens"].reshape(2, -1)
    for ids, ratings, present in zip(tokens, batch["ratings"], batch["present"], strict=True):
        text = decode(ids[ids < 256])
        row = next(row for row in ROWS if text.startswith(row["prompt"]))
        assert list(ratings[present]) == row["scores"] and present.sum() == len(row["scores"])


def test_rows_that_rank_nothing_weigh_nothing(built):
    rows = [{**row, "scores": [0.5] * len(row["scores"])} if i % 2 else row
            for i, row in enumerate(ROWS)]  # fmt: skip
    family, _, state = built("plackett_luce", rows=rows)
    for step in range(1, 6):
        (batch,) = take_step(family, state, step)[1].batches
        ratings, there = batch["ratings"], batch["present"]
        alike = [len(set(r[t])) == 1 for r, t in zip(ratings, there, strict=True)]
        np.testing.assert_array_equal(batch["weights"] == 0, alike)


@pytest.mark.parametrize(
    "method, row, message",
    [
        ("rated_margin", {"margin": None}, "lacks the column 'margin', or 'score_chosen'"),
        ("rated_margin", {"margin": "slightly better"}, "the column 'margin' must be a finite"),
        (
            "rated_margin",
            {"margin": None, "score_chosen": 1.0},
            "the column 'score_rejected' must be a finite number",
        ),
        ("binary_reward", {"label": "perhaps"}, "label"),
        ("all_pairs", {"completions": ["1"], "scores": [1.0]}, "list of at least 2"),
        ("reward_regression", {"scores": [1.0, None, 0.5]}, "score 1"),
        (
            "plackett_luce",
            {"completions": list("12345"), "scores": [1, 2, 3, 4, 5]},
            "5 completions, and a row of the stage has room for 4 (config.rm.batch.samples_per",
        ),
    ],
)
def test_rows_that_do_not_fit_the_loss_are_refused(built, method, row, message):
    with pytest.raises(ValueError) as caught:
        built(method, rows=[*ROWS[:9], {**ROWS[9], **row}, *ROWS[10:]])
    assert "line 10" in str(caught.value) and message in str(caught.value)


def test_the_loss_of_steps_is_of_the_tokens_where_they_end(built):
    family, params, state = built("process_reward", *WORDS["process_reward"], rows=STEPS)
    (batch,) = take_step(family, state, 1)[1].batches
    placed = put_rows(batch, family.context.mesh)
    loss, metrics = jax.jit(family.loss_fn)(params, placed)
    network, tokenizer = family.context.network, family.context.tokenizer
    each, right = [], []
    experience, _ = family.source.collect(family.policy(state, 1), family.source.first_state(), 1)
    for record in experience.records:
        ids, ends = tokenizer.encode(record["prompt"]), []
        for number, step in enumerate(record["completions"]):
            last = number == len(record["completions"]) - 1
            ids = [*ids, *tokenizer.encode(step if last else step + "\n")]
            ends.append(len(ids) - 1)
        tokens = np.array([[*ids, tokenizer.eos_id]], np.int32)
        inputs = (tokens, np.arange(tokens.shape[1])[None], np.ones_like(tokens))
        scores = np.asarray(token_values(network, params, *inputs))[0, ends, 0]
        signs = np.where(record["labels"], 1.0, -1.0)
        each += np.log1p(np.exp(-signs * scores)).tolist()
        right += (signs * scores > 0).tolist()
    assert float(loss) == pytest.approx(np.mean(each), rel=1e-5) and len(each) > len(batch["mask"])
    assert float(metrics["reward_accuracy"].mean()) == pytest.approx(np.mean(right))
    found = family.evaluate(state, None)
    assert {"reward_accuracy", "first_error_accuracy", "calibration_error"} <= set(found)


def test_the_loss_of_a_verdict_is_of_the_token_behind_the_question(built):
    family, params, state = built("generative_reward", *WORDS["generative_reward"])
    (batch,) = take_step(family, state, 1)[1].batches
    placed = put_rows(batch, family.context.mesh)
    loss, _ = jax.jit(family.loss_fn)(params, placed)
    bound, tokenizer = family.context.network.bind(params), family.context.tokenizer
    each = []
    experience, _ = family.source.collect(family.policy(state, 1), family.source.first_state(), 1)
    for record in experience.records:
        ids = tokenizer.encode(record["prompt"] + record["completion"])
        tokens = np.array([[*ids, tokenizer.eos_id, *tokenizer.encode("?")]], np.int32)
        inputs = (tokens, np.arange(tokens.shape[1])[None], np.ones_like(tokens))
        says = jax.nn.log_softmax(bound.logits(bound(*inputs).hidden[0, -1]))
        each.append(-float(says[ord("1" if record["label"] else "0")]))
    assert float(loss) == pytest.approx(np.mean(each), rel=1e-5)
    assert 0 <= family.evaluate(state, None)["reward_accuracy"] <= 1


def test_a_verdict_is_one_token_and_a_generative_reward_a_language_model(built, tiny_config):
    with pytest.raises(ValueError, match=r"verdicts \('yes', '0'\) .* two different tokens"):
        built("generative_reward", *WORDS["generative_reward"][:2], "data.verdicts=('yes','0')")
    with pytest.raises(ValueError, match="'generative_reward' trains a network with the head 'lan"):
        built("generative_reward", "data.verdicts=('1','0')")
    with pytest.raises(ValueError, match="'process_reward' trains a network with the head 'rewa"):
        built("process_reward", WORDS["generative_reward"][0], rows=STEPS)


@pytest.mark.parametrize("method", SINGLE)
def test_a_plan_has_the_shapes_of_the_family(built, method):
    rows = STEPS if method == "process_reward" else ROWS
    family, params, state = built(method, *WORDS[method], rows=rows)
    (batch,) = take_step(family, state, 1)[1].batches
    _, planned = step_rows(family.context, family.stage, family, None, None)
    shapes = [
        {name: (np.shape(array), np.asarray(array).dtype) for name, array in each.items()}
        for each in (planned, batch)
    ]
    assert shapes[0] == shapes[1]
