"""The sandbox itself: its limits, its warden, its command."""

import json
import os
import platform
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rljax.rewards.sandbox import seccomp, visible
from rljax.rewards.sandbox.__main__ import main
from rljax.rewards.sandbox.layers import Layers, describe, not_promised, wrapped
from rljax.rewards.sandbox.limits import Limits, Program, checked_limits
from rljax.rewards.sandbox.sandbox import Sandbox, SandboxError
from rljax.rewards.sandbox.warden import make_base
from tests.rewards.sandboxes import needs_sandbox

ROOT = Path(__file__).parents[3]


def program(code, **options):
    return Program((sys.executable, "-P", "{folder}/p.py"), {"p.py": code.encode()}, **options)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    "name, value",
    [
        ("seconds", 0),
        ("seconds", float("nan")),
        ("seconds", "1"),
        ("memory_mb", 63),
        ("memory_mb", 100.5),
        ("memory_mb", float("inf")),
        ("output_kb", True),
        ("files", 10**9),
        ("processes", -1),
        ("open_files", None),
    ],
)
def test_limits_are_checked(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .* got {value!r} \(--{name}\)"):
        checked_limits(Limits(**{name: value}), lambda limit: f"--{limit}")


def test_unknown_means_and_layers_are_refused():
    with pytest.raises(
        ValueError, match="Unknown sandbox 'bubblewrp'; .* Did you mean 'bubblewrap'"
    ):
        Sandbox("bubblewrp")
    with pytest.raises(ValueError, match="Unknown layer 'walls'"):
        Sandbox(without=["walls"])


def test_what_is_not_promised_is_said():
    full = Layers("process", namespaces=True, landlock=True, seccomp=True)
    assert len(not_promised(full)) == 1
    bare = describe(Layers("process"))
    for said in ("can be read", "the network is open", "can be signalled", "not capped"):
        assert said in bare
    assert "can be read" not in describe(Layers("bubblewrap", "/usr/bin/bwrap", namespaces=True))


def test_the_command_lines_of_launchers():
    options = {
        "readable": ("/usr",),
        "folder": "/tmp/own",
        "environment": {"HOME": "/tmp/own"},
        "devices": ("/dev/null",),
        "descriptors": (5,),
        "filter_descriptor": 6,
    }
    words = " ".join(wrapped(Layers("bubblewrap", "/bwrap", seccomp=True), ("/p", "x"), **options))
    assert words.startswith("/bwrap --unshare-all --die-with-parent --ro-bind /usr /usr ")
    assert "--bind /tmp/own /tmp/own --remount-ro / " in words and "--seccomp 6 -- /p x" in words
    words = " ".join(wrapped(Layers("nsjail", "/nsjail"), ("/p", "x"), **options))
    assert words.startswith("/nsjail -Mo -Q --disable_proc --iface_no_lo --disable_rlimits ")
    assert "-R /usr -B /dev/null -B /tmp/own -E HOME=/tmp/own --pass_fd 5 -- /p x" in words
    assert wrapped(Layers("process"), ("/p", "x"), **options) == ("/p", "x")


def test_the_filter_decides_as_its_list_says():
    """The program for the kernel, run here: a refused call, an allowed one, another machine."""
    machine = seccomp.MACHINES["x86_64"]
    code = seccomp.filter_program(machine, own_process=77)

    def verdict(number, first=0, audit=machine.audit):
        return bpf(code, {0: number, 4: audit, 16: first}) >> 16

    allow, kill, error = 0x7FFF, 0x8000, 5
    assert verdict(0) == verdict(1) == allow  # read and write
    assert verdict(0, audit=0x40000003) == kill
    assert verdict(2**30) == error
    for number in machine.refused.values():
        assert verdict(number) == error
    assert verdict(machine.clone, 17) == allow and verdict(machine.clone, 0x10000000) == error
    assert verdict(machine.clone3) == error
    assert verdict(machine.kill, 77) == verdict(machine.kill, 0) == allow
    assert verdict(machine.kill, 78) == verdict(machine.kill, 2**32 - 1) == error
    assert verdict(machine.tgkill, 77) == allow and verdict(machine.tkill, 77) == error


def bpf(code, data):
    """A tiny machine for classic BPF: what the kernel would return."""
    lines = list(struct.iter_unpack("HBBI", code))
    place, held = 0, 0
    while True:
        operation, if_true, if_false, value = lines[place]
        place += 1
        if operation == 0x20:
            held = data[value]
        elif operation == 0x06:
            return value
        else:
            test = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}
            place += if_true if test[operation] else if_false


