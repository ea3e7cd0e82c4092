"""Stages of labelled completions: what is known of the whole batch, and what changes nothing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import put_rows
from rljax.planning.batches import step_rows
from rljax.planning.lengths import lengths_of
from rljax.reporting.files import read_rows
from rljax.training.families.unpaired import Unpaired
from rljax.training.loop import run
from rljax.training.update.token_statistics import TokenStatistics
from rljax.training.update.train_step import loss_and_gradient
from tests.training.steps import follow_step


def scaled(params, factor):
    """Other parameters."""
    return jax.tree.map(lambda x: factor * x, params)


def first_step(made, policy=1.3, reference=1.0):
    """The family, its first batch and the state after it; factors of the start's parameters."""
    family = Unpaired(made.context, made.stage, scaled(made.params, reference), 12)
    state = made.state.replace(params=scaled(made.params, policy))
    state, batches, _ = follow_step(family, state, 1, family.source.first_state())
    return family, state, batches


def sums(family, params, tokens, mask, prompts):
    """Log-probabilities of completions behind prompts, row by row."""
    found = []
    for row, kept, prompt in zip(tokens, mask, prompts, strict=True):
        ids = np.concatenate([prompt, row[kept]]).astype(np.int32)
        model = family.context.network.bind(params)
        positions = np.arange(len(ids), dtype=np.int32)[None]
        hidden = model(ids[None], positions, np.ones_like(positions)).hidden[0]
        size = family.context.network.config.vocab_size
        logprobs = jax.nn.log_softmax(hidden @ model.vocabulary()[:size].T)
        places = np.arange(len(prompt), len(ids))
        found.append(float(logprobs[places - 1, ids[places]].sum()))
    return np.array(found)


def parts_of(batch):
    """Tokens [N, T], mask and prompts of rows."""
    slots = batch["mask"].shape[1]
    tokens = batch["tokens"][:, -slots:]
    lead, present = batch["tokens"][:, :-slots], batch["segment_ids"][:, :-slots] > 0
    return tokens, batch["mask"], [row[kept] for row, kept in zip(lead, present, strict=True)]


def test_labels_are_those_of_the_sides_of_a_pair(pieces):
    made = pieces("kto")
    family, _, batches = first_step(made)
    (batch,) = batches.batches
    decode = made.context.tokenizer.decode
    tokens, mask, prompts = parts_of(batch)
    assert 0 < batch["labels"].sum() < 16
    for row, kept, prompt, label in zip(tokens, mask, prompts, batch["labels"], strict=True):
        a, b = decode(prompt).rstrip("=").split("+")
        right = f"<answer>{int(a) + int(b)}</answer>"
        assert decode(row[kept][:-1]) == (right if label else "<answer>no</answer>")
    assert batch["weights"] == pytest.approx(1 / 16)
    assert family.source.per_step == 16


@pytest.mark.parametrize("policy, reference", [(1.3, 1.0), (1.0, 1.3)])
def test_the_baseline_is_that_of_prompts_with_the_completion_before(pieces, policy, reference):
    made = pieces("kto")
    family, state, batches = first_step(made, policy, reference)
    (batch,) = batches.batches
    tokens, mask, prompts = parts_of(batch)
    ours, theirs = (
        sums(family, params, np.roll(tokens, 1, axis=0), np.roll(mask, 1, axis=0), prompts)
        for params in (state.params, family.reference)
    )
    expected = (ours - theirs).mean()
    # One way round it is cut at 0.
    assert abs(expected) > 0.1 and (expected > 0) == (policy < reference)
    assert batch["kl_baseline"] == pytest.approx(max(expected, 0.0), abs=1e-4)
    assert batches.metrics["kl_baseline"] == batch["kl_baseline"][0]
    theirs = sums(family, family.reference, tokens, mask, prompts)
    np.testing.assert_allclose(batch["ref_sequence_logprobs"], theirs, atol=1e-4)


