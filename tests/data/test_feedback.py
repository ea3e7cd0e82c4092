"""Rows of feedback: every convention gives the same ids, and what cannot be read names its row."""

import json
import math

import pytest

from rljax.data.chat import make_template
from rljax.data.feedback import Unpaired, groups_of, labelled_of, scored_of, stepwise_of
from rljax.data.feedback_survey import FeedbackSurvey
from rljax.data.pairs import explicit_prompt, margin_of, pair_of
from rljax.data.sources import open_source, place_of
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import ByteTokenizer, HFTokenizer
from tests.folders import CHATML, ids_of, write_tokenizer

WHERE = "rows.jsonl, line 2"
END = ByteTokenizer().eos_id
USER = {"role": "user", "content": "2+2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}
OPENED = "<|start|>user\n2+2?<|end|>\n<|start|>assistant\n"


@pytest.fixture(scope="module")
def plain() -> TextFormat:
    return TextFormat(ByteTokenizer())


@pytest.fixture(scope="module")
def chatml(tmp_path_factory):
    """chatml(template) -> the format of such a tokenizer."""

    def make(template: str = CHATML) -> TextFormat:
        folder = tmp_path_factory.mktemp("tokenizer") / "folder"
        write_tokenizer(folder, template)
        tokenizer = HFTokenizer(folder)
        return TextFormat(tokenizer, template=make_template(tokenizer))

    return make


LABELLED = {
    "messages": {"prompt": [USER], "completion": [FOUR], "label": True},
    "a text answers": {"prompt": [USER], "completion": "4", "label": True},
    "one conversation": {"messages": [USER, FOUR], "label": True},
    "nulls of Arrow": {"prompt": None, "messages": [USER | {"name": None}, FOUR], "label": True},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}],
        "label": True,
    },
}


@pytest.mark.parametrize("kind", LABELLED)
def test_every_convention_is_the_same_labelled_completion(chatml, kind):
    row = labelled_of(LABELLED[kind], chatml(), where=WHERE, check_whole=True)
    assert row == (ids_of(OPENED), ids_of("4<|end|>"), True)


def test_a_labelled_text(plain):
    row = labelled_of({"prompt": "2+2=", "completion": "5", "label": False}, plain, where=WHERE)
    assert row == ([*b"2+2="], [*b"5", END], False)
    ids = {"prompt_tokens": [7], "completion_tokens": [8, 9], "label": True}
    assert labelled_of(ids, plain, where=WHERE) == ([7], [8, 9], True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 1}, r"line 2: the column 'label' must be true or false, got 1 \(int\)"),
        ({"label": "true"}, r"must be true or false, got 'true' \(str\)"),
        ({"label": None}, "line 2 lacks the column 'label'"),
        ({"completion": " \n"}, r"line 2: the completion is empty, got ' \\n' \(str\)"),
        ({"completion": 4}, "line 2: the completion must be a text, got 4"),
        ({"completion": [USER]}, "must be a text or one message of the assistant"),
    ],
)
def test_labelled_rows_that_are_refused(plain, change, message):
    row = {"prompt": "2+2=", "completion": "4", "label": True}
    with pytest.raises(ValueError, match=message):
        labelled_of(row | change, plain, where=WHERE)


SCORED = {
    "two lists": {"completions": ["4", "5"], "scores": [1, 0.25]},
    "messages": {"completions": [[FOUR], [FIVE]], "scores": [1.0, 0.25]},
    "objects": {
        "completions": [{"completion": "4", "score": 1}, {"completion": "5", "score": 0.25}]
    },
    "UltraFeedback": {
        "completions": [
            {"model": "a", "response": "4", "overall_score": 1.0, "critique": None},
            {"model": "b", "response": "5", "overall_score": 0.25, "critique": "wrong"},
        ],
        "instruction": [USER],
        "prompt": None,
    },
}


@pytest.mark.parametrize("kind", SCORED)
def test_every_convention_is_the_same_scored_completions(chatml, kind):
    row = scored_of({"prompt": [USER]} | SCORED[kind], chatml(), where=WHERE, check_whole=True)
    assert row.prompt == ids_of(OPENED)
    assert row.completions == [ids_of("4<|end|>"), ids_of("5<|end|>")]
    assert row.scores == [1.0, 0.25]