def test_outermost_folders():
    assert visible.outermost(["/a", "/a/b", "/ab", "/a/", "/c/d"]) == ("/a", "/ab", "/c/d")


@needs_sandbox
def test_a_program_and_its_input(sandbox):
    code = "import sys\nprint(sys.stdin.read().upper())\nprint('e', file=sys.stderr)\nsys.exit(3)"
    (ended,) = sandbox.run(program(code, stdin=b"abc"), limits=Limits())
    assert (ended.reason, ended.exit_code) == ("error", 3)
    assert (ended.stdout, ended.stderr) == (b"ABC\n", b"e\n")
    (ended,) = sandbox.run(program("print(1)"), limits=Limits())
    assert (ended.reason, ended.exit_code, ended.stdout) == ("ok", 0, b"1\n")


@needs_sandbox
def test_a_lot_of_input(sandbox):
    content = b"x" * 3_000_000
    (ended,) = sandbox.run(
        program("import sys\nprint(len(sys.stdin.read()))", stdin=content), limits=Limits()
    )
    assert ended.stdout == b"3000000\n"


@needs_sandbox
def test_two_programs_talk(sandbox):
    ask = "import os\nos.write(4, b'ping')\nprint(os.read(3, 9))\nos.write(5, b'report')"
    answer = "import os\nos.write(4, os.read(3, 9) + b' pong')\nimport time\ntime.sleep(99)"
    first, last = sandbox.run(program(answer), program(ask), limits=Limits())
    assert first.reason == "stopped"
    assert (last.reason, last.stdout, last.report) == ("ok", b"b'ping pong'\n", b"report")


@needs_sandbox
def test_a_lost_warden_is_started_again():
    with Sandbox() as sandbox:
        sandbox.start()
        os.kill(sandbox._process.pid, signal.SIGKILL)
        with pytest.raises(SandboxError, match="own process was lost"):
            sandbox.run(program("print(1)"), limits=Limits())
        assert sandbox.run(program("print(1)"), limits=Limits())[0].reason == "ok"


@needs_sandbox
def test_a_command_that_is_not_there_is_no_verdict(sandbox):
    with pytest.raises(SandboxError, match="could not be started: .*no-such"):
        sandbox.run(Program(("/no-such-program",), {}), limits=Limits())
    assert sandbox.run(program("print(1)"), limits=Limits())[0].reason == "ok"


OWNER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it is ignored from birth
from rljax.rewards.sandbox.limits import Limits, Program
from rljax.rewards.sandbox.sandbox import Sandbox
code = '''
import os, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        os.fork()
        time.sleep({seconds})
time.sleep({seconds})
'''
with Sandbox() as sandbox:
    sandbox.start()
    print(sandbox._process.pid, flush=True)
    program = Program((sys.executable, "-P", "-c", code), {{}})
    sandbox.run(program, limits=Limits(seconds=600))
"""


@needs_sandbox
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_owner(number):
    """Its programs, their daemons, its warden and its folders."""
    place = Path(tempfile.mkdtemp(prefix="owned-"))
    place.chmod(0o755)
    seconds = 100_000 + os.getpid()  # how the processes are found again
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(seconds=seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place)},
    )
    warden = int(owner.stdout.readline())
    _wait_until(lambda: len(_sleepers(seconds)) >= 5)
    assert list(place.glob("rljax-sandbox-*"))
    owner.send_signal(number)
    owner.wait(20)
    _wait_until(lambda: not _sleepers(seconds) and not Path(f"/proc/{warden}").exists())
    place.rmdir()  # which is empty


def _sleepers(seconds):
    """Processes of the program: those that hold its code, and not that of its owner."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if f"sleep({seconds})".encode() in words and b"Sandbox()" not in words:
            found.append(path)
    return found


