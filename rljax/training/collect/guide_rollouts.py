"""Samples that two policies write: one begins them, the other goes on (RLGF, arXiv:2306.11816).

    roll-in policy ─► whole samples ─► h tokens of them ─► roll-out policy goes on

A sample without a prefix is of the roll-out policy alone. Each of the two has noise of its own, by
address: what the policy writes without a prefix is what it would have written without a guide.
"""

import time
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from rljax.config.guide import guide_plan
from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.rewards.pool import Scores
from rljax.sampling.engine import Engine
from rljax.sampling.keys import Purpose, purpose_key, row_keys
from rljax.sampling.request import Requests, Rollouts
from rljax.training.collect.continuations import Prefixes, sample_continuations, with_prefixes
from rljax.training.collect.experience import Annotations, Policy
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rollouts import (
    NO_VERSION,
    Samples,
    distinct_ids,
    noise_addresses,
    sample_texts,
)
from rljax.training.collect.sampled import Drawn
from rljax.training.run.context import Context

# The call of a step whose noise each policy has.
OF_POLICY, OF_GUIDE = 0, 1


class Writer(NamedTuple):
    """One of the two policies, with its samplers: of whole samples, and of single ones."""

    context: Context  # its network
    engine: Engine
    single: Engine
    call: int  # of its noise
    version: int  # of its tokens
    weights: Params


