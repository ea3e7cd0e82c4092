"""A family is one record: no code in config/, registry/ or training/ knows families by name."""

import ast
from pathlib import Path

import pytest

from rljax.config import schema_stage
from rljax.config.checks import CHECKS
from rljax.config.load import apply_overrides, complete, shorten
from rljax.config.mesh import check_mesh, check_row_lengths
from rljax.config.validate import plain, resolved_dict, validate
from rljax.objectives.parts import Field
from rljax.registry import FAMILIES, METHODS, Family, Method, Reads, Together, resolve_objective
from rljax.registry.families.limits import COUNT
from rljax.registry.table import kinds
from rljax.training.families.table import FAMILY_CLASSES

ROOT = Path(__file__).parents[1]


def deep(ref_logprobs, mask, *, depth: float = 0.5):
    """A part of a family that nobody has.

    Args:
        ref_logprobs: [N, T] f32.
        mask: [N, T] bool.
        depth: how deep.
    """
    return ref_logprobs * mask * depth


DREAMS = Family(
    name="dreams",
    data="nothing at all",
    online=True,
    choices={"sleep": {"deep": deep, "light": None}},
    defaults={"sleep": "light"},
    fields={"": {"sheep": Field(3, int)}, "sleep=light": {"noise_level": Field(0.5, float)}},
    docs={"sleep": "how it is slept", "sheep": "counted", "noise_level": "of the street"},
    limits={"sheep": COUNT},
    reads=Reads(
        batch={"prompts_per_step": 4, "samples_per_prompt": 6, "sequences_per_micro_batch": 0},
        sampling={"max_new_tokens": 10},
        data={"source": "jsonl", "path": "", "max_answer_tokens": 5},
    ),
    adds={"sleep=deep": Reads(stage={"reference_kl": True}, batch={"epochs_per_step": 2})},
    sources={"jsonl": Reads(sampling={"top_k": 7}), "problems": Reads()},
    together=Together(in_batch=2, in_row=None, reason="a dream has two sides"),
    completion_slots=("sampling.max_new_tokens", "data.max_answer_tokens"),
    group_baselines={"sleep": frozenset({"deep"})},
)


@pytest.fixture
def resolved(monkeypatch):
    """resolved(*overrides) -> the stage of a method of a family that was just described."""
    monkeypatch.setitem(FAMILIES, "dreams", DREAMS)
    monkeypatch.setitem(METHODS, "nap", Method("nap", "dreams", "-", "a short one", {"sheep": 4}))
    # The schema is built from the records when it is imported.
    monkeypatch.setitem(schema_stage.STAGE, "objective", schema_stage.objective_section())

    def resolve(*words: str, smoke: bool = False):
        section = {"method": "nap", "data": {"path": "x.jsonl"}}
        tasks = ({"name": "chain_sum"},)
        config = complete({"stages": ("s",), "s": section, "data": {"tasks": tasks}})
        if smoke:
            shorten(config)
        config = apply_overrides(config, [f"--config.s.{word}" for word in words])
        stages = validate(config)
        assert resolved_dict(config, stages)["s"] == plain(stages[0].as_dict())
        return stages[0]

    return resolve


def test_a_new_family_needs_its_record_alone(resolved):
    stage = resolved()
    assert stage.objective.values == {"sheep": 4, "noise_level": 0.5}
    assert stage.online and not stage.needs_reference
    assert (stage.batch.prompts_per_step, stage.batch.sequences_per_step) == (4, 24)
    assert stage.token_filter.top_k == 7 and stage.max_new_tokens == 10
    assert stage.sequences_together(shared=False) == 2
    assert stage.sequences_together(shared=True) == 6
    check_mesh((stage,), 4, 4)
    check_row_lengths((stage,), {"context": 2}, 1)  # 1 + 10 + 5
    with pytest.raises(ValueError, match="Rows of 16 slots.*config.s.data.max_answer_tokens"):
        check_row_lengths((stage,), {"context": 3}, 1)


def test_an_option_brings_fields_and_a_reference(resolved):
    stage = resolved("objective.sleep=deep", "batch.epochs_per_step=3")
    assert stage.objective.values == {"sheep": 4, "depth": 0.5}
    assert stage.batch.epochs_per_step == 3 and stage.reference_kl
    assert stage.objective.needs_reference  # the part names ref_logprobs


