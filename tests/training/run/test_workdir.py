"""A workdir belongs to one run: what is refused, what is repaired, and what is said."""

import json
import os

import pytest

from rljax.reporting.files import (
    CONFIG_FILE,
    METRICS_FILE,
    RUN_FILE,
    UNFINISHED,
    write_json_atomic,
)
from rljax.training.run import workdir as workdir_module
from rljax.training.run.contents import Content
from rljax.training.run.digests import file_digest
from rljax.training.run.workdir import check_note, claim_workdir, make_folder, run_identity

pytestmark = pytest.mark.contract

CONFIG = {"seed": 0, "clip": float("inf"), "reporting": {"every_steps": 1}, "stages": ("rl",)}
ROWS = {"config.data.path": Content("rows.jsonl", {"rows.jsonl": {"sha256": "ab", "bytes": 3}})}


@pytest.fixture
def begun(tmp_path):
    """The workdir of a run that has logged something."""
    workdir = tmp_path / "run"
    assert claim_workdir(workdir, CONFIG, ROWS) == []
    (workdir / METRICS_FILE).write_text('{"stage": "rl", "step": 1, "kind": "train"}\n')
    return workdir


def files_of(workdir):
    return {path.name: path.read_bytes() for path in workdir.iterdir() if path.is_file()}


def test_a_config_that_was_accepted_continues_whatever_its_values_are(begun):
    """An infinity is a text in config.json; how a run is shown may change."""
    before = files_of(begun)
    assert claim_workdir(begun, {**CONFIG, "reporting": {"every_steps": 5}}, ROWS) == []
    assert files_of(begun) == before


def test_how_rewards_are_asked_may_change_but_not_what_they_say(tmp_path):
    scoring = {"workers": 2, "timeout_seconds": 5.0, "try_first": True, "failure_reward": 0.0}
    claim_workdir(tmp_path / "w", {"scoring": scoring})
    other = scoring | {"workers": 0, "timeout_seconds": 9.0, "try_first": False}
    assert claim_workdir(tmp_path / "w", {"scoring": other}) == []
    with pytest.raises(ValueError, match="config.scoring.failure_reward: 0.0 -> 1.0"):
        claim_workdir(tmp_path / "w", {"scoring": scoring | {"failure_reward": 1.0}})


def test_another_mesh_continues_and_is_said_once(tmp_path):
    """Its numbers agree up to rounding (tests/training/test_processes.py)."""
    meshes = [{"mesh": {"data": size, "fsdp": 2}} for size in (1, 4)]
    claim_workdir(tmp_path / "w", meshes[0])
    (line,) = claim_workdir(tmp_path / "w", meshes[1])
    assert line.startswith("the mesh was data=1, fsdp=2 and is data=4, fsdp=2 now")
    assert json.loads((tmp_path / "w" / CONFIG_FILE).read_text()) == meshes[1]
    assert claim_workdir(tmp_path / "w", meshes[1]) == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "config.seed: 0 -> 1"),
        ({"clip": 1.0}, "config.clip: 'inf' -> 1.0"),
        # A stage may be called almost like a field that is free.
        ({"reporting_stage": {"steps": 3}}, "config.reporting_stage"),
        ({"checkpoints": 1}, "config.checkpoints"),
    ],
)
def test_another_config_is_refused(begun, change, message):
    with pytest.raises(ValueError, match="belongs to another config") as caught:
        claim_workdir(begun, CONFIG | change, ROWS)
    assert message in str(caught.value) and "--workdir" in str(caught.value)


def test_a_path_on_one_side_only_is_shown_as_it_is(tmp_path):
    """Such as a tokenizer that is built in at first, and then a folder."""
    folder = {
        "config.tokenizer.path": Content("/m", {"tokenizer.json": {"sha256": "a", "bytes": 1}})
    }
    claim_workdir(tmp_path / "w", {"tokenizer": {"path": "byte"}}, {})
    with pytest.raises(ValueError, match="config.tokenizer.path: 'byte' -> '/m'"):
        claim_workdir(tmp_path / "w", {"tokenizer": {"path": "/m"}}, folder)


def test_other_data_are_refused(begun):
    other = {
        "config.data.path": Content("rows.jsonl", {"rows.jsonl": {"sha256": "cd", "bytes": 4}})
    }
    before = files_of(begun)
    with pytest.raises(ValueError, match="has changed since it began") as caught:
        claim_workdir(begun, CONFIG, other)
    assert "config.data.path: rows.jsonl" in str(caught.value)
    assert "sha256 ab (3 bytes) -> sha256 cd (4 bytes)" in str(caught.value)
    assert "Put the files back" in str(caught.value) and files_of(begun) == before


