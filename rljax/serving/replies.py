"""Answers as OpenAI's clients read them, with ids and the version of the weights besides.

`logprob` in the usual places is that of the raw model, as other servers have it. The
log-probability under the distribution that a token was really drawn from is in `sampled_logprobs`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rljax.data.tokenizers import Tokenizer
from rljax.sampling.request import StopReason
from rljax.sampling.texts import Texts
from rljax.serving.asked import Sample, TokenScores
from rljax.serving.protocol import BadRequest

FINISH = {
    StopReason.STOP_TOKEN: "stop",
    StopReason.STOP_STRING: "stop",
    StopReason.LENGTH: "length",
}


class Spelling:
    """How tokens are shown."""

    def __init__(self, tokenizer: Tokenizer, texts: Texts) -> None:
        self.tokenizer, self.texts = tokenizer, texts

    def text(self, sample: Sample, stop: Sequence[str]) -> str:
        """The text of a sample that has ended, without what ended it."""
        return self.texts.of(sample.tokens, sample.reason, stop)[0]

    def token(self, token: int) -> str:
        """One id as a text: what it adds to a text, or its name where it adds nothing.

        Bytes that are no whole letters are written out, as OpenAI does, so that different ids
        differ.
        """
        spelt = self.texts.spelling[token]
        if not spelt:
            return self.tokenizer.token_text(token)
        try:
            return spelt.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelt)

    def completion_logprobs(
        self,
        tokens: Sequence[int],
        scores: TokenScores,
        tops: int,
        *,
        first: int = 0,
        before: Sequence[int] = (),
    ) -> dict[str, Any]:
        """`logprobs` of a choice of /v1/completions.

        Args:
            tokens: ids.
            scores: of each.
            tops: alternatives of each.
            first: tokens at the beginning that have none before them, and so no numbers.
            before: ids of the choice's text that earlier lines of a stream had.
        """
        letters = [_letters(self.texts.spelling[token]) for token in tokens]
        start = sum(_letters(self.texts.spelling[token]) for token in before)
        shown: list[Any] = [
            {self.token(token): logprob for token, logprob in each[:tops]} for each in scores.tops
        ]
        # The token itself is always among its alternatives, as OpenAI has it.
        for place, token in enumerate(tokens):
            if tops:
                shown[place].setdefault(self.token(token), scores.logprobs[place])
        return {
            "tokens": [self.token(token) for token in tokens],
            "token_logprobs": [None] * first + scores.logprobs[first:],
            "top_logprobs": [None] * first + shown[first:] if tops else None,
            "text_offset": list(itertools.accumulate(letters[:-1], initial=start)),
        }

    def chat_logprobs(
        self, tokens: Sequence[int], scores: TokenScores, tops: int
    ) -> dict[str, Any]:
        """`logprobs` of a choice of /v1/chat/completions."""
        content = []
        for place, (token, logprob) in enumerate(zip(tokens, scores.logprobs, strict=True)):
            alternatives = scores.tops[place][:tops] if tops else []
            content.append(
                self._chat_token(token, logprob)
                | {"top_logprobs": [self._chat_token(*each) for each in alternatives]}
            )
        return {"content": content, "refusal": None}

    def _chat_token(self, token: int, logprob: float) -> dict[str, Any]:
        spelt = list(self.texts.spelling[token])
        return {"token": self.token(token), "logprob": logprob, "bytes": spelt}


def _letters(spelt: bytes) -> int:
    """Letters that begin in these bytes."""
    return sum(byte & 0xC0 != 0x80 for byte in spelt)


def scores_of(sample: Sample, start: int, stop: int) -> TokenScores:
    """The scores of the tokens start .. stop - 1 of a sample, under the raw model."""
    return TokenScores(sample.model.logprobs[start:stop], sample.model.tops[start:stop])


def ids_of(sample: Sample, prompt: Sequence[int] | None, start: int, stop: int) -> dict[str, Any]:
    """What a choice has for training; the prompt's ids where they are given."""
    of_prompt = {} if prompt is None else {"prompt_token_ids": list(prompt)}
    return of_prompt | {
        "token_ids": sample.tokens[start:stop],
        "sampled_logprobs": sample.logprobs[start:stop],
        "model_logprobs": sample.model.logprobs[start:stop],
        "weights_version": sample.version,
    }


def stop_fields(reason: StopReason | None, *, calls: bool = False) -> dict[str, Any]:
    """Why a choice ended, in OpenAI's words and in ours; null while it goes on."""
    if reason is None:
        return {"finish_reason": None}
    finish = "tool_calls" if calls else FINISH[reason]
    return {"finish_reason": finish, "stop_reason": reason.name.lower()}


def usage(prompts: int, written: int) -> dict[str, int]:
    """Tokens of a request."""
    return {
        "prompt_tokens": prompts,
        "completion_tokens": written,
        "total_tokens": prompts + written,
    }


def error_body(error: Exception, status: int) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kinds = {401: "authentication_error", 404: "not_found_error", 409: "conflict_error"}
    kinds |= {429: "rate_limit_error", 503: "overloaded_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    param = error.param if isinstance(error, BadRequest) else None
    code = error.code if isinstance(error, BadRequest) else None
    return {"error": {"message": str(error), "type": kind, "param": param, "code": code}}


def envelope(kind: str, request_id: str, created: int, model: str) -> Mapping[str, Any]:
    """What every answer and every line of a stream begins with."""
    return {"id": request_id, "object": kind, "created": created, "model": model}
