"""IFEval's checks: hand cases. On 16,000 random texts 20 of the checks agreed with lm-eval 0.4.13,
but for three with a paragraph beyond the number that was asked for."""

import json

import pytest

from rljax.rewards.functions import find_reward
from rljax.rewards.golds import check_golds
from rljax.rewards.instructions.table import INSTRUCTIONS, read_instructions

# Name -> arguments, a text that follows, one that does not.
CASES = {
    "keywords:existence": ({"keywords": ["cat", "c++"]}, "Cats and C++", "cats"),
    "keywords:frequency": (
        {"keyword": "a", "frequency": 2, "relation": "less than"},
        "a b",
        "a A",
    ),
    "keywords:forbidden_words": ({"forbidden_words": ["cat"]}, "cats", "a Cat."),
    "keywords:letter_frequency": (
        {"letter": "E", "let_frequency": 2, "let_relation": "at least"},
        "see",
        "the",
    ),
    "length_constraints:number_words": ({"num_words": 3, "relation": "at least"}, "a b-c", "a b"),
    "length_constraints:number_sentences": (
        {"num_sentences": 3, "relation": "less than"},
        'He said "no." It is 3.5.',
        "One. Two! Three?",
    ),
    "length_constraints:number_paragraphs": (
        {"num_paragraphs": 2},
        "***\na\n***\nb ***",
        "a *** *** b",
    ),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "hello"},
        'a\n\n"Hello, you',
        "hello\n\na",
    ),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[a] [b c]", "[a]"),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, "a\np. s. b", "a ps b"),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n - b", "* a\n** b"),
    "detectable_format:constrained_response": ({}, "So: My answer is no.", "my answer is no."),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 1}, "*a*", "* *"),
    "detectable_format:multiple_sections": (
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1 a Section 2 b",
        "Section 1",
    ),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "detectable_format:title": ({}, "<<a>>", "<< >>"),
    "combination:two_responses": ({}, "a ****** b", "a ****** a"),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say it"}, "say it: x", "x say it"),
    "startend:end_checker": ({"end_phrase": "The end."}, 'x "the END."', "the end. x"),
    "startend:quotation": ({}, ' "a" ', '"'),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 2, "capital_relation": "at least"},
        "A b CD!",
        "Ab C",
    ),
    "change_case:english_capital": ({}, "A, B 2", "A b"),
    "change_case:english_lowercase": ({}, "a, b 2", "a B"),
    "punctuation:no_comma": ({}, "a b", "a, b"),
}


def reference(*names):
    return {"instruction_id_list": list(names), "kwargs": [CASES[name][0] for name in names]}


def test_every_check_is_tried_but_the_one_that_needs_a_package():
    assert set(INSTRUCTIONS) - set(CASES) == {"language:response_language"}


@pytest.mark.parametrize("name", CASES)
def test_a_check(name):
    arguments, followed, not_followed = CASES[name]
    (asked,) = read_instructions(reference(name))
    assert asked.arguments == arguments
    assert asked.followed(followed) and not asked.followed(not_followed)
    assert not asked.followed(" \n")


def test_a_share_is_followed_or_all_of_them():
    reward, asked = (
        find_reward("instructions"),
        reference("punctuation:no_comma", "startend:quotation"),
    )
    text = 'thinking, "yes" </think><answer>no comma here</answer>'
    assert reward("", text, asked) == 0.5 == reward("", text, json.dumps(asked))
    assert reward("", text, asked, every=True) == 0.0 == reward("", "a, b</think> ", asked)
    assert reward("", "", asked) == 0.0


@pytest.mark.parametrize(
    "gold, message",
    [
        ("x", "needs a reference with 'instruction_id_list'"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "for each"),
        (
            {"instruction_id_list": ["punctuation:no_coma"], "kwargs": [{}]},
            "Unknown instruction 'punctuation:no_coma'",
        ),
        (
            {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"a": 1}]},
            "takes no arguments, got {'a': 1}",
        ),
        (
            {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": None}]},
            "takes keywords, got {}",
        ),
    ],
)
def test_a_reference_that_cannot_be_read_is_refused_with_its_row(gold, message):
    good = reference("startend:quotation")
    with pytest.raises(ValueError, match=f"(?s)row 1: the reward 'instructions' cannot.*{message}"):
        check_golds(["instructions"], [good, gold], lambda row: f"row {row}")


def test_a_relation_that_does_not_exist_is_named():
    asked = reference("length_constraints:number_words")
    asked["kwargs"] = [{"num_words": 3, "relation": "exactly"}]
    with pytest.raises(ValueError, match="relation 'exactly'"):
        find_reward("instructions")("", "a", asked)
