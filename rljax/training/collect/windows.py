"""Responses that are written a window at a time, by slots that are never idle (T-PPO).

A slot writes one response. In every step it goes on by at most W tokens; once its response is
complete the slot is free, and takes the next one at the start of the following step:

    step        1        2        3
    slot 0   a a a a  a a .    c c c c      a is complete in step 2; its slot goes on with c
    slot 1   b b b b  b b b b  b b b b

Responses are handed out in the order of the prompt source, each prompt G times in a row. What is
here is bookkeeping in NumPy; all of it is saved with every checkpoint, so that a run that was
interrupted goes on with the same responses.
"""

from typing import NamedTuple

import numpy as np


class Slots(NamedTuple):
    """What S slots are writing, with room for T tokens each. NumPy."""

    prompt: np.ndarray  # [S] i32, id of the problem
    visit: np.ndarray  # [S] i32, times that the problem was handed out before
    sample: np.ndarray  # [S] i32, which of the prompt's G responses
    began: np.ndarray  # [S] i32, step of the first window
    length: np.ndarray  # [S] i32, tokens written so far; 0: the slot is free
    tokens: np.ndarray  # [S, T] i32, 0 where nothing is written
    logprobs: np.ndarray  # [S, T] f32, under the policy that wrote the token
    temperature: np.ndarray  # [S, T] f32, at which it was drawn
    version: np.ndarray  # [S, T] i32, of the weights that drew it
    taken: np.ndarray  # [] i64, responses handed out so far
    latest: np.ndarray  # [2] i32, id and visit of the prompt that was handed out last

    @property
    def written(self) -> np.ndarray:
        """[S, T] bool, True on the tokens written so far."""
        return np.arange(self.tokens.shape[1]) < self.length[:, None]


class Window(NamedTuple):
    """What S slots write in one step, padded on the right. NumPy, [S, W]."""

    tokens: np.ndarray  # i32
    mask: np.ndarray  # bool
    logprobs: np.ndarray  # f32
    temperature: np.ndarray  # f32


def free_slots(slots: int, max_new_tokens: int) -> Slots:
    """S slots of T tokens before the first step."""
    each, room = (slots,), (slots, max_new_tokens)
    return Slots(
        prompt=np.zeros(each, np.int32),
        visit=np.zeros(each, np.int32),
        sample=np.zeros(each, np.int32),
        began=np.zeros(each, np.int32),
        length=np.zeros(each, np.int32),
        tokens=np.zeros(room, np.int32),
        logprobs=np.zeros(room, np.float32),
        temperature=np.zeros(room, np.float32),
        version=np.zeros(room, np.int32),
        taken=np.zeros((), np.int64),
        latest=np.zeros(2, np.int32),
    )


def prompts_needed(slots: Slots, samples_per_prompt: int) -> int:
    """How many new prompts the free slots begin with; the others go on with the latest one."""
    first, free = int(slots.taken), int((slots.length == 0).sum())
    return -(-(first + free) // samples_per_prompt) - -(-first // samples_per_prompt)


def refill(
    slots: Slots, *, step: int, samples_per_prompt: int, ids: np.ndarray, visits: np.ndarray
) -> Slots:
    """Gives the free slots, in order, the next responses.

    Args:
        slots: at the start of a step.
        step: of the stage, from 1.
        samples_per_prompt: G.
        ids: [K] of the problems to begin with, K = `prompts_needed`.
        visits: [K], times that each was handed out before.
    """
    free = slots.length == 0
    response = slots.taken + np.cumsum(free) - 1
    # The latest prompt may have responses left; then come the new ones.
    known = np.concatenate([slots.latest[None], np.stack([ids, visits], axis=1)])
    place = response // samples_per_prompt - (slots.taken - 1) // samples_per_prompt
    chosen = known[np.where(free, place, 0)]

    def given(new: np.ndarray | int, old: np.ndarray) -> np.ndarray:
        return np.where(free, new, old).astype(np.int32)

    return slots._replace(
        prompt=given(chosen[:, 0], slots.prompt),
        visit=given(chosen[:, 1], slots.visit),
        sample=given(response % samples_per_prompt, slots.sample),
        began=given(step, slots.began),
        taken=np.asarray(slots.taken + free.sum(), np.int64),
        latest=known[-1].astype(np.int32),
    )


def extend(slots: Slots, window: Window, version: int = 0) -> tuple[Slots, np.ndarray]:
    """Appends a window to every slot's response.

    Args:
        slots: none of them free of a response.
        window: at least one token for each slot.
        version: of the weights that wrote it.

    Returns:
        The slots with the longer responses, and [S, T] bool, True on the tokens of this window.

    Raises:
        ValueError: for a slot that wrote nothing, or more than it has room for.
    """
    count, room = window.mask.sum(axis=1), slots.tokens.shape[1]
    length = slots.length + count
    wrong = (count < 1) | (length > room)
    if wrong.any():
        slot = int(np.argmax(wrong))
        raise ValueError(
            f"Slot {slot} wrote {count[slot]} tokens after {slots.length[slot]}: at least one, and "
            f"no more than {room} in all, are possible (window)."
        )
    place = np.arange(room) - slots.length[:, None]
    new = (place >= 0) & (place < count[:, None])
    column = np.clip(place, 0, window.mask.shape[1] - 1)

    def joined(name: str) -> np.ndarray:
        written = np.take_along_axis(getattr(window, name), column, axis=1)
        return np.where(new, written, getattr(slots, name))

    longer = slots._replace(
        length=length.astype(np.int32),
        tokens=joined("tokens"),
        logprobs=joined("logprobs"),
        temperature=joined("temperature"),
        version=np.where(new, version, slots.version).astype(np.int32),
    )
    return longer, new


def release(slots: Slots, complete: np.ndarray) -> Slots:
    """Frees the slots whose response is complete.

    Args:
        slots: at the end of a step.
        complete: [S] bool.
    """
    keep = ~complete
    return slots._replace(
        length=slots.length * keep,
        tokens=slots.tokens * keep[:, None],
        logprobs=slots.logprobs * keep[:, None],
        temperature=slots.temperature * keep[:, None],
        version=slots.version * keep[:, None],
    )


def window_metrics(
    slots: Slots, new: np.ndarray, complete: np.ndarray, *, step: int
) -> dict[str, float]:
    """What a step's windows look like.

    Args:
        slots: after `extend`, before `release`.
        new: [S, T] bool, from `extend`.
        complete: [S] bool.
        step: of the stage, from 1.

    Returns:
        `finished_responses`, how many became complete; `partial_share`, of slots that go on;
        `window_age`, windows that the slots' responses have had, this one included, on average;
        `decode_steps`, the most tokens that a slot wrote.
    """
    return {
        "finished_responses": float(complete.sum()),
        "partial_share": float(1.0 - complete.mean()),
        "window_age": float((step - slots.began + 1).mean()),
        "decode_steps": float(new.sum(axis=1).max()),
    }
