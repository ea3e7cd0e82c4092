"""Samples as rows of one prompt each, so that a sample may have a prompt of its own."""

from collections.abc import Callable

import numpy as np

from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts
from rljax.training.collect.rollouts import Samples, map_scores


def single_rows(samples: Samples, slots: int) -> Samples:
    """[B, G] samples as N = B * G prompts of one sample, in the same order.

    Args:
        samples: of B prompts.
        slots: room for a prompt's tokens, at least as much as there is; filled on the left.
    """
    group, fill = samples.samples_per_prompt, slots - samples.prompts.shape[1]

    def padded(x: np.ndarray) -> np.ndarray:
        return np.pad(x.repeat(group, axis=0), ((0, 0), (fill, 0)))

    return samples._replace(
        records=samples.repeated(samples.records),
        prompt_texts=samples.repeated(samples.prompt_texts),
        prompts=padded(samples.prompts),
        prompt_mask=padded(samples.prompt_mask),
        rollouts=_rollouts(_flat, samples.rollouts)._replace(
            slot_steps=samples.rollouts.slot_steps.repeat(group)
        ),
        versions=_flat(samples.versions),
    )


def replaced_rows(rows: Samples, place: np.ndarray, others: Samples, number: np.ndarray) -> Samples:
    """The rows with some of them replaced, prompts and all; they are changed in copies.

    Args:
        rows: N prompts of one sample.
        place: [R] i64, the rows that go.
        others: prompts of one sample, of the same room.
        number: [R] i64, those of them that come.
    """
    put = _put(place, number)
    texts = list(rows.texts)
    for into, of in zip(place, number, strict=True):
        texts[into] = others.texts[of]
    return rows._replace(
        prompts=put(rows.prompts, others.prompts),
        prompt_mask=put(rows.prompt_mask, others.prompt_mask),
        rollouts=_rollouts(put, rows.rollouts, others.rollouts),
        versions=put(rows.versions, others.versions),
        texts=texts,
    )


def replaced_scores(
    scores: Scores, place: np.ndarray, others: Scores, number: np.ndarray
) -> Scores:
    """Scores with those of the same rows replaced; arguments as of `replaced_rows`."""

    return map_scores(_put(place, number), scores, others)


def _put(place: np.ndarray, number: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def put(into: np.ndarray, of: np.ndarray) -> np.ndarray:
        changed = into.copy()
        changed[place] = of[number]
        return changed

    return put


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, 1, *x.shape[2:])


def _rollouts(make: Callable[..., np.ndarray], *parts: Rollouts) -> Rollouts:
    """Rollouts whose arrays of samples are made of those of others."""
    fields = {
        name: make(*(getattr(part, name) for part in parts))
        for name, value in parts[0]._asdict().items()
        if value is not None and name != "slot_steps"
    }
    return parts[0]._replace(**fields)
