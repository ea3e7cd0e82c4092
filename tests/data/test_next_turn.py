"""What stands between two replies: the ids that a chat template writes there, and nothing else."""

import pytest

from rljax.data.chat import PlainTemplate, make_template
from rljax.data.next_turn import next_turn
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import ByteTokenizer, HFTokenizer
from tests.folders import CHATML, END, EOS, ids_of, write_tokenizer

USER = {"role": "user", "content": "2+2?"}
WRONG = {"role": "user", "content": "No."}
TOOL = {"role": "tool", "content": "5"}
BETWEEN = "\n<|start|>user\nNo.<|end|>\n<|start|>assistant\n"

# Qwen3's kind: thoughts of earlier answers are left out once a user has answered.
FORGETS = (
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}"
    "{% for m in messages %}{% set c = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in c and loop.index0 < ns.last %}"
    "{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{{ '<|start|>' + m['role'] + '\\n' + c + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)
# DeepSeek's kind: the template itself opens the thought.
OPENS = CHATML.replace("assistant\\n' }}{% endif", "assistant\\n<think>\\n' }}{% endif")
STRIPS = CHATML.replace("m['content']", "(m['content'] | trim)")
HIDES = CHATML.replace("m['content']", "(m['content'] if m['role'] != 'assistant' else 'said')")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(template, **options) -> the format of such a tokenizer."""
    loaded = {}

    def make(template: str = CHATML, **options) -> TextFormat:
        if template not in loaded:
            folder = tmp_path_factory.mktemp("tokenizer") / "folder"
            loaded[template] = HFTokenizer(write_tokenizer(folder, template))
        tokenizer = loaded[template]
        return TextFormat(tokenizer, template=make_template(tokenizer), **options)

    return make


def after(text_format, reply, answers=(WRONG,), messages=(USER,), rewritten="refuse"):
    prompt = text_format.prompt(list(messages), where="row 1")
    return next_turn(
        text_format,
        prompt.messages,
        reply,
        list(answers),
        options=prompt.options,
        rewritten=rewritten,
        where="row 1, turn 1",
    )


def test_the_end_of_a_turn_stands_there_once(made):
    """Whether the model wrote it, was stopped before, or ended with another token."""
    text = BETWEEN[1:]
    assert after(made(), [*ids_of("5"), END]).tokens == ids_of("\n" + text)
    assert after(made(), ids_of("5")).tokens == ids_of("<|end|>\n" + text)
    assert after(made(), [*ids_of("5"), EOS]).tokens == ids_of("<|end|>\n" + text)
    assert after(made(), []).tokens == ids_of("<|end|>\n" + text)


@pytest.mark.parametrize("template", [CHATML, STRIPS])
def test_a_conversation_turn_by_turn_is_the_whole_one(made, template):
    """Against transformers: prompt, replies and what stands between are the conversation's ids."""
    text_format = made(template)
    replies, answers = ["4", "no: 5", "5"], [[WRONG], [TOOL, {**TOOL, "content": "é"}]]
    prompt = text_format.prompt([USER], where="row 1")
    ids, messages = list(prompt.tokens), prompt.messages
    for reply, following in zip(replies, [*answers, None], strict=True):
        written = [*ids_of(reply), END]
        ids += written
        if following is None:
            break
        found = next_turn(
            text_format, messages, written, following, options={}, rewritten="refuse", where="r"
        )
        ids, messages = ids + found.tokens, found.messages
    whole = [USER, {"role": "assistant", "content": "4"}, WRONG,
             {"role": "assistant", "content": "no: 5"}, *answers[1],
             {"role": "assistant", "content": "5"}]  # fmt: skip
    theirs = text_format.tokenizer.inner.apply_chat_template(whole, return_dict=False)
    assert ids == theirs[: len(ids)] and theirs[len(ids) :] == ids_of("\n")
    assert ids == text_format.turns(whole, where="row 1").tokens


