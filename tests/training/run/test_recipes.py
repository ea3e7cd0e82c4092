"""The recipes of configs/examples/ on a tiny model: from files as the hub has them to an export."""

import importlib.util
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from rljax import remarks
from rljax.config.load import load_config
from rljax.data.rows import reference_of
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.pretrained import save_pretrained
from rljax.parallel.mesh import make_mesh
from rljax.reporting.files import read_json, read_rows
from rljax.rewards.code.reward import python_tests
from rljax.training import loop
from rljax.user_modules import import_file
from tests.folders import CONTROL, EOS, write_tokenizer
from tests.rewards.sandboxes import needs_sandbox

pytest.importorskip("transformers")
pytest.importorskip("jinja2")
ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "configs/examples"
SMALL = (
    "model.dtype=float32",
    "mesh.fsdp=1",
    "scoring.workers=0",
    "data.max_prompt_tokens=128",
    "evaluation.max_new_tokens=4",
    "evaluation.samples_per_prompt=0",
    "reporting.writers=('jsonl',)",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with a tiny model, and the data files."""
    folder = tmp_path_factory.mktemp("files")
    sizes = dict(layers=1, width=32, heads=4, kv_heads=2, head_dim=8, mlp_width=48)
    network = Network.create(ModelConfig(vocab_size=len(CONTROL) + 256, **sizes))
    params = network.init(jax.random.key(0), make_mesh({"data": 1}, devices=jax.devices()[:1]))
    save_pretrained(folder / "model", network, params)
    write_tokenizer(folder / "model", begins_with_bos=True)
    (folder / "model/generation_config.json").write_text(json.dumps({"eos_token_id": EOS}))
    import_file(str(EXAMPLES / "make_hub_files.py"), field="example").make(folder)
    return folder


def named(files: Path, recipe: str, train: str, *words: str) -> str:
    """What stands behind --config= in the command."""
    given = (f"model={files / 'model'}", f"train={files / train}")
    given += (f"heldout={files / 'heldout.jsonl'}", *words)
    return f"{EXAMPLES / recipe}:{','.join(given)}"


def overrides(*fields: str) -> list[str]:
    """Flags of these fields, and of a small run."""
    return [f"--config.{field}" for field in (*SMALL, *fields)]


def command(name: str, *arguments: str) -> None:
    """A command of launch/ in this process."""
    spec = importlib.util.spec_from_file_location(f"{name}_command", ROOT / f"launch/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(list(arguments)) == 0


def test_gsm8k_from_the_hub_s_file_to_an_exported_model(files, tmp_path, capsys, one_device_runs):
    config, run, out = named(files, "gsm8k.py", "train.jsonl", "lora"), tmp_path / "run", "out"
    fields = overrides("grpo.sampling.max_new_tokens=4")
    command("data", str(files / "train.jsonl"), "--reward=gsm8k_open_instruct", "--column=answer")
    assert "256" in capsys.readouterr().out
    loop.run(load_config(f"{config},smoke", fields), run)
    rollout = read_json(next((run / "rollouts").glob("grpo-*.json")))
    questions = {json.loads(line)["question"] for line in (files / "train.jsonl").open()}
    for prompt in rollout["prompts"]:
        question = prompt["prompt"].removeprefix("<|start|>user\n").partition("<|end|>")[0]
        assert question in questions
        assert prompt["prompt"].endswith("<|end|>\n<|start|>assistant\n")
        assert "#### " in prompt["reference"]
    command("evaluate", f"--checkpoint={run}", f"--config={config},smoke", *fields)
    command("export", f"--checkpoint={run}", f"--out={tmp_path / out}")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": [{"role": "user", "content": "1 + 1?"}]}\n')
    answers = tmp_path / "answers.jsonl"
    command(
        *("generate", f"--model={tmp_path / out}", f"--prompts={prompts}", f"--out={answers}"),
        *("--max-new-tokens=4", "--temperature=0"),
    )
    (answer,) = [json.loads(line) for line in answers.open()]
    assert len(answer["completions"]) == 1


def test_every_turn_of_the_assistant_is_learned(files, tmp_path, one_device_runs):
    config = named(files, "messages.py", "messages.jsonl", "smoke")
    loop.run(load_config(config, overrides("sft.data.row_tokens=512")), tmp_path)
    example = read_json(tmp_path / "examples/sft.json")
    learned, text = [], ""
    for token, kind in zip(example["tokens"], example["kinds"], strict=True):
        text += token if kind in ("learned", "end") else ""
        if kind == "end":
            learned, text = [*learned, text], ""
    conversations = [json.loads(line)["messages"] for line in (files / "messages.jsonl").open()]
    answers = [
        [f"{said['content']}<|end|>" for said in messages if said["role"] == "assistant"]
        for messages in conversations
    ]
    assert learned in answers and text.strip() == ""
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["end_learned_share"] for row in rows if row["kind"] == "train"] == [1.0, 1.0]


def test_the_first_loss_of_preferences_is_ln_2(files, tmp_path, one_device_runs):
    config = named(files, "preferences.py", "pairs.jsonl", "lora", "smoke")
    loop.run(load_config(config, overrides("dpo.data.max_completion_tokens=96")), tmp_path)
    first = next(row for row in read_rows(tmp_path / "metrics.jsonl") if row["kind"] == "train")
    np.testing.assert_allclose(first["loss"], math.log(2), atol=1e-6)
    assert read_json(tmp_path / "examples/dpo.json")["kinds"][-1] == "end"


@needs_sandbox
def test_programs_and_their_tests_are_read(files, capsys):
    """The file as MBPP has it: two columns make the reference, and its own solutions pass."""
    rows = [json.loads(line) for line in (files / "code.jsonl").open()]
    columns = "--column=test_list,test_setup_code"
    command("data", str(files / "code.jsonl"), "--reward=python_tests", columns)
    assert "assert statements  128" in capsys.readouterr().out
    reference = reference_of(rows[0], "test_list,test_setup_code")
    assert reference == {name: rows[0][name] for name in ("test_list", "test_setup_code")}
    load_config(named(files, "python_tests.py", "code.jsonl", "partial"), overrides())
    for row in rows[:4]:
        assert python_tests("", f"```python\n{row['code']}\n```", row) == 1.0
        assert python_tests("", "def gap(a, b): return 0", row) == 0.0


@pytest.mark.slow
@needs_sandbox
def test_grpo_on_programs(files, tmp_path, one_device_runs):
    config = named(files, "python_tests.py", "code.jsonl", "partial", "smoke")
    config = config.replace("heldout.jsonl", "code_heldout.jsonl")
    fields = overrides("grpo.sampling.max_new_tokens=4", "data.max_prompt_tokens=256")
    loop.run(load_config(config, fields), tmp_path)
    rollout = read_json(next((tmp_path / "rollouts").glob("grpo-*.json")))
    assert "assert" in str(rollout["prompts"][0]["reference"])
    assert all(
        row["scoring_failures"] == 0
        for row in read_rows(tmp_path / "metrics.jsonl")
        if "scoring_failures" in row
    )


# Chain -> fields that make a run of seconds of its published form: lengths of each stage.
CHAINS = {
    "tulu3.py": (
        "sft.data.row_tokens=512",
        *(f"{name}.data.max_completion_tokens=160" for name in ("dpo", "rm")),
        "ppo.sampling.max_new_tokens=4",
    ),
    "unpacking.py": (
        "sft.data.row_tokens=512",
        *(f"{name}.data.max_completion_tokens=160" for name in ("dpo", "rm")),
        "ppo.sampling.max_new_tokens=4",
    ),
    "llama3.py": (
        "rm.data.max_completion_tokens=160",
        "sft1.data.row_tokens=256",
        "dpo1.data.max_completion_tokens=160",
        *(f"{name}.sampling.max_new_tokens=4" for name in ("sft1", "dpo1")),
        "dpo1.data.placeholder_pairs=True",
        "dpo1.data.unfinished=worst",
    ),
}


# The stages of unpacking.py are those of tulu3.py; test_loop.py runs it in its own form.
@pytest.mark.parametrize(
    "chain",
    [
        pytest.param(name, marks=pytest.mark.long if name == "unpacking.py" else pytest.mark.slow)
        for name in CHAINS
    ],
)
def test_a_chain_of_a_published_model(chain, files, tmp_path, one_device_runs, capsys):
    """Its files as hubs hold them: with a pair whose sides are equal, and one that is too long."""
    pairs = tmp_path / "pairs.jsonl"
    asked = {"role": "user", "content": "How many?"}
    same, long = ({"role": "assistant", "content": text} for text in ("7", "7" * 400))
    bad = [{"chosen": [asked, same], "rejected": [asked, side]} for side in (same, long)]
    lines = "".join(json.dumps(row) + "\n" for row in bad)
    pairs.write_text(lines + (files / "pairs.jsonl").read_text())
    given = {"sft": files / "messages.jsonl", "pairs": pairs, "train": files / "train.jsonl"}
    given |= {"model": files / "model", "heldout": files / "heldout.jsonl"}
    path = ROOT / "configs/recipes" / chain
    names = import_file(str(path), field="--config", again=True).FILES
    words = [f"{name}={given[name]}" for name in names] + ["rounds=1"] * (chain == "llama3.py")
    remarks.say_once.cache_clear()
    config = load_config(f"{path}:{','.join(words)},smoke", overrides(*CHAINS[chain]))
    summary = loop.run(config, tmp_path / "run")
    assert set(summary["stages"]) == set(config.stages)
    said = capsys.readouterr().err
    assert "1 of" in said and "left out" in said
