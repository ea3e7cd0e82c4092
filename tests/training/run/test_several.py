"""The processes of a run from its config, and the preflight."""

import io

import pytest
from rich.console import Console

from rljax.config.load import load_config
from rljax.processes.processes import ONE, Processes
from rljax.training.preflight import preflight
from rljax.training.run.contents import Content
from rljax.training.run.several import check_same_contents, started
from tests.training.killed_run import CONFIG
from tests.training.tiny_config import DATA, write_data


@pytest.fixture
def config(tmp_path, monkeypatch):
    write_data(tmp_path)
    monkeypatch.setenv(DATA, str(tmp_path))
    return load_config(f"{CONFIG}:grpo", ())


def test_one_process_starts_nothing_and_takes_a_new_workdir(config, tmp_path):
    with started(config, tmp_path / "run") as (processes, workdir):
        assert processes.count == 1 and workdir == tmp_path / "run"
    assert not (tmp_path / "run").exists()
    with started(config, None) as (processes, workdir):
        assert workdir.parts[:-1] == ("runs",) and workdir.name.startswith("tiny-")


def test_several_processes_need_a_workdir(config, monkeypatch):
    monkeypatch.setenv("RLJAX_PROCESSES", "2")
    monkeypatch.setenv("RLJAX_PROCESS_ID", "1")
    monkeypatch.setenv("RLJAX_COORDINATOR", "127.0.0.1:9")
    with pytest.raises(ValueError, match=r"Several processes need a folder .*\(--workdir\)"):
        with started(config, None):
            pass


class Other:
    """A channel on which another process reads another file."""

    def exchange(self, name, payload):
        return [payload, payload.replace(b"abc", b"xyz")]


def test_other_files_are_named():
    contents = {"config.data.path": Content("a", {"a.jsonl": {"sha256": "abc", "bytes": 1}})}
    check_same_contents(ONE, contents)
    message = r'what they read: config.data.path.a.jsonl.sha256: "abc" on process 0, "xyz" on'
    with pytest.raises(ValueError, match=message):
        check_same_contents(Processes(0, 2, Other()), contents)


def test_a_preflight_tells_what_it_found_and_writes_nothing(config, tmp_path):
    out = io.StringIO()
    preflight(config, tmp_path / "run", ONE, Console(file=out, width=200))
    assert "processes: 1, each with" in out.getvalue()
    assert "read: 3 files" in out.getvalue() and "the preflight is passed" in out.getvalue()
    assert not (tmp_path / "run").exists()