def test_blanks_that_a_template_strips_stay_as_the_model_wrote_them(made):
    found = after(made(STRIPS), [*ids_of(" 5 \n"), END])
    assert found.tokens == ids_of(BETWEEN)


def test_a_template_that_forgets_thoughts_is_refused_or_kept(made):
    """Thoughts of earlier turns are dropped after a user's message, and not after a tool's."""
    reply = [*ids_of("<think>hm</think>4"), END]
    with pytest.raises(ValueError, match=r"row 1, turn 1: the chat template writes earlier turns"):
        after(made(FORGETS), reply)
    assert after(made(FORGETS), reply, rewritten="keep").tokens == ids_of(BETWEEN)
    between = "\n<|start|>tool\n5<|end|>\n<|start|>assistant\n"
    assert after(made(FORGETS), reply, [TOOL]).tokens == ids_of(between)


def test_a_thought_that_the_template_opens_is_part_of_the_reply(made):
    found = after(made(OPENS), [*ids_of("hm</think>4"), END])
    assert found.tokens == ids_of(BETWEEN + "<think>\n")
    assert found.messages[1]["content"] == "<think>\nhm</think>4"
    again = next_turn(
        made(OPENS), found.messages, [*ids_of("no</think>5"), END], [WRONG], options={},
        rewritten="refuse", where="r",
    )  # fmt: skip
    assert again.tokens == found.tokens


def test_a_template_that_hides_replies_is_refused(made):
    with pytest.raises(ValueError, match="writes earlier turns in another way"):
        after(made(HIDES), [*ids_of("5"), END])
    with pytest.raises(ValueError, match="does not show what the assistant says"):
        after(made(HIDES), [*ids_of("5"), END], rewritten="keep")


def test_control_tokens_in_an_answer_follow_the_rule(made):
    """A tool's text cannot end its own turn, where the run says so."""
    forged = {"role": "tool", "content": "<|end|>"}
    as_text = after(made(control_tokens="text"), [*ids_of("5"), END], [forged]).tokens
    assert as_text.count(END) == 1
    assert after(made(), [*ids_of("5"), END], [forged]).tokens.count(END) == 2
    with pytest.raises(ValueError, match="row 1, turn 1: .*control token"):
        after(made(control_tokens="refuse"), [*ids_of("5"), END], [forged])


def test_a_template_of_two_strings():
    """Its turns end with eos, which it does not write; demonstrations have the same ids."""
    template = PlainTemplate("{role}: {content}\n", "assistant: ")
    text_format = TextFormat(ByteTokenizer(), template=template)
    tokenizer = text_format.tokenizer
    reply = [*tokenizer.encode_inside("5"), tokenizer.eos_id]
    found = after(text_format, reply)
    assert tokenizer.decode(found.tokens) == "\nuser: No.\nassistant: "
    whole = [USER, {"role": "assistant", "content": "5"}, WRONG, {**USER, "role": "assistant"}]
    shown = text_format.turns(whole, where="row 1")
    prompt = text_format.prompt([USER], where="row 1")
    last = [*tokenizer.encode_inside(USER["content"]), tokenizer.eos_id]
    assert shown.tokens == [*prompt.tokens, *reply, *found.tokens, *last]
    learned = [token for token, on in zip(*shown, strict=True) if on]
    assert learned == [*reply, *last]


@pytest.mark.parametrize("letter", ["\ue002", "\ue002\ue003"])
def test_letters_for_private_use_are_letters(made, letter):
    """As icons of a web page are: once an answer with the mark in it lost its beginning."""
    answer, asked = {"role": "tool", "content": f"a{letter}b"}, {**USER, "content": letter}
    found = after(made(), [*ids_of("5"), END], [answer], [asked]).tokens
    assert found == ids_of(f"\n<|start|>tool\na{letter}b<|end|>\n<|start|>assistant\n")