def test_scored_ids_are_taken_as_they_are(plain):
    ids = {"prompt_tokens": [7], "completions_tokens": [[8], [9, 2]], "scores": [0, 1]}
    assert scored_of(ids, plain, where=WHERE) == ([7], [[8], [9, 2]], [0.0, 1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1.0]}, "line 2 has 2 completions and 1 scores; one is needed for each"),
        ({"scores": None}, "line 2 lacks the column 'scores'"),
        ({"scores": [1.0, None]}, "line 2: score 1 must be a finite number, got null"),
        ({"scores": [math.nan, 1.0]}, "line 2: score 0 must be a finite number, got nan"),
        ({"scores": [True, 1.0]}, r"score 0 must be a finite number, got True \(bool\)"),
        ({"scores": ["1", 1.0]}, r"score 0 must be a finite number, got '1' \(str\)"),
        ({"completions": ["4"], "scores": [1]}, "'completions' must be a list of at least 2"),
        ({"completions": ["4", ""]}, "line 2: completion 1 is empty"),
        ({"completions": [{"response": "4"}] * 2}, "0 lacks 'score' or 'overall_score'; it has"),
        ({"completions": [{"score": 1.0}] * 2}, "completion 0 lacks 'completion' or 'response'"),
    ],
)
def test_scored_rows_that_are_refused(plain, change, message):
    row = {"prompt": "2+2=", "completions": ["4", "5"], "scores": [1.0, 0.0]}
    with pytest.raises(ValueError, match=message):
        scored_of(row | change, plain, where=WHERE, at_least=2)


GROUPS = {
    "messages of the assistant": {"chosen": [FOUR, FOUR], "rejected": [FIVE]},
    "conversations of one message": {"chosen": [[FOUR], [FOUR]], "rejected": [[FIVE]]},
    "texts": {"chosen": ["4", "4"], "rejected": ["5"]},
}


@pytest.mark.parametrize("kind", GROUPS)
def test_every_convention_is_the_same_groups(chatml, kind):
    row = groups_of({"prompt": [USER]} | GROUPS[kind], chatml(), where=WHERE, check_whole=True)
    assert row == (ids_of(OPENED), [ids_of("4<|end|>")] * 2, [ids_of("5<|end|>")])
    assert list(row.answers()) == ["chosen 0", "chosen 1", "rejected 0"]


def test_ids_of_groups_are_taken_as_they_are(plain):
    ids = {"prompt_tokens": [7], "chosen_tokens": [[8], [9, 2]], "rejected_tokens": [[3]]}
    assert groups_of(ids, plain, where=WHERE) == ([7], [[8], [9, 2]], [[3]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": "4"}, r"'chosen' must be a list of at least 1, got '4' \(str\)"),
        ({"rejected": []}, "line 2: the column 'rejected' must be a list of at least 1"),
        ({"rejected": None}, "line 2 lacks the column 'rejected'"),
        ({"chosen": ["4", " "]}, "line 2: chosen 1 is empty"),
        ({"rejected": [[USER]]}, "line 2: rejected 0 must be a text or one message of the assist"),
        ({"rejected": ["6", "4"]}, "line 2: the groups chosen and rejected are the same"),
    ],
)
def test_groups_that_are_refused(plain, change, message):
    row = {"prompt": "2+2=", "chosen": ["4", "6"], "rejected": ["5"]}
    with pytest.raises(ValueError, match=message):
        groups_of(row | change, plain, where=WHERE)


@pytest.mark.parametrize(
    ("read", "change", "message"),
    [
        (groups_of, {"chosen_tokens": [4]}, r"line 2: chosen_tokens, answer 0 must be a list of"),
        (groups_of, {"chosen_tokens": []}, "line 2: the column 'chosen_tokens' must be a list of"),
        (groups_of, {"rejected_tokens": [[3], ["x"]]}, "rejected_tokens, answer 1 must hold token"),
        (groups_of, {"prompt_tokens": [-1]}, r"prompt_tokens must hold token ids.* got -1 \(int\)"),
        (scored_of, {"completions_tokens": [5]}, "completions_tokens, answer 0 must be a list of"),
        (labelled_of, {"completion_tokens": [True]}, r"completion_tokens must hold .* got True"),
        (pair_of, {"chosen_tokens": ["4"]}, r"chosen_tokens must hold .* got '4' \(str\)"),
    ],
)
def test_ids_that_are_refused(plain, read, change, message):
    row = {"prompt_tokens": [7], "chosen_tokens": [[8]], "rejected_tokens": [[9]]}
    row |= {"completions_tokens": [[8]], "scores": [1.0], "completion_tokens": [8], "label": True}
    with pytest.raises(ValueError, match=message):
        read(row | change, plain, where=WHERE)


