"""Several teachers chosen by prompt, a teacher that follows the policy, and what it is told."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.config.validate import validate
from rljax.models.config import LoRAConfig
from rljax.models.network import Network
from rljax.parallel.rules import put_rows
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect import teachers
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.teachers import TeacherScores, check_teacher_names
from rljax.training.collect.told_prompts import (
    Told,
    check_feedback,
    told_of_samples,
    told_prompts,
    told_samples,
)
from rljax.training.families import distillation
from rljax.training.families.distillation import Distillation
from rljax.training.run.models import Model, role_names
from rljax.training.update.beside import BESIDE
from rljax.training.update.moving_copy import TEACHER, check_moves
from rljax.training.update.optimizers import build_optimizer
from tests.training.steps import take_step

SHOWN = ("objective.on_policy_share=0.0",)  # demonstrations alone: nothing is sampled
SEVERAL = (
    "models.teacher.members=('model',)",
    "models.teacher.names=('adds','waits')",
    "models.teacher.column=source",
)
MOVING = (
    "models.teacher.start_from=",
    "objective.teacher_context=demonstration",
    "data.max_context_tokens=20",
    "objective.teacher_update=moving",
    "objective.teacher_mixup=0.25",
)


def words_of(*words):
    return [f"--config.gkd.{word}" for word in words]


@pytest.fixture
def rows(tiny_folder, tmp_path):
    """rows(change) -> a file of the tiny problems, each changed by (number, row)."""

    def write(change):
        lines = (tiny_folder / "problems.jsonl").read_text().splitlines()
        made = [change(number, json.loads(line)) for number, line in enumerate(lines)]
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
        return f"--config.data.path={path}"

    return write


def sourced(number, row):
    return row | {"source": "waits" if number % 3 == 0 else "adds"}


def of_model(network, params, batch, prefix=""):
    """The next-token distributions of a model before the tokens of the completions, [N, T, V]."""

    def softmax(params):
        model, slots = network.bind(params), batch["mask"].shape[1]
        names = ("tokens", "positions", "segment_ids")
        hidden = model(*(batch[prefix + name] for name in names)).hidden[:, -slots - 1 : -1]
        return jax.nn.softmax((hidden @ model.vocabulary().T)[..., : network.config.vocab_size])

    return np.asarray(jax.jit(softmax)(params), np.float64)


def half_way(p, q):
    """Jensen-Shannon divergence of equal shares, [N, T]."""
    m = (p + q) / 2
    return ((p * np.log(p / m) + q * np.log(q / m)) / 2).sum(axis=-1)


def test_each_prompt_is_compared_with_its_own_teacher(pieces, rows):
    made = pieces("gkd", *words_of(*SHOWN, *SEVERAL), rows(sourced))
    network, mesh = made.context.network, made.context.mesh
    params = [network.init(jax.random.key(seed), mesh) for seed in (1, 2)]
    roles = ("teacher", "teacher_2")
    models = {r: Model(r, network, "x", False, p) for r, p in zip(roles, params, strict=True)}
    context = dataclasses.replace(made.context, models=models)
    family = Distillation(context, made.stage, None, 0)
    experience, _ = family.source.collect(None, family.source.first_state(), 1)
    (batch,) = family.batches(made.state, experience, 1)[1].batches
    second = np.array([record["source"] == "waits" for record in experience.records])
    assert (batch["teacher_ids"] == second).all() and 0 < second.sum() < len(second)

    p = of_model(network, made.params, batch)
    each = [half_way(p, of_model(network, one, batch)) for one in params]
    expected, mask = np.where(second[:, None], each[1], each[0]), batch["mask"]
    given = {**made.params, BESIDE: family.beside()}
    value, metrics = jax.jit(family.loss_fn)(given, put_rows(batch, mesh))
    assert float(value) == pytest.approx(expected[mask].mean(), rel=1e-4)
    for name, own in (("adds", ~second), ("waits", second)):
        kept = mask & own[:, None]
        found = float(metrics[f"teacher_divergence/{name}"].mean())
        assert found == pytest.approx(expected[kept].mean(), rel=1e-4)
    # The wrong teacher says something else.
    assert abs(np.where(second[:, None], each[0], each[1])[mask].mean() - float(value)) > 1e-4


def test_the_tenth_teacher_is_not_the_second(pieces, monkeypatch):
    """A jit sorts the names of models: teacher, teacher_10, teacher_11, teacher_2, ..."""
    several = (
        f"models.teacher.members={('model',) * 10}",
        f"models.teacher.names={tuple('abcdefghijk')}",
        SEVERAL[2],
    )
    made = pieces("gkd", *words_of(*SHOWN, *several))
    roles = role_names(made.stage, "teacher")
    model = SimpleNamespace(network=None)
    context = dataclasses.replace(made.context, models=dict.fromkeys(roles, model))
    family = Distillation(context, made.stage, None, 0)

    def asked(network, params, models, *given, **words):
        return jnp.stack([one.params for one in models])

    monkeypatch.setattr(distillation, "compared_statistics", asked)
    beside = {role: jnp.float32(place) for place, role in enumerate(roles)}
    found = jax.jit(lambda beside: family.statistics({}, beside, {"mask": 0}))(beside)
    assert found.tolist() == list(range(11))


def test_a_problem_without_a_teacher_is_refused_and_an_idle_one_is_named(pieces, rows, capsys):
    def named(name):
        return rows(lambda number, row: row | {"source": name if number == 4 else "adds"})

    made = pieces("gkd", *words_of(*SHOWN, *SEVERAL), named("wait"))
    with pytest.raises(ValueError, match=r"rows.jsonl, line 5.*'wait'.*names, .*column"):
        check_teacher_names(made.context, made.stage)
    made = pieces("gkd", *words_of(*SHOWN, *SEVERAL), named("adds"))
    check_teacher_names(made.context, made.stage)
    assert "has the teacher waits" in "".join(capsys.readouterr())


def test_a_teacher_follows_the_policy_after_each_update(pieces):
    made = pieces("gkd", *words_of(*SHOWN, *MOVING))
    family = Distillation(made.context, made.stage, None, 0)
    Distillation.check(made.context, made.stage)
    start = jax.tree.map(np.asarray, made.params)
    state, batches = take_step(family, made.state, 1)
    (batch,) = batches.batches
    network = made.context.network
    p, q = (of_model(network, made.params, batch, prefix) for prefix in ("", "told_"))
    update = family.make_update(build_optimizer(made.stage), None)
    state, metrics = update(state, {}, put_rows(batch, made.context.mesh))
    expected = half_way(p, q)[batch["mask"]].mean()
    assert float(metrics["loss"].mean()) == pytest.approx(expected, rel=1e-3)
    policy = jax.tree.map(np.asarray, state.params)
    for ours, theirs in zip(
        jax.tree.leaves(state.carried[TEACHER]), jax.tree.leaves(start), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    state, _ = take_step(family, state, 2)
    moved = jax.tree.map(lambda now, before: 0.25 * now + 0.75 * before, policy, start)
    for ours, theirs in zip(
        jax.tree.leaves(state.carried[TEACHER]), jax.tree.leaves(moved), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), moved, start)
    assert max(jax.tree.leaves(change)) > 1e-4


def test_a_mixed_teacher_is_the_start_and_the_policy_as_it_is(pieces):
    """log q = 3/4 log of the start + 1/4 log of the policy, both told more; q is constant."""
    words = ("models.teacher.start_from=model", *MOVING[1:3], "objective.teacher_update=mixed")
    made = pieces("gkd", *words_of(*SHOWN, *words, MOVING[4]))
    network, mesh = made.context.network, made.context.mesh
    start = network.init(jax.random.key(7), mesh)
    models = {TEACHER: Model(TEACHER, network, "x", False, start)}
    context = dataclasses.replace(made.context, models=models)
    family = Distillation(context, made.stage, None, 0)
    Distillation.check(context, made.stage)
    (batch,) = take_step(family, made.state, 1)[1].batches
    p = of_model(network, made.params, batch)
    each = [of_model(network, one, batch, "told_") for one in (start, made.params)]
    mixture = each[0] ** 0.75 * each[1] ** 0.25
    mixture /= mixture.sum(axis=-1, keepdims=True)
    placed = put_rows(batch, mesh)

    def ours(params):
        return family.loss_fn({**params, BESIDE: family.beside()}, placed)[0]

    def naive(params):
        model, slots = network.bind(params), batch["mask"].shape[1]
        hidden = model(*(batch[name] for name in ("tokens", "positions", "segment_ids"))).hidden
        logits = (hidden[:, -slots - 1 : -1] @ model.vocabulary().T)[..., : p.shape[-1]]
        now = jax.nn.softmax(logits)
        middle = jnp.log((now + mixture) / 2)
        terms = now * (jnp.log(now) - middle) + mixture * (np.log(mixture) - middle)
        return (terms.sum(axis=-1) / 2 * batch["mask"]).sum() / batch["mask"].sum()

    value, slope = jax.jit(jax.value_and_grad(ours))(made.params)
    assert float(value) == pytest.approx(half_way(p, mixture)[batch["mask"]].mean(), rel=1e-4)
    expected = jax.jit(jax.grad(naive))(made.params)
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-6)
    # The start alone says something else.
    assert abs(half_way(p, each[0])[batch["mask"]].mean() - float(value)) > 1e-4

    capped = Network.create(dataclasses.replace(network.config, logit_softcap=30.0))
    unknown = dataclasses.replace(context, models={})  # as before the models are read
    Distillation.check(unknown, made.stage)
    with pytest.raises(ValueError, match=r"logit_softcap=30.0 .*teacher_update"):
        Distillation.check(dataclasses.replace(unknown, network=capped), made.stage)
    models = {TEACHER: Model(TEACHER, capped, "x", False, start)}
    with pytest.raises(ValueError, match=r"logit_softcap=30.0 .*teacher_update"):
        Distillation(dataclasses.replace(context, models=models), made.stage, None, 0)


def samples_of(context, texts):
    """Samples of the first problems, written as these texts say: [B][G]."""
    ids = [[context.tokenizer.encode(text) for text in each] for each in texts]
    size = max(len(one) for each in ids for one in each)
    tokens = np.array([[one + [0] * (size - len(one)) for one in each] for each in ids], np.int32)
    mask = np.array([[[slot < len(o) for slot in range(size)] for o in each] for each in ids])
    records = [{**context.train_problems[n], "id": n} for n in range(len(texts))]
    prompts = context.prompts(records)
    length = max(len(prompt.tokens) for prompt in prompts)
    padded = [[0] * (length - len(p.tokens)) + p.tokens for p in prompts]
    shown = [[slot >= length - len(p.tokens) for slot in range(length)] for p in prompts]
    zeros = np.zeros(mask.shape, np.float32)
    fields = dict.fromkeys(Rollouts._fields) | {
        "tokens": tokens,
        "mask": mask,
        "logprobs": zeros,
        "stop_reason": np.full(mask.shape[:2], StopReason.STOP_TOKEN, np.int32),
    }
    return Samples(
        records,
        [record["prompt"] for record in records],
        np.array(padded, np.int32),
        np.array(shown),
        Rollouts(**fields),
        np.zeros(mask.shape, np.int32),
        [text for each in texts for text in each],
        0.0,
    )


def scores_of(correct, feedback):
    right = np.array(correct, bool)
    values, no = right.astype(np.float32), np.zeros_like(right)
    return Scores(values, {"r": values}, right, ~no, no, no, None, np.array(feedback, object))


SDPO = (
    "method=sdpo",
    "models.teacher.start_from=",
    "batch.samples_per_prompt=2",
    "data.max_context_tokens=40",
    "objective.context_pattern={context};{prompt}",
)


def test_what_is_said_of_a_sample_is_told_beside_a_right_one(pieces):
    both = (
        "objective.teacher_context=sample_and_feedback",
        "objective.feedback_pattern={prompt}({context})",
    )
    made = pieces("gkd", *words_of(*SDPO, *both))
    context = made.context
    samples = samples_of(context, [["no", "yes"], ["no", "so"]])
    scores = scores_of([0, 1, 0, 0], ["too late", "", "off by 2", ""])
    said = told_of_samples(samples, scores, "sample_and_feedback")
    assert said == [Told("yes", "too late"), Told("", ""), Told("", "off by 2"), Told("", "")]
    assert told_of_samples(samples, scores, "feedback")[0] == Told("", "too late")
    assert told_of_samples(samples, scores, "sample")[0] == Told("yes", "")
    tokens, mask, told_one = told_samples(context, made.stage, samples, said)
    assert told_one.tolist() == [True, False, True, False]
    texts = [context.tokenizer.decode(row[kept]) for row, kept in zip(tokens, mask, strict=True)]
    assert texts == ["yes;0+0=(too late)", "0+0=", "0+1=(off by 2)", "0+1="]
    # What is too long is told in part; where no part fits, nothing is, and it is not learned.
    much = "much " * 20
    long = [Told("yes", much), Told(much, "too late"), Told("", much), Told(much, much)]
    tokens, mask, told_one = told_samples(context, made.stage, samples, long)
    assert told_one.tolist() == [True, True, False, False]
    texts = [context.tokenizer.decode(row[kept]) for row, kept in zip(tokens, mask, strict=True)]
    assert texts == ["yes;0+0=", "0+0=(too late)", "0+1=", "0+1="]

    with pytest.raises(ValueError, match=r"none of the rewards \['exact_match'\] says anything"):
        check_feedback(context, made.stage)


def test_the_text_of_a_column_is_told(pieces, rows):
    words = (*SHOWN, "objective.teacher_context=column", "data.max_context_tokens=20")
    hinted = rows(lambda number, row: row | {"feedback": "add them" if number != 2 else " "})
    made = pieces("gkd", *words_of(*words), hinted)
    records = [{**made.context.train_problems[n], "id": n} for n in range(3)]
    tokens, mask = told_prompts(made.context, made.stage, records[:1])
    assert made.context.tokenizer.decode(tokens[0][mask[0]]) == "add them 0+0="
    with pytest.raises(ValueError, match=r"line 3: the column 'feedback' must hold a text"):
        told_prompts(made.context, made.stage, records)
    lacking = [{k: v for k, v in records[0].items() if k != "feedback"}]
    with pytest.raises(ValueError, match=r"line 1 lacks the column 'feedback'"):
        told_prompts(made.context, made.stage, lacking)


@pytest.mark.parametrize(
    "words, message",
    [
        (["models.teacher.names=('a',)"], "names=.* is never read with members"),
        (["models.teacher.column=source"], "column='source' is never read with members"),
        ([*SEVERAL[:1], *SEVERAL[2:]], "2 teachers .* need a name each"),
        ([*SEVERAL, "models.teacher.names=('a','a')"], "all of them different"),
        ([*SEVERAL[:2]], "column='' does not say which one"),
        ([*SEVERAL, "method=sequence_kd"], "a teacher writes, which is one alone"),
        ([*MOVING, "models.teacher.start_from=warmup"], "or its teacher follows the policy"),
        ([*MOVING[:1], *MOVING[3:]], "every divergence is 0, and nothing is learned"),
        ([*MOVING, "objective.teacher_mixup=0.0"], r"teacher_mixup.*in \(0, 1\]"),
        (
            ["method=sequence_kd", "models.teacher.start_from=", "objective.teacher_update=moving"],
            "teacher_update='moving' is a teacher that compares",
        ),
        ([*SDPO, "batch.samples_per_prompt=1"], "needs another sample of the prompt"),
        (
            ["method=sequence_kd", "objective.teacher_update=mixed"],
            "teacher_update='mixed' is a teacher that compares",
        ),
    ],
)
def test_teachers_that_cannot_be_are_refused(tiny_config, words, message):
    with pytest.raises(ValueError, match=message):
        validate(tiny_config("gkd", *words_of(*words)))


def test_a_teacher_that_the_policy_starts_as_and_that_reads_the_same_is_refused(pieces):
    with pytest.raises(ValueError, match=r"'model' is what the policy starts as"):
        pieces("gkd", *words_of("models.teacher.start_from=model"))
    pieces("gkd", *words_of("models.teacher.start_from=model", "objective.teacher_temperature=2.0"))


def test_softly_moving_adapters_are_refused(pieces):
    made = pieces("gkd", *words_of(*SHOWN, *MOVING))
    adapted = dataclasses.replace(made.context.network.config, lora=LoRAConfig(rank=2, alpha=2.0))
    network = Network.create(adapted)
    with pytest.raises(ValueError, match=r"teacher_mixup=0.25 mixes the factors of adapters"):
        check_moves(network, made.stage, TEACHER)


def test_a_policy_gradient_reads_each_prompt_s_own_teacher(monkeypatch):
    """The same column says whose log-ratio is the advantage: all samples of a prompt are alike."""

    class Teachers:
        """Says its own number of every token, times the row's place."""

        mesh, train_problems = None, [{}] * 3

        def __init__(self):
            model = lambda n: SimpleNamespace(network=n, arrays=lambda mesh: n)  # noqa: E731
            self.models = {"teacher": model(1.0), "teacher_2": model(100.0)}

        def with_network(self, network):
            def score(params, rows):
                return params * np.arange(6.0).reshape(3, 2, 1) * rows["mask"]

            return SimpleNamespace(jit_score=lambda *given, **words: score)

    fields = {"members": ("x",), "names": ("adds", "waits"), "column": "source"}
    stage = SimpleNamespace(
        name="opd",
        models={"teacher": fields},
        batch=SimpleNamespace(sequences_per_step=6, sequences_per_micro_batch=6),
        token_filter=None,
        objective=SimpleNamespace(choices={}, values={}),
    )
    monkeypatch.setattr(teachers, "put_rows", lambda rows, mesh: rows)
    monkeypatch.setattr(teachers, "likelihood_of", lambda stage: None)
    records = [{"id": n, "source": name} for n, name in enumerate(["adds", "waits", "adds"])]
    rows = {"mask": np.ones((3, 2, 4))}  # group rows: two samples behind each prompt
    found = TeacherScores(Teachers(), stage)(rows, records)
    assert found.shape == (6, 4)
    np.testing.assert_array_equal(found[:, 0], [0, 1, 200, 300, 4, 5])
