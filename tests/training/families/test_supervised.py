"""Supervised stages: packed demonstrations, every one once in an epoch."""

import json

import jax
import numpy as np
import pytest

from rljax import remarks
from rljax.config.load import load_config
from rljax.config.validate import validate
from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.demonstrations import packed_batch
from rljax.training.families.supervised import Supervised, kept_demonstrations
from rljax.training.run.context import build_context
from rljax.training.update.logprobs import make_score, model_rows
from tests.training.steps import take_step


@pytest.fixture
def family(pieces):
    """family(*overrides) -> pieces and the warm-up's family."""

    def build(*overrides):
        made = pieces("grpo", *overrides)
        stage = validate(made.context.config)[0]
        return made, Supervised(made.context, stage, None, 0)

    return build


def demonstrations(batch, tokenizer):
    """The texts that are trained on, and the texts before them, in order of rows."""
    found = []
    for tokens, segments, mask in zip(
        batch["tokens"], batch["segment_ids"], batch["mask"], strict=True
    ):
        targets = np.concatenate([[False], mask])
        for segment in range(1, segments.max() + 1):
            own = segments == segment
            found.append((tuple(tokens[own & ~targets]), tuple(tokens[own & targets])))
    return found


def test_completions_and_their_end_are_trained_on_and_prompts_are_not(family):
    made, supervised = family()
    tokenizer = made.context.tokenizer
    _, experience = take_step(supervised, made.state, 1)
    for prompt, completion in demonstrations(experience.batches[0], tokenizer):
        a, b = tokenizer.decode(prompt).rstrip("=").split("+")
        assert tokenizer.decode(completion) == f"<answer>{int(a) + int(b)}</answer>"
        assert completion[-1] == tokenizer.eos_id
    assert experience.tokens == experience.batches[0]["mask"].sum()


def test_an_epoch_holds_every_demonstration_once(family):
    # 55 sums of 8 tokens, three to a row of 24 (the last row holds one): 19 rows.
    made, supervised = family("--config.warmup.batch.sequences_per_update=19")
    seen = [
        sorted(demonstrations(take_step(supervised, made.state, step)[1].batches[0], None))
        for step in (1, 2)
    ]
    assert len(set(seen[0])) == 55 and seen[0] == seen[1]
    batches = [take_step(supervised, made.state, step)[1].batches[0] for step in (1, 2)]
    assert (batches[0]["tokens"] != batches[1]["tokens"]).any()  # in another order


def test_the_loss_is_the_mean_over_tokens_and_packing_does_not_change_it(family):
    made, packed = family("--config.warmup.batch.sequences_per_update=19")
    _, single = family(
        "--config.warmup.batch.sequences_per_update=55", "--config.warmup.data.packed=false"
    )
    losses = []
    for supervised in (packed, single):
        batch = take_step(supervised, made.state, 1)[1].batches[0]
        assert batch["weights"].sum() == pytest.approx(1.0, rel=1e-5)
        placed = put_rows(batch, made.context.mesh)
        loss, metrics = jax.jit(supervised.loss_fn)(made.params, placed)
        score = jax.jit(make_score(made.context.network, TokenFilter(), micro_batches=1))
        logprobs = np.asarray(score(made.params, model_rows(placed)))
        assert float(loss) == pytest.approx(-logprobs[batch["mask"]].mean(), rel=1e-5)
        assert 0 <= float(metrics["token_accuracy"].total) <= batch["mask"].sum()
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_only_the_first_demonstrations_are_used(family):
    made, supervised = family("--config.warmup.data.limit=3")
    batch = take_step(supervised, made.state, 1)[1].batches[0]
    assert len(set(demonstrations(batch, None))) == 3


def test_a_task_without_worked_solutions_is_refused(tmp_path):
    tasks = ({"name": "chain_sum"}, {"name": "countdown"})
    config = load_config("configs/quickstart.py")
    with config.unlocked():
        config.data.tasks = tasks
        config.data.prompt_pattern = ""
        config.data.max_prompt_tokens = 2000
        config.data.train_size = config.data.heldout_size = 8
        config.scoring.workers = 0
        config.grpo.batch.share_prompts = False  # its micro-batches have 2 groups for 8 devices
    context = build_context(config, validate(config), tmp_path)
    with pytest.raises(ValueError, match="no worked demonstration"):
        Supervised.check(context, validate(config)[0])


def test_every_prompt_begins_with_bos_when_asked_to(family):
    made, supervised = family(
        "--config.tokenizer.add_bos=true", "--config.data.max_prompt_tokens=7"
    )
    bos = made.context.tokenizer.bos_id
    assert {prompt[0] for prompt, _ in supervised.examples} == {bos}
    assert all(bos not in completion for _, completion in supervised.examples)


