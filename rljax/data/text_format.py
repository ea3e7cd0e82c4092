"""How the rows of a data set become tokens, and how tokens become text again.

One object says it for a run: training, evaluation, generation and reports all go through it.

    a prompt that is text      what the tokenizer puts before a text (bos), and the text
    a conversation             what the chat template makes of it, and nothing else
    a completion               what comes after the prompt, up to the token that ends it
    text of a completion       what was written before that token

Prompt and completion are always tokenised apart and joined as ids, in training as in sampling: no
merge crosses the border, so a completion's ids do not depend on how its prompt ends.
"""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rljax.data.chat import ChatTemplate, PlainTemplate
from rljax.data.control_tokens import ControlTokens, unmarked
from rljax.data.conversations import (
    Message,
    is_conversation,
    last_is_assistant,
    leads_to_error,
    read_messages,
)
from rljax.data.packing import Example
from rljax.data.tokenizers import Tokenizer
from rljax.data.values import UnusableRow
from rljax.errors import typed

PROMPTS = "config.data.prompt_column"

# Whose messages a chat template shows whole; of earlier answers some leave the thoughts out.
SHOWN_WHOLE = ("system", "developer", "user")


class Prompt(NamedTuple):
    """What the model goes on from.

    Attributes:
        rendered: the text before it is tokenised, with marks (data/control_tokens.py).
        tokens: its ids, bos included where there is one.
        end: the id that ends a completion of it.
        messages: the conversation; None for a text.
        options: variables of the template.
    """

    rendered: str
    tokens: list[int]
    end: int
    messages: list[Message] | None = None
    options: Mapping[str, Any] = {}

    @property
    def text(self) -> str:
        """As the model reads it, the template's control tokens included; without the bos that a
        tokenizer puts before a text."""
        return unmarked(self.rendered)


