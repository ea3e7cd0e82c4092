"""Preference stages: pairs stay next to each other, the reference is the stage's start."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.preference import score_rewards
from rljax.parallel.rules import put_rows
from rljax.planning.batches import step_rows
from rljax.registry import resolve_objective
from rljax.reporting.files import read_rows
from rljax.training.collect import sampled_once
from rljax.training.collect.experience import Policy
from rljax.training.families.preference import Preference, known_fields_bound, pair_rows
from rljax.training.loop import run
from rljax.training.run.stages import Stages
from tests.training.steps import take_step


@pytest.fixture
def collected(pieces):
    made = pieces("dpo_file", "--config.dpo_file.batch.share_prompts=False")
    family = Preference(made.context, made.stage, made.params, 12)
    _, experience = take_step(family, made.state, 1)
    return made, family, experience


def test_row_0_of_a_pair_is_chosen(collected):
    made, _, experience = collected
    (batch,) = experience.batches
    assert batch["tokens"].shape[:2] == (8, 2)
    decode = made.context.tokenizer.decode
    for tokens, mask in zip(batch["tokens"], batch["mask"], strict=True):
        prompts = [decode(row[:6]) for row in tokens]
        assert prompts[0] == prompts[1]
        texts = [decode(row[6:][kept]) for row, kept in zip(tokens, mask, strict=True)]
        a, b = prompts[0].rstrip("=").split("+")
        assert texts == [f"<answer>{int(a) + int(b)}</answer>", "<answer>no</answer>"]
        # The end token is part of the completion.
        assert [row[6:][kept][-1] for row, kept in zip(tokens, mask, strict=True)] == [258, 258]


def test_the_loss_starts_at_log_2(collected):
    made, family, experience = collected
    (batch,) = experience.batches
    assert batch["weights"].sum() == pytest.approx(1.0)
    loss, metrics = jax.jit(family.loss_fn)(made.params, put_rows(batch, made.context.mesh))
    assert float(loss) == pytest.approx(math.log(2), abs=1e-6)


def test_the_loss_of_a_moved_policy(collected):
    """-log sigmoid(beta * (chosen log-ratio - rejected log-ratio)), mean over pairs."""
    made, family, experience = collected
    (batch,) = experience.batches
    moved = jax.tree.map(lambda x: 1.1 * x, made.params)
    rows = {k: batch[k].reshape(16, -1) for k in ("tokens", "positions", "segment_ids", "mask")}
    logprobs = np.asarray(family.score(moved, put_rows(rows, made.context.mesh)))
    sums = np.where(rows["mask"], logprobs, 0).sum(axis=1).reshape(8, 2)
    ratios = sums - batch["ref_sequence_logprobs"]
    margin = 0.1 * (ratios[:, 0] - ratios[:, 1])
    assert np.abs(margin).max() > 1e-3
    loss, _ = jax.jit(family.loss_fn)(moved, put_rows(batch, made.context.mesh))
    assert float(loss) == pytest.approx(np.log1p(np.exp(-margin)).mean(), rel=1e-4)


@pytest.mark.parametrize("method", ["dpo", "aot", "ld_dpo", "orpo", "wpo"])
def test_a_plan_makes_batches_as_the_family_does(pieces, method):
    made = pieces(
        "dpo_file",
        "--config.dpo_file.batch.share_prompts=False",
        f"--config.dpo_file.method={method}",
    )
    reference = made.params if made.stage.needs_reference else None
    family = Preference(made.context, made.stage, reference, 12)
    (batch,) = take_step(family, made.state, 1)[1].batches
    _, planned = step_rows(made.context, made.stage, family, None, None)
    assert shapes(planned) == shapes(batch)


def shapes(batch):
    return {name: (np.shape(array), np.asarray(array).dtype) for name, array in batch.items()}


@pytest.mark.parametrize("method", ["wpo", "aot_unpaired"])
def test_what_is_known_of_the_whole_batch_is_that_of_the_network(pieces, method):
    """In four micro-batches as in one; WPO's weights from all of the probabilities."""
    found = []
    for micro_batch in (16, 4):
        made = pieces(
            "dpo_file",
            "--config.dpo_file.batch.share_prompts=False",
            f"--config.dpo_file.batch.sequences_per_micro_batch={micro_batch}",
            f"--config.dpo_file.method={method}",
        )
        family = Preference(made.context, made.stage, made.params, 12)
        (batch,) = take_step(family, made.state, 1)[1].batches
        moved = jax.tree.map(lambda x: 1.2 * x, made.params)
        placed = put_rows(batch, made.context.mesh)
        found.append(jax.device_get(jax.jit(family.prepare)(moved, placed)))
    name = "pair_weights" if method == "wpo" else "matched_log_ratios"
    np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4)
    if method == "wpo":
        rows = {k: batch[k].reshape(16, -1) for k in ("tokens", "positions", "segment_ids", "mask")}
        model = made.context.network.bind(moved)
        hidden = model(rows["tokens"], rows["positions"], rows["segment_ids"]).hidden
        size, slots = made.context.network.config.vocab_size, rows["mask"].shape[1]
        logits = hidden[:, -slots - 1 : -1] @ model.vocabulary()[:size].T
        log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
        taken = np.take_along_axis(log_p, rows["tokens"][:, -slots:, None], axis=-1)[..., 0]
        tokens = np.where(rows["mask"], taken - np.log(np.exp(2 * log_p).sum(axis=-1)), 0)
        means = (tokens.sum(axis=1) / rows["mask"].sum(axis=1)).reshape(8, 2)
        np.testing.assert_allclose(found[0][name], np.exp(means.sum(axis=1)), rtol=1e-3)


