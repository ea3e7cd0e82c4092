"""Verdict on Countdown: an expression parser with static shapes and exact fractions.

Whether the symbols form an expression is a matter of neighbours and of the depth of parentheses,
all places at once. Its value is found in one pass from left to right: inside each parenthesis a sum
so far and a product so far, and a stack of those outside.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.tasks.symbols.alphabet import IDS, ZERO_ID
from rljax.tasks.symbols.task import Verdict
from rljax.verifiers.text import NOTHING, is_digit, read_content, shifted

PLUS, MINUS, TIMES, DIVIDED, OPEN, CLOSE = (IDS[symbol] for symbol in "+-*/()")
_SYMBOLS = (PLUS, MINUS, TIMES, DIVIDED, OPEN, CLOSE)


class Frame(NamedTuple):
    """What is known inside one parenthesis: sum + sign * product, and how the next number enters.

    Fractions are top / bottom in int32, never reduced. Every entry is [] i32.
    """

    sum_top: Array
    sum_bottom: Array
    sign: Array  # of the product, 1 or -1
    top: Array  # of the product
    bottom: Array
    divides: Array  # 1 if the next number divides the product, else 0


def verify(facts: Mapping[str, Array], tokens: Array, mask: Array) -> Verdict:
    """Reward 1 if every number is used exactly once and the exact value is the target.

    Exact for numbers up to 99 and K <= 4: the top and bottom of a value from K numbers stay within
    2**(K-1) * 99**K < 2**31. Other numbers in the text may overflow, but they make it wrong before
    its value is asked for.

    Args:
        facts: of one problem, numbers [K], target [], allowed [6] and partial []
            (tasks/symbols/countdown.py).
        tokens: [T] i32, one completion.
        mask: [T] bool, True on sampled tokens, the eos included.

    Returns:
        The verdict, with the check "well_used".
    """
    content = read_content(tokens, mask)
    text, numbers = content.tokens, facts["numbers"]
    values, number_ends = read_numbers(text)
    right_numbers = uses_exactly(values, number_ends, numbers)
    symbols = jnp.asarray(_SYMBOLS)
    forbidden = (text[:, None] == symbols) & ~facts["allowed"].astype(bool)
    well_used = content.finished & is_expression(text) & right_numbers & ~jnp.any(forbidden)
    # K numbers and K - 1 operators leave room for so many pairs of parentheses.
    depth = max((tokens.shape[0] - 2 * numbers.shape[0]) // 2, 1)
    top, bottom, divided_by_zero = evaluate(text, values, number_ends, depth)
    # Not target * bottom == top: that product could overflow.
    safe = jnp.where(bottom == 0, 1, bottom)
    whole = (top % safe == 0) & (top // safe == facts["target"]) & (bottom != 0)
    correct = well_used & whole & ~divided_by_zero
    reward = jnp.where(correct, 1.0, jnp.where(well_used, facts["partial"], 0.0))
    return Verdict(reward.astype(jnp.float32), correct, {"well_used": well_used})


def read_numbers(text: Array) -> tuple[Array, Array]:
    """[T] i32 values of the numbers of one or two digits, and [T] bool, where a number ends."""
    digit = is_digit(text)
    own = jnp.where(digit, text - ZERO_ID, 0)
    ends = digit & ~shifted(digit, -1, False)
    return own + 10 * shifted(own, 1, 0), ends


def uses_exactly(values: Array, ends: Array, numbers: Array) -> Array:
    """[] bool, True if the numbers of the text are `numbers` [K] in any order."""
    in_text = jnp.sum(ends[:, None] & (values[:, None] == numbers), axis=0)
    given = jnp.sum(numbers[:, None] == numbers, axis=0)
    return jnp.all(in_text == given) & (jnp.sum(ends) == numbers.shape[0])


def is_expression(text: Array) -> Array:
    """[] bool, True if the symbols [T] before the first NOTHING are an infix expression.

    Numbers have one or two digits and no leading zero; every operator has two sides.
    """
    here = text != NOTHING
    digit, opening, closing = is_digit(text), text == OPEN, text == CLOSE
    operator = (text == PLUS) | (text == MINUS) | (text == TIMES) | (text == DIVIDED)
    before_digit, before_closing = shifted(digit, 1, False), shifted(closing, 1, False)
    after_digit, after_opening = shifted(digit, -1, False), shifted(opening, -1, False)
    after_value = before_digit | before_closing  # something stands to the left
    before_value = after_digit | after_opening  # something begins to the right
    too_long = before_digit & shifted(digit, 2, False)
    leading_zero = ~before_digit & after_digit & (text == ZERO_ID)
    fits = (
        (digit & ~before_closing & ~after_opening & ~too_long & ~leading_zero)
        | (operator & after_value & before_value)
        | (opening & ~after_value & before_value)
        | (closing & after_value & ~before_value)
    )
    depth = jnp.cumsum(opening.astype(jnp.int32) - closing.astype(jnp.int32))
    balanced = jnp.all(depth >= 0) & (depth[-1] == 0)
    return jnp.all(fits | ~here) & balanced & here[0]


def evaluate(
    text: Array, values: Array, number_ends: Array, depth: int
) -> tuple[Array, Array, Array]:
    """Value of an expression with at most `depth` open parentheses at a time.

    Args:
        text: [T] i32, of which `is_expression` is True; the value of another is meaningless.
        values: [T] i32, of the numbers.
        number_ends: [T] bool, where a number is complete.
        depth: size of the stack.

    Returns:
        top [], bottom [] and [] bool, True if something was divided by zero.
    """
    zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
    empty = Frame(zero, one, one, one, one, zero)
    levels = jnp.arange(depth)

    def step(carry, place):
        frame, stack, level, by_zero = carry
        symbol, value, is_number = place
        opening, closing = symbol == OPEN, symbol == CLOSE
        adds = (symbol == PLUS) | (symbol == MINUS)
        multiplies = (symbol == TIMES) | (symbol == DIVIDED)
        sum_top, sum_bottom = _folded(frame)

        stack = jax.tree.map(
            lambda column, entry: jnp.where((levels == level) & opening, entry, column),
            stack,
            frame,
        )
        outer = jax.tree.map(
            lambda column: jnp.sum(jnp.where(levels == level - 1, column, 0)), stack
        )
        # A number, or a parenthesis that closes, enters the product of its surroundings.
        base = jax.tree.map(lambda a, b: jnp.where(closing, a, b), outer, frame)
        top, bottom = jnp.where(closing, sum_top, value), jnp.where(closing, sum_bottom, 1)
        by_zero |= (is_number | closing) & (base.divides == 1) & (top == 0)
        up, down = (
            jnp.where(base.divides == 1, bottom, top),
            jnp.where(base.divides == 1, top, bottom),
        )
        entered = base._replace(top=base.top * up, bottom=base.bottom * down)

        added = empty._replace(
            sum_top=sum_top, sum_bottom=sum_bottom, sign=jnp.where(symbol == PLUS, 1, -1)
        )
        multiplied = frame._replace(divides=(symbol == DIVIDED).astype(jnp.int32))
        for chosen, candidate in (
            (is_number | closing, entered),
            (adds, added),
            (multiplies, multiplied),
            (opening, empty),
        ):
            frame = jax.tree.map(
                lambda new, old, chosen=chosen: jnp.where(chosen, new, old), candidate, frame
            )
        level = level + opening.astype(jnp.int32) - closing.astype(jnp.int32)
        return (frame, stack, level, by_zero), None

    stack = jax.tree.map(lambda entry: jnp.broadcast_to(entry, (depth,)), empty)
    start = (empty, stack, zero, jnp.zeros((), bool))
    (frame, _, _, by_zero), _ = jax.lax.scan(step, start, (text, values, number_ends))
    return *_folded(frame), by_zero


def _folded(frame: Frame) -> tuple[Array, Array]:
    """sum + sign * product as top and bottom."""
    top = frame.sum_top * frame.bottom + frame.sign * frame.top * frame.sum_bottom
    return top, frame.sum_bottom * frame.bottom
