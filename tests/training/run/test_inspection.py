"""launch/inspect.py: what a folder would be loaded as; every kind of damage, without a trace."""

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.pretrained import save_pretrained
from rljax.training.run.inspection import Inspection, as_text, inspect, printable
from tests.folders import END, EOS, write_tokenizer

ROOT = Path(__file__).parents[3]
SHAPE = dict(vocab_size=272, layers=2, width=16, heads=2, kv_heads=1, head_dim=8, mlp_width=32)


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("inspect_command", ROOT / "launch/inspect.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_device) -> Path:
    """A folder with 272 rows, a tokenizer of 261 tokens and two ends."""
    folder = tmp_path_factory.mktemp("whole") / "m"
    network = Network.create(ModelConfig(**SHAPE, tied_embeddings=False))
    more = {"max_position_embeddings": 512, "bos_token_id": 1}
    save_pretrained(folder, network, network.init(jax.random.key(0), one_device), more_config=more)
    write_tokenizer(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS, END]}))
    (folder / "README.md").write_text("a card")
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "m"))


def test_a_folder_in_plain_text(whole):
    found = inspect(whole)
    assert found.problems == []
    text = as_text(found)
    for line in (
        "family             llama",
        "parameters         13,392",
        "read  lm_head.weight",
        "types      F32 21",
        "made for     512",
        "a completion ends at           2 '<eos>'",
        "                               4 '<|end|>'",
        "the template ends a turn with  <|end|>",
        "system messages              yes",
        "tools                        no",
        "opens the model's turn with  <|start|>assistant\\n",
        "rows of the model            272",
        "tokens of the tokenizer      261",
        "rows that are never sampled  261..271",
        "to load, float32",
        "files  README.md",
        "no problems",
    ):
        assert line in text, line


def test_it_speaks_json_too(whole, command, capsys):
    assert command.main([str(whole), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["output"] == {"tied": False, "read": "lm_head.weight"} and not found["problems"]
    assert found["vocabulary"]["rows that are never sampled"] == ["261..271"]


def test_all_problems_are_listed(folder, command, capsys):
    values = json.loads((folder / "config.json").read_text())
    values |= {"hidden_size": 24, "auto_map": {"AutoModel": "own.Own"}, "odd": 3}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.json").write_text("{")
    (folder / "generation_config.json").write_text('{"eos_token_id": "2"}')
    assert command.main([str(folder)]) == 1
    text = capsys.readouterr().out
    for part in (
        "has shape [272, 16], expected [272, 24]",
        "holds no usable tokenizer",
        "eos_token_id must be an id or a list of ids >= 0, got '2'",
        "auto_map names code, which is never run",
        "does not read: odd=3",
        "3 problems",
    ):
        assert part in text, part


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGES = {
    "empty": lambda data: b"",
    "cut": cut,
    "no utf-8": lambda data: b"\xff\xfe" + data,
    "a list": lambda data: b"[1, 2]",
    "deep": lambda data: b'{"a":' * 50_000,
    "null": lambda data: b"null",
    "zeros": lambda data: bytes(len(data)),
    "text for numbers": lambda data: data.replace(b"2", b'"x"'),
    "numbers for text": lambda data: data.replace(b'"<eos>"', b"7").replace(b'"llama"', b"7"),
    "folder": None,
    "gone": None,
}


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
     "generation_config.json", "chat_template.jinja"],
)  # fmt: skip
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_makes_it_fail(folder, name, damage):
    path = folder / name
    data = path.read_bytes()
    changed = DAMAGES[damage] is None or DAMAGES[damage](data) != data
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(DAMAGES[damage](data))
    found = inspect(folder)
    text = as_text(found)
    assert found.problems or not changed or name not in ("config.json", "model.safetensors")
    assert "Traceback" not in text and "\x00" not in text


def test_flipped_bits_do_not_make_it_fail(folder):
    rng = random.Random(0)
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        data = bytearray((folder / name).read_bytes())
        for _ in range(4):
            changed = bytearray(data)
            for place in rng.sample(range(min(len(data), 1500)), 3):
                changed[place] ^= 1 << rng.randrange(8)
            (folder / name).write_bytes(changed)
            as_text(inspect(folder))
        (folder / name).write_bytes(data)


def test_what_is_no_model_folder(tmp_path):
    assert inspect(tmp_path / "no").problems == [f"There is no folder {tmp_path}/no."]
    assert "No checkpoint in" in inspect(tmp_path).problems[0]
    (tmp_path / "config.json").write_text("{}")
    assert "Unsupported model_type None" in inspect(tmp_path).problems[0]


def test_nothing_that_a_terminal_obeys_is_printed():
    found = Inspection("\x1b[2Jfolder", {"model": {"family": "a\nb\x07"}}, ["one\ntwo\x1b\ud800"])
    text = as_text(found)
    assert printable("é\t\ud800") == "é\\t\\ud800"
    assert not set(text) & set("\x1b\x07\ud800") and "a\\nb\\x07" in text


def test_the_checkpoint_of_a_run(tiny_run):
    workdir = tiny_run("grpo").workdir
    stage = next(path for path in (workdir / "checkpoints").iterdir() if path.is_dir())
    found = inspect(stage)
    assert found.problems == []
    assert found.sections["model"]["checkpoint"].startswith(str(stage))
    assert found.sections["beginnings and ends"]["a completion ends at"] == ["258 '<eos>'"]
    assert "memory" in found.sections
    whole = inspect(workdir)  # the run's own folder: the last stage that has one
    assert whole.problems == [] and whole.sections.keys() == found.sections.keys()
    assert whole.sections["model"]["checkpoint"].startswith(str(workdir / "checkpoints" / "grpo"))


def test_no_other_command_loses_the_standard_module():
    """Python looks for modules beside a command first, and this one is called inspect."""
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'launch')!r}); import inspect; "
    program += "print(inspect.signature(print), inspect.__file__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and str(ROOT) not in done.stdout