def test_pairs_of_a_step_are_a_function_of_its_number(collected):
    made, family, first = collected
    again, other = (take_step(family, made.state, step)[1].batches[0] for step in (1, 2))
    np.testing.assert_array_equal(first.batches[0]["tokens"], again["tokens"])
    assert (again["tokens"] != other["tokens"]).any()


def test_a_whole_run_starts_at_log_2_and_goes_down(tiny_run):
    rows = read_rows(tiny_run("dpo").workdir / "metrics.jsonl")
    losses = [row["loss"] for row in rows if row["stage"] == "dpo" and row["kind"] == "train"]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < losses[0]


def test_pairs_with_chat_prompts_go_through_the_template(pieces):
    words = ["chat_turn={content}!", "chat_generation_prompt=>"]
    overrides = [f"--config.tokenizer.{word}" for word in words]
    made = pieces("dpo_file", "--config.dpo_file.batch.share_prompts=False", *overrides)
    message = [{"role": "user", "content": "1+1="}]
    record = {"id": 0, "prompt": message, "chosen": "2", "rejected": "3"}
    rows = pair_rows(made.context, made.stage, [record])
    assert [made.context.tokenizer.decode(row) for row in rows["tokens"]] == ["1+1=!>2", "1+1=!>3"]


SIMPO = ("--config.dpo_file.method=simpo", "--config.dpo_file.batch.share_prompts=False")


def test_a_reference_is_needed_where_a_part_names_it():
    assert resolve_objective("dpo", {}).needs_reference
    assert not resolve_objective("simpo", {}).needs_reference
    assert resolve_objective("simpo", {"score": "log_ratio"}).needs_reference
    assert not resolve_objective("dpo", {"score": "log_likelihood"}).needs_reference


def test_simpo_s_loss_is_that_of_mean_log_probabilities(pieces):
    made = pieces("dpo_file", *SIMPO)
    family = Preference(made.context, made.stage, None, 12)
    (batch,) = take_step(family, made.state, 1)[1].batches
    assert not [name for name in batch if name.startswith("ref_")]
    rows = {k: batch[k].reshape(16, -1) for k in ("tokens", "positions", "segment_ids", "mask")}
    logprobs = np.asarray(family.score(made.params, put_rows(rows, made.context.mesh)))
    means = (np.where(rows["mask"], logprobs, 0).sum(axis=1) / rows["mask"].sum(axis=1)).reshape(
        8, 2
    )
    assert np.ptp(batch["mask"].sum(axis=-1)) > 0
    expected = np.log1p(np.exp(1.0 - 2.0 * (means[:, 0] - means[:, 1]))).mean()
    loss, metrics = jax.jit(family.loss_fn)(made.params, put_rows(batch, made.context.mesh))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["reward_chosen"].mean()) == pytest.approx(2 * means[:, 0].mean(), rel=1e-4)
    assert "displaced_share" not in metrics


def test_a_stage_without_reference_keeps_and_scores_none(
    tiny_config, tmp_path, one_device_runs, compilations, monkeypatch
):
    def refused(_, model):
        raise AssertionError(f"a frozen {model.role} was read")

    monkeypatch.setattr(Stages, "frozen", refused)
    config = tiny_config("dpo_file", *SIMPO, "--config.warmup.steps=2", "--config.dpo_file.steps=3")
    with compilations() as names:
        run(config, tmp_path / "run")
    assert "jit(step)" in names and "jit(score)" not in names
    rows = [row for row in read_rows(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    last = [row for row in rows if row["stage"] == "dpo_file"][-1]
    assert last["step"] == 3 and math.isfinite(last["loss"]) and "reward_margin" in last
    assert "displaced_share" not in last


def test_without_reference_the_first_policy_samples_the_pairs(pieces, monkeypatch):
    made = pieces("dpo", "--config.dpo.method=simpo")
    source, used = Preference(made.context, made.stage, None, 12).source, []
    policy = Policy(made.state.params, version=0)

    def sampled(context, path, make):
        make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"prompt": "1+1="}')
        return path

    monkeypatch.setattr(source.rounds.rounds, "make", lambda *given: used.append(given))
    monkeypatch.setattr(sampled_once, "written_once", sampled)
    with pytest.raises(ValueError, match="dpo.jsonl is gone, and the policy that sampled it"):
        source.collect(policy, source.first_state(), 2)
    source.collect(policy, source.first_state(), 1)
    source.collect(policy, source.first_state(), 2)
    ((params, number),) = used
    assert params is policy.params and number == 0
    assert source.rounds.rounds.path(0).name == "dpo.jsonl"


def test_another_reference_does_not_sample_the_pairs(pieces):
    """Pairs come from what the stage starts from."""
    made = pieces("dpo")
    source = Preference(made.context, made.stage, made.params, 12).source
    assert source.rounds.rounds.start is made.params
    other = pieces("dpo", "--config.dpo.models.reference.start_from=model")
    source = Preference(other.context, other.stage, other.params, 12).source
    assert source.rounds.rounds.start is None


def test_metrics_of_a_link_without_beta_are_in_units_of_the_score():
    objective = resolve_objective("simpo", {})
    values = {name: value for name, value in objective.values.items() if name != "beta"}
    scores = jnp.array([[1.0, 0.5]])
    for known, scale in ((objective.values, 2.0), (values, 1.0)):
        metric = known_fields_bound(score_rewards, dataclasses.replace(objective, values=known))
        assert float(metric(scores)["reward_margin"][0]) == 0.5 * scale
