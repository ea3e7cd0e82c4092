"""Conversations to text: a tokenizer's own chat template, or a plain one of two format strings."""

import contextlib
import datetime
import re
import resource
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rljax.data.conversations import Message, last_is_assistant
from rljax.data.tokenizers import HFTokenizer, Tokenizer
from rljax.errors import blamed, shown
from rljax.remarks import say_once

TEMPLATE = "config.tokenizer.path"

# The date that templates are told, unless a config says otherwise.
CLOCK = "2026-01-01"

# A template is a program from somewhere else.
RENDER_SECONDS = 5.0
RENDER_BYTES = 8 * 2**30  # far more than what other threads take meanwhile

# Its first number: pages of memory that this process has.
_PAGES = Path("/proc/self/statm")

# Where a template asks for the time; with a fixed format that can be answered beforehand.
_CLOCK = re.compile(r"""strftime_now\(\s*(['"])((?:(?!\1).)*)\1\s*\)""")
_ASKS = re.compile(r"\bstrftime_now\b(?!\s+is\s+(?:not\s+)?defined\b)")

# What makes another text each time.
_RANDOM = re.compile(r"\|\s*random\b|\blipsum\s*\(")


class ChatTemplate(Protocol):
    """Renders conversations.

    Attributes:
        end_text: what it writes after the assistant's content, "" where that is not known.
    """

    end_text: str

    def render(
        self,
        messages: Sequence[Message],
        *,
        open_turn: bool,
        options: Mapping[str, Any],
        where: str,
    ) -> str:
        """The text of a conversation.

        Args:
            messages: at least one (data/conversations.py). An assistant's message at the end is
                left open, to be continued.
            open_turn: the model writes next: after its own last message, or after the opening of
                its turn. False: the conversation is complete.
            options: further variables of the template, `tools` among them.
            where: file and row, for errors.

        Raises:
            ValueError: for a conversation that the template refuses.
        """
        ...


class PlainTemplate:
    """Two format strings, for tokenizers that bring no template."""

    def __init__(self, turn: str = "{role}: {content}\n", generation_prompt: str = "assistant: "):
        """Splits the strings.

        Args:
            turn: one message; must contain "{content}", may contain "{role}".
            generation_prompt: what precedes the model's own text.
        """
        if "{content}" not in turn:
            raise ValueError(
                f"chat_turn {turn!r} must contain '{{content}}' (config.tokenizer.chat_turn)."
            )
        # Not str.format: a message may itself contain braces.
        self.head, self.tail = turn.split("{content}", 1)
        self.generation_prompt = generation_prompt
        self.end_text = ""

    def render(
        self,
        messages: Sequence[Message],
        *,
        open_turn: bool,
        options: Mapping[str, Any],
        where: str,
    ) -> str:
        """See `ChatTemplate`."""
        if options:
            raise ValueError(
                f"{where}: a template of two strings has no place for {sorted(options)} "
                "(config.tokenizer.chat_turn)."
            )
        for message in messages:
            if set(message) - {"role", "content"} or not isinstance(message["content"], str):
                raise ValueError(
                    f"{where}: a template of two strings takes messages of role and text alone, "
                    f"got {repr(message)[:80]} (config.tokenizer.chat_turn)."
                )
        continued = open_turn and last_is_assistant(messages)
        closed = messages[:-1] if continued else messages
        text = "".join(
            self.head.replace("{role}", m["role"]) + m["content"]
            + self.tail.replace("{role}", m["role"])
            for m in closed
        )  # fmt: skip
        text += self.generation_prompt if open_turn else ""
        return text + (messages[-1]["content"] if continued else "")


