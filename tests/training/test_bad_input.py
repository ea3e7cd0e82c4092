"""Bad input ends with one error that names it, before anything compiles or is overwritten."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp

from rljax.reporting.files import read_rows
from rljax.training import loop
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.step_log import NonFiniteError
from rljax.training.update import optimizers

HERE = Path(__file__).parent


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def refused(tiny_config, tmp_path, compilations):
    """refused(variant, *overrides) -> the error; nothing was compiled, no file changed."""

    def run(variant: str, *overrides: str, workdir: Path = tmp_path / "run") -> str:
        before = files_of(workdir)
        with compilations() as names, pytest.raises(ValueError) as caught:
            loop.run(tiny_config(variant, *overrides), workdir)
        assert not {"jit(sample)", "jit(step)", "jit(score)"} & set(names)
        assert files_of(workdir) == before
        return str(caught.value)

    return run


@pytest.fixture
def lines_file(tmp_path):
    """lines_file(record or text, ...) -> a .jsonl file."""

    def write(*lines) -> Path:
        path = tmp_path / "data.jsonl"
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(f"{line}\n" for line in text))
        return path

    return write


@pytest.mark.parametrize(
    "variant, word, messages",
    [
        ("grpo", "grpo.method=grop", ["Unknown method 'grop'", "'grpo'?", "config.grpo.method"]),
        ("grpo", "grpo.objective.advantage=grpo", ["Unknown advantage", "objective.advantage"]),
        ("grpo", "grpo.objective.ema_decay=0.9", ["never read", "objective.ema_decay=0.9"]),
        ("grpo", "grpo.optimizer.decay=0.9", ["never read", "config.grpo.optimizer"]),
        ("grpo", "grpo.optimizer.name=adam", ["Unknown optimizer name 'adam'", "'adamw'?"]),
        ("grpo", "grpo.optimizer.schedule=linaer", ["'linaer'", "'linear'?"]),
        ("grpo", "reporting.writers=('jsonl','tensorbord')", ["'tensorbord'", "'tensorboard'?"]),
        ("grpo", "scoring.rewards=({'name': 'exact'},)", ["Unknown reward 'exact'", "scoring"]),
        ("grpo", "scoring.max_failed_share=2.0", ["max_failed_share must be in [0, 1]"]),
        ("grpo", "tokenizer.path=nowhere", ["No tokenizer folder 'nowhere'"]),
        ("grpo", "model.heads=3", ["width=16 is not a multiple of heads=3"]),
        ("grpo", "model.kv_heads=3", ["heads=2 is not a multiple of kv_heads=3"]),
        # 8 fake devices: the mesh of the tests' own process
        ("grpo", "mesh.tensor=3", ["does not divide 8 devices", "config.mesh"]),
        ("grpo", "mesh.tensor=4", ["heads=2 does not divide", "config.model.heads"]),
        ("grpo", "grpo.batch.sequences_per_micro_batch=4", ["4 rows", "config.grpo.batch"]),
        ("grpo", "evaluation.prompts_per_batch=4", ["4 rows", "evaluation.prompts_per_batch"]),
        ("grpo", "sampler.shrink=(3,2)", ["ascending divisors", "config.sampler.shrink"]),
        ("grpo", "grpo.sampling.forbidden_tokens=(999999,)", ["999999"]),
        (
            "grpo",
            "data.max_prompt_tokens=3",
            ["line 1 has 4 tokens, at most 3", "max_prompt_tokens"],
        ),
        ("grpo", "warmup.data.row_tokens=7", ["8 tokens", "config.warmup.data.row_tokens"]),
        ("grpo", "data.path=nowhere.jsonl", ["No file 'nowhere.jsonl'", "config.data.path"]),
        ("grpo", "data.heldout_path=no.jsonl", ["No file 'no.jsonl'", "config.data.heldout_path"]),
        ("grpo", "warmup.data.path=no.jsonl", ["No file 'no.jsonl'", "config.warmup.data.path"]),
        ("grpo", "data.reference_column=gold", ["lacks the column 'gold'", "reference_column"]),
        ("jepo", "jepo.data.max_answer_tokens=2", ["3 tokens", "config.jepo.data.max_answer"]),
        ("jepo", "jepo.batch.samples_per_prompt=1", ["at least 2", "samples_per_prompt"]),
    ],
)
def test_config_errors(refused, variant, word, messages):
    text = refused(variant, f"--config.{word}")
    for message in messages:
        assert message in text


def test_unknown_task(refused):
    words = ["data.kind=reasoning_gym", "data.path=", "data.heldout_path="]
    words += ["warmup.data.source=problems", "warmup.data.path="]
    words += ["data.tasks=({'name': 'chain_sums'},)"]
    text = refused("grpo", *(f"--config.{word}" for word in words))
    assert "'chain_sums'" in text and "'chain_sum'?" in text and "config.data.tasks" in text


GOOD = {"prompt": "1+1=", "reference": "2"}


@pytest.mark.parametrize(
    "lines, messages",
    [
        ([], ["holds no record", "config.data.path"]),
        ([GOOD, "{not json"], ["line 2 is no JSON", "config.data.path"]),
        ([GOOD, "[1, 2]"], ["line 2 begins as a JSON array does"]),
        ([GOOD, {"prompt": "x"}], ["line 2 lacks the column 'reference'", "['prompt']"]),
        ([GOOD, {**GOOD, "prompt": "12345678"}], ["line 2 has 8 tokens, at most 6"]),
        ([GOOD, {**GOOD, "prompt": ""}], ["line 2: the prompt is empty"]),
    ],
)
def test_data_errors(refused, lines_file, lines, messages):
    text = refused("reinforce", f"--config.data.path={lines_file(*lines)}")
    for message in messages:
        assert message in text


def test_a_held_out_prompt_is_checked_wherever_it_stands(refused, lines_file):
    path = lines_file(*[GOOD] * 7, {**GOOD, "prompt": "1234567"})
    text = refused("reinforce", f"--config.data.heldout_path={path}")
    assert "data.jsonl, line 8 has 7 tokens" in text


@pytest.mark.parametrize("field", ["path", "heldout_path"])
def test_a_gold_answer_that_the_reward_cannot_read_is_named(refused, lines_file, field):
    path = lines_file(GOOD, "", {**GOOD, "reference": "He has 5 apples"}, {**GOOD, "reference": ""})
    words = [f"--config.data.{field}={path}", "--config.scoring.rewards=({'name': 'math'},)"]
    text = refused("reinforce", *words)
    assert text.startswith(f"{path}, line 3: the reward 'math' cannot read the gold answer 'He has")
    assert "; 1 more rows cannot be read (config.data.reference_column)." in text


@pytest.mark.parametrize(
    "record, message",
    [
        ({"prompt": "1+1=", "chosen": "2"}, "lacks the column 'rejected'"),
        ({"prompt": "1+1=", "chosen": "2", "rejected": "123456789"}, "has 10 tokens, at most 8 "),
        (
            {"prompt": "1234567", "chosen": "2", "rejected": "1"},
            "data.jsonl, line 1 has 7 tokens, at most 6",
        ),
        ({"prompt": "", "chosen": "2", "rejected": "1"}, "line 1: the prompt is empty"),
        ({"prompt": "1+1=", "chosen": "2", "rejected": "2"}, "line 1: chosen and rejected are the"),
        ({"prompt": "1+1=", "chosen": "2", "rejected": ""}, "line 1: rejected is empty"),
    ],
)
def test_pairs_of_a_later_stage_are_checked_at_the_start(refused, lines_file, record, message):
    text = refused("dpo_file", f"--config.dpo_file.data.path={lines_file(record)}")
    assert message in text


def test_every_pair_that_is_refused_is_counted(refused, lines_file):
    good = [{"prompt": f"{n}=", "chosen": f"{n}", "rejected": "-"} for n in range(9)]
    bad = [{"prompt": "1+1=", "chosen": side, "rejected": side} for side in "1234567"]
    path = lines_file(*good, *bad)
    text = refused("dpo_file", f"--config.dpo_file.data.path={path}")
    assert text.startswith(f"{path}, line 10: chosen and rejected are the same")
    assert text.endswith(
        " 6 more rows are refused: line 11, line 12, line 13, line 14, line 15 and 1 more "
        "(launch/data.py lists them). config.dpo_file.data.unusable='drop' leaves such a row out."
    )


def test_columns_that_are_swapped_are_refused(refused, lines_file):
    rows = [{"prompt": f"{n}=", "chosen": "-", "rejected": f"{n}"} for n in range(10)]
    path = lines_file(*rows)
    text = refused("dpo_file", f"--config.dpo_file.data.path={path}")
    assert text == (
        f"{path}: the column 'chosen' holds the same text in all 10 rows, whose prompts differ: "
        "another column is meant (config.dpo_file.data.path)."
    )


@pytest.mark.parametrize("packed", [True, False])
def test_a_demonstration_without_a_prompt_is_refused_with_its_row(refused, lines_file, packed):
    """In a packed row its first token would be learned from the example before it."""
    path = lines_file({"prompt": "1+1=", "completion": "2"}, {"prompt": "", "completion": "3"})
    words = [f"warmup.data.path={path}", f"warmup.data.packed={packed}"]
    text = refused("grpo", *(f"--config.{word}" for word in words))
    assert f"{path}, line 2: the prompt is empty" in text and "config.warmup.data.path" in text


def test_the_workdir_of_another_config(refused, tiny_run, tmp_path, one_device_runs):
    workdir = tmp_path / "copy"
    shutil.copytree(tiny_run("reinforce").workdir, workdir)
    words = ["--config.seed=1", "--config.model.width=32", "--config.mesh.fsdp=1"]
    text = refused("reinforce", *words, workdir=workdir)
    assert f"{workdir} belongs to another config" in text
    assert "config.seed: 0 -> 1" in text and "config.model.width: 16 -> 32" in text
    assert "mesh" not in text and "--workdir" in text


def test_how_a_run_is_shown_may_change(tiny_run, tiny_config, tmp_path, one_device_runs):
    workdir = tmp_path / "copy"
    shutil.copytree(tiny_run("reinforce").workdir, workdir)
    before = (workdir / "metrics.jsonl").read_bytes()
    loop.run(tiny_config("reinforce", "--config.reporting.every_steps=2"), workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == before


def damaged_copy(run, workdir: Path) -> Path:
    """An interrupted run: warmup is done, but its last checkpoint is cut; grpo has not begun."""
    shutil.copytree(run.workdir, workdir)
    shutil.rmtree(workdir / "checkpoints" / "grpo")
    (data,) = (workdir / "checkpoints/warmup/12/state/d").iterdir()
    data.write_bytes(data.read_bytes()[:-100])
    return workdir


def test_a_truncated_checkpoint(refused, tiny_run, tmp_path, one_device_runs):
    workdir = damaged_copy(tiny_run("grpo"), tmp_path / "copy")
    before = (workdir / "metrics.jsonl").read_bytes()
    text = refused("grpo", workdir=workdir)
    assert f"The checkpoint {workdir / 'checkpoints/warmup/12'} cannot be read" in text
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_later_stage_without_the_one_before_it(refused, tiny_run, tmp_path, one_device_runs):
    workdir = tmp_path / "copy"
    shutil.copytree(tiny_run("grpo").workdir, workdir)
    shutil.rmtree(workdir / "checkpoints" / "warmup" / "12")
    text = refused("grpo", workdir=workdir)
    assert "Stage 'grpo' has checkpoints, but stage 'warmup' before it has done only" in text
    assert "of 12 steps" in text and str(workdir / "checkpoints" / "grpo") in text


@pytest.mark.parametrize("word", ["seed=1", "model.width=32"])
def test_checkpoints_alone_belong_to_the_run_that_wrote_them(
    word, refused, tiny_run, tmp_path, one_device_runs
):
    """No config.json and no run.json: no other seed, and no other shape, adopts the checkpoints."""
    workdir = tmp_path / "copy"
    shutil.copytree(tiny_run("reinforce").workdir / "checkpoints", workdir / "checkpoints")
    text = refused("reinforce", f"--config.{word}", workdir=workdir)
    assert "config.json and run.json are missing or damaged" in text and "--workdir" in text


def reward(name: str) -> str:
    return f"--config.scoring.rewards=({{'name': '{HERE / 'odd_reward.py'}:{name}'}},)"


def test_failed_samples_get_the_failure_reward_and_are_counted(
    tiny_config, tmp_path, one_device_runs
):
    """A verifier that raises on some samples and hangs on others."""
    words = ["scoring.failure_reward=-0.5", "scoring.max_failed_share=1.0"]
    words += ["scoring.timeout_seconds=0.2", "evaluation.samples_per_prompt=0", "reinforce.steps=3"]
    words += ["evaluation.every_steps=0", "data.heldout_size=1"]
    overrides = [f"--config.{word}" for word in words]
    config = tiny_config("reinforce", *overrides, reward("goes_wrong"))
    loop.run(config, tmp_path)
    rows = [r for r in read_rows(tmp_path / "metrics.jsonl") if r["kind"] == "train"]
    assert len(rows) == 3
    failures = 0
    for row in rows:
        record = json.loads((tmp_path / f"rollouts/reinforce-{row['step']:06d}.json").read_text())
        wrong = 0
        for prompt in record["prompts"]:
            for sample in prompt["samples"]:
                bad = len(sample["text"]) % 2 or prompt["reference"] == "7"
                assert sample["reward"] == (-0.5 if bad else 1.0)
                wrong += bool(bad)
        assert row["scoring_failures"] == wrong
        failures += wrong
    assert 0 < failures < 3 * 32


def test_too_many_failures_stop_the_command(tiny_folder, tmp_path, one_device_runs, capsys):
    spec = importlib.util.spec_from_file_location("train", HERE.parents[1] / "launch/train.py")
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    words = [f"--config={HERE / 'tiny_config.py'}:reinforce", f"--workdir={tmp_path}"]
    words += ["--config.evaluation.samples_per_prompt=0", "--config.data.heldout_size=1"]
    words.append(reward("raises_always"))
    assert train.main(words) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: The rewards fail on the first problem")
    assert "RuntimeError: the verifier is broken" in text
    assert not any(tmp_path.iterdir())
    assert train.main([*words, "--config.scoring.try_first=False"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: 1 of 1 samples") or "samples could not be scored" in text
    assert "config.scoring.max_failed_share" in text and "the verifier is broken" in text


def poison(batch, value):
    """Makes the loss of a batch NaN or infinite."""
    batch["correction"] = np.full_like(batch["correction"], value)


def test_non_finite_updates_are_skipped_until_the_run_stops(
    tiny_config, tmp_path, one_device_runs, monkeypatch
):
    """From step 3 on every gradient is NaN: parameters stay, the third skip in a row stops."""
    batches_of, seen = PolicyGradient.batches, {}

    def poisoned(self, state, experience, step):
        seen[step] = jax.device_get(state.params)
        state, found = batches_of(self, state, experience, step)
        if step >= 3:
            poison(found.batches[0], np.nan)
        return state, found

    monkeypatch.setattr(PolicyGradient, "batches", poisoned)
    words = ["safety.max_skipped_in_a_row=3", "evaluation.samples_per_prompt=0"]
    config = tiny_config("reinforce", *(f"--config.{word}" for word in words))
    for _ in range(2):  # continued, it stops at the same place
        with pytest.raises(NonFiniteError, match="3 updates in a row.*max_skipped_in_a_row"):
            loop.run(config, tmp_path)
        rows = [r for r in read_rows(tmp_path / "metrics.jsonl") if r["kind"] == "train"]
        assert [row["updates_skipped"] for row in rows] == [0, 0, 1, 1, 1]
        assert [row["loss"] == "nan" for row in rows] == [False, False, True, True, True]
    folder = tmp_path / "checkpoints" / "reinforce"
    assert [path.name for path in folder.iterdir() if path.name.isdigit()] == ["4"]
    stored = ocp.load(folder / "4", checkpointable_name="state")
    pairs = zip(jax.tree.leaves(stored["params"]), jax.tree.leaves(seen[3]), strict=True)
    assert all(np.asarray(a).tobytes() == b.tobytes() for a, b in pairs)
    assert any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (seen[1], seen[3])), strict=True)
    )


def test_a_parameter_that_is_not_finite_never_reaches_a_checkpoint(
    tiny_config, tmp_path, one_device_runs, monkeypatch
):
    """The loss and the gradient are finite; b1=1 makes Adam divide 0 by 0."""
    monkeypatch.setitem(optimizers.OPTIMIZERS, "adamw", lambda rate: optax.adamw(rate, b1=1.0))
    words = ["checkpoint.every_steps=1", "evaluation.samples_per_prompt=0"]
    config = tiny_config("reinforce", *(f"--config.{word}" for word in words))
    with pytest.raises(NonFiniteError, match="^params/.* of stage 'reinforce' .* after step 1,"):
        loop.run(config, tmp_path)
    assert not list((tmp_path / "checkpoints/reinforce").iterdir())


def test_one_non_finite_update_does_not_stop_a_run(
    tiny_config, tmp_path, one_device_runs, monkeypatch
):
    batches_of = PolicyGradient.batches

    def poisoned(self, state, experience, step):
        state, found = batches_of(self, state, experience, step)
        if step == 2:
            poison(found.batches[0], np.inf)
        return state, found

    monkeypatch.setattr(PolicyGradient, "batches", poisoned)
    words = ["safety.max_skipped_in_a_row=2", "evaluation.samples_per_prompt=0"]
    config = tiny_config("reinforce", *(f"--config.{word}" for word in words))
    summary = loop.run(config, tmp_path)
    assert summary["stages"]["reinforce"]["steps"] == 5
    rows = [r for r in read_rows(tmp_path / "metrics.jsonl") if r["kind"] == "train"]
    assert [row["updates_skipped"] for row in rows] == [0, 1, 0, 0, 0]
