"""Every attack on every means that works here; the table of the README."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rljax.rewards.sandbox import descendants
from rljax.rewards.sandbox.limits import Limits, Program
from rljax.rewards.sandbox.sandbox import Sandbox
from tests.rewards.sandbox.attacks import ATTACKS
from tests.rewards.sandboxes import needs_sandbox

pytestmark = needs_sandbox

LIMITS = Limits(seconds=10.0, memory_mb=256, files_mb=8, files=64, processes=16, output_kb=64)
README = Path(__file__).parents[3] / "rljax/rewards/sandbox/README.md"

# Name -> means, and the layers that are left out.
SETUPS = {
    "process": ("process", ()),
    "no namespaces": ("process", ("namespaces",)),
    "limits only": ("process", ("namespaces", "landlock", "seccomp")),
    "bubblewrap": ("bubblewrap", ()),
    "nsjail": ("nsjail", ()),
}
_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in SETUPS if name != "process"]


@pytest.fixture(scope="module", params=["process", *_SLOW])
def sandbox(request):
    means, without = SETUPS[request.param]
    command = {"bubblewrap": "bwrap", "nsjail": "nsjail"}.get(means)
    if command and shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    os.environ["SECRET"] = "SECRET"
    with Sandbox(means, without=without) as sandbox:
        sandbox.start()
        yield sandbox
    del os.environ["SECRET"]


@pytest.fixture(scope="module")
def places():
    """What attacks aim at. Not below pytest's own folder, which nobody else can enter."""
    folder = Path(tempfile.mkdtemp(prefix="attacked-"))
    folder.chmod(0o755)
    outside = folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    secret = folder / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        local.listen()
        found = {
            "outside": outside,
            "secret": secret,
            "victim": _victim(),
            "port": server.getsockname()[1],
            "socket": folder / "socket",
        }
        yield found
    found["victim"].kill()
    found["victim"].wait()
    shutil.rmtree(folder)


def _victim():
    return subprocess.Popen(["sleep", "1000"])


def run(sandbox, code, limits=LIMITS):
    program = Program((sys.executable, "-P", "{folder}/attack.py"), {"attack.py": code.encode()})
    return sandbox.run(program, limits=limits)[0]


def aimed(code, places):
    for name, place in places.items():
        value = place.pid if name == "victim" else place
        code = code.replace(f"{{{name}}}", str(value))
    return code


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(attack, sandbox, places):
    stopped = attack.stopped(sandbox.start())
    if attack.lethal and not stopped:
        pytest.skip("it would end this process")
    started = time.perf_counter()
    seconds = 0.5 if "timeout" in attack.reasons else LIMITS.seconds
    ended = run(sandbox, aimed(attack.code, places), LIMITS._replace(seconds=seconds))
    escaped = b"ESCAPED" in ended.stdout
    if not stopped:
        assert escaped, ended  # nothing is promised here, and the attack is a real one
        if places["victim"].poll() is not None:
            places["victim"] = _victim()
    else:
        assert not escaped, ended
        assert ended.reason in attack.reasons, ended
        assert list(places["outside"].iterdir()) == []
        assert places["victim"].poll() is None
    assert time.perf_counter() - started < 30
    # Nothing of it lives on, or lies about, and the next program runs.
    warden = sandbox._process.pid
    assert descendants.children(warden) == []
    assert len(ended.stdout) <= LIMITS.output_kb * 1024
    for left in places["outside"].iterdir():
        left.unlink()


def test_the_next_program_runs(sandbox):
    assert run(sandbox, "print(6 * 7)\n", Limits()).stdout == b"42\n"


def attack_table():
    """The table of the README."""
    limits = "only limits work"
    rows = [
        ("attack", "bubblewrap, nsjail", "process", f"{limits}: as root", f"{limits}: as a user"),
        ("---",) * 5,
        *(attack.row for attack in ATTACKS),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_readme_has_the_table():
    assert len(ATTACKS) >= 25
    assert attack_table() in README.read_text()
