"""Stages of labelled steps: what a batch holds of them, and the reference points of both levels."""

import json

import jax
import numpy as np
import pytest

from rljax.parallel.rules import put_rows
from rljax.planning.batches import step_rows
from rljax.reporting.files import read_rows
from rljax.training.families.unpaired import Unpaired
from rljax.training.loop import run
from tests.training.steps import follow_step

ROWS = [
    {
        "prompt": f"{a}+1=",
        "completions": [[f"{a}", f"{a + 1}"], ["?", "no", f"{a + 1}"], [f"{a + 1}"]][a % 3],
        "labels": [[True, True], [False, True, True], [True]][a % 3],
        "label": [None, True, False, True][a % 4],
    }
    for a in range(1, 25)
]


def scaled(params, factor):
    return jax.tree.map(lambda x: factor * x, params)


def words(folder, rows=ROWS, **more):
    path = folder / "steps.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {"method": "step_kto", "data.path": path, **more}
    return [f"--config.kto.{name}={value}" for name, value in said.items()]


@pytest.fixture
def first(pieces, tmp_path):
    """first(policy=1.3): pieces, the family and its first batch; factors of the parameters."""

    def build(policy=1.3, rows=ROWS, **more):
        made = pieces("kto", *words(tmp_path, rows, **more))
        Unpaired.check(made.context, made.stage)
        family = Unpaired(made.context, made.stage, made.params, 12)
        state = made.state.replace(params=scaled(made.params, policy))
        _, batches, _ = follow_step(family, state, 1, family.source.first_state())
        return made, family, batches

    return build


def rows_of(made, batch):
    """The rows of the file that the rows of a batch are."""
    slots = batch["mask"].shape[1]
    for tokens, present in zip(batch["tokens"], batch["segment_ids"] > 0, strict=True):
        prompt = made.context.tokenizer.decode(tokens[:-slots][present[:-slots]])
        yield next(row for row in ROWS if row["prompt"] == prompt)


def test_steps_lie_on_the_tokens_of_their_texts(first):
    made, _, batches = first()
    (batch,) = batches.batches
    slots, decode = batch["mask"].shape[1], made.context.tokenizer.decode
    for n, row in enumerate(rows_of(made, batch)):
        tokens, ids = batch["tokens"][n, -slots:], batch["step_ids"][n]
        steps = [decode(tokens[ids == h]) for h in range(ids.max() + 1)]
        assert [step.rstrip("\n") for step in steps] == row["completions"]
        assert list(batch["step_labels"][n][batch["step_counted"][n]]) == row["labels"]
        # The token that ends the answer is of no step, and neither is padding.
        assert (ids >= 0).sum() == batch["mask"][n].sum() - 1
        assert batch["labelled"][n] == (row["label"] is not None)
        assert batch["labels"][n] == bool(row["label"])
    assert 0 < batch["labelled"].sum() < 16


def test_steps_behind_the_first_wrong_one_may_have_no_say(first):
    made, _, batches = first(**{"objective.first_error_only": True})
    (batch,) = batches.batches
    for n, row in enumerate(rows_of(made, batch)):
        said = list(batch["step_labels"][n][batch["step_counted"][n]])
        assert said == ([False] if not row["labels"][0] else row["labels"])


@pytest.mark.parametrize("policy", [0.7, 1.3])
def test_reference_points_are_those_of_prompts_with_the_completion_before(first, policy):
    made, family, batches = first(policy)
    (batch,) = batches.batches
    slots = batch["mask"].shape[1]
    prompts, rolled = batch["tokens"][:, :-slots], np.roll(batch["tokens"][:, -slots:], 1, axis=0)
    mask = np.roll(batch["mask"], 1, axis=0)
    present = batch["segment_ids"][:, :-slots]
    places = np.cumsum(np.concatenate([present, mask], axis=1), axis=1) - 1
    rows = {
        "tokens": np.concatenate([prompts, rolled], axis=1),
        "positions": np.maximum(places, 0).astype(np.int32),
        "segment_ids": np.concatenate([present, mask], axis=1).astype(np.int32),
        "mask": mask,
    }
    ratios = family.logprobs(scaled(made.params, policy), rows) - family.logprobs(made.params, rows)
    ids = np.roll(batch["step_ids"], 1, axis=0)
    steps = [ratios[n][ids[n] == h].sum() for n in range(16) for h in range(ids[n].max() + 1)]
    assert batch["kl_baseline"] == pytest.approx(max(ratios.sum(axis=1).mean(), 0), abs=1e-4)
    assert batch["step_baseline"] == pytest.approx(max(np.mean(steps), 0), abs=1e-4)
    assert batches.metrics["step_baseline"] == batch["step_baseline"][0]