def sums(tmp_path, *overrides):
    """The texts that a stage of quickstart.py learns of its first problems."""
    words = ("--config.data.train_size=8", "--config.data.heldout_size=8", *overrides)
    config = load_config("configs/quickstart.py", (*words, "--config.scoring.workers=0"))
    with config.unlocked():
        config.grpo.batch.share_prompts = False  # its micro-batches have 2 groups for 8 devices
    stages = validate(config)
    context = build_context(config, stages, tmp_path)
    examples = kept_demonstrations(context, stages[1])[2]
    return [context.tokenizer.decode(example.tokens) for example in examples]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_stage_has_its_own_share_of_worked_demonstrations(share, tmp_path):
    own = sums(tmp_path, f"--config.habit.data.worked_share={share}")
    everywhere = sums(
        tmp_path, f"--config.data.worked_share={share}", "--config.habit.data.worked_share=None"
    )
    assert own == everywhere
    assert {"=<answer>" in text for text in own} == {share == 0}, own


def test_a_share_of_given_demonstrations_is_refused(family):
    with pytest.raises(ValueError, match=r"worked_share=0.5 is never read with kind='jsonl'"):
        family(
            "--config.warmup.data.source=problems",
            "--config.warmup.data.path=",
            "--config.warmup.data.worked_share=0.5",
        )


def test_demonstrations_that_are_too_long_follow_the_stage_s_rule(pieces, tmp_path, capsys):
    rows = [
        {"prompt": "1+1=", "completion": "2"},
        {"prompt": "1+1=", "completion": "2"},
        {"prompt": "12345678+1=", "completion": "12345679"},  # 20 tokens
        {"prompt": "2+2=", "completion": "4" * 30},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"data.path={path}", "data.row_tokens=14", "data.truncation=keep_end_of_prompt"]
    made = pieces("grpo", *(f"--config.warmup.{word}" for word in words))
    capsys.readouterr()
    examples = kept_demonstrations(made.context, made.context.stages[0])[2]
    assert [bytes(example.tokens[:-1]).decode() for example in examples] == [
        "1+1=2",
        "1+1=2",
        "78+1=12345679",
    ]
    said = capsys.readouterr().err
    assert "1 of 4 rows repeat earlier ones: line 2 (as line 1) (config.warmup.data.path)" in said
    assert "1 of 4 rows are too long and are left out (config.warmup.data.truncation)" in said
    assert "1 of 3 prompts lose 6 of 32 tokens" in said


