"""Bodies of requests, checked: what OpenAI's clients send, and a few fields more.

What is not known is refused by name, and so is what would change the answer and cannot be done.
Fields that say nothing about the tokens (user, metadata, ...) are taken and not read.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rljax.errors import shown, unknown_name
from rljax.sampling.distribution import LARGEST_BIAS
from rljax.sampling.options import LARGEST
from rljax.serving.asked import Ask
from rljax.serving.limits import Limits
from rljax.serving.program import MOST_BIASES, MOST_ENDS, MOST_TOPS

# Fields without influence on what is written.
UNREAD = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
UNREAD += ("parallel_tool_calls", "verbosity", "prompt_cache_retention")

# Texts that end a sample, and bytes of each, at most.
MOST_STOPS, LONGEST_STOP = 16, 256

# Tokens of a completion where none are asked for, as OpenAI has it.
DEFAULT_TOKENS = 16

REWRITES = ("refuse", "segment")


class BadRequest(ValueError):
    """A request that cannot be answered: message, field, code and HTTP status."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        code: str = "invalid_value",
        status: int = 400,
    ) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


class Model(NamedTuple):
    """What requests are checked against."""

    name: str
    vocab_size: int
    ends: tuple[int, ...]  # tokens that end every completion
    limits: Limits
    defaults: Mapping[str, float] = {}  # noqa: RUF012 (never changed): of temperature, top_k, ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """What both kinds of request may say.

    Attributes:
        n: samples of each prompt.
        max_tokens: of a sample; None: what the context leaves.
        tops: alternatives of each token; None: no log-probabilities.
        seed: None: the server draws one.
        stream, include_usage: whether tokens are sent as they come, and what the last line says.
        token_ids: whether the answer has ids and the log-probabilities that training wants.
        episode: id of the episode that the request belongs to.
        on_rewrite: what becomes of a prompt that does not extend the episode (`REWRITES`).
        others: the rest of the fields of `Ask`.
    """

    n: int
    max_tokens: int | None
    tops: int | None
    seed: int | None
    stream: bool
    include_usage: bool
    token_ids: bool
    episode: str | None
    on_rewrite: str
    others: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionBody:
    """A request to /v1/completions: texts, or ids."""

    common: Common
    prompts: tuple[str | tuple[int, ...], ...]
    echo: bool
    continued: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatBody:
    """A request to /v1/chat/completions."""

    common: Common
    messages: list[Any]
    tools: list[Any] | None
    options: Mapping[str, Any]


class _Fields:
    """Reads the fields of a body; each of them once."""

    def __init__(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise BadRequest(f"The body must be a JSON object, got {shown(body)}.")
        self._body, self._read = body, set(UNREAD)

    def get(self, name: str, default: Any, check: Callable[[Any], bool], allowed: str) -> Any:
        """A field; null is its default."""
        self._read.add(name)
        value = self._body.get(name)
        if value is None:
            return default
        if not check(value):
            raise BadRequest(f"{name} must be {allowed}, got {shown(value)} ({name}).", name)
        return value

    def whole(self, name: str, default: Any, lowest: int, highest: int = LARGEST) -> Any:
        """A whole number."""
        allowed = f"a whole number in {lowest}..{highest}"
        return self.get(name, default, lambda x: is_whole(x) and lowest <= x <= highest, allowed)

    def number(self, name: str, default: float, lowest: float, highest: float) -> float:
        """A finite number; at `highest` infinity there is no upper bound."""
        allowed = f"a number in {lowest:g}..{highest:g}"
        return float(
            self.get(name, default, lambda x: is_number(x) and lowest <= x <= highest, allowed)
        )

    def flag(self, name: str) -> bool:
        """True or false; false by default."""
        return self.get(name, False, lambda x: isinstance(x, bool), "true or false")

    def only(self, name: str, allowed: Sequence[Any], why: str) -> None:
        """A field that has no choice: null, or one of the values that change nothing."""
        listed = " or ".join(map(repr, allowed)) or "absent"
        self.get(name, None, lambda x: x in allowed, f"{listed}: {why}")

    def end(self) -> None:
        """Raises BadRequest for a field that nobody has read."""
        for name in self._body:
            if name not in self._read:
                error = unknown_name("field", name, self._read - set(UNREAD), str(name))
                raise BadRequest(str(error), str(name), code="unknown_parameter")


def is_whole(value: Any) -> bool:
    """Whether a value of JSON is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_ids(value: Any) -> bool:
    """Whether a value of JSON is a list of integers, at least one."""
    return isinstance(value, list) and bool(value) and all(map(is_whole, value))


