"""Preference stages whose rows are no pairs: two groups of completions, or rated completions."""

import json

import jax
import numpy as np
import pytest

from rljax.parallel.rules import put_rows
from rljax.planning.batches import step_rows
from rljax.planning.lengths import lengths_of
from rljax.reporting.files import read_rows
from rljax.training.families.preference import Preference
from rljax.training.loop import run
from tests.training.steps import take_step

ROWS = [
    {
        "prompt": f"{a}+1=",
        "chosen": [str(a + 1), f"<{a + 1}>"][: 1 + a % 2],
        "rejected": ["no", f"{a}", "?"][: 1 + a % 3 % 2],
        "completions": [str(a + 1), "no", f"{a}", "x y"][: 2 + a % 3],
        "scores": [1.0, 0.25 * (a % 2), 0.5, 0.0][: 2 + a % 3],
    }
    for a in range(1, 33)
]


def words(folder, method, rows=ROWS, **more):
    """Overrides of the tiny stage on a file, whose rows have room for four completions."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {"method": method, "data.path": path, **more}
    return [f"--config.dpo_file.{name}={value}" for name, value in said.items()]


@pytest.fixture
def built(pieces, tmp_path):
    """built("mdpo", "batch.share_prompts=False"): pieces, the family and its first batch."""

    def build(method: str, rows=ROWS, **more):
        made = pieces("dpo_file", *words(tmp_path, method, rows, **more))
        Preference.check(made.context, made.stage)
        family = Preference(made.context, made.stage, made.params, 12)
        (batch,) = take_step(family, made.state, 1)[1].batches
        return made, family, batch

    return build


METHODS = ("mdpo", "mipo", "copg")
UNSHARED = {"batch.share_prompts": False}


@pytest.mark.parametrize("method", METHODS)
def test_what_a_row_says_stays_beside_its_completions(built, method):
    made, _, batch = built(method, **UNSHARED)
    decode, tokenizer = made.context.tokenizer.decode, made.context.tokenizer
    assert batch["tokens"].shape[:2] == (4, 4)
    for b, tokens in enumerate(batch["tokens"]):
        prompt = decode(tokens[0][:6][batch["segment_ids"][b, 0, :6] > 0])
        row = next(row for row in ROWS if row["prompt"] == prompt)
        texts = [
            decode(ids[6:][kept][:-1])
            for ids, kept in zip(tokens, batch["mask"][b], strict=True)
            if kept.any()
        ]
        ends = [ids[6:][m][-1] for ids, m in zip(tokens, batch["mask"][b], strict=True) if m.any()]
        assert set(ends) == {tokenizer.eos_id}
        present = batch["present"][b]
        if method == "copg":
            assert texts == row["completions"]
            assert list(batch["ratings"][b][present]) == row["scores"]
        else:
            assert texts == row["chosen"] + row["rejected"]
            assert batch["chosen_sides"][b].sum() == len(row["chosen"])
            assert (~batch["chosen_sides"][b] & present).sum() == len(row["rejected"])
    assert batch["weights"].sum() == pytest.approx(1.0)
    sizes = {len(row["chosen"]) for row in ROWS}, {len(row["rejected"]) for row in ROWS}
    assert sizes == ({1, 2}, {1, 2})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_is_that_of_log_ratios_of_the_network(built, method, shared):
    """By hand from sums of log-probabilities; shared prompts are another layout of the same."""
    made, family, batch = built(method, **{"batch.share_prompts": shared})
    moved = jax.tree.map(lambda x: 1.1 * x, made.params)
    values = made.stage.objective.values

    def sums(params):
        rows = {name: batch[name] for name in ("tokens", "positions", "segment_ids", "mask")}
        if not shared:
            rows = {name: rows[name].reshape(16, -1) for name in rows}
        logprobs = np.asarray(family.score(params, put_rows(rows, made.context.mesh)), np.float64)
        return np.where(rows["mask"], logprobs, 0).sum(axis=-1).reshape(4, 4)

    ratios = sums(moved) - sums(made.params)
    present, expected = batch["present"], []
    for b in range(4):
        there = present[b]
        if method == "copg":
            r = batch["ratings"][b][there] - values["beta"] * ratios[b][there]
            k = there.sum()
            pairs = sum((r[i] - r[j]) ** 2 for i in range(k) for j in range(i))
            expected.append(pairs / (k - 1) / (2 * values["beta"]))
            continue
        first = batch["chosen_sides"][b]
        chosen, rejected = ratios[b][first], ratios[b][there & ~first]
        margin = chosen.mean() - rejected.mean()
        if method == "mdpo":
            expected.append(np.log1p(np.exp(-values["beta"] * margin)))
        else:
            excess = sum(x.var(ddof=1) / len(x) for x in (chosen, rejected) if len(x) > 1)
            expected.append((margin - 0.5 / values["beta"]) ** 2 - excess)
    loss, metrics = jax.jit(family.loss_fn)(moved, put_rows(batch, made.context.mesh))
    assert np.abs(ratios).max() > 1e-2
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)
    assert np.isfinite(float(metrics["reward_accuracy"].mean()))
    assert family.first_loss(batch) == pytest.approx(
        float(jax.jit(family.loss_fn)(made.params, put_rows(batch, made.context.mesh))[0]), rel=1e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_makes_batches_as_the_family_does(built, method):
    made, family, batch = built(method)
    _, planned = step_rows(made.context, made.stage, family, None, None)
    shapes = [
        {name: (np.shape(array), np.asarray(array).dtype) for name, array in each.items()}
        for each in (planned, batch)
    ]
    assert shapes[0] == shapes[1]
    assert lengths_of(made.context, made.stage).samples == 4


def test_a_cache_of_the_reference_holds_every_completion(built, tmp_path):
    folder = tmp_path / "cache"
    for method in METHODS:
        _, _, plain = built(method)
        _, family, cached = built(method, **{"data.reference_cache": folder})
        assert family.cache.arrays["ref_sequence_logprobs"].shape == (len(ROWS), 4)
        np.testing.assert_allclose(
            cached["ref_sequence_logprobs"], plain["ref_sequence_logprobs"], atol=1e-5
        )
    # Groups are the same rows for both methods; rated completions are others.
    assert len(list(folder.iterdir())) == 2


def test_groups_may_be_judged_by_held_out_pairs(built, tmp_path, tiny_folder):
    made, family, _ = built("mdpo", **{"data.heldout_path": tiny_folder / "problems.jsonl"})
    found = family.evaluate(made.state, lambda params: {"accuracy_greedy": 0.5})
    assert found["accuracy_greedy"] == 0.5 and 0 <= found["ranking_accuracy"] <= 1
    assert found["reference_ranking_accuracy"] == found["ranking_accuracy"]


@pytest.mark.parametrize(
    "method, row, message",
    [
        ("mdpo", {"chosen": "2"}, "the column 'chosen' must be a list"),
        ("mipo", {"rejected": []}, "the column 'rejected' must be a list of at least 1"),
        (
            "mdpo",
            {"chosen": list("123"), "rejected": list("45")},
            "5 completions, and a row of the stage has room for 4 (config.dpo_file.batch.samples",
        ),
        ("mipo", {"chosen": ["1", "2"], "rejected": ["2", "1"]}, "are the same"),
        ("mdpo", {"chosen": ["1" * 20]}, "config.dpo_file.data.max_completion_tokens"),
        ("copg", {"scores": [1.0]}, "completions and 1 scores"),
        ("copg", {"completions": ["1"], "scores": [1.0]}, "list of at least 2"),
    ],
)
def test_rows_that_do_not_fit_are_refused(built, method, row, message):
    with pytest.raises(ValueError) as caught:
        built(method, [*ROWS[:9], {**ROWS[9], **row}, *ROWS[10:]])
    assert "line 10" in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_run(tiny_config, tmp_path, one_device_runs, method):
    """The loss goes down from where it starts; rated completions come nearer to each other."""
    more = {"steps": 4, "optimizer.learning_rate": 3e-3}
    overrides = ["--config.warmup.steps=2", *words(tmp_path, method, **more)]
    run(tiny_config("dpo_file", *overrides), tmp_path / "run")
    rows = [row for row in read_rows(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    rows = [row for row in rows if row["stage"] == "dpo_file"]
    assert rows[-1]["step"] == 4 and rows[-1]["loss"] < rows[0]["loss"]
    if method == "mdpo":
        assert rows[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
        assert rows[-1]["reward_margin"] > 0
    if method == "copg":
        assert rows[-1]["regularised_spread"] < rows[0]["regularised_spread"]