def test_a_smoke_run_of_a_family_that_samples_is_short(resolved):
    batch = resolved(smoke=True).batch
    assert (batch.prompts_per_step, batch.samples_per_prompt) == (8, 4)


@pytest.mark.parametrize(
    "words, message",
    [
        (["objective.shepe=3"], "Did you mean 'sheep'"),
        (["objective.clip_low=0.1"], "Unknown field of the dreams family 'clip_low'"),
        (["objective.sleep=depe"], "Unknown sleep 'depe'.*Did you mean 'deep'"),
        (["objective.sheep=0"], r"sheep must be a whole number >= 1, got 0 \(config.s.objective"),
        (["objective.depth=0.1"], "depth=0.1 is never read with sleep='light'"),
        (["batch.epochs_per_step=3"], "config.s.batch.epochs_per_step=3 is never read by .*'nap'"),
        (["sampling.top_k=2", "data.source=problems", "data.path="], "top_k=2 is never read"),
        (["data.source=sampled_pairs", "data.path="], "cannot read source='sampled_pairs'"),
        (["batch.sequences_per_micro_batch=3"], "multiple of 2: a dream has two sides"),
        (
            ["objective.sleep=deep", "batch.samples_per_prompt=1"],
            r"baseline over the group \(sleep='deep'\).*config.s.batch.samples_per_prompt",
        ),
    ],
)
def test_its_errors_are_those_of_every_family(resolved, words, message):
    with pytest.raises(ValueError, match=message):
        resolved(*words)


def test_every_family_has_methods_a_class_and_checks_that_exist():
    assert set(FAMILIES) == {row.family for row in METHODS.values()} == set(FAMILY_CLASSES)
    named = {name for family in FAMILIES.values() for name in family.checks}
    assert named == set(CHECKS)


def is_about_a_family(node: ast.AST) -> bool:
    name = getattr(node, "id", getattr(node, "attr", ""))
    return isinstance(node, ast.Name | ast.Attribute) and name == "family"


def names_a_family(node: ast.AST, constants: dict[str, ast.AST]) -> bool:
    """Whether a family's name stands there, or in a constant of the file that stands there."""
    found = [node, *(constants[n.id] for n in ast.walk(node) if getattr(n, "id", "") in constants)]
    strings = [n.value for part in found for n in ast.walk(part) if isinstance(n, ast.Constant)]
    return any(value in FAMILIES for value in strings)


def questions(tree: ast.Module) -> list[int]:
    """Lines that ask which family something is of."""
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    lines = []
    for node in ast.walk(tree):
        asked, about = [], []
        if isinstance(node, ast.Compare):  # family == "preference", family in PAIRED
            asked = about = [node.left, *node.comparators]
        elif isinstance(node, ast.Call):  # {"preference": 2}.get(family, 1)
            asked, about = [node.func], node.args
        elif isinstance(node, ast.Subscript):  # {"preference": 2}[family]
            asked, about = [node.value], [node.slice]
        named = any(names_a_family(part, constants) for part in asked)
        lines += [node.lineno] if named and any(map(is_about_a_family, about)) else []
    return lines


@pytest.mark.parametrize(
    "code, found",
    [
        ('family == "preference"', True),
        ('stage.objective.family in ("preference", "evidence")', True),
        ('PAIRED = ("preference",)\nstage.objective.family not in PAIRED', True),
        ('{"preference": 2}.get(family, 1)', True),
        ('SIZES = {"preference": 2}\nSIZES[objective.family]', True),
        ("family == other.family", False),
        ("FAMILIES[family]", False),
        ('surrogate == "policy_gradient"', False),
    ],
)
def test_questions_are_found(code, found):
    assert bool(questions(ast.parse(code))) is found


@pytest.mark.parametrize("room", ["config", "registry", "training"])
def test_no_code_asks_which_family_it_is(room):
    for path in sorted((ROOT / "rljax" / room).rglob("*.py")):
        lines = questions(ast.parse(path.read_text()))
        assert not lines, f"{path.relative_to(ROOT)}:{lines} asks for a family by name"


def test_records_say_what_their_methods_need():
    assert not FAMILIES["supervised"].online and not FAMILIES["preference"].online
    needs_two = {name for name in METHODS if resolve_objective(name, {}).needs_groups}
    assert {"grpo", "rloo", "jepo"} <= needs_two and not {"reinforce", "ppo"} & needs_two
    assert {kind.family for kind in kinds()} == set(FAMILIES)