def read_completion(body: Any, model: Model) -> CompletionBody:
    """Checks a body of /v1/completions.

    Raises:
        BadRequest: for anything that cannot be answered.
    """
    fields = _Fields(body)
    prompts = _prompts(fields, model)
    tops = fields.whole("logprobs", None, 0, MOST_TOPS)
    echo = fields.flag("echo")
    common = _common(fields, model, tops, least_tokens=0 if echo else 1)
    fields.only("suffix", ("",), "text before a suffix cannot be written")
    fields.only("best_of", (common.n,), "every sample is returned (n)")
    continued = fields.whole("continued", 0, 0)
    fields.end()
    if common.max_tokens is None:
        common = dataclasses.replace(common, max_tokens=DEFAULT_TOKENS)
    if echo and common.stream:
        raise BadRequest("echo is not streamed; leave one of both out (echo, stream).", "echo")
    if continued:
        _check_continued(continued, prompts, common)
    if common.episode is not None and len(prompts) > 1:
        raise BadRequest("An episode has one prompt at a time (prompt, episode).", "prompt")
    return CompletionBody(common=common, prompts=prompts, echo=echo, continued=continued)


def read_chat(body: Any, model: Model) -> ChatBody:
    """Checks a body of /v1/chat/completions; its messages are read by the chat template.

    Raises:
        BadRequest: for anything that cannot be answered.
    """
    fields = _Fields(body)
    messages = fields.get(
        "messages", None, lambda x: isinstance(x, list) and x, "a list, not empty"
    )
    if messages is None:
        raise BadRequest("messages is missing (messages).", "messages", code="missing")
    wanted = fields.flag("logprobs")
    tops = fields.whole("top_logprobs", None, 0, MOST_TOPS)
    if tops is not None and not wanted:
        raise BadRequest("top_logprobs needs logprobs: true (top_logprobs).", "top_logprobs")
    newer = fields.whole("max_completion_tokens", None, 1)
    common = _common(fields, model, (tops or 0) if wanted else None, least_tokens=1)
    if newer is not None:
        common = dataclasses.replace(common, max_tokens=newer)
    tools = fields.get("tools", None, _are_tools, "a list of {'type': 'function', 'function': ...}")
    choice = fields.get("tool_choice", "auto", lambda x: x in ("auto", "none"), "'auto' or 'none'")
    options = fields.get("chat_template_kwargs", {}, lambda x: isinstance(x, dict), "an object")
    kind = ({"type": "text"},)
    fields.only("response_format", kind, "no grammar constrains what is written")
    for name in ("functions", "function_call", "audio", "prediction", "web_search_options"):
        fields.only(name, (), "it is not supported (functions are given as tools)")
    fields.only("modalities", (["text"],), "only text is written")
    fields.end()
    if "tools" in options:
        raise BadRequest("tools are a field of their own (chat_template_kwargs).", "tools")
    tools = tools if choice == "auto" else None
    return ChatBody(common=common, messages=messages, tools=tools or None, options=options)


def _are_tools(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(tool, Mapping)
        and tool.get("type") == "function"
        and isinstance(tool.get("function"), Mapping)
        and isinstance(tool["function"].get("name"), str)
        for tool in value
    )


def _common(fields: _Fields, model: Model, tops: int | None, least_tokens: int) -> Common:
    name = fields.get("model", model.name, lambda x: isinstance(x, str), "the name of the model")
    if name != model.name:
        raise BadRequest(
            f"Unknown model {shown(name)}; this server has {model.name!r} (model).",
            "model",
            code="model_not_found",
            status=404,
        )
    stream = fields.flag("stream")
    of_stream = fields.get("stream_options", {}, lambda x: isinstance(x, dict), "an object")
    common = Common(
        n=fields.whole("n", 1, 1, model.limits.samples),
        max_tokens=fields.whole("max_tokens", None, least_tokens),
        tops=tops,
        seed=fields.whole("seed", None, 0),
        stream=stream,
        include_usage=bool(of_stream.get("include_usage")),
        token_ids=fields.flag("return_token_ids"),
        episode=fields.get("episode", None, _is_name, "a text of 1 to 256 letters"),
        on_rewrite=fields.get(
            "on_rewrite", REWRITES[0], lambda x: x in REWRITES, " or ".join(map(repr, REWRITES))
        ),
        others=_sampling(fields, model),
    )
    if common.episode is not None and common.n > 1:
        raise BadRequest("A turn of an episode is one sample (n, episode).", "n")
    return common


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def _sampling(fields: _Fields, model: Model) -> dict[str, Any]:
    """The fields of `Ask` that say how tokens are drawn."""
    stop_ids = fields.get("stop_token_ids", [], lambda x: x == [] or is_ids(x), "a list of ids")
    ends = () if fields.flag("ignore_eos") else model.ends
    ends = tuple(dict.fromkeys((*ends, *stop_ids)))
    if len(ends) > MOST_ENDS or any(not 0 <= token < model.vocab_size for token in ends):
        raise BadRequest(
            f"stop_token_ids must be at most {MOST_ENDS - len(model.ends)} ids in "
            f"0..{model.vocab_size - 1}, got {shown(stop_ids)} (stop_token_ids).",
            "stop_token_ids",
        )
    usual = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **model.defaults}
    # Whole numbers from -1 on: other servers say -1 where all are kept.
    return {
        "least": fields.whole("min_tokens", 0, 0),
        "ends": ends,
        "stop": _stops(fields),
        "temperature": fields.number("temperature", usual["temperature"], 0.0, 100.0),
        "top_k": max(fields.whole("top_k", usual["top_k"], -1), 0),
        "top_p": fields.get(
            "top_p", usual["top_p"], lambda x: is_number(x) and 0 < x <= 1, "a number > 0 and <= 1"
        ),
        "min_p": fields.get(
            "min_p", usual["min_p"], lambda x: is_number(x) and 0 <= x < 1, "a number >= 0 and < 1"
        ),
        "presence": fields.number("presence_penalty", 0.0, -2.0, 2.0),
        "frequency": fields.number("frequency_penalty", 0.0, -2.0, 2.0),
        "logit_bias": _bias(fields, model),
    }