def test_tokens_that_decide_a_tool_call_weigh_more(family, tmp_path, capsys):
    remarks.say_once.cache_clear()
    path = tmp_path / "calls.jsonl"
    tools = ["get_a", "get_b"]
    rows = [
        {"prompt": "a?", "completion": "get_a(x = 12)", "tool_names": tools},
        {"prompt": "b?", "completion": "get_b(y = 3)", "tool_names": tools},
        {"prompt": "c?", "completion": "no tool", "tool_names": tools},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = (
        "--config.warmup.method=tl_sft",
        f"--config.warmup.data.path={path}",
        "--config.warmup.data.row_tokens=40",
        "--config.warmup.batch.sequences_per_update=2",
    )
    made, supervised = family(*words)
    batch = take_step(supervised, made.state, 1)[1].batches[0]
    weights, mask = batch["weights"], batch["mask"]
    assert weights.sum() == pytest.approx(1.0, rel=1e-5) and not weights[~mask].any()
    # Bytes are tokens: 13 + eos with keys at "g" and "a" and one value token, so (14 - 3) / 2; then
    # 12 + eos with (13 - 3) / 2; the text that is no call has no keys.
    found = weights[mask] / weights[mask].min()
    assert sorted(found[found > 1.5].round(3)) == [5.0, 5.0, 5.5, 5.5]
    said = capsys.readouterr().err
    assert "note: 1 of 3 completions are no call `name(key = value)`" in said and "line 3 (" in said
    # Calls as JSON are not understood: nothing would weigh more than under plain sft.
    call = json.dumps({"name": "get_a", "arguments": {}})
    path.write_text(json.dumps({"prompt": "a?", "completion": call, "tool_names": tools}) + "\n")
    with pytest.raises(ValueError, match="1 of 1 completions are no call .* line 1 .*token_weight"):
        family(*words)
    with pytest.raises(ValueError, match="reads rows of a file with tools, and source='problems'"):
        family(*words[:1], "--config.warmup.data.source=problems", "--config.warmup.data.path=")


def test_wrong_steps_of_an_answer_are_read_and_not_learned(family, tmp_path, capsys):
    """The gradient with respect to a token's loss is its weight: exactly 0 on a wrong attempt."""
    path = tmp_path / "steps.jsonl"
    rows = [
        {"prompt": f"{a}+1=", "completions": ["no", str(a + 1)], "labels": [False, True]}
        for a in range(2, 8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = (f"data.path={path}", "data.learn=right_steps", "batch.sequences_per_update=2")
    made, supervised = family(*(f"--config.warmup.{word}" for word in words))
    batch = take_step(supervised, made.state, 1)[1].batches[0]
    targets, decode = batch["tokens"][:, 1:], made.context.tokenizer.decode
    learned = "".join(decode(ids[kept]) for ids, kept in zip(targets, batch["mask"], strict=True))
    assert learned and set(learned) <= set("345678")
    assert "no\n" in decode(targets[0]) and not batch["weights"][~batch["mask"]].any()
    wrong = {"prompt": "9+1=", "completions": ["no", "11"], "labels": [False, False]}
    path.write_text("".join(json.dumps(row) + "\n" for row in [wrong, *rows]))
    with pytest.raises(ValueError, match="line 1: no step is right.*data.unusable='drop' leaves"):
        family(*(f"--config.warmup.{word}" for word in words))
    left = family(*(f"--config.warmup.{word}" for word in (*words, "data.unusable=drop")))[1]
    assert len(left.examples) == len(rows)
    assert "1 of 7 rows say nothing to learn" in capsys.readouterr().err
    with pytest.raises(ValueError, match="unsure_marker='stop' is never read with learn='last'"):
        family("--config.warmup.data.unsure_marker=stop")
    with pytest.raises(ValueError, match="unsure_marker=' ' is empty"):
        family("--config.warmup.data.unsure_marker= ", "--config.warmup.data.learn=until_error")
    with pytest.raises(ValueError, match="answer_rank=0.5 is never read with learn='right_steps'"):
        family(*(f"--config.warmup.{word}" for word in (*words[:2], "data.answer_rank=0.5")))
    with pytest.raises(ValueError, match=r"error_phrases=\('E',\) is never read with learn='last'"):
        family("--config.warmup.data.error_phrases=('E',)")
    with pytest.raises(ValueError, match="error_phrases=.* holds an empty text"):
        family("--config.warmup.data.error_phrases=('E','')", "--config.warmup.data.learn=all")


def test_classes_of_a_column_are_learned_equally_often(family, tmp_path, capsys):
    path = tmp_path / "claims.jsonl"
    rows = [
        {"prompt": f"{a}+1=", "completion": str(a + 1 + a % 5 // 4), "right": a % 5 < 4}
        for a in range(10)
    ]
    words = [f"--config.warmup.data.{word}" for word in (f"path={path}", "balance_column=right")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = family(*words)[1].examples
    wrong = [made for made in found if made in (found[4], found[-1])]
    assert len(found) == 16 and len(wrong) == 8
    assert "8 True, 2 False" in capsys.readouterr().err
    for change, message in (
        ({"right": None}, r"line 1 lacks the column 'right'"),
        ({"right": 0.5}, r"line 1: the column 'right' must hold a text, .* got 0.5"),
    ):
        path.write_text("".join(json.dumps(row) + "\n" for row in [rows[0] | change, *rows]))
        with pytest.raises(ValueError, match=message):
            family(*words)
    path.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(ValueError, match="All rows .* are 'True': .*balance_column"):
        family(*words)


def test_rows_of_a_file_may_have_weights(family, tmp_path):
    """Each target counts by its own example, against the mean of all; padding counts nothing."""
    path = tmp_path / "weighted.jsonl"
    rows = [{"prompt": f"{n}+1=", "completion": "2", "weight": n} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"data.path={path}", "data.row_tokens=14"]
    _, plain = family(*(f"--config.warmup.{word}" for word in words))
    words.append("data.weight_column=weight")
    _, weighted = family(*(f"--config.warmup.{word}" for word in words))
    np.testing.assert_allclose(weighted.factors, np.array([0, 1, 2, 3]) / 1.5, rtol=1e-6)
    plan = [[3, 1], [0]]
    rows = packed_batch(weighted.examples, plan, row_tokens=14, pad_id=0)
    before, after = plain.weights(rows, plan), weighted.weights(rows, plan)
    ids = rows["segment_ids"][:, 1:]
    for row, segment, factor in ((0, 1, 2.0), (0, 2, 1 / 1.5), (1, 1, 0.0)):
        own = (ids[row] == segment) & rows["mask"][row]
        np.testing.assert_allclose(after[row][own], factor * before[row][own], rtol=1e-6)
        assert before[row][own].all()
    assert not after[~rows["mask"]].any()


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1.0, None], r"line 2: 'w' must be a finite number >= 0, got null"),
        ([-1.0, 1.0], r"line 1: 'w' must be a finite number >= 0, got -1.0"),
        ([float("nan"), 1.0], r"must be a finite number >= 0"),
        ([True, 1.0], r"must be a finite number >= 0, got True"),
        ([0.0, 0.0], r"All 2 rows have the weight 0 in 'w'"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message, family, tmp_path):
    path = tmp_path / "weighted.jsonl"
    rows = [{"prompt": f"{n}+1=", "completion": "2", "w": w} for n, w in enumerate(weights)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"data.path={path}", "data.row_tokens=14", "data.weight_column=w"]
    with pytest.raises(ValueError, match=message):
        family(*(f"--config.warmup.{word}" for word in words))