def test_at_the_start_the_loss_is_known(pieces):
    for method, expected in (("kto", 0.5), ("apo_zero_unpaired", 0.5), ("bco", np.log(2))):
        made = pieces("kto", f"--config.kto.method={method}")
        family, _, batches = first_step(made, 1.0)
        (batch,) = batches.batches
        assert family.first_loss(batch) == pytest.approx(expected, abs=1e-6)
        placed = put_rows(batch, made.context.mesh)
        loss, metrics = jax.jit(family.loss_fn)(made.params, placed)
        assert float(loss) == pytest.approx(expected, abs=1e-5)
        assert float(metrics["reward_desired"].mean()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("method", ["kto", "apo_zero_unpaired", "bco"])
def test_a_plan_makes_batches_as_the_family_does(pieces, method):
    made = pieces("kto", f"--config.kto.method={method}")
    family, _, batches = first_step(made)
    _, planned = step_rows(made.context, made.stage, family, None, None)
    assert shapes(planned) == shapes(batches.batches[0])
    assert lengths_of(made.context, made.stage) == (1, 6, 8, 0, 6)


def shapes(batch):
    return {name: (np.shape(array), np.asarray(array).dtype) for name, array in batch.items()}


def test_the_shift_is_the_mean_of_all_rewards_so_far(pieces):
    made = pieces("kto", "--config.kto.method=bco", "--config.kto.batch.sequences_per_update=5")
    family, state, batches = first_step(made)
    source = family.source.first_state()
    rewards = []
    for step in (1, 2):
        before = state if step == 2 else made.state.replace(params=state.params)
        state, batches, source = follow_step(family, before, step, source)
        (batch,) = batches.batches
        assert len(batch["labels"]) == 5
        given = family.sums(state.params, batch) - batch["ref_sequence_logprobs"]
        rewards = [*rewards, *(0.01 * given)]
        assert batch["reward_shift"] == pytest.approx(np.mean(rewards), rel=1e-4)
        assert float(state.carried["reward_count"]) == 5 * step


def unigram(network, params, rows, token_filter, *, top_k=0):
    tokens = rows["tokens"][..., -rows["mask"].shape[-1] :]
    logprobs = jax.nn.log_softmax(params)[tokens]
    return TokenStatistics(logprobs, jnp.zeros(tokens.shape), jnp.zeros(tokens.shape, bool))


@pytest.mark.parametrize("method", ["kto", "apo_zero_unpaired", "bco"])
def test_neither_micro_batches_nor_padding_nor_devices_change_a_number(pieces, method):
    made = pieces("kto", f"--config.kto.method={method}")
    family, _, batches = first_step(made)
    (batch,) = batches.batches
    family.likelihood = unigram
    table = np.random.default_rng(0).normal(size=300).astype(np.float32)

    def update(batch, micro_batches=1):
        step = jax.jit(
            lambda params, batch: loss_and_gradient(family.loss_fn, params, batch, micro_batches)
        )
        loss, metrics, gradient = jax.device_get(step(table, batch))
        return loss, gradient, {name: metric.mean() for name, metric in metrics.items()}

    padded = {
        name: np.pad(array, ((0, 0), (0, 3))) if array.ndim == 2 else array
        for name, array in batch.items()
    }
    whole = update(batch)
    mesh = make_mesh({"data": 8})
    with jax.set_mesh(mesh):
        spread = update(put_rows(batch, mesh), 2)
    for found in (update(batch, 4), update(padded), spread):
        np.testing.assert_allclose(found[0], whole[0], rtol=2e-6)
        np.testing.assert_allclose(found[1], whole[1], rtol=1e-5, atol=1e-8)
        for name, value in whole[2].items():
            np.testing.assert_allclose(found[2][name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"prompt": "1+1=", "completion": "2", "label": "yes"}, "line 2.*the column 'label'"),
        ({"prompt": "1+1=", "completion": "", "label": True}, "line 2.*the completion"),
        ({"prompt": "1+1=", "label": True}, "line 2 lacks the column 'completion'"),
        (
            {"prompt": "1+1=", "completion": "2" * 20, "label": True},
            "completion of .*line 2.*config.kto.data.max_completion_tokens",
        ),
    ],
)
def test_bad_rows_are_refused_with_their_numbers(pieces, tmp_path, row, message):
    path = tmp_path / "rows.jsonl"
    good = {"prompt": "1+1=", "completion": "2", "label": True}
    path.write_text("".join(json.dumps(each) + "\n" for each in (good, row)))
    made = pieces("kto", f"--config.kto.data.path={path}")
    with pytest.raises(ValueError, match=message):
        Unpaired.check(made.context, made.stage)


@pytest.mark.parametrize("method, start", [("kto", 0.5), ("bco", np.log(2))])
def test_a_whole_run(tiny_config, tmp_path, one_device_runs, method, start):
    words = ("--config.warmup.steps=2", f"--config.kto.method={method}")
    run(tiny_config("kto", *words), tmp_path / "run")
    rows = [row for row in read_rows(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    rows = [row for row in rows if row["stage"] == "kto"]
    assert rows[0]["loss"] == pytest.approx(start, abs=1e-4)
    assert rows[-1]["step"] == 3 and rows[-1]["loss"] < start
    assert np.isfinite(rows[-1]["reward_desired"])
