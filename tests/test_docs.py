"""The README files: generated parts are up to date, links lead somewhere, commands exist."""

import importlib.util
import re
import shlex
from pathlib import Path

import jax.numpy as jnp
import pytest

from rljax.config.load import load_config
from rljax.parallel.mesh import AXES
from rljax.registry import METHODS

ROOT = Path(__file__).parents[1]
ROOMS = ("configs", "launch", "notebooks", "rljax", "tests")
GUIDES = [ROOT / "README.md", *sorted(p for r in ROOMS for p in (ROOT / r).rglob("README.md"))]
CARDS = sorted((ROOT / "rljax/registry/cards").glob("*.md"))


def load_docs():
    spec = importlib.util.spec_from_file_location("docs", ROOT / "launch/docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name_of(path):
    return str(path.relative_to(ROOT))


def test_generated_parts_are_up_to_date():
    stale = [name_of(path) for path in load_docs().stale(ROOT)]
    assert not stale, f"run python launch/docs.py: {', '.join(stale)}"


def test_a_block_is_filled_between_its_marks():
    docs = load_docs()
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    assert docs.fill(text, "x", "new\n") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"
    for broken in ("a\n", text + text, text.replace("/x", "/y")):
        with pytest.raises(ValueError, match="must stand there once each"):
            docs.fill(broken, "x", "new\n")


def test_cards_come_and_go_with_their_methods(tmp_path, monkeypatch):
    docs = load_docs()
    folder = tmp_path / docs.CARDS
    folder.mkdir(parents=True)
    for name in ("same", "changed", "gone"):
        (folder / f"{name}.md").write_text(name)
    monkeypatch.setattr(docs, "BLOCKS", {})
    monkeypatch.setattr(docs, "read_sources", lambda root: root)
    cards = {"same": "same", "changed": "new", "fresh": "fresh"}
    monkeypatch.setattr(docs, "all_cards", lambda sources: cards)
    found = {path.stem: text for path, text in docs.stale(tmp_path).items()}
    assert found == {"changed": "new", "gone": None, "fresh": "fresh"}


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_bytes()) <= 12_000


def slug(title):
    """The anchor that a heading gets."""
    plain = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower())
    return plain.strip().replace(" ", "-")


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^```.*?^```$", "", text))


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_links_of_guides_lead_somewhere(path):
    assert not broken_links(path)


def test_links_of_cards_lead_somewhere():
    assert CARDS and not [link for path in CARDS for link in broken_links(path)]


def broken_links(path):
    """(file, target) of every relative link whose file or heading is not there."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (path.parent / file).resolve() if file else path
        fine = found.exists() and found.is_relative_to(ROOT)
        if fine and anchor:
            titles = re.findall(r"(?m)^#+ (.+)$", found.read_text())
            fine = anchor in map(slug, titles)
        if not fine:
            broken.append((name_of(path), target))
    return broken


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_files_of_guides_exist(path):
    # Paths start at the root, or in rljax/.
    above = [*ROOMS, *(p.name for p in (ROOT / "rljax").iterdir() if p.is_dir())]
    named = re.findall(rf"`((?:{'|'.join(above)})/[\w/.*]*)`", path.read_text())
    patterns = ((ROOT / top, name.rstrip("/")) for name in named for top in ("", "rljax"))
    found = {name for top, name in patterns if list(top.glob(name))}
    assert {name.rstrip("/") for name in named} == found


def commands(text):
    """Every `python launch/X.py ...` of a text, as words; also the one that another one starts."""
    joined = re.sub(r"\\\n\s*", "", text)
    joined = re.sub(r" -- (?=launch/)", "\npython ", joined)
    lines = re.findall(r"python (launch/\w+\.py[^\n`|]*)", joined)
    return [shlex.split(line.rpartition(";")[0] or line, comments=True) for line in lines]


ALL_COMMANDS = [(path, words) for path in GUIDES for words in commands(path.read_text())]


def test_the_guides_name_every_command():
    named = {words[0] for path, words in ALL_COMMANDS if path == ROOT / "launch/README.md"}
    assert named == {name_of(path) for path in ROOT.glob("launch/*.py")}


@pytest.mark.parametrize(
    "path, words", ALL_COMMANDS, ids=lambda x: name_of(x) if x in GUIDES else x[0]
)
def test_commands_of_guides_exist(path, words):
    command, *arguments = words
    source = (ROOT / command).read_text()
    for argument in arguments:
        flag, _, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or flag == "config" or flag.startswith("config."):
            continue
        if flag.startswith("mesh."):
            assert flag.removeprefix("mesh.") in AXES
        else:
            assert f"--{flag}" in source or f'"{flag}"' in source, f"{command} has no --{flag}"
        if flag in ("method", "methods") and value.islower():
            # METHOD+CURRICULUM of configs/compare.py
            assert {name.partition("+")[0] for name in value.split(",")} <= set(METHODS)


@pytest.mark.parametrize(
    "words",
    [words for _, words in ALL_COMMANDS if words[0] == "launch/train.py"],
    ids=lambda words: " ".join(words[1:])[:80],
)
def test_configs_of_guides_load(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    (file,) = [word.partition("=")[2] for word in words if word.startswith("--config=")]
    load_config(file, [word for word in words if word.startswith("--config.")])


def python_blocks(path):
    return re.findall(r"(?ms)^```python\n(.*?)^```$", path.read_text())


def test_the_guide_s_part_runs_and_its_row_is_a_row():
    part, row = python_blocks(ROOT / "rljax/registry/README.md")
    names = {"__name__": "rljax.objectives.advantages.sign"}
    exec(compile(part, "README.md", "exec"), names)
    rewards = jnp.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.5]])
    mask, group = jnp.ones((3, 2), bool), jnp.zeros(3, jnp.int32)
    found = names["group_sign"](rewards, mask, group, win=2.0)
    assert found.tolist() == [[2.0, 2.0], [-1.0, -1.0], [0.0, 0.0]]
    baselines = importlib.import_module("rljax.registry.methods.baselines")
    (made,) = eval(row, vars(baselines))
    assert made.name == "grpo_sign" and made.parts["surrogate"] == "clipped"


def test_what_troubleshooting_quotes_is_said():
    guide = (ROOT / "rljax/training/README.md").read_text()
    table = guide.partition("## Troubleshooting")[2].partition("What a run leaves behind")[0]
    quoted = {word for row in table.splitlines()[3:] for word in quotes(row.split(" | ")[0])}
    sources = [re.sub(r'"\s+f?"', "", path.read_text()) for path in ROOT.glob("rljax/**/*.py")]
    others = {"System role not supported", "RESOURCE_EXHAUSTED", "note: ..."}  # of templates, XLA
    assert len(quoted) >= 10 and others <= quoted
    assert not [each for each in quoted - others if not any(each in text for text in sources)]


def quotes(text):
    return re.findall(r"`([^`]+)`", text)


def test_the_guide_shows_the_example_s_reward():
    reward, _ = python_blocks(ROOT / "rljax/data/README.md")
    assert reward == (ROOT / "configs/examples/own_reward.py").read_text()
