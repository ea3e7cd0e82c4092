"""The commands as a user types them: arguments, exit status, one clear message."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def train(monkeypatch):
    """launch/train.py as a module, with a train loop that only notes what it was given."""
    spec = importlib.util.spec_from_file_location("train_command", ROOT / "launch/train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from rljax.training import loop

    module.calls = []

    def noted(config, workdir, replay=None, **_):
        module.calls.append((config, workdir))
        module.replay = replay

    monkeypatch.setattr(loop, "run", noted)
    return module


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=''):\n"
        "    tasks = (dict(name='chain_sum'),)\n"
        "    return ConfigDict(dict(\n"
        "        name='small', stages=('s',), data=dict(tasks=tasks), s=dict(method='sft')))\n"
    )
    return path


def error_of(train, capsys, *arguments: str) -> str:
    """The message with which the command ends; its status is 1."""
    assert train.main([str(word) for word in arguments]) == 1
    return capsys.readouterr().err


def test_the_config_and_the_workdir_reach_the_loop(train, config_file, tmp_path):
    train.main([f"--config={config_file}", "--config.seed=3", f"--workdir={tmp_path / 'w'}"])
    ((config, workdir),) = train.calls
    assert (config.name, config.seed, workdir) == ("small", 3, tmp_path / "w")


def test_a_replay_reaches_the_loop(train, config_file, tmp_path):
    train.main([f"--config={config_file}", f"--replay={tmp_path}", f"--workdir={tmp_path / 'w'}"])
    assert train.replay == tmp_path


def test_the_default_workdir_is_dated(train, config_file):
    train.main([f"--config={config_file}"])
    ((_, workdir),) = train.calls
    assert re.fullmatch(r"runs/small-\d{8}-\d{6}", str(workdir))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: --config"),
        (["--config="], "--config needs a name"),
        (["--config", "x.py"], "No config file 'x.py'"),
        (["--config=a.py", "--config=b.py"], "--config is given more than once"),
        (["--config=nowhere.py"], "No config file 'nowhere.py'"),
        (["--config={file}", "--workdir="], "--workdir needs the name of a file or folder"),
        (["--config={file}", "--workdir"], "--workdir expected one argument (--workdir)"),
        (["--config={file}", "--wrokdir=x"], "Did you mean '--workdir'"),
        (["--config={file}", "more"], "Unknown argument 'more'"),
        (["--config={file}", "--config.seeed=1"], "Did you mean 'seed'"),
        (["--config={file}", "--config.seed=x"], "--config.seed=x"),
        (["--config={file}", "--workdir={file}"], "is no folder (--workdir)"),
        (["--config={file}", "--workdir={file}/sub"], "is no folder (--workdir)"),
        (["--config={file}", f"--workdir={'a' * 300}"], "File name too long"),
        (["--config={file}", "--replay=x", "--workdir=x"], "a replay needs a new one"),
    ],
)
def test_bad_arguments_give_one_line(train, config_file, capsys, arguments, message):
    words = (word.replace("{file}", str(config_file)) for word in arguments)
    text = error_of(train, capsys, *words)
    assert text.startswith("error: ") and message in text
    assert text.count("\n") == 1
    assert not train.calls


def test_errors_of_a_run_end_with_their_message(train, config_file, monkeypatch, capsys):
    from rljax.rewards.pool import ScoringError
    from rljax.training import loop
    from rljax.training.step_log import NonFiniteError

    for error in (ValueError("bad"), ScoringError("all failed"), NonFiniteError("nan")):

        def fail(*given, error=error, **named):
            raise error

        monkeypatch.setattr(loop, "run", fail)
        assert error_of(train, capsys, f"--config={config_file}") == f"error: {error}\n"
    for word, variable in (("--traceback", ""), ("--config.seed=1", "1")):
        monkeypatch.setenv("RLJAX_TRACEBACK", variable)
        text = error_of(train, capsys, f"--config={config_file}", word)
        assert text.startswith("Traceback") and text.endswith("error: nan\n")


def test_the_command_without_arguments():
    command = [sys.executable, ROOT / "launch/train.py"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: the following arguments are required: --config")
    assert len(result.stderr.splitlines()) == 1


def test_the_method_table_as_a_command():
    command = [sys.executable, ROOT / "launch/methods.py", "--markdown"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0
    assert "| method | what it does | parts | needs | paper |" in result.stdout


INTERRUPTED = """
import os, signal, sys
from rljax.commands.interrupts import ending_at_once
ignored = "ignored" in sys.argv
signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
with ending_at_once():
    os.kill(os.getpid(), signal.SIGINT)
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    pass
sys.exit(7)
"""


@pytest.mark.parametrize("how, status, said", [("", 130, "interrupted\n"), ("ignored", 7, "")])
def test_ctrl_c_while_a_command_imports_ends_it_at_once(how, status, said):
    """In the import of a native module it would be an error of that module, and status 70."""
    command = [sys.executable, "-c", INTERRUPTED, how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (status, said)
