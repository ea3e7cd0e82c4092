"""Distillation stages: where completions come from, and what the teacher says of them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.config.load import load_config
from rljax.config.validate import validate
from rljax.parallel.rules import put_rows
from rljax.sampling.request import Rollouts
from rljax.training.collect.demonstrations import encode_demonstrations
from rljax.training.collect.mixed import NO_VERSION, Mixture
from rljax.training.collect.told_prompts import told, told_prompts
from rljax.training.families.distillation import Distillation
from rljax.training.run.models import Model
from rljax.training.update.beside import BESIDE
from tests.training.steps import take_step


@pytest.fixture
def student(pieces):
    """student(*overrides, itself=False) -> pieces, and the family with a teacher."""

    def build(*overrides, itself=False):
        made = pieces("gkd", *[f"--config.gkd.{word}" for word in overrides])
        network = made.context.network
        params = made.params if itself else network.init(jax.random.key(1), made.context.mesh)
        models = {"teacher": Model("teacher", network, "warmup", False, params)}
        context = dataclasses.replace(made.context, models=models)
        return made, Distillation(context, made.stage, None, 0)

    return build


def loss_of(made, family, batch):
    def loss(params, batch):
        return family.loss_fn({**params, BESIDE: family.beside_in(made.state)}, batch)

    placed = put_rows(batch, made.context.mesh)
    (value, metrics), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(made.params, placed)
    return float(value), metrics, slope


def next_tokens(network, params, batch, prefix=""):
    """What a model says of each token of the completions, [N, T, V], from whole logits."""

    def softmax(params):
        model, slots = network.bind(params), batch["mask"].shape[1]
        names = ("tokens", "positions", "segment_ids")
        hidden = model(*(batch[prefix + name] for name in names)).hidden[:, -slots - 1 : -1]
        return jax.nn.softmax((hidden @ model.vocabulary().T)[..., : network.config.vocab_size])

    return jax.jit(softmax)(params)


def test_demonstrations_are_compared_over_the_whole_vocabulary(student):
    made, family = student("objective.on_policy_share=0.0")
    batches = take_step(family, made.state, 1)[1]
    (batch,) = batches.batches
    assert batches.metrics["on_policy"] == 0.0 and family.record(1, batches) is None
    texts = [
        made.context.tokenizer.decode(row[-kept.shape[0] :][kept])
        for row, kept in zip(batch["tokens"], batch["mask"], strict=True)
    ]
    assert all(text.startswith("<answer>") for text in texts) and len(texts) == 16

    network, teacher = made.context.network, family.beside()["teacher"]
    p, q = next_tokens(network, made.params, batch), next_tokens(network, teacher, batch)
    m = (p + q) / 2
    each = ((p * jnp.log(p / m) + q * jnp.log(q / m)) / 2).sum(axis=-1)
    value, metrics, _ = loss_of(made, family, batch)
    assert value == pytest.approx(float(each[batch["mask"]].mean()), rel=1e-4)
    assert float(metrics["teacher_divergence"].mean()) == pytest.approx(value, rel=1e-5)


@pytest.mark.slow
def test_a_sharper_teacher_beside_the_likelihood(student):
    made, family = student("method=salt")
    (batch,) = take_step(family, made.state, 1)[1].batches
    network, teacher = made.context.network, family.beside()["teacher"]
    p, q = next_tokens(network, made.params, batch), next_tokens(network, teacher, batch)
    q = q**4 / (q**4).sum(axis=-1, keepdims=True)
    divergence = (q * (jnp.log(q) - jnp.log(p))).sum(axis=-1)
    targets = batch["tokens"][:, -batch["mask"].shape[1] :]
    surprise = -jnp.log(jnp.take_along_axis(p, targets[..., None], axis=-1)[..., 0])
    each = (2 * divergence + surprise) / 3
    value, metrics, _ = loss_of(made, family, batch)
    assert value == pytest.approx(float(each[batch["mask"]].mean()), rel=1e-4)
    assert float(metrics["nll"].mean()) == pytest.approx(
        float(surprise[batch["mask"]].mean()), rel=1e-4
    )


@pytest.mark.slow
def test_a_policy_that_is_its_teacher_has_nothing_to_learn(student):
    made, family = student("objective.on_policy_share=1.0", itself=True)
    batches = take_step(family, made.state, 1)[1]
    assert batches.metrics["on_policy"] == 1.0
    assert len(family.record(1, batches)["prompts"]) > 0
    value, _, slope = loss_of(made, family, batches.batches[0])
    assert value == pytest.approx(0.0, abs=1e-6)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) < 1e-5


@pytest.mark.slow
def test_a_teacher_s_samples_are_learned_by_their_likelihood(student):
    made, family = student("method=sequence_kd", "batch.samples_per_prompt=2")
    assert family.beside() == {}
    experience, _ = family.source.collect(
        family.policy(made.state, 1), family.source.first_state(), 1
    )
    samples = experience.samples
    assert (samples.versions == NO_VERSION).all()
    _, batches = family.batches(made.state, experience, 1)
    value, metrics, _ = loss_of(made, family, batches.batches[0])
    assert value == pytest.approx(float(metrics["nll"].mean()), rel=1e-5)
    # They are the teacher's: its own log-probabilities are what its sampler reported.
    teacher = {**made._asdict(), "params": family.context.models["teacher"].params}
    theirs = loss_of(type(made)(**teacher), family, batches.batches[0])[0]
    reported = samples.flat("logprobs")[samples.flat("mask")]
    assert theirs == pytest.approx(-reported.mean(), rel=1e-4)


@pytest.mark.parametrize(
    "method",
    ["gkd", "reverse_kd", "word_kd", "salt", "sequence_kd", "opsd", "sdft", "sdpo"]
    + ["sdpo_trust_region"],
)
def test_the_config_of_the_repository_is_whole_and_shortened(method):
    for argument in (method, f"{method},smoke"):
        _, stage = validate(load_config(f"configs/distillation.py:{argument}"))
        assert stage.objective.method.name == method
        assert stage.batch.samples_per_prompt == 1 or method != "gkd"


@pytest.mark.slow
def test_a_teacher_that_is_told_more_teaches_the_policy_that_it_is(student):
    words = ("method=sdft", "data.max_context_tokens=20", "objective.support=teacher_top_k")
    made, family = student(*words, "objective.support_tokens=300", itself=True)
    Distillation.check(family.context, made.stage)
    (batch,) = take_step(family, made.state, 1)[1].batches
    decode, shown = made.context.tokenizer.decode, batch["told_segment_ids"] > 0
    for row in range(len(shown)):
        ours = decode(batch["tokens"][row][batch["segment_ids"][row] > 0])
        theirs = decode(batch["told_tokens"][row][shown[row]])
        a, b = ours.partition("=")[0].split("+")
        assert theirs == f"<answer>{int(a) + int(b)}</answer> {ours}"
    network, params = made.context.network, made.params
    p, q = next_tokens(network, params, batch), next_tokens(network, params, batch, "told_")
    each = (p * jnp.log(p / q)).sum(axis=-1)
    value, _, slope = loss_of(made, family, batch)
    assert value == pytest.approx(float(each[batch["mask"]].mean()), rel=1e-3)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) > 1e-4


@pytest.mark.slow
def test_a_teacher_is_told_another_sample_that_is_right(student, monkeypatch):
    words = ("method=sdpo", "data.max_context_tokens=30", "objective.support=teacher_top_k")
    words += ("batch.samples_per_prompt=4", "objective.context_pattern={context} {prompt}")
    words += ("models.teacher.start_from=",)
    made, family = student(*words, "objective.support_tokens=300")
    Distillation.check(family.context, made.stage)
    experience, _ = family.source.collect(
        family.policy(made.state, 1), family.source.first_state(), 1
    )
    # Of the first prompt samples 1 and 3 are right, of the second sample 0 alone, of others none.
    right = np.zeros(len(experience.scores.correct), bool)
    right[[1, 3, 4]] = True
    monkeypatch.setattr(Rollouts, "finished", np.ones((len(right) // 4, 4), bool))
    samples = experience.samples
    experience = experience._replace(scores=experience.scores._replace(correct=right))
    batches = family.batches(made.state, experience, 1)[1]
    (batch,) = batches.batches
    told_of = {0: 1, 1: 3, 2: 1, 3: 1, 5: 4, 6: 4, 7: 4}
    assert batches.metrics["told_share"] == pytest.approx(len(told_of) / len(right))
    assert set(np.flatnonzero(batch["mask"].any(axis=1))) == set(told_of)
    for n, other in told_of.items():
        shown = batch["told_tokens"][n][batch["told_segment_ids"][n] > 0].tolist()
        own = samples.flat("tokens")[n][samples.flat("mask")[n]].tolist()
        said = f"{samples.texts[other]} {samples.prompt_texts[n // 4]}"
        assert shown == [*made.context.tokenizer.encode(said), *own]
    network, params = made.context.network, made.params
    p, q = next_tokens(network, params, batch), next_tokens(network, params, batch, "told_")
    m = (p + q) / 2
    each = ((p * jnp.log(p / m) + q * jnp.log(q / m)) / 2).sum(axis=-1)
    value, _, slope = loss_of(made, family, batch)
    assert value == pytest.approx(float(each[batch["mask"]].mean()), rel=1e-3)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) > 1e-6
    # Tokens that have become four times as likely since count twice, the bound.
    earlier = batch | {"behavior_logprobs": batch["behavior_logprobs"] - np.float32(np.log(4))}
    twice, metrics, _ = loss_of(made, family, earlier)
    assert twice == pytest.approx(2 * value, rel=1e-5)
    assert float(metrics["correction_share_high"].mean()) == 1.0

    none = experience._replace(scores=experience.scores._replace(correct=np.zeros_like(right)))
    (batch,) = family.batches(made.state, none, 1)[1].batches
    value, _, slope = loss_of(made, family, batch)
    assert value == 0 and all(not jnp.abs(leaf).max() for leaf in jax.tree.leaves(slope))


def test_demonstrations_in_messages_are_those_of_their_texts(pieces, tmp_path):
    """TRL's conversational prompt-completion rows."""
    path = tmp_path / "talks.jsonl"
    user, answer = {"role": "user", "content": "1+2="}, "<answer>3</answer>"
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}
    rows = [
        {"prompt": [user], "completion": completion, "reference": "3"}
        for completion in (answer, [{"role": "assistant", "content": answer}], [call], [user])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = pieces(
        "gkd",
        "--config.gkd.method=sdft",
        "--config.gkd.data.max_context_tokens=20",
        "--config.gkd.objective.support=teacher_top_k",
        "--config.gkd.objective.support_tokens=300",
        f"--config.data.path={path}",
        "--config.tokenizer.chat_turn={content}",
    )
    records = [{**row, "id": index} for index, row in enumerate(rows)]
    for read in (encode_demonstrations, told_prompts):
        tokens, mask = read(made.context, made.stage, records[:2])
        assert mask[0].any()
        assert (tokens[0] == tokens[1]).all() and (mask[0] == mask[1]).all()
    with pytest.raises(ValueError, match=r"talks.jsonl, line 3: the demonstration must be a text"):
        told_prompts(made.context, made.stage, records[2:3])
    with pytest.raises(ValueError, match=r"talks.jsonl, line 4: the completion .* \['user'\]"):
        encode_demonstrations(made.context, made.stage, records[3:])


def test_a_context_stands_in_the_text_or_in_the_last_message():
    pattern = "Known: {context}. {prompt} ({context})"
    assert told("a {b}", "{c}", pattern, "row") == "Known: {c}. a {b} ({c})"
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    assert told(talk, "c", pattern, "row") == [talk[0], {**talk[1], "content": "Known: c. q (c)"}]
    with pytest.raises(ValueError, match="row: the context stands in the last message"):
        told([{"role": "user", "content": [{"type": "text"}]}], "c", pattern, "row")


def test_steps_are_divided_by_the_seed_and_the_step_alone():
    drawn = [Mixture(0.3, seed=1, first_step=4).on_policy(step) for step in range(1, 401)]
    assert drawn[1:] == [Mixture(0.3, 1, 5).on_policy(step) for step in range(1, 400)]
    assert 0.2 < np.mean(drawn) < 0.4
    assert all(Mixture(1.0, 1, 0).on_policy(step) for step in range(1, 50))
    assert not any(Mixture(0.0, 1, 0).on_policy(step) for step in range(1, 50))


@pytest.mark.parametrize(
    "words, message",
    [
        (["models.teacher.start_from="], r"names none.*config.gkd.models.teacher.start_from"),
        (["batch.samples_per_prompt=2"], "samples_per_prompt=2: a prompt has one demonstration"),
        (["objective.divergence=likelihood"], "on_policy_share=0.5 would make"),
        (
            ["objective.divergence=likelihood", "objective.on_policy_share=0.0"],
            "that is method 'sft'",
        ),
        (
            ["method=sequence_kd", "objective.teacher_context=reference"],
            "is what a teacher reads that compares",
        ),
        (["method=sdft", "objective.context_pattern={prompt}"], "a text with {context}"),
        (["objective.likelihood_share=0.5"], "likelihood_share=0.5 with on_policy_share=0.5 would"),
        (["objective.teacher_temperature=0.0"], "teacher_temperature"),
        (["method=sdpo", "batch.samples_per_prompt=1"], "=1: .* another sample of the prompt"),
        (
            ["method=sdpo", "batch.samples_per_prompt=2", "batch.share_prompts=True"],
            "share_prompts=True: .* a prompt of its own",
        ),
        (
            ["method=sdpo", "batch.samples_per_prompt=2", "data.max_context_tokens=2"],
            "max_context_tokens=2 has no room for a sample of max_new_tokens",
        ),
        (["objective.other_share=1.0"], "forward_kl and reverse_kl"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tiny_config, words, message):
    with pytest.raises(ValueError, match=message):
        stage = validate(tiny_config("gkd", *[f"--config.gkd.{word}" for word in words]))[1]
        stage.objective.part("divergence")(jnp.zeros(1), jnp.zeros(1))
