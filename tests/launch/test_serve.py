"""launch/serve.py: a folder and a run are served, SIGTERM drains, bad flags are one line."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import jax
import pytest

from rljax.models.pretrained import save_pretrained
from tests.folders import BOS, EOS, PAD, write_tokenizer

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_network, one_device) -> Path:
    """A published model with its tokenizer."""
    folder = tmp_path_factory.mktemp("serve") / "published"
    network = tiny_network(vocab_size=264, layers=1, query_key_norm="head")
    params = network.init(jax.random.key(0), one_device)
    ids = dict(eos_token_id=EOS, pad_token_id=PAD, bos_token_id=BOS)
    save_pretrained(folder, network, params, more_config=ids)
    return write_tokenizer(folder)


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("serve_command", ROOT / "launch/serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def completed(url: str, **fields) -> dict:
    body = json.dumps({"prompt": "a", "ignore_eos": True, **fields}).encode()
    request = urllib.request.Request(f"{url}/completions", body)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def test_sigterm_answers_what_has_been_taken_and_refuses_the_rest(folder):
    sizes = ("--slots=8", "--context=128", "--steps=4")
    words = [sys.executable, "launch/serve.py", f"--model={folder}", "--port=0", *sizes]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("serving published at http://127.0.0.1:")
        url = line.split()[-1]
        assert completed(url, max_tokens=2)["usage"]["completion_tokens"] == 2
        found, asked = [], threading.Event()

        def ask() -> None:
            asked.set()
            found.append(completed(url, max_tokens=100, n=24))

        thread = threading.Thread(target=ask)
        thread.start()
        asked.wait()
        while json.load(urllib.request.urlopen(url.replace("/v1", "/health")))["running"] == 0:
            pass
        process.send_signal(signal.SIGTERM)
        thread.join(120)
        assert process.wait(60) == 143
    assert found[0]["usage"]["completion_tokens"] == 2400
    with pytest.raises(OSError):
        completed(url)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: --model"),
        (["--model=/nowhere"], "No checkpoint in /nowhere: give a Hugging Face folder"),
        (["--model=FOLDER", "--slots=0"], "must be a whole number >= 1"),
        (["--model=FOLDER", "--context=1"], "context must be >= 2, got 1 (--context)"),
        (["--model=/nowhere", "--dtype=bfloat16"], "--dtype is of a Hugging Face folder"),
        (["--model=FOLDER", "--api-key-file=EMPTY"], "holds no key; write one a line"),
        (["--model=FOLDER", "--api-key-file=BLANK"], "must be ASCII without blanks"),
    ],
)
def test_bad_flags_are_one_line(command, folder, tmp_path, capsys, words, message):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "blank").write_text("good\nnot good\n")
    names = {"FOLDER": folder, "EMPTY": tmp_path / "empty", "BLANK": tmp_path / "blank"}
    for name, path in names.items():
        words = [word.replace(name, str(path)) for word in words]
    assert command.main(words) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_version_is_that_of_the_checkpoint_that_is_loaded(command, monkeypatch):
    """A run writes its next checkpoint meanwhile; what the path means is asked once."""
    from rljax.config import runs
    from rljax.training.run import loaded

    steps = iter([Path("/run/checkpoints/grpo/10"), Path("/run/checkpoints/grpo/20")])
    monkeypatch.setattr(runs, "find_step", lambda path, field: next(steps))
    monkeypatch.setattr(loaded, "load_run", lambda checkpoint, *rest, flag: checkpoint)
    flags = command.parser().parse_args(["--model=/run"])
    assert command.load(flags, None) == (Path("/run/checkpoints/grpo/10"), 10)


def test_without_the_extra_the_error_names_it(command, folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "rljax.serving.server", raising=False)
    assert command.main([f"--model={folder}"]) == 1
    assert "pip install 'rljax[serve]'" in capsys.readouterr().err


def test_the_base_install_never_imports_the_stack():
    """Only app.py and server.py do, which nothing but the command imports."""
    program = (
        "import sys, rljax.serving.service, rljax.benchmarks.sampling\n"
        "assert not {'starlette', 'uvicorn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, env=dict(os.environ))