def test_a_run_that_dies_while_it_notes_a_moved_path_can_be_continued(tmp_path, monkeypatch):
    """Whichever of the two files is written by then, and wherever the path is next."""
    config = {"seed": 0, "data": {"path": "/a/rows.jsonl"}}

    def moved(folder):
        path = f"/{folder}/rows.jsonl"
        contents = {"config.data.path": ROWS["config.data.path"]._replace(path=path)}
        return config | {"data": {"path": path}}, contents

    for dies_at in (CONFIG_FILE, RUN_FILE):
        for third in ("b", "c"):
            workdir = tmp_path / f"{dies_at}-{third}"
            claim_workdir(workdir, *moved("a"))

            def write(path, content, dies_at=dies_at):
                if path.name == dies_at:
                    raise KeyboardInterrupt
                write_json_atomic(path, content)

            with monkeypatch.context() as patch:
                patch.setattr(workdir_module, "write_json_atomic", write)
                with pytest.raises(KeyboardInterrupt):
                    claim_workdir(workdir, *moved("b"))
            assert len(claim_workdir(workdir, *moved(third))) == 1
            assert claim_workdir(workdir, *moved(third)) == []
            stored = json.loads((workdir / CONFIG_FILE).read_text())
            assert stored["data"]["path"] == f"/{third}/rows.jsonl"


@pytest.mark.parametrize("content", [None, b"", b'{"seed": 0', b"[1]", b"\xff\xfe"])
def test_a_lost_config_is_written_again_for_the_same_run_only(begun, content):
    def lose() -> None:
        (begun / "config.json").unlink()
        if content is not None:
            (begun / "config.json").write_bytes(content)

    before = (begun / "config.json").read_bytes()
    lose()
    with pytest.raises(ValueError, match="config.json is missing or damaged.*--workdir"):
        claim_workdir(begun, CONFIG | {"seed": 1}, ROWS)
    with pytest.raises(ValueError, match="config.json is missing or damaged"):
        claim_workdir(begun, CONFIG, {})
    (line,) = claim_workdir(begun, CONFIG, ROWS)
    assert "config.json was lost; it is written again" in line
    assert (begun / "config.json").read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_without_run_json_and_checkpoints_nothing_says_what_was_read(begun, content):
    (begun / "run.json").unlink()
    if content is not None:
        (begun / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match="run.json is missing or damaged"):
        claim_workdir(begun, CONFIG, ROWS)


@pytest.mark.parametrize("name", [METRICS_FILE, "checkpoints"])
def test_a_workdir_that_has_lost_both_is_not_a_new_one(name, tmp_path):
    (tmp_path / name).mkdir() if name == "checkpoints" else (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="config.json and run.json are missing"):
        claim_workdir(tmp_path, CONFIG, ROWS)


def test_what_is_no_folder_of_a_run_is_refused_in_one_line(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("")
    link.symlink_to(tmp_path / "nowhere")
    for workdir in (file, file / "sub", link, tmp_path / "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(ValueError, match="cannot be made or written.*--workdir") as caught:
            claim_workdir(workdir, CONFIG, ROWS)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(ValueError, match="cannot be made or written.*--workdir"):
        make_folder(tmp_path)


def test_a_folder_with_other_things_is_refused_and_one_with_the_output_is_not(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder, name in ((mine, "train.log"), (mine, ".gitignore"), (other, "thesis.tex")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("")
    assert claim_workdir(mine, CONFIG, ROWS) == []
    with pytest.raises(ValueError, match="holds other things than a run: 'thesis.tex'.*--workdir"):
        claim_workdir(other, CONFIG, ROWS)


def test_what_a_killed_run_was_writing_is_cleaned_up(begun):
    (begun / "rollouts").mkdir()
    for name in (f".metrics.jsonl.abc{UNFINISHED}", f"rollouts/.rl-000001.json.x{UNFINISHED}"):
        (begun / name).write_text("{")
    claim_workdir(begun, CONFIG, ROWS)
    assert not [path for path in begun.rglob("*") if path.name.endswith(UNFINISHED)]


@pytest.mark.parametrize("content", [None, b"", b'{"stage": "rl"', b'{"stage": "r1", "step": 1}\n'])
def test_metrics_that_end_before_the_checkpoint_are_refused(begun, content):
    path, identity = begun / METRICS_FILE, run_identity(CONFIG, ROWS)
    note = {"identity": identity, "files": {METRICS_FILE: file_digest(path)}}
    with open(path, "a") as file:
        file.write('{"stage": "rl", "step": 2, "kind": "train"}\n')  # after the checkpoint
    check_note(begun, begun / "checkpoints/rl/1", note, identity)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is not what it was.*--workdir") as caught:
        check_note(begun, begun / "checkpoints/rl/1", note, identity)
    assert "checkpoints/rl/1" in str(caught.value)


def test_a_checkpoint_of_another_run_is_refused(begun):
    note = {"identity": run_identity(CONFIG | {"seed": 1}, ROWS), "files": {}}
    with pytest.raises(ValueError, match="checkpoints/rl/1 is of another run"):
        check_note(begun, begun / "checkpoints/rl/1", note, run_identity(CONFIG, ROWS))
    moved = {"config.data.path": ROWS["config.data.path"]._replace(path="/else/rows.jsonl")}
    config = {**CONFIG, "reporting": {}}
    assert run_identity(config, moved) == run_identity(CONFIG, ROWS)
    assert json.dumps(run_identity(CONFIG, {})) != json.dumps(run_identity(CONFIG, ROWS))


@pytest.mark.parametrize("name", ["run [x]", "a*/run", "run?"])
def test_a_path_that_checkpoints_cannot_be_read_from_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"has [*?\[] in its path.*--workdir"):
        make_folder(tmp_path / name)
    assert not list(tmp_path.iterdir())
    make_folder(tmp_path / "é ü {x} 'y' %s")