def test_other_reference_points(first):
    """One from the lengths alone, and none."""
    _, _, mismatched = first(0.7)
    whole = mismatched.metrics["kl_baseline"]
    _, _, batches = first(0.7, **{"objective.step_baseline_from": "by_length"})
    (batch,) = batches.batches
    tokens, steps = (batch["step_ids"] >= 0).sum(), (batch["step_ids"].max(axis=1) + 1).sum()
    share = tokens / steps / (batch["mask"].sum() / 16)
    assert batches.metrics["kl_baseline"] == whole
    assert batches.metrics["step_baseline"] == pytest.approx(whole * share, rel=1e-5)
    _, _, batches = first(0.7, **{"objective.step_baseline_from": "zero"})
    assert batches.metrics["step_baseline"] == 0.0


def test_at_the_start_the_loss_is_known(first):
    """(1/2 where the outcome is labelled) + 1/2, averaged."""
    made, family, batches = first(1.0)
    (batch,) = batches.batches
    expected = 0.5 * batch["labelled"].mean() + 0.5
    assert family.first_loss(batch) == pytest.approx(expected, abs=1e-6)
    loss, metrics = jax.jit(family.loss_fn)(made.params, put_rows(batch, made.context.mesh))
    assert float(loss) == pytest.approx(expected, abs=1e-5)
    assert float(metrics["reward_right_steps"].mean()) == pytest.approx(0.0, abs=1e-5)


def test_a_plan_makes_batches_as_the_family_does(first):
    made, family, batches = first()
    _, planned = step_rows(made.context, made.stage, family, None, None)
    shapes = [
        {name: (np.shape(array), np.asarray(array).dtype) for name, array in each.items()}
        for each in (planned, batches.batches[0])
    ]
    assert shapes[0] == shapes[1]


def test_a_cache_holds_what_the_reference_says_of_tokens(first, tmp_path):
    _, _, plain = first()
    _, family, cached = first(**{"data.reference_cache": tmp_path / "cache"})
    assert family.cache.arrays["ref_logprobs"].shape == (len(ROWS), 8)
    for name in ("ref_logprobs", "ref_sequence_logprobs"):
        np.testing.assert_allclose(cached.batches[0][name], plain.batches[0][name], atol=1e-5)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"labels": [True]}, "line 4 has 2 completions and 1 labels"),
        ({"labels": [True, 1]}, "line 4: the label of step 1 must be true or false"),
        ({"completions": ["1", ""]}, "line 4: step 1 is empty"),
        ({"label": "yes"}, "line 4: the column 'label' must be true or false"),
        ({"completions": ["1" * 9, "2"]}, "config.kto.data.max_completion_tokens"),
    ],
)
def test_bad_rows_are_refused_with_their_numbers(first, row, message):
    good = {"prompt": "1+1=", "completions": ["1", "2"], "labels": [True, True], "label": True}
    with pytest.raises(ValueError, match=message):
        first(rows=[*ROWS[:3], good | row, *ROWS[4:]])


def test_a_whole_run(tiny_config, tmp_path, one_device_runs):
    more = {"steps": 4, "optimizer.learning_rate": 3e-3}
    run(tiny_config("kto", "--config.warmup.steps=2", *words(tmp_path, **more)), tmp_path / "run")
    rows = [row for row in read_rows(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    rows = [row for row in rows if row["stage"] == "kto"]
    assert rows[-1]["step"] == 4
    apart = [row["reward_right_steps"] - row["reward_wrong_steps"] for row in rows]
    assert abs(apart[0]) < 1e-5 and apart[-1] > 0