class GuideRollouts:
    """Rollouts of a policy and its guide."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        engines: tuple[Engine, Engine],
        guide_engines: tuple[Engine, Engine],
        *,
        key: Array,
        first_step: int,
    ) -> None:
        """Binds the samplers; nothing runs.

        Args:
            context: of the stage, its guide read.
            stage: with a guide policy.
            engines: of the policy: with the samples of a prompt, and with one.
            guide_engines: of the guide, likewise.
            key: of the stream that the noise of tokens is from.
            first_step: steps of the run before the stage.
        """
        self.context, self.stage, self.plan = context, stage, guide_plan(stage)
        self.sampler, self.single = engines
        guide = context.models["guide"]
        self.guide_params = guide.arrays(context.mesh)
        self.guide = Writer(
            context.with_network(guide.network), *guide_engines, OF_GUIDE, NO_VERSION, {}
        )
        self.key, self.first_step = key, first_step
        self.prefix_key = purpose_key(context.config.seed, Purpose.PREFIXES)
        self.tokens = 0  # that the last call of `sample` drew, kept or not

    def rolls_in(self, step: int) -> bool:
        """Whether the guide begins the samples of a step (from 1); else it ends them."""
        seed = [int(Purpose.PREFIXES), self.context.config.seed, self.first_step + step]
        return self.plan.rolls_in(step, np.random.default_rng(seed).random())

    def sample(
        self, weights: Params, policy: Policy, prompts: Prompts, *, step: int, call: int = 0
    ) -> Samples:
        """Answers B prompts; the guide's tokens have the version `NO_VERSION`.

        Args:
            weights: the sampler's copy of the policy.
            policy: its version is stamped on its own tokens.
            prompts: B problems.
            step: of the stage, from 1.
            call: 0, the only one of a step.
        """
        started = time.perf_counter()
        records = prompts.records
        own = Writer(self.context, self.sampler, self.single, OF_POLICY, policy.version, weights)
        guide, self.tokens = self._loaded_guide(), 0
        first, last = (guide, own) if self.rolls_in(step) else (own, guide)
        drawn = self._drawn(records, step)
        wanted = drawn[..., 0] < self.plan.share
        begun = self._whole(first, records, wanted, step)
        lengths = np.zeros(wanted.shape, np.int32)
        if begun is not None:
            lengths = prefix_lengths(drawn, begun.rollouts.mask.sum(axis=-1), self.plan.share)
        samples = self._whole(last, records, lengths == 0, step)
        if lengths.any():
            found = self._continued(last, begun, lengths, step)
            samples = joined(samples or begun, begun, found, lengths, last.version)
        samples = samples._replace(texts=self._texts(samples))
        return samples._replace(seconds=time.perf_counter() - started)

    def annotate(self, drawn: Drawn) -> Annotations:
        """`guide_tokens` [N, T] and `guide_values` [N] bool, as the learner reads them; metrics.

        `guide_free_accuracy` is that of the samples which are the policy's alone.
        """
        versions, mask = drawn.samples.versions, drawn.samples.rollouts.mask
        guide = (versions == NO_VERSION) & mask
        rows = mask.reshape(-1, mask.shape[-1])
        tokens = guide.reshape(rows.shape)
        out = not self.rolls_in(drawn.step)
        metrics = {
            "guide_rolls_in": float(not out),
            "guide_token_share": float(guide.sum() / max(mask.sum(), 1)),
            "prefix_share": float((tokens.any(axis=1) & (rows & ~tokens).any(axis=1)).mean()),
            "sampled_tokens": float(self.tokens),
        }
        metrics |= _free_of_guide(drawn.scores, ~tokens.any(axis=1))
        values = np.full(len(rows), out)
        return Annotations({"guide_tokens": tokens, "guide_values": values}, metrics, {})

    def _loaded_guide(self) -> Writer:
        if not self.guide.weights:
            self.guide = self.guide._replace(weights=self.guide.engine.load(self.guide_params))
        return self.guide

    def _drawn(self, records: list, step: int) -> np.ndarray:
        """[B, G, 2] f32 in [0, 1), by the address of each sample."""
        ids = np.array(self._ids(records), np.int32)
        samples = self.stage.batch.samples_per_prompt
        keys = row_keys(self.prefix_key, self.first_step + step, ids, samples)
        drawn = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
        return np.asarray(drawn).reshape(len(records), samples, 2)

    def _ids(self, records: list) -> list[int]:
        return distinct_ids([record["id"] for record in records], len(self.context.train_problems))

    def _whole(
        self, writer: Writer, records: list, wanted: np.ndarray, step: int
    ) -> Samples | None:
        """Samples of one policy alone; those that are not wanted end after a token.

        None where none is wanted.
        """
        if not wanted.any():
            return None
        limits = np.where(wanted, self.stage.max_new_tokens, 1).astype(np.int32)
        samples = sample_texts(
            writer.context,
            writer.engine,
            writer.weights,
            records,
            key=self.key,
            step=self.first_step + step,
            version=writer.version,
            call=writer.call,
            max_new_tokens=None if wanted.all() else limits,
        )
        self.tokens += int(samples.rollouts.mask.sum())
        return samples

    def _continued(
        self, writer: Writer, begun: Samples, lengths: np.ndarray, step: int
    ) -> Rollouts:
        """What a policy writes behind the prefixes: [S, 1, T], S of them in the order of rows."""
        group, slots = begun.rollouts.mask.shape[1:]
        rows = np.flatnonzero(lengths).astype(np.int32)
        prompt, length = rows // group, lengths.reshape(-1)[rows]
        prefixes = Prefixes(prompt, rows, length)
        tokens = begun.flat("tokens")
        noise = noise_addresses(self.context, begun.records, call=writer.call)
        requests = Requests(
            *with_prefixes(begun.prompts, begun.prompt_mask, tokens, prefixes),
            prompt_ids=noise[prompt],
            sample_ids=(rows % group)[:, None],
            continued=length,
            max_new_tokens=np.full((len(rows), 1), slots, np.int32),
        )
        calls = sample_continuations(
            writer.single,
            writer.weights,
            requests,
            rows=lengths.size,
            key=self.key,
            step=self.first_step + step,
        )
        ((order, rollouts),) = calls  # one, with room for all
        self.tokens += int(rollouts.mask.sum())
        return jax.tree.map(lambda x: x[np.argsort(order)], rollouts)

    def _texts(self, samples: Samples) -> list[str]:
        tokens, mask = samples.flat("tokens"), samples.flat("mask")
        rows = zip(tokens, mask, strict=True)
        return [self.context.text_format.text(row[kept]) for row, kept in rows]


def prefix_lengths(drawn: np.ndarray, lengths: np.ndarray, share: float) -> np.ndarray:
    """How many tokens of each sample of the roll-in policy are kept, [...] i32; 0: no prefix.

        h is uniform in 1 .. length - 1, with probability `share`

    So a prefix never holds the last token, which may be the end. A sample of one token has no
    prefix, and neither has one that was not written.

    Args:
        drawn: [..., 2] f32 in [0, 1): whether there is a prefix, and how long it is.
        lengths: [...] i32, tokens of the roll-in policy's samples.
        share: of the samples that have a prefix.
    """
    begun = (drawn[..., 0] < share) & (lengths >= 2)
    room = np.maximum(lengths - 1, 1)
    chosen = 1 + np.minimum((drawn[..., 1] * room).astype(np.int32), room - 1)
    return np.where(begun, chosen, 0).astype(np.int32)


def joined(
    samples: Samples, begun: Samples, found: Rollouts, lengths: np.ndarray, version: int
) -> Samples:
    """Samples of which some are a prefix with what was written behind it; texts are stale.

    Args:
        samples: [B, G, T], of the others.
        begun: the whole samples that prefixes are of.
        found: [S, 1, T], what is behind each prefix, in the order of rows.
        lengths: [B, G] i32, of prefixes; 0: the sample has none.
        version: of the tokens behind the prefixes.
    """
    rows = np.flatnonzero(lengths)
    own = lengths.reshape(-1)[rows]
    place = np.arange(begun.versions.shape[-1]) - own[:, None]  # behind the prefix from 0

    def put(whole: np.ndarray, prefix: np.ndarray, behind: np.ndarray) -> np.ndarray:
        flat = np.array(whole).reshape(-1, *whole.shape[2:])
        beginning = prefix.reshape(flat.shape)[rows]
        if flat.ndim == 1:  # a number of a sample is what its end says
            flat[rows] = behind[:, 0]
            return flat.reshape(whole.shape)
        shifted = behind[np.arange(len(rows))[:, None], 0, np.maximum(place, 0)]
        inside = (place < 0).reshape(*place.shape, *[1] * (flat.ndim - 2))
        flat[rows] = np.where(inside, beginning, shifted)
        return flat.reshape(whole.shape)

    fields = {
        name: put(value, getattr(begun.rollouts, name), getattr(found, name))
        for name, value in samples.rollouts._asdict().items()
        if value is not None and name != "slot_steps"
    }
    slot_steps = samples.rollouts.slot_steps + int(found.slot_steps.max())
    written = np.full(found.mask.shape, version, np.int32)
    return samples._replace(
        rollouts=samples.rollouts._replace(**fields, slot_steps=slot_steps),
        versions=put(samples.versions, begun.versions, written),
    )


def _free_of_guide(scores: Scores, alone: np.ndarray) -> dict[str, float]:
    """The accuracy of the samples that no guide had a part in, where there are some."""
    judged = alone & scores.judged & ~scores.left_out
    return {"guide_free_accuracy": float(scores.correct[judged].mean())} if judged.any() else {}
