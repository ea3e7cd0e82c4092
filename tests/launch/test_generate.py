"""launch/generate.py on a run's checkpoint and on the folder that it exports to."""

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax
import optax
import pytest

from rljax.config.load import load_config
from rljax.config.model import resolve_model
from rljax.config.validate import plain, resolved_dict, validate
from rljax.data.tokenizers import ByteTokenizer
from rljax.models.config import LoRAConfig
from rljax.models.lora import merge_adapters
from rljax.models.network import Network
from rljax.models.peft_format import load_adapters, save_adapters
from rljax.models.pretrained import load_params, read_config, save_pretrained
from rljax.parallel.mesh import make_mesh
from rljax.sampling.engine import Engine
from rljax.training.run.checkpoints import Checkpoints
from rljax.training.run.start import Source, base_note
from rljax.training.update.state import create_state, state_shardings

ROOT = Path(__file__).parents[2]
PUBLISHED = dict(eos_token_id=258, pad_token_id=256, bos_token_id=257)
CONFIG = """
from ml_collections import ConfigDict
def get_config(arg=''):
    return ConfigDict(dict(name='small', stages=('s',), s=dict(method='sft'),
        model=dict(layers=1, width=16, heads=2, kv_heads=2, query_key_norm='head'),
        tokenizer=dict(path='byte', chat_turn='{role}: {content}|', chat_generation_prompt='bot: '),
        data=dict(tasks=(dict(name='chain_sum'),))))
"""