class TokenizerTemplate:
    """The chat template of a Hugging Face tokenizer, rendered by transformers.

    It renders the same text at any time: where it asks for the date it is told a fixed one.
    """

    def __init__(self, tokenizer: HFTokenizer, clock: datetime.date) -> None:
        """Tries the template out.

        Raises:
            ValueError: if it is no template, draws at random, or asks for the time in a way that
                has no fixed answer.
        """
        self.tokenizer, self.clock = tokenizer, clock
        self.asks_for_time = False
        self._text: dict[bool, str] = {}  # by whether there are tools
        for tools in (False, True):
            with blamed(f"The chat template of {tokenizer.folder}", ValueError, field=TEMPLATE):
                text = tokenizer.inner.get_chat_template(None, [{}] if tools else None)
            if found := _RANDOM.search(text):
                raise ValueError(
                    f"The chat template of {tokenizer.folder} draws at random ({found[0]!r}): the "
                    f"prompt of a row would differ from time to time ({TEMPLATE})."
                )
            self._text[tools] = self._with_clock(text)
        self.takes_parts = self._takes_parts()
        self.end_text = self._end_text()
        if self.asks_for_time:
            say_once(
                f"the chat template of {tokenizer.folder} asks for the date; it is told "
                f"{clock:%Y-%m-%d} (config.tokenizer.clock)"
            )

    def render(
        self,
        messages: Sequence[Message],
        *,
        open_turn: bool,
        options: Mapping[str, Any],
        where: str,
    ) -> str:
        """See `ChatTemplate`.

        Raises:
            ValueError: also for tools that the template does not show, and for content of several
                parts that it does not take.
        """
        for place, message in enumerate(messages):
            if isinstance(message.get("content"), list) and not self.takes_parts:
                raise ValueError(
                    f"{where}, message {place}: the content has {len(message['content'])} parts, "
                    f"and this chat template takes a text: join them ({TEMPLATE})."
                )
        text = self._rendered(messages, open_turn, options, where)
        if options.get("tools"):
            rest = {name: value for name, value in options.items() if name != "tools"}
            if text == self._rendered(messages, open_turn, rest, where):
                raise ValueError(
                    f"{where} has tools, and the chat template of {self.tokenizer.folder} does not "
                    f"show them: leave the column out ({TEMPLATE})."
                )
        return text

    def _rendered(
        self, messages: Sequence[Message], open_turn: bool, options: Mapping[str, Any], where: str
    ) -> str:
        import jinja2

        continued = open_turn and last_is_assistant(messages)
        kinds = (jinja2.TemplateError, ValueError, TypeError, KeyError, IndexError, AttributeError)
        kinds += (ArithmeticError, RecursionError, MemoryError, TimeoutError)
        options = dict(options)
        what = f"{where}: the chat template"
        with blamed(what, *kinds, field=TEMPLATE), time_limit(), memory_limit():
            return self.tokenizer.inner.apply_chat_template(
                list(messages),
                tools=options.pop("tools", None),
                chat_template=self._text["tools" in options],
                tokenize=False,
                add_generation_prompt=open_turn and not continued,
                continue_final_message=continued,
                **options,
            )

    def _with_clock(self, text: str) -> str:
        def answer(match: re.Match[str]) -> str:
            return repr(self.clock.strftime(match[2]))

        fixed = _CLOCK.sub(answer, text)
        self.asks_for_time |= fixed != text
        if _ASKS.search(fixed):
            raise ValueError(
                f"The chat template of {self.tokenizer.folder} asks for the time in a format that "
                f"it makes up itself: prompts would differ from day to day ({TEMPLATE})."
            )
        return fixed

    def _takes_parts(self) -> bool:
        """Whether content may be a list of parts: then a single one reads like its text."""
        as_text = [{"role": "user", "content": "question"}]
        as_parts = [{"role": "user", "content": [{"type": "text", "text": "question"}]}]
        with contextlib.suppress(ValueError):
            texts = [self._rendered(m, True, {}, "") for m in (as_text, as_parts)]
            return texts[0] == texts[1]
        return False

    def _end_text(self) -> str:
        turns = [
            {"role": "user", "content": "question"},
            {"role": "assistant", "content": "answer"},
        ]
        with contextlib.suppress(ValueError):
            return self._rendered(turns, False, {}, "").rpartition("answer")[2]
        return ""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raises TimeoutError after `RENDER_SECONDS`; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: Any) -> None:
        raise TimeoutError(f"it took longer than {RENDER_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, RENDER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def memory_limit() -> Iterator[None]:
    """Lets the process grow by `RENDER_BYTES` at most, where the system can say so (Linux)."""
    if threading.current_thread() is not threading.main_thread() or not _PAGES.is_file():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = int(_PAGES.read_text().split()[0]) * resource.getpagesize() + RENDER_BYTES
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def make_template(
    tokenizer: Tokenizer, *, turn: str = "", opening: str = "", clock: str = CLOCK
) -> ChatTemplate | None:
    """The chat template: two strings where they are given, else the tokenizer's own, else none.

    Args:
        tokenizer: of the model.
        turn: one message, see `PlainTemplate`.
        opening: what precedes the model's own text, with `turn`.
        clock: the date that the tokenizer's template is told, year-month-day.
    """
    if turn:
        return PlainTemplate(turn, opening)
    if isinstance(tokenizer, HFTokenizer) and tokenizer.inner.chat_template:
        return TokenizerTemplate(tokenizer, read_clock(clock))
    return None


def read_clock(text: str) -> datetime.date:
    """A date.

    Raises:
        ValueError: for anything but year-month-day.
    """
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"clock={text!r} is no date; write year-month-day, such as 2026-01-01 "
            "(config.tokenizer.clock)."
        ) from error


def template_options(pairs: Any) -> dict[str, Any]:
    """config.tokenizer.template_options as a mapping.

    Raises:
        ValueError: unless they are pairs of a name and a value.
    """
    pairs = tuple(pairs)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(
                "template_options must be pairs such as ('enable_thinking', False), got "
                f"{shown(pair)} (config.tokenizer.template_options)."
            )
    return dict(pairs)