def test_groups_that_repeat_or_contradict_are_found_in_any_order(plain):
    survey = FeedbackSurvey()
    for chosen, rejected in ((["4", "6"], ["5"]), (["6", "4"], ["5"]), (["5"], ["6", "4"])):
        row = {"prompt": "2+2=", "chosen": chosen, "rejected": rejected}
        survey.add(groups_of(row, plain, where=WHERE))
    # One member moved to the other group says something else.
    survey.add(
        groups_of({"prompt": "2+2=", "chosen": ["4"], "rejected": ["6", "5"]}, plain, where=WHERE)
    )
    assert survey.duplicates == [(1, 0)] and survey.contradictions == [(2, 0)]


STEPS = {"prompt": "2+3+4=", "completions": ["2+3=5", "5+4=9"], "labels": [True, False]}


def test_steps_end_where_their_last_token_is(plain):
    row = stepwise_of(STEPS, plain, where=WHERE)
    assert row.completion == [*b"2+3=5\n5+4=9", END]
    assert row.ends == [6, 11] and row.labels == [True, False] and row.outcome is None
    other = stepwise_of(STEPS | {"label": False}, plain, where=WHERE, separator=";;")
    assert other.completion == [*b"2+3=5;;5+4=9", END]
    assert other.ends == [7, 12] and other.outcome is False


# An empty thought before the assistant's text, whose blanks are cut off.
THINKS = CHATML.replace(
    "m['content']", "('[]' + (m['content'] | trim) if m['role'] == 'assistant' else m['content'])"
)


@pytest.mark.parametrize(("template", "before"), [(CHATML, ""), (THINKS, "[]")])
def test_what_a_template_writes_before_an_answer_is_of_its_first_step(chatml, template, before):
    row = stepwise_of(STEPS | {"prompt": [USER]}, chatml(template), where=WHERE)
    assert row.completion == ids_of(before + "2+3=5\n5+4=9<|end|>")
    assert row.ends == [len(ids_of(before + "2+3=5\n")), len(ids_of(before + "2+3=5\n5+4=9"))]


def test_a_template_that_changes_the_steps_is_refused(chatml):
    rows = STEPS | {"prompt": [USER], "completions": ["2+3=5", "5+4=9 "]}
    with pytest.raises(ValueError, match="line 2: the chat template changes the text of the steps"):
        stepwise_of(rows, chatml(THINKS), where=WHERE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [True]}, "line 2 has 2 completions and 1 labels"),
        ({"labels": [True, 0]}, r"the label of step 1 must be true or false, got 0 \(int\)"),
        ({"labels": [True, None]}, "the label of step 1 must be true or false, got null"),
        ({"completions": ["2+3=5", " "]}, "line 2: step 1 is empty"),
        ({"completions": ["2+3=5", None]}, "line 2: step 1 must be a text, got null"),
        ({"completions": []}, "'completions' must be a list of at least 1"),
        ({"label": "yes"}, "the column 'label' must be true or false, got 'yes'"),
    ],
)
def test_steps_that_are_refused(plain, change, message):
    with pytest.raises(ValueError, match=message):
        stepwise_of(STEPS | change, plain, where=WHERE)


def test_what_two_texts_share_is_their_prompt(plain):
    """As TRL's extract_prompt: the common beginning, without the blank before the answers."""
    row = {"chosen": "Human: 2+2? Answer: 4", "rejected": "Human: 2+2? Answer: 5"}
    parted = explicit_prompt(row, WHERE)
    assert parted == {"prompt": "Human: 2+2? Answer:", "chosen": " 4", "rejected": " 5"}
    assert pair_of(row, plain, where=WHERE).sides == ([*b" 4", END], [*b" 5", END])
    for sides in (("5+1=ab", "5+1=abc"), ("5+1=abc", "5+1=ab")):
        parted = explicit_prompt(dict(zip(("chosen", "rejected"), sides, strict=True)), WHERE)
        assert parted["prompt"] == "5+1=a" and {parted["chosen"], parted["rejected"]} == {"b", "bc"}
        assert all(
            parted["prompt"] + parted[name] == whole
            for name, whole in zip(("chosen", "rejected"), sides, strict=True)
        )
    explicit = row | {"prompt": "2+2="}
    assert explicit_prompt(explicit, WHERE) == explicit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rejected": "4"}, "line 2: chosen and rejected are the same"),
        ({"rejected": ""}, "line 2: rejected is empty"),
        ({"prompt": None}, "lacks the column 'prompt', and the texts .* begin differently: '4'"),
        ({"prompt": None, "rejected": "41"}, "and the texts .* begin differently: '4', '41'"),
    ],
)
def test_pairs_that_are_refused(plain, change, message):
    row = {"prompt": "2+2=", "chosen": "4", "rejected": "5"}
    with pytest.raises(ValueError, match=message):
        pair_of(row | change, plain, where=WHERE)


