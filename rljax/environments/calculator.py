"""A calculator as a tool."""

from rljax.environments.tool_use import ToolUse
from rljax.rewards.arithmetic import evaluate


def calculate(expression: str) -> str:
    """Computes an arithmetic expression.

    Args:
        expression: numbers, + - * / // **, parentheses.
    """
    return str(evaluate(expression))


def calculator(
    *, call_format: str = "hermes", call_reward: float = 0.0, error_reward: float = 0.0
) -> ToolUse:
    """An environment with the tool `calculate`; options as for `ToolUse`."""
    words = {"call_reward": call_reward, "error_reward": error_reward}
    return ToolUse([calculate], call_format=call_format, **words)