class TextFormat:
    """Tokenizer, chat template, beginnings and ends of a run."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | None = None,
        template_options: Mapping[str, Any] | None = None,
        add_bos: bool | None = None,
        chat: bool = False,
        system_prompt: str = "",
        control_tokens: str = "token",
        stop_tokens: Iterable[int] = (),
    ) -> None:
        """Makes the format.

        Args:
            tokenizer: of the model.
            template: of conversations; None: there are none.
            template_options: variables of the template, for all rows.
            add_bos: whether bos begins every prompt; None: as tokenizer and template say.
            chat: whether a prompt that is text is the user's message of a conversation.
            system_prompt: the first message of conversations that have no system message.
            control_tokens: what becomes of those in texts of rows (data/control_tokens.py).
            stop_tokens: that end a completion, besides the tokenizer's eos and the template's.

        Raises:
            ValueError: for bos, or chats, without what they need.
        """
        if add_bos and tokenizer.bos_id is None:
            raise ValueError("The tokenizer has no bos token (config.tokenizer.add_bos).")
        if (chat or system_prompt) and template is None:
            raise ValueError(_no_template(tokenizer) + " (config.data.chat).")
        self.tokenizer, self.template = tokenizer, template
        self.template_options = dict(template_options or {})
        self.add_bos, self.chat, self.system_prompt = add_bos, chat, system_prompt
        self.control_tokens = ControlTokens(tokenizer, control_tokens)
        self.chat_end_text, self.chat_end = self._end_of_turn()
        self.ends = tuple(dict.fromkeys((tokenizer.eos_id, *stop_tokens, self.chat_end)))

    @property
    def begin(self) -> tuple[int, ...]:
        """Ids that begin a text: the tokenizer's own, or as config.tokenizer.add_bos says."""
        if self.add_bos is None:
            return tuple(self.tokenizer.begin)
        return (self.tokenizer.bos_id,) if self.add_bos else ()

    def _end_of_turn(self) -> tuple[str, int]:
        """The control token with which the template closes the assistant's turn, or else eos."""
        written = "" if self.template is None else self.template.end_text
        places = {text: written.find(text) for text in self.tokenizer.control_tokens}
        found = [text for text, place in places.items() if text and place >= 0]
        if not found:
            return "", self.tokenizer.eos_id
        first = min(found, key=lambda text: (places[text], -len(text)))
        (token,) = self.tokenizer.encode_inside(first)
        return first, token

    def prompt(
        self,
        value: Any,
        *,
        tools: Any = None,
        options: Mapping[str, Any] | None = None,
        where: str,
        field: str = PROMPTS,
    ) -> Prompt:
        """The prompt of a row.

        Args:
            value: a text or a conversation, which the model continues: after its own message if
                that is the last one.
            tools: JSON schemas for the template.
            options: the row's variables of the template, over those of the run.
            where: file and row, for errors.
            field: the config field or flag that errors name.

        Raises:
            ValueError: for a prompt that is empty, no text, or that the template refuses.
        """
        messages = self._messages(value, f"{where}: the prompt")
        if messages is None:
            if tools or options:
                raise ValueError(
                    f"{where} has tools or options of a chat template, and a prompt that is text: "
                    f"only conversations have them (config.data.chat, {field})."
                )
            text = self.control_tokens.marked(checked_text(value, f"{where}: the prompt"), where)
            return self._prompt(text, self.begin, self.tokenizer.eos_id, where, field)
        if self.template is None:
            raise ValueError(f"{where}: {_no_template(self.tokenizer)} ({field}).")
        given = self.template_options | dict(options or {}) | ({"tools": tools} if tools else {})
        given = self.control_tokens.marked(given, where)
        text = self.template.render(messages, open_turn=True, options=given, where=where)
        made = self._prompt(text, (), self.chat_end, where, field)
        return made._replace(messages=messages, options=given)

    def _messages(self, value: Any, where: str) -> list[Message] | None:
        """The conversation of a prompt; None for a text."""
        if self.chat and isinstance(value, str):
            value = [{"role": "user", "content": value}]
        if not is_conversation(value):
            return None
        messages = read_messages(value, where)
        if self.system_prompt and messages[0]["role"] not in ("system", "developer"):
            messages = [{"role": "system", "content": self.system_prompt}, *messages]
        check_texts(messages, where)
        return self.control_tokens.marked(messages, where)

    def _prompt(self, text: str, before: Sequence[int], end: int, where: str, field: str) -> Prompt:
        tokens = [*before, *self.control_tokens.encode(text, inside=False)]
        bos = self.tokenizer.bos_id
        if self.add_bos and tokens[:1] != [bos]:
            tokens = [bos, *tokens]
        # A text may itself begin with the name of bos, as a rendered conversation does.
        if bos is not None and tokens[:2] == [bos, bos]:
            tokens = tokens[1:]
        if not tokens:
            raise ValueError(f"{where}: the prompt is empty; one token is needed ({field}).")
        return Prompt(text, tokens, end)

    def completion(self, prompt: Prompt, answer: str | Message, where: str) -> list[int]:
        """The ids of an answer, up to the one that ends it.

        Of a conversation it is what the chat template writes for the assistant's message.

        Args:
            prompt: that it answers.
            answer: a text, or the assistant's message.
            where: file and row, for errors.

        Raises:
            ValueError: if the template writes the prompt in another way once it is answered.
        """
        if prompt.messages is not None and not isinstance(self.template, PlainTemplate):
            ids = self.control_tokens.encode(self.answered(prompt, answer, where), inside=True)
            return self._ended(ids, prompt)
        text = checked_text(_content(answer), f"{where}: the completion")
        text = self.control_tokens.marked(text, where)
        return self._ended(self.control_tokens.encode(text, inside=True), prompt)

    @staticmethod
    def _ended(ids: list[int], prompt: Prompt) -> list[int]:
        """With the end once, whether or not the text spells it out (as TRL does)."""
        return ids if ids[-1:] == [prompt.end] else [*ids, prompt.end]

    def steps(
        self, prompt: Prompt, steps: Sequence[Any], separator: str, where: str
    ) -> tuple[list[int], list[int]]:
        """The ids of an answer in steps, up to the one that ends it, and where each step ends.

        Steps are tokenised apart, as prompt and completion are: no token is of two steps.

        Args:
            prompt: that is answered.
            steps: texts.
            separator: stands between two steps and belongs to the earlier one.
            where: file and row, for errors.

        Raises:
            ValueError: for a step without a text, or a chat template that changes the steps.
        """
        for number, step in enumerate(steps):
            if not checked_text(step, f"{where}: step {number}").strip():
                raise UnusableRow(f"{where}: step {number} is empty; a step has a text.")
        texts = [*(step + separator for step in steps[:-1]), steps[-1]]
        before, after = "", ""
        if prompt.messages is not None and not isinstance(self.template, PlainTemplate):
            whole = self.control_tokens.marked("".join(texts), where)
            before, found, after = self.answered(prompt, "".join(texts), where).partition(whole)
            if not found:
                raise ValueError(
                    f"{where}: the chat template changes the text of the steps: {whole[:80]!r} is "
                    "not in what it writes. Give the prompt as a text (config.tokenizer.path)."
                )
        ids, ends = self.control_tokens.encode(before, inside=True) if before else [], []
        for text in texts:
            marked = self.control_tokens.marked(text, where)
            ids = [*ids, *self.control_tokens.encode(marked, inside=True)]
            ends.append(len(ids))
        rest = self.control_tokens.encode(after, inside=True) if after else []
        return self._ended([*ids, *rest], prompt), ends

    def check_whole(
        self, prompt: Prompt, answer: str | Message, completion: list[int], where: str
    ) -> None:
        """Raises ValueError unless prompt and completion together are the whole text.

        Args:
            prompt: of the row.
            answer: of the row.
            completion: what `completion` made of both.
            where: file and row, for the error.
        """
        if prompt.messages is not None and not isinstance(self.template, PlainTemplate):
            rest = self.answered(prompt, answer, where)
        else:
            rest = self.control_tokens.marked(_content(answer), where)
        if prompt.messages is not None:
            for message in prompt.messages:
                if message["role"] in SHOWN_WHOLE:
                    check_shown(_content(message), prompt.rendered, message["role"], where)
            check_shown(_content(answer), rest, "assistant", where)
        bos = self.tokenizer.bos_id
        if bos is not None and prompt.tokens[:2] == [bos, bos]:
            raise ValueError(f"{where}: the prompt begins with bos twice (config.checks.tokens).")
        whole = self.control_tokens.encode(prompt.rendered + rest, inside=False)
        decode = self.tokenizer.decode
        if decode(whole) != decode([*prompt.tokens, *completion]):
            raise ValueError(
                f"{where}: prompt and completion are not the whole text once they are tokens: "
                f"{decode(whole)[-60:]!r} became {decode([*prompt.tokens, *completion])[-60:]!r} "
                "(config.checks.tokens)."
            )

    def answered(self, prompt: Prompt, answer: str | Message, where: str) -> str:
        """What the template writes after the prompt, up to the end of the assistant's turn."""
        message = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
        check_texts(message, f"{where}: the completion")
        message = self.control_tokens.marked(message, where)
        messages = prompt.messages
        if last_is_assistant(messages):
            *messages, begun = messages
            if not all(isinstance(m.get("content"), str) for m in (begun, message)):
                raise ValueError(f"{where}: only a text can be continued ({PROMPTS}).")
            message = {**begun, **message, "content": begun["content"] + message["content"]}
        whole = self.template.render(
            [*messages, message], open_turn=False, options=prompt.options, where=where
        )
        if not whole.startswith(prompt.rendered):
            raise ValueError(
                f"{where}: the chat template writes the prompt in another way once the answer is "
                f"there: {prompt.text[-40:]!r} is not in {unmarked(whole)[-80:]!r}. Give prompt "
                "and completion as texts (config.tokenizer.path)."
            )
        rest = whole[len(prompt.rendered) :]
        place = rest.rfind(self.chat_end_text) if self.chat_end_text else -1
        # What some templates write behind the end of a turn, no sampler ever reaches.
        return rest if place < 0 else rest[: place + len(self.chat_end_text)]

    def turns(
        self,
        conversation: Any,
        *,
        tools: Any = None,
        options: Mapping[str, Any] | None = None,
        error_phrases: Sequence[str] = (),
        where: str,
        field: str = PROMPTS,
    ) -> Example:
        """A whole conversation, with every message of the assistant learned.

        A message that led to an error is read, and not learned.

        Args:
            conversation: of the row.
            tools: JSON schemas for the template.
            options: the row's variables of the template.
            error_phrases: texts of which a tool's answer to a message holds one, if it was wrong.
            where: file and row, for errors.
            field: the config field that errors name.

        Raises:
            UnusableRow: if every message of the assistant led to an error.
            ValueError: without an assistant's message, or for a template that writes earlier turns
                in another way once later ones follow.
        """
        messages, made, shown = read_messages(conversation, where), Example([], []), ""
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            if place == 0 or messages[place - 1]["role"] == "assistant":
                raise ValueError(f"{where}, message {place}: the assistant answers nobody.")
            plain = isinstance(self.template, PlainTemplate)
            if made.tokens and not shown:
                raise ValueError(
                    f"{where}: the chat template marks no end of a turn, so that several cannot be "
                    "learned together; learn the last one alone (config.<stage>.data.learn)."
                )
            prompt = self.prompt(
                messages[:place], tools=tools, options=options, where=where, field=field
            )
            if not prompt.rendered.startswith(shown):
                raise ValueError(
                    f"{where}, message {place}: the chat template writes earlier turns in another "
                    "way once later ones follow, so that they cannot be learned together; learn "
                    "the last one alone (config.<stage>.data.learn)."
                )
            opening = prompt.tokens
            if shown:
                opening = self.control_tokens.encode(prompt.rendered[len(shown) :], inside=True)
            answer = self.completion(prompt, message, where)
            made.tokens.extend([*opening, *answer])
            right = not leads_to_error(messages, place, error_phrases)
            made.learned.extend([False] * len(opening) + [right] * len(answer))
            if plain:  # whose end of a turn is an id without a text
                shown = prompt.rendered + _content(message)
            elif prompt.messages is not None and self.chat_end_text:
                shown = prompt.rendered + self.answered(prompt, message, where)
        if not made.tokens:
            raise ValueError(f"{where}: no message is the assistant's ({field}).")
        if not any(made.learned):
            raise UnusableRow(
                f"{where}: a tool answers every message of the assistant with an error, so that "
                f"nothing is learned ({field})."
            )
        return made

    def text(self, tokens: Iterable[int]) -> str:
        """The text of a completion, without the token that ended it."""
        ids = [int(token) for token in tokens]
        return self.tokenizer.decode(ids[:-1] if ids and ids[-1] in self.ends else ids)