def _wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert true()


@needs_sandbox
def test_folders_of_killed_wardens_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stale, lock = make_base()
    other, held = make_base()
    assert Path(stale).exists()  # its warden lives
    os.close(lock)
    third, last = make_base()
    assert not Path(stale).exists() and Path(other).exists()
    os.close(held)
    os.close(last)


@pytest.fixture
def files(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@needs_sandbox
def test_the_command(files, capsys):
    add = files("add.py", "def add(a, b):\n    print('called')\n    return a + b\n")
    assert main([add]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"] and verdict["reason"] == "ok" and verdict["exit_code"] == 0
    assert verdict["sandbox"] in ("process", "bubblewrap", "nsjail") and verdict["not_promised"]
    assert (
        main([add, "--tests=" + files("t.py", "assert add(1, 2) == 3\nassert add(1, 1) == 3")]) == 2
    )
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["reason"] == "wrong" and not verdict["ok"]
    assert verdict["tests"] == {"passed": 1, "count": 2, "why": "AssertionError"}
    echo = files("echo.py", "print(input() * 2)")
    tests = files("t.json", json.dumps({"inputs": ["a", "b"], "outputs": ["aa", "bb"]}))
    assert main([echo, "--tests=" + tests]) == 0
    assert json.loads(capsys.readouterr().out)["tests"]["passed"] == 2
    assert main([echo, "--stdin=" + files("in", "xy\n")]) == 0
    assert json.loads(capsys.readouterr().out)["stdout"] == "xyxy\n"
    forged = "import os\nprint('{\"ok\": true}', flush=True)\nos._exit(1)\n"
    assert main([files("forged.py", forged)]) == 2
    verdict = json.loads(capsys.readouterr().out)
    assert not verdict["ok"] and verdict["exit_code"] == 1


@needs_sandbox
def test_the_command_on_a_program_that_hangs(files, capsys):
    assert main([files("p.py", "while True: pass"), "--timeout=0.5"]) == 2
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["reason"] == "timeout" and verdict["exit_code"] is None


@pytest.mark.parametrize(
    "words, message",
    [
        (["no-such.py"], "no-such.py: No such file or directory (FILE)"),
        (["{file}", "--timeout=-1"], r"seconds must be .* got -1.0 (--timeout)"),
        (["{file}", "--memory-mb=1"], "got 1 (--memory-mb)"),
        (["{file}", "--sandbox=jail"], "Unknown sandbox 'jail'"),
        (["{file}", "--tests={file}"], "no assert statement at its top"),
        (["{file}", "--tests={file}", "--stdin={file}"], "give one of --tests and --stdin"),
        (["{file}", "--command=node"], "a word {file}, got 'node' (--command)"),
        (["{file}", "--command= "], "a word {file}, got ' ' (--command)"),
        (["{file}", "--command=node '{file}"], "No closing quotation (--command)"),
        (["{file}", "--colour"], "--colour"),
    ],
)
def test_bad_words_are_one_line(files, capsys, words, message):
    file = files("p.py", "print(1)")
    assert main([word.replace("{file}", file) for word in words]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    for part in message.split(".*"):
        assert part in shown.err


@needs_sandbox
@pytest.mark.parametrize("means, command", [("bubblewrap", "bwrap"), ("nsjail", "nsjail")])
def test_a_means_that_is_missing_is_named(monkeypatch, means, command):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ValueError, match=rf"'{means}' does not work here: .*no '{command}' in PATH"
    ):
        Sandbox(means).start()
    with Sandbox("auto") as sandbox:
        assert sandbox.start().means == "process"


@needs_sandbox
def test_this_machine_has_a_filter():
    assert seccomp.available() == (platform.machine() in seccomp.MACHINES)


@needs_sandbox
def test_namespaces_are_used_where_the_kernel_allows_them():
    """They once failed silently for all users but root."""
    words = ["unshare", "--pid", "--net", "--ipc", "--fork", "true"]
    words[1:1] = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    try:
        allowed = subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        pytest.skip("there is no unshare to compare with")
    with Sandbox("process") as sandbox:
        assert sandbox.start().namespaces == allowed
