"""An environment with tools: the model calls them turn by turn, and then answers.

A reply without a call ends the episode. The rewards of `config.scoring.rewards` read that reply;
the environment itself gives what `call_reward` and `error_reward` say, by default nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rljax.environments.call_formats import CALL_FORMATS, CallError
from rljax.environments.environment import FIELD, Start, Turn, as_messages
from rljax.environments.tools import Tool, run_call, schema_of, tool_table
from rljax.errors import unknown_name

# What a record may call its prompt, the first that is there.
PROMPT_COLUMNS = ("prompt", "question", "problem", "messages")


class ToolUse:
    """Tools in one of the formats of call_formats.py."""

    def __init__(
        self,
        tools: Iterable[Tool],
        *,
        call_format: str = "hermes",
        role: str = "tool",
        call_reward: float = 0.0,
        error_reward: float = 0.0,
    ) -> None:
        """Makes the schemas.

        Args:
            tools: typed functions (tools.py).
            call_format: how the model writes calls.
            role: of the messages that hold the tools' answers.
            call_reward: of each call that a tool answered.
            error_reward: of each call that failed, or could not be read.

        Raises:
            ValueError: for a tool that makes no schema, or an unknown format.
        """
        if call_format not in CALL_FORMATS:
            raise unknown_name("call format", call_format, CALL_FORMATS, f"{FIELD}.options")
        self.tools, self.parse, self.role = tool_table(tools), CALL_FORMATS[call_format], role
        self.call_reward, self.error_reward = call_reward, error_reward

    def reset(self, record: Mapping[str, Any]) -> Start:
        """The record's prompt, and all tools.

        Raises:
            ValueError: for a record without a prompt.
        """
        found = [record[name] for name in PROMPT_COLUMNS if record.get(name) is not None]
        if not found:
            raise ValueError(f"a record needs one of the columns {', '.join(PROMPT_COLUMNS)}")
        schemas = [schema_of(tool) for tool in self.tools.values()]
        return Start(as_messages(found[0]), {}, schemas)

    def step(self, state: dict[str, Any], reply: str) -> Turn:
        """The tools' answers to the calls of a reply; without a call the episode is over."""
        try:
            calls = self.parse(reply)
        except CallError as error:
            return Turn([self._message(f"Error: {error}.")], self.error_reward)
        if not calls:
            return Turn(None, 0.0, True)
        answers = [run_call(self.tools, call) for call in calls]
        reward = sum(self.error_reward if each.failed else self.call_reward for each in answers)
        return Turn([self._message(answer.text) for answer in answers], float(reward))

    def _message(self, text: str) -> dict[str, Any]:
        return {"role": self.role, "content": text}