def _stops(fields: _Fields) -> tuple[str, ...]:
    def is_stop(value: Any) -> bool:
        if not isinstance(value, str) or not value or "\ufffd" in value:
            return False
        letters = value.encode("utf-8", errors="surrogatepass")
        return len(letters) <= LONGEST_STOP and not any("\ud800" <= x <= "\udfff" for x in value)

    def fits(value: Any) -> bool:
        texts = value if isinstance(value, list) else [value]
        return len(texts) <= MOST_STOPS and all(map(is_stop, texts))

    allowed = f"a text or up to {MOST_STOPS} texts, each of 1 to {LONGEST_STOP} bytes of UTF-8"
    given = fields.get("stop", [], fits, allowed)
    return tuple(dict.fromkeys([given] if isinstance(given, str) else given))


def _bias(fields: _Fields, model: Model) -> tuple[tuple[int, float], ...]:
    def fits(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and len(value) <= MOST_BIASES
            and all(str(key).isdecimal() and int(key) < model.vocab_size for key in value)
            and all(is_number(bias) and abs(bias) <= LARGEST_BIAS for bias in value.values())
        )

    allowed = f"up to {MOST_BIASES} pairs of an id in 0..{model.vocab_size - 1} and a number"
    given = fields.get("logit_bias", {}, fits, allowed)
    return tuple((int(token), float(bias)) for token, bias in given.items())


def _prompts(fields: _Fields, model: Model) -> tuple[str | tuple[int, ...], ...]:
    def fits(value: Any) -> bool:
        if isinstance(value, str) or is_ids(value):
            return True
        if not isinstance(value, list) or not value:
            return False
        return all(isinstance(each, str) for each in value) or all(map(is_ids, value))

    given = fields.get("prompt", None, fits, "a text, a list of ids, or a list of either")
    if given is None:
        raise BadRequest("prompt is missing (prompt).", "prompt", code="missing")
    many = [given] if isinstance(given, str) or is_ids(given) else given
    for ids in many:
        for token in () if isinstance(ids, str) else ids:
            if not 0 <= token < model.vocab_size:
                raise BadRequest(
                    f"The prompt holds the id {token}, which is outside of the vocabulary "
                    f"0..{model.vocab_size - 1} (prompt).",
                    "prompt",
                )
    return tuple(each if isinstance(each, str) else tuple(each) for each in many)


def _check_continued(continued: int, prompts: Sequence[Any], common: Common) -> None:
    """What has been written is given as ids, and the noise and limits go on after it."""
    for prompt in prompts:
        if isinstance(prompt, str) or continued >= len(prompt):
            raise BadRequest(
                f"continued={continued} counts the last ids of a prompt of more ids; got "
                f"{shown(prompt)} (continued).",
                "continued",
            )
    if common.seed is None or common.others["presence"] or common.others["frequency"]:
        raise BadRequest(
            "What is continued has the seed that it began with, and no penalties, whose counts "
            "are not given (continued, seed, presence_penalty, frequency_penalty).",
            "continued",
        )


def make_ask(
    model: Model,
    common: Common,
    prompt: Sequence[int],
    *,
    seed: int,
    prompt_id: int = 0,
    continued: int = 0,
    scored: bool = False,
) -> Ask:
    """What the worker is asked for one prompt.

    Raises:
        BadRequest: for a row that does not fit into the context.
    """
    context, count = model.limits.context, len(prompt)
    most = context - count if common.max_tokens is None else common.max_tokens
    if count + most > context or most < 0 or (most == 0 and not scored):
        raise BadRequest(
            f"The prompt has {count} tokens, and {max(most, 1)} may be written: at most {context} "
            "fit into the context of this server (max_tokens, --context).",
            "max_tokens" if count < context else "prompt",
            code="context_length_exceeded",
        )
    if common.others["least"] > most:
        raise BadRequest(
            f"min_tokens={common.others['least']} is more than max_tokens={most} (min_tokens).",
            "min_tokens",
        )
    return Ask(
        prompt=tuple(prompt),
        n=common.n if most else 0,
        most=most + continued,
        seed=seed,
        prompt_id=prompt_id,
        continued=continued,
        tops=common.tops,
        scored=scored,
        **common.others | {"least": common.others["least"] + continued},
    )
