"""Cards of methods: what they take from docstrings, tests and the comparison."""

from pathlib import Path

import pytest

from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.surrogates import SURROGATES
from rljax.registry import FAMILIES, METHODS, docstrings, resolve_objective
from rljax.registry.cards import all_cards, card, parts, read_sources
from rljax.registry.mentions import golden_adapters, mention, of_function, of_source

ROOT = Path(__file__).parents[2]
DOCSTRING = """Clips a ratio (NAME, arXiv:1234.56789, eq. 7).

    loss = max(a, b)
        and more

It is dropped above 3, e.g. for <answer>. The authors' code drops it above 4. Nothing else.

Args:
    width: of the clip; 0.2 in the paper,
        0.3 in verl.
    mask: [N, T] bool.

Returns:
    The paper's loss.
"""


@pytest.fixture(scope="module")
def sources():
    return read_sources(ROOT)


def section(text, title):
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_every_method_has_a_card_with_all_of_its_sections(sources):
    cards = all_cards(sources)
    assert list(cards) == list(METHODS)
    for name, text in cards.items():
        objective = resolve_objective(name, {})
        assert text.startswith(f"# {name}\n")
        for part in parts(objective):
            module = part.function.__module__.replace(".", "/")
            assert f"/{module}.py)" in section(text, "Equation")
        listed = section(text, "Fields")
        for field, value in objective.as_dict().items():
            assert f"`{field}`" in listed or f"`{field}={value}`" in listed
        assert section(text, "Paper and code").strip()
        assert section(text, "In our comparison").strip()


def test_no_part_that_does_something_is_left_out():
    names = {part.choice for part in parts(resolve_objective("grpo", {}))}
    assert names == {"advantage", "ratio", "surrogate", "aggregation", "kl_estimator"}
    # A family's default is shown where it is no idle one.
    assert {part.choice for part in parts(resolve_objective("eggroll", {}))} == {"fitness"}
    assert "critic" in {part.choice for part in parts(resolve_objective("ppo", {}))}


def test_a_card_says_where_paper_and_code_differ(sources):
    text = section(card("ngrpo", sources), "Paper and code")
    assert "follows the authors' code; eq. 6 as printed divides by G + 1." in text
    # The head of a file counts as well.
    text = section(card("ma_rlhf", sources), "Paper and code")
    assert "in the authors' code, the last token of a row is a macro action of its own" in text


def test_a_card_names_the_cases_and_tests_of_its_parts(sources):
    text = section(card("bnpo", sources), "Tests")
    (line,) = [line for line in text.splitlines() if line.startswith("| `advantage=bnpo`")]
    assert "`bnpo`" in line and "tests/objectives/test_bnpo.py" in line
    text = section(card("dpo", sources), "Tests")
    (line,) = [line for line in text.splitlines() if line.startswith("| `link=logistic`")]
    assert "`dpo-family`" in line and "tests/objectives/preference/test_preference_loss.py" in line


def test_a_card_shows_the_method_s_result(sources):
    text = section(card("dapo", sources), "In our comparison")
    results = [line for line in text.splitlines() if line.startswith("| dapo | ")]
    claims = [line for line in text.splitlines() if line.startswith("| dapo > grpo | ")]
    assert len(results) == len(claims) == 1
    assert results[0] in sources.comparison and claims[0] in sources.comparison
    # A claim that another method is better stands on the card of that one.
    assert "hapo > dapo" not in text
    assert "Not compared yet." in section(card("eggroll", sources), "In our comparison")


def test_the_family_s_defaults_are_no_rows_of_the_fields(sources):
    text = section(card("eggroll", sources), "Fields")
    assert FAMILIES["evolution"].defaults["fitness"] == "group_mean"
    assert "The family's default: `fitness=group_mean`." in text
    assert "| `sigma` | `0.001` |" in text


def test_a_docstring_s_equations_and_body():
    assert docstrings.equations(DOCSTRING) == "loss = max(a, b)\n    and more"
    assert docstrings.as_markdown(DOCSTRING) == (
        "Clips a ratio (NAME, arXiv:1234.56789, eq. 7).\n\n"
        "```\nloss = max(a, b)\n    and more\n```\n\n"
        "It is dropped above 3, e.g. for \\<answer>. The authors' code drops it above 4. "
        "Nothing else."
    )
    assert docstrings.equations("One line.") == ""


def test_sentences_that_compare_are_found():
    assert docstrings.differences(DOCSTRING) == [
        "The authors' code drops it above 4.",
        "`width`: of the clip; 0.2 in the paper, 0.3 in verl.",
    ]


@pytest.mark.parametrize("part", [*ADVANTAGES.values(), *SURROGATES.values()])
def test_fences_are_closed(part):
    text = docstrings.as_markdown(part.__doc__)
    assert text.count("```") % 2 == 0 and "\n\n```\n\n" not in text


SOURCE = """
from rljax.objectives import ratios
from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.surrogates.clipped import clipped

TABLE = {"theirs": "group_zscore"}

def first(case):
    return ADVANTAGES[TABLE[case]], helper()

def helper():
    return ratios.sequence

def second():
    return clipped
"""


def mentioned(found, method, choice, option):
    function = FAMILIES["policy_gradient"].choices[choice][option]
    return mention(found, method, choice, option, function)


def test_a_part_is_mentioned_by_function_or_by_option():
    whole = of_source(SOURCE)
    assert mentioned(whole, "grpo", "advantage", "group_zscore")
    assert mentioned(whole, "grpo", "ratio", "sequence")
    assert mentioned(whole, "grpo", "surrogate", "clipped")
    assert not mentioned(whole, "grpo", "surrogate", "cispo")
    assert not mentioned(whole, "grpo", "advantage", "group_mean")
    # An option alone may be another choice's.
    assert not mentioned(of_source('x = "group_zscore"'), "grpo", "advantage", "group_zscore")


def test_a_function_mentions_what_it_reaches_only():
    package = {
        "adapters.one": SOURCE,
        "adapters.two": "from adapters.one import second\n\ndef third():\n    return second()\n",
    }
    first = of_function(package, "adapters.one.first")
    assert mentioned(first, "grpo", "advantage", "group_zscore")
    assert mentioned(first, "grpo", "ratio", "sequence")
    assert not mentioned(first, "grpo", "surrogate", "clipped")
    assert mentioned(of_function(package, "adapters.one.second"), "grpo", "surrogate", "clipped")
    third = of_function(package, "adapters.two.third")
    assert mentioned(third, "grpo", "surrogate", "clipped")
    assert not mentioned(third, "grpo", "ratio", "sequence")
    with pytest.raises(ValueError, match="no function 'adapters.one.fourth'"):
        of_function(package, "adapters.one.fourth")


def test_a_choice_of_a_resolved_method_is_mentioned():
    text = "from rljax.registry import resolve_objective\n"
    text += 'part = resolve_objective("grpo", {}).part("surrogate")\n'
    assert mentioned(of_source(text), "grpo", "surrogate", "clipped")
    assert not mentioned(of_source(text), "dapo", "surrogate", "clipped")


def test_every_golden_adapter_is_read():
    texts = {str(p.relative_to(ROOT)): p.read_text() for p in ROOT.glob("tests/golden/**/*.py")}
    slugs = {path.stem for path in ROOT.glob("tests/golden/*.json")}
    assert set(golden_adapters(texts)) == slugs
