"""The fields of a judge as options of the rewards that ask one."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from rljax.rewards.judges.client import Judge


def with_judge(**defaults: Any) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """A decorator: a reward gets the fields of `Judge` as options in place of its option `judge`.

    Args:
        defaults: of fields whose default is another one than that of `Judge`.
    """
    fields = {
        name: field.replace(
            kind=inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name, field.default)
        )
        for name, field in inspect.signature(Judge).parameters.items()
    }

    def changed(reward: Callable[..., float]) -> Callable[..., float]:
        signature = inspect.signature(reward)
        own = [each for name, each in signature.parameters.items() if name != "judge"]

        @functools.wraps(reward)
        def asked(*sample: Any, **options: Any) -> float:
            given = {name: options.pop(name) for name in fields if name in options}
            return reward(*sample, judge=Judge(**(defaults | given)), **options)

        asked.__signature__ = signature.replace(parameters=[*own, *fields.values()])
        return asked

    return changed