def test_sides_that_are_the_same_once_they_are_messages(chatml):
    row = {"prompt": [USER], "chosen": [FOUR], "rejected": "4"}
    with pytest.raises(ValueError, match="line 2: chosen and rejected are the same"):
        pair_of(row, chatml(), where=WHERE)


# As DeepSeek-R1's: what is before the end of the thought is gone.
FORGETS = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]")
MUTE = CHATML.replace("m['content']", "(m['content'] if m['role'] != 'system' else '')")


@pytest.mark.parametrize(
    ("template", "row", "message"),
    [
        (FORGETS, {"chosen": "<think>2+2</think>4"}, "drops 18 of the 19 .* assistant says, '<th"),
        (FORGETS, {"prompt": [{"role": "user", "content": "a</think>b"}]}, "drops 9 of the 10"),
        (MUTE, {"prompt": [{"role": "system", "content": "Be brief."}, USER]}, "8 letters of what"),
    ],
)
def test_a_template_that_drops_what_is_said_is_refused(chatml, template, row, message):
    row = {"prompt": [USER], "chosen": "4", "rejected": "5"} | row
    with pytest.raises(ValueError, match=f"line 2: the chat template .*{message}"):
        pair_of(row, chatml(template), where=WHERE, check_whole=True)


def test_blanks_that_a_template_trims_are_nothing_that_it_drops(chatml):
    row = {"prompt": [USER], "chosen": " 4\n\nyes ", "rejected": "5"}
    assert pair_of(row, chatml(THINKS), where=WHERE, check_whole=True).sides[0] == ids_of(
        "[]4\n\nyes<|end|>"
    )


def test_the_margin_of_a_pair(plain):
    row = {"prompt": "2+2=", "chosen": "4", "rejected": "5"}
    scores = {"score_chosen": 8, "score_rejected": 6.5}
    for more, margin in (({}, None), ({"margin": 2}, 2.0), (scores, 1.5)):
        assert pair_of(row | more, plain, where=WHERE).margin == margin


@pytest.mark.parametrize(
    "more, message",
    [
        ({"margin": "slightly better"}, "'margin' must be a finite number, got 'slightly better'"),
        ({"margin": math.nan}, "'margin' must be a finite number"),
        ({"score_chosen": 8}, "'score_rejected' must be a finite number, got null"),
        ({"score_chosen": 8, "score_rejected": math.inf}, "'score_rejected' must be a finite"),
    ],
)
def test_a_margin_that_is_no_number_stops_only_who_reads_it(plain, more, message):
    row = {"prompt": "2+2=", "chosen": "4", "rejected": "5"} | more
    pair = pair_of(row, plain, where=WHERE)
    assert pair.margin is None and pair.prompt == [*b"2+2="]
    with pytest.raises(ValueError, match=f"line 2: the column {message}"):
        margin_of(row, WHERE)


def test_pairs_as_labelled_completions(plain, chatml, tmp_path):
    rows = [
        {"prompt": "2+2=", "chosen": "4", "rejected": "5"},
        {"chosen": "2+2= 4", "rejected": "2+2= 5"},
        {"prompt_tokens": [1], "chosen_tokens": [2], "rejected_tokens": [3]}
        | {"chosen": "b", "rejected": "c", "prompt": "a"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = Unpaired(open_source("jsonl", path=path))
    assert len(labelled) == 6 and place_of(labelled, 3) == f"{path}, line 2, rejected"
    found = [labelled_of(row, plain, where=WHERE) for row in labelled]
    assert found[0] == ([*b"2+2="], [*b"4", END], True)
    assert found[3] == ([*b"2+2="], [*b" 5", END], False)
    assert found[4:] == [([1], [2], True), ([1], [3], False)]
    (chosen, _) = Unpaired([{"chosen": [USER, FOUR], "rejected": [USER, FIVE]}])
    assert labelled_of(chosen, chatml(), where=WHERE).completion == ids_of("4<|end|>")


def test_parquet_with_lists_of_structs_and_nulls(plain, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    answers = [
        {"response": "4", "overall_score": 1.0, "critique": "good"},
        {"response": "5", "overall_score": 0.5, "critique": None},
    ]
    missing = [{"response": "4", "overall_score": None}, {"response": "5", "overall_score": 1.0}]
    rows = [
        {"instruction": "2+2=", "completions": answers, "label": None},
        {"instruction": "2+2=", "completions": missing, "label": True},
    ]
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    source = open_source("parquet", path=path)
    assert scored_of(source[0], plain, where=WHERE).scores == [1.0, 0.5]
    message = "rows.parquet, row 2: completion 0 lacks 'score' or 'overall_score'; it has .*'resp"
    with pytest.raises(ValueError, match=message):
        scored_of(source[1], plain, where=place_of(source, 1))
