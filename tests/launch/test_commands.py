"""What all commands share: help, flags of one style, one line for what a user can mend."""

import errno
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rljax.commands import paths
from rljax.commands.parser import Parser, dashed, number, path, whole
from rljax.commands.run import run
from rljax.errors import StoppedError, SystemFailure

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(file.stem for file in ROOT.glob("launch/*.py"))


def load(name: str):
    """A command as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_command", ROOT / f"launch/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_every_command_has_a_help_text(name, capsys):
    module = load(name)
    made = module.parser()
    for action in made._actions:
        assert action.help, action.option_strings or action.dest
        for flag in action.option_strings:
            assert "_" not in flag
    assert module.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "--traceback" in shown and f"python launch/{name}.py" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_flag_is_one_line_with_the_nearest_one(name, capsys):
    assert load(name).main(["--tracebakc"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: Unknown argument '--tracebakc'")
    assert text.endswith("Did you mean '--traceback'?\n") and text.count("\n") == 1


@pytest.mark.parametrize("name", [name for name in COMMANDS if name in sys.stdlib_module_names])
def test_a_command_does_not_stand_in_for_a_standard_module(name):
    """Whichever is asked for first, as from a command of the same folder."""
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'launch')!r}); import {name} as found\n"
    program += "assert '/launch/' not in str(found), found; assert not hasattr(found, 'parser')"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def small_parser() -> Parser:
    made = Parser("What it does.", overrides=True)
    made.add_argument("--new-tokens", type=whole(1), default=8, help="of a sample")
    made.add_argument("--share", type=number(0.0, 1.0), default=0.5, help="of all")
    made.add_argument("--out", type=path, help="where")
    return made


def test_underscores_are_dashes_and_fields_of_configs_stay():
    assert dashed("--new_tokens=a_b") == "--new-tokens=a_b"
    assert dashed("--config.a_b=1") == "--config.a_b=1" and dashed("a_b") == "a_b"
    options = small_parser().read(["--new_tokens=3", "--config.a_b.c=x_y", "--out", "o_o"])
    assert options.new_tokens == 3 and options.out == Path("o_o")
    assert options.overrides == ("--config.a_b.c=x_y",)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--new-tokens=0"], r"--new-tokens must be a whole number >= 1, got '0' \(--new-tokens\)"),
        (["--new-tokens=1e3"], "must be a whole number"),
        (["--new-tokens=" + "9" * 5000], "must be a whole number"),
        (["--share=nan"], r"--share must be a number in 0..1, got 'nan'"),
        (["--share=x"], r"--share must be a number in 0..1, got 'x'"),
        (["--share"], "--share expected one argument"),
        (["--share=0.1", "--share=0.2"], "--share is given more than once"),
        (["--out="], "--out needs the name of a file or folder"),
        (["--newtokens=3"], "Did you mean '--new-tokens'"),
        (["-x"], "Unknown argument '-x'"),
        (["more"], "Unknown argument 'more'"),
    ],
)
def test_wrong_words_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        small_parser().read(words)


def ended(error: BaseException, words: list[str], capsys) -> tuple[int, str]:
    """Exit status and standard error of a command that raises."""

    def body(options):
        raise error

    status = run(small_parser(), body, words)
    return status, capsys.readouterr().err


FULL = OSError(errno.ENOSPC, "No space left on device")
DENIED = PermissionError(errno.EACCES, "Permission denied", "o/x")
READ_ONLY = OSError(errno.EROFS, "Read-only file system", "/z")
DEVICE = RuntimeError("RESOURCE_EXHAUSTED: 8 GiB")
PEER = ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer")
NETWORK = RuntimeError("UNAVAILABLE: notify response error")
BARRIER = StoppedError("o/7 cannot be written: DEADLINE_EXCEEDED: Barrier timed out")


@pytest.mark.parametrize(
    "error, status, text",
    [
        (ValueError("bad (field)"), 1, "error: bad (field)\n"),
        (StoppedError("stopped"), 1, "error: stopped\n"),
        (SystemFailure("no process 2"), 75, "error: no process 2\n"),
        (PEER, 75, "error: devices or their network failed: UNKNOWN: Gloo all-reduce failed"),
        (BARRIER, 75, "error: devices or their network failed: o/7 cannot be written: DEADLINE"),
        (NETWORK, 75, "error: devices or their network failed: UNAVAILABLE: notify"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (FULL, 1, "error: No space left on device (--out=o)\n"),
        (DENIED, 1, "error: o/x: Permission denied (--out)\n"),
        (READ_ONLY, 1, "error: /z: Read-only file system\n"),
        (MemoryError(), 1, "error: the memory of this machine is too small for this\n"),
        (DEVICE, 1, "error: the memory of the device is too small"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, status, text, capsys):
    found, said = ended(error, ["--out=o"], capsys)
    assert found == status and said.startswith(text) and said.count("\n") == 1


def test_our_own_faults_keep_their_traceback(capsys):
    import numpy as np

    def arrays(options):
        np.broadcast_shapes((2,), (3,))

    for error in (KeyError("x"), OSError(errno.EBADF, "Bad file descriptor"), AssertionError()):
        status, said = ended(error, [], capsys)
        assert status == 70 and said.startswith("Traceback") and "a fault of rljax" in said
    assert run(small_parser(), arrays, []) == 70  # a ValueError that NumPy raises by itself
    assert "a fault of rljax" in capsys.readouterr().err


def test_a_traceback_can_be_asked_for(capsys, monkeypatch):
    _, said = ended(ValueError("bad"), ["--traceback"], capsys)
    assert said.startswith("Traceback") and said.endswith("error: bad\n")
    monkeypatch.setenv("RLJAX_TRACEBACK", "1")
    assert ended(ValueError("bad"), [], capsys)[1].startswith("Traceback")


def test_a_closed_pipe_is_no_error():
    shown = f"{sys.executable} launch/methods.py --markdown"
    command = ["bash", "-c", f"{shown} | head -c 1; echo ${{PIPESTATUS[0]}}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "" and re.search(r"(141|0)\n$", done.stdout)


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to(tmp_path / "nothing")
    paths.check_folder(tmp_path / "a/b/c", "--workdir")
    assert not (tmp_path / "a").exists()
    for folder, message in (
        (file, "is no folder"),
        (file / "sub", "is no folder"),
        (link, "is a link to nothing"),
        (link / "sub", "is a link to nothing"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        with pytest.raises(ValueError, match=rf"Cannot write .*{message} \(--workdir\)"):
            paths.check_folder(folder, "--workdir")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"may not be written \(--workdir\)"):
        paths.check_folder(tmp_path / "new", "--workdir")


def test_files_that_cannot_be_written(tmp_path, monkeypatch):
    there = tmp_path / "there"
    there.touch()
    paths.check_file(there, "--out")
    paths.check_file(tmp_path / "new", "--out")
    for file, message in (
        (tmp_path, "it is a folder"),
        (tmp_path / "no/x", "There is no folder"),
        (there / "x", "(Not a directory|There is no folder)"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*\(--out\)"):
            paths.check_file(file, "--out")
    with pytest.raises(ValueError, match="exists; --overwrite replaces it"):
        paths.check_file(there, "--out", overwrite=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"may not be written \(--out\)"):
        paths.check_file(there, "--out")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--processes=2", "launch/train.py", "--config=x"], "The command is missing; it stands"),
        (["--", "launch/trian.py"], "There is no file 'launch/trian.py' to start (--)."),
    ],
)
def test_hosts_without_a_command_to_start_says_so(words, said, capsys):
    assert load("hosts").main(words) == 1
    text = capsys.readouterr().err
    assert text.startswith(f"error: {said}") and text.count("\n") == 1