@pytest.fixture(scope="module")
def command() -> ModuleType:
    """The module, whose meshes are made of two devices."""
    spec = importlib.util.spec_from_file_location("generate_command", ROOT / "launch/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_mesh = lambda sizes: make_mesh(sizes, devices=jax.devices()[:2])
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_device) -> Path:
    """With a run that has checkpoints of stage s, its model as a published one, and prompts."""
    folder = tmp_path_factory.mktemp("generate")
    (folder / "config.py").write_text(CONFIG)
    config = load_config(folder / "config.py")
    network = Network.create(resolve_model(config.model, ByteTokenizer().vocab_size))
    params, optimizer = network.init(jax.random.key(3), one_device), optax.sgd(0.1)
    save_pretrained(folder / "hf", network, params, more_config=PUBLISHED)
    state = create_state(params, optimizer, state_shardings(network, optimizer, one_device))
    checkpoints = Checkpoints(folder / "run" / "checkpoints" / "s", keep=1)
    checkpoints.save(3, state, base_note(Source.of(config), network), None)
    checkpoints.close()
    resolved = resolved_dict(config, validate(config))
    resolved["network"] = plain(dataclasses.asdict(network.config))
    (folder / "run" / "config.json").write_text(json.dumps(resolved))
    lines = [
        {"prompt": "1 + 1 =", "reference": "2"},
        {"prompt": "user: hi|bot: ", "id": "as text"},
        {"prompt": "x" * 9},
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def written(folder, command, capsys):
    """written(file, *flags): runs the command, returns its lines and what it printed."""

    def run(name: str, *flags: str) -> tuple[list[dict], str]:
        out = folder / name
        assert command.main([f"--out={out}", *flags]) == 0, capsys.readouterr().err
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        return lines, capsys.readouterr().out

    return run


FLAGS = ("--n=2", "--max_new_tokens=6", "--temperature=0.7", "--top_logprobs=1", "--seed=4")


def test_a_run_and_its_published_model_write_the_same(folder, written):
    """On two meshes, in one batch and in two."""
    prompts, run = folder / "prompts.jsonl", folder / "run/checkpoints/s"
    lines, printed = written("a.jsonl", f"--checkpoint={run}", f"--prompts={prompts}", *FLAGS)
    assert [line["id"] for line in lines] == [0, "as text", 2]
    assert lines[0]["prompt"] == "1 + 1 =" and lines[0]["reference"] == "2"
    for line in lines:
        assert len(line["completions"]) == 2
        for each in line["completions"]:
            assert each["stop_reason"] in ("length", "stop_token")
            assert len(each["tokens"]) == len(each["logprobs"]) == len(each["top_tokens"]) <= 6
            assert each["text"] == ByteTokenizer().decode(each["tokens"])
            assert max(each["model_logprobs"]) < 0
    count = sum(len(each["tokens"]) for line in lines for each in line["completions"])
    assert f"{count} tokens in" in printed and "tokens/s" in printed and "wrote" in printed

    published = (f"--model={folder / 'hf'}", "--tokenizer=byte", "--mesh.tensor=2")
    others, printed = written(
        "b.jsonl", *published, f"--prompts={prompts}", "--batch_prompts=2", *FLAGS
    )
    assert "2/3 prompts" in printed and "3/3 prompts" in printed and "first batch" in printed
    for line, other in zip(lines, others, strict=True):
        for one, two in zip(line["completions"], other["completions"], strict=True):
            assert one["tokens"] == two["tokens"] and one["text"] == two["text"]
            assert one["logprobs"] == pytest.approx(two["logprobs"], abs=1e-5)


def test_an_end_beyond_the_rows_of_the_model_is_never_drawn(folder, written, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(folder / "hf", model)
    (model / "generation_config.json").write_text('{"eos_token_id": [258, 99999]}')
    flags = ("--tokenizer=byte", f"--prompts={folder / 'prompts.jsonl'}", *FLAGS)
    far, _ = written("far.jsonl", f"--model={model}", *flags)
    near, _ = written("near.jsonl", f"--model={folder / 'hf'}", *flags)
    tokens = [
        [[c["tokens"] for c in line["completions"]] for line in lines] for lines in (far, near)
    ]
    assert tokens[0] == tokens[1]


def test_adapters_of_a_published_model(folder, written, one_device):
    """They write what the merged model writes, which is not what the bare one writes."""
    lora = LoRAConfig(rank=2, alpha=4.0, modules=("query", "down"))
    network = Network.create(read_config(folder / "hf", lora=lora))
    moved = jax.tree.map(lambda leaf: leaf + 0.2, network.init(jax.random.key(4), one_device))
    save_adapters(folder / "adapters", network, moved)
    bare = load_params(folder / "hf", network, one_device, key=jax.random.key(5))
    bare = load_adapters(folder / "adapters", network, bare, one_device)
    save_pretrained(folder / "merged", *merge_adapters(network, bare), more_config=PUBLISHED)
    flags = ["--tokenizer=byte", "--prompt=1 + 1 =", *FLAGS]
    wrote = {
        name: written(f"{name}.jsonl", *model, *flags)[0][0]["completions"]
        for name, model in {
            "plain": [f"--model={folder / 'hf'}"],
            "whole": [f"--model={folder / 'merged'}"],
            "apart": [f"--model={folder / 'hf'}", f"--adapters={folder / 'adapters'}"],
        }.items()
    }
    for whole, apart, bare in zip(wrote["whole"], wrote["apart"], wrote["plain"], strict=True):
        assert whole["tokens"] == apart["tokens"]
        assert whole["logprobs"] == pytest.approx(apart["logprobs"], abs=1e-4)
        assert bare["logprobs"] != pytest.approx(apart["logprobs"], abs=1e-2)


def test_chats_are_rendered_as_in_training(folder, command):
    chats = folder / "chats.jsonl"
    chats.write_text(json.dumps({"q": [{"role": "user", "content": "hi"}]}) + "\n")
    flags = SimpleNamespace(prompt=None, prompts=chats, prompt_column="q")
    (record,) = command.read_prompts(flags)
    mesh = command.make_mesh({"data": -1})
    run = command.load_run(folder / "run/checkpoints/s", "", mesh, {})
    (rendered,) = command.prompt_tokens([record], run.text_format, "q")
    assert bytes(rendered) == b"user: hi|bot: "
    assert command.prompt_tokens([{"q": "hi"}], run.text_format, "q") == [[*b"hi"]]


def test_texts_are_printed_without_a_file(folder, command, capsys):
    """And a file is replaced only where that is said."""
    kept = folder / "kept.jsonl"
    kept.write_text("mine")
    words = [f"--checkpoint={folder}/run/checkpoints/s/3", "--max_new_tokens=4", '--stop=["e"]']
    assert command.main([*words, "--prompt=ab", f"--out={kept}"]) == 1
    assert f"{kept} exists; --overwrite replaces it (--out)" in capsys.readouterr().err
    assert kept.read_text() == "mine"
    bias = "--logit_bias=" + json.dumps({str(ord("e")): 1e6})
    assert command.main([*words, "--prompt=ab", bias]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("--- prompt 0, completion 0: 1 tokens, stop string\n\n")
    one = SimpleNamespace(text="so", full_text="so\n", tokens=(5, 6), stop_reason="stop_string")
    command.print_texts(3, [one], include_stop=True)
    assert capsys.readouterr().out == "--- prompt 3, completion 0: 2 tokens, stop string\nso\n\n"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--prompt=a", "--n=0"], "n must be a whole number in 1..2147483647, got 0 (--n)"),
        (["--prompt=a", "--n=x"], "--n invalid int value: 'x' (--n)"),
        (["--prompt=a", "--top_p=1.5"], "top_p must be in (0, 1], got 1.5 (--top-p)"),
        (["--prompt=a", "--temp=1"], "Unknown argument '--temp=1'"),
        (["--prompt=a", "--stop=END"], "--stop must be JSON such as"),
        (["--prompt=a", '--stop=["\ufffd"]'], "(--stop)"),
        (["--prompt=a", "--stop_tokens=[300]"], "got 300 (--stop-tokens)"),
        (["--prompt=a", '--penalties={"repitition": 2}'], "Did you mean 'repetition'?"),
        (["--prompt=a", '--penalties={"repetition": 0}'], "(--penalties.repetition)"),
        (["--prompt=a", '--penalties={"repetition": "x"}'], "(--penalties)"),
        (["--prompt=a", '--entropy_temperature={"base": 0.5}'], "(--entropy-temperature)"),
        (["--prompt=a", '--entropy_temperature={"theta": -1}'], "(--entropy-temperature.theta)"),
        (["--prompt=a", '--logit_bias={"a": 1}'], "got 'a' (--logit-bias)"),
        (["--prompt=a", "--slots=-1"], "(--slots)"),
        (["--prompt=a", "--mesh.data=3"], "does not divide 2 devices"),
        (["--prompt=a", "--mesh.tensor=0"], "(--mesh)"),
        (["--prompt=a", "--dtype=bfloat16"], "(--dtype)"),
        (["--prompt=a", "--cache=int4"], "--cache invalid choice: 'int4'"),
        (["--prompt="], "the prompt is empty; one token is needed (--prompt-column)"),
        (["--prompt=abc", "--max_prompt_tokens=2"], "(--max-prompt-tokens)"),
        (["--prompts=nowhere.jsonl"], "No file 'nowhere.jsonl'"),
        (["--prompts={folder}/prompts.jsonl", "--prompt_column=q"], "(--prompt-column)"),
        (
            ["--prompt=a", "--out=nowhere/x.jsonl"],
            "There is no folder 'nowhere' for x",
        ),
        ([], "one of the arguments --prompt --prompts is required"),
        (["--prompt=a", "--checkpoint=nowhere"], "(--checkpoint)"),
    ],
)
def test_what_is_wrong_is_one_line(folder, command, monkeypatch, capsys, flags, message):
    monkeypatch.setattr(Engine, "sample", lambda *a, **k: pytest.fail("sampled"))
    given = any(flag.startswith("--checkpoint") for flag in flags)
    words = [] if given else [f"--checkpoint={folder}/run/checkpoints/s"]
    words += [flag.format(folder=folder) if "{folder}" in flag else flag for flag in flags]
    assert command.main(words) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ") and message in text and text.count("\n") == 1
    assert "config." not in text.replace("config.json", "")


def test_what_is_wrong_with_a_published_model(folder, command, capsys):
    for flags, message in (
        ([f"--model={folder}"], "(--model)"),
        ([f"--model={folder}/hf"], "(--tokenizer)"),
    ):
        assert command.main([*flags, "--prompt=a"]) == 1
        text = capsys.readouterr().err
        assert text.startswith("error: ") and message in text
    (folder / "alone/checkpoints/s/1/state").mkdir(parents=True)
    assert command.main([f"--checkpoint={folder}/alone/checkpoints/s", "--prompt=a"]) == 1
    assert "the checkpoint must lie in the folder of a run" in capsys.readouterr().err
