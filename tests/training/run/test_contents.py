"""What a run reads, by content: which files count, and what a changed or a moved one says."""

import json
import types
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from rljax.training.run.contents import (
    Contents,
    changed_files,
    local_modules,
    moved_paths,
    read_contents,
)
from rljax.training.run.workdir import claim_workdir

pytestmark = pytest.mark.contract

REWARD = {
    "r.py": "from helper_x import score\ndef f(p, c, r):\n    import later\n    return 1.0\n",
    "helper_x.py": "import json, pack.part\nfrom pack import other\ndef score(t): return 1.0\n",
    "later.py": "from broken_import_of import nothing\n",
    "pack/__init__.py": "",
    "pack/part.py": "from . import sibling\nfrom .deep.leaf import x\n",
    "pack/sibling.py": "",
    "pack/other.py": "",
    "pack/deep/__init__.py": "",
    "pack/deep/leaf.py": "x = 1\n",
    "pack/unused.py": "",
    "unused.py": "",
}
UNUSED = {"unused.py", "pack/unused.py"}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def inputs(tmp_path) -> Path:
    """A folder with everything that a run can read."""
    row = json.dumps({"prompt": "a", "reference": "b"}) + "\n"
    write(tmp_path / "in", {"rows.jsonl": row, "held.jsonl": row * 2})
    write(tmp_path / "in/rew", REWARD)
    model = {"config.json": '{"model_type": "llama"}', "model.safetensors": "weights"}
    more = {"README.md": "", ".cache/x.json": "{}", "tokenizer.json": "{}", "a/b.jinja": ""}
    write(tmp_path / "in/m", model | more)
    return tmp_path / "in"


def contents_of(inputs: Path, reward: dict[str, str] | None = None) -> Contents:
    """What a run with all of it reads, and with such a reward model."""
    config = ConfigDict(
        dict(
            data=dict(
                kind="jsonl", path=f"{inputs}/rows.jsonl", heldout_path=f"{inputs}/held.jsonl"
            ),
            scoring=dict(rewards=({"name": "exact_match"}, {"name": f"{inputs}/rew/r.py:f"})),
            environment=dict(name="", agent=""),
            tokenizer=dict(path=f"{inputs}/m"),
            model=dict(init_from=f"{inputs}/m"),
            seed=0,
        )
    )
    stage = types.SimpleNamespace(
        name="warmup",
        data={"path": f"{inputs}/rows.jsonl", "heldout_path": f"{inputs}/held.jsonl"},
        models={"reward": reward or {"start_from": "rm"}},
    )
    return read_contents(types.SimpleNamespace(config=config, stages=(stage,)))


def test_every_file_that_is_read_counts(inputs):
    found = contents_of(inputs)
    assert {field: set(content.files) for field, content in found.items()} == {
        "config.data.path": {"rows.jsonl"},
        "config.data.heldout_path": {"held.jsonl"},
        "config.warmup.data.path": {"rows.jsonl"},
        "config.warmup.data.heldout_path": {"held.jsonl"},
        "config.scoring.rewards.1.name": set(REWARD) - UNUSED,
        "config.model.init_from": {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "a/b.jinja",
        },
        "config.tokenizer.path": {"config.json", "tokenizer.json", "a/b.jinja"},
    }
    assert found["config.data.path"].files["rows.jsonl"]["bytes"] == 34


def test_reference_completions_may_be_a_folder_of_parquet(inputs):
    write(inputs / "refs", {"part-0.parquet": "", "part-1.parquet": "", "README.md": ""})
    reward = {"start_from": "rm", "reference_path": f"{inputs}/refs"}
    found = contents_of(inputs, reward)["config.warmup.models.reward.reference_path"]
    assert set(found.files) == {"part-0.parquet", "part-1.parquet"}


@pytest.mark.parametrize(
    "name, fields",
    [
        ("rows.jsonl", ["config.data.path", "config.warmup.data.path"]),
        ("held.jsonl", ["config.data.heldout_path", "config.warmup.data.heldout_path"]),
        ("rew/pack/deep/leaf.py", ["config.scoring.rewards.1.name"]),
        ("rew/later.py", ["config.scoring.rewards.1.name"]),
        ("m/tokenizer.json", ["config.model.init_from", "config.tokenizer.path"]),
        ("m/model.safetensors", ["config.model.init_from"]),
        ("m/README.md", []),
        ("rew/unused.py", []),
    ],
)
def test_a_changed_file_is_named_with_its_field_and_both_digests(inputs, name, fields):
    before = contents_of(inputs)
    (inputs / name).write_text("# changed\n")
    lines = changed_files(before, contents_of(inputs))
    assert [line.split(": ")[0] for line in lines] == fields
    for line in lines:
        assert Path(name).name in line and "sha256" in line
        assert line.endswith("(10 bytes)") and " -> " in line


def test_a_file_that_is_gone_or_new_is_named(inputs):
    before = contents_of(inputs)
    (inputs / "m/tokenizer.json").unlink()
    write(inputs, {"m/chat_template.jinja": "x"})
    lines = changed_files(before, contents_of(inputs))
    assert any("tokenizer.json" in line and "-> nothing" in line for line in lines)
    assert any("chat_template.jinja" in line and "nothing -> sha256" in line for line in lines)


def test_a_module_beside_the_reward_is_followed_once_however_it_is_imported(inputs):
    write(inputs / "rew", {"later.py": "import r, later, helper_x\n"})  # in a circle
    assert set(local_modules(inputs / "rew/r.py")) == set(REWARD) - UNUSED
    write(inputs / "rew", {"later.py": "def f(:\n"})
    with pytest.raises(ValueError, match="later.py.*config.scoring.rewards"):
        local_modules(inputs / "rew/r.py")


def test_moved_files_with_the_same_content_continue_the_run(inputs, tmp_path):
    def resolved(folder: Path, seed: int = 0) -> dict:
        rewards = [{"name": "exact_match"}, {"name": f"{folder}/rew/r.py:f"}]
        paths = {"path": f"{folder}/rows.jsonl", "heldout_path": f"{folder}/held.jsonl"}
        return {
            "seed": seed,
            "data": paths,
            "scoring": {"rewards": rewards},
            "tokenizer": {"path": f"{folder}/m"},
            "model": {"init_from": f"{folder}/m"},
            "warmup": {"data": paths},
        }

    workdir, before = tmp_path / "w", contents_of(inputs)
    claim_workdir(workdir, resolved(inputs), before)
    moved = inputs.rename(tmp_path / "moved")
    now = contents_of(moved)
    assert len(moved_paths(before, now)) == len(now) and not changed_files(before, now)
    lines = claim_workdir(workdir, resolved(moved), now)
    assert any(f"'{inputs}/rows.jsonl' is now '{moved}/rows.jsonl'" in line for line in lines)
    assert claim_workdir(workdir, resolved(moved), now) == []  # said once
    with pytest.raises(ValueError, match="config.seed: 0 -> 1"):
        claim_workdir(workdir, resolved(moved, seed=1), now)
    (moved / "rows.jsonl").write_text("other\n")
    with pytest.raises(ValueError, match="config.data.path: rows.jsonl of"):
        claim_workdir(workdir, resolved(moved), contents_of(moved))