def check_shown(text: Any, rendered: str, role: str, where: str) -> None:
    """Raises ValueError where a chat template drops the beginning of what somebody says, or all.

    Args:
        text: what is said; content in several parts is not compared.
        rendered: what the template writes, with marks; it may write blanks in another way.
        role: who says it.
        where: file and row, for the error.
    """
    if not isinstance(text, str):
        return
    wanted, shown = ("".join(unmarked(each).split()) for each in (text, rendered))
    if wanted in shown:
        return
    lost = bisect.bisect(range(len(wanted)), 0, key=lambda n: wanted[n:] in shown)
    raise ValueError(
        f"{where}: the chat template drops {lost} of the {len(wanted)} letters of what {role} "
        f"says, {wanted[:lost][:40]!r} (config.tokenizer.path, config.checks.tokens)."
    )


def _content(answer: str | Message) -> Any:
    return answer.get("content") if isinstance(answer, Mapping) else answer


def checked_text(value: Any, where: str) -> str:
    """A text that can be tokenised.

    Raises:
        ValueError: for another type, or half of a surrogate pair, which is no letter.
    """
    if not isinstance(value, str):
        raise ValueError(f"{where} must be a text, got {typed(value)}.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} holds half of a surrogate pair at letter {error.start}, which is no text: "
            f"{value[max(error.start - 20, 0) : error.start + 20]!r}."
        ) from error
    return value


def check_texts(value: Any, where: str) -> None:
    """Raises the ValueErrors of `checked_text` for the texts of nested lists and mappings."""
    if isinstance(value, str):
        checked_text(value, where)
    elif isinstance(value, Mapping):
        for each in value.values():
            check_texts(each, where)
    elif isinstance(value, list):
        for each in value:
            check_texts(each, where)


def _no_template(tokenizer: Tokenizer) -> str:
    return (
        f"this tokenizer ({type(tokenizer).__name__}) has no chat template for lists of messages; "
        "give texts, or a tokenizer that has one"
    )
