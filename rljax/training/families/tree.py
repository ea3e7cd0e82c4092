"""Policy gradients on samples that branch as a tree: SPO-tree (arXiv:2505.23564, section 4.3)."""

import time

import numpy as np

from rljax.config.stage import Stage
from rljax.data.sources import records_for_step
from rljax.models.network import Params
from rljax.rewards.pool import Scores
from rljax.training.collect.rollouts import Samples, rollout_metrics, sample_texts, take_scores
from rljax.training.collect.rounds import Sampled
from rljax.training.collect.tree_samples import TreeSampler, TreeShape, tree_edges
from rljax.training.families import Experience
from rljax.training.families.policy_gradient import Further, PolicyGradient
from rljax.training.run.context import Context
from rljax.training.update.rows import Rows
from rljax.training.update.state import TrainState


class TreeRollouts(PolicyGradient):
    """A prompt's samples are the leaves of a tree; what is compared are its edges.

    Each edge is trained on once, in the first leaf below it, with all that comes before it as
    context. Edges without an advantage are left out. The paper trains on at most 32 edges of a
    question in an iteration and keeps the others for up to 8 more; here all edges of a step are
    trained on in the step, and none is kept for later.
    """

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        super().__init__(context, stage, reference, first_step)
        values = self.objective.values
        self.shape = TreeShape(
            tuple(values["branching"]), values["segment_tokens"], stage.max_new_tokens
        )
        self.engine = TreeSampler(
            self.shape,
            [
                context.make_engine(
                    samples_per_prompt=level.branches,
                    max_new_tokens=level.room,
                    token_filter=stage.token_filter,
                    stop_strings=stage.stop_strings,
                )
                for level in self.shape.levels
            ],
        )

    def _sampled(self, weights: Params, state: TrainState, step: int) -> Sampled:
        """The trees of a step."""
        records = records_for_step(self.prompts, step - 1, self.stage.batch.prompts_per_step)
        samples = sample_texts(
            *(self.context, self.engine, weights, records),
            key=self.key,
            step=self.first_step + step,
        )
        scores, seconds = score_leaves(self.context, samples)
        return Sampled(samples, scores, 1, 0, seconds, int(scores.failed.sum()))

    def further_arrays(
        self, weights: Params, samples: Samples, scores: Scores, arrays: Rows, step: int
    ) -> Further:
        """The edges that are trained on; a segment's values count from the node that it leaves."""
        values, mask = self.objective.values, samples.rollouts.mask
        leaf_scores, unfinished = scores.total, values["unfinished_score"]
        if unfinished is not None:
            leaf_scores = np.where(arrays["finished"], leaf_scores, unfinished)
        leaf_scores = leaf_scores.reshape(mask.shape[:2])
        found = tree_edges(
            *(self.shape, mask, leaf_scores),
            edge_style=values["edge_style"],
            edge_epsilon=values["edge_epsilon"],
        )
        leaves = mask.any(axis=-1)
        highest = np.where(leaves, leaf_scores, -np.inf).max(axis=1)
        lowest = np.where(leaves, leaf_scores, np.inf).min(axis=1)
        metrics = {
            "tree_leaves": float(leaves.sum(axis=1).mean()),
            "tree_edges": float(found.edges) / len(mask),
            "trained_edge_share": found.trained / found.edges,
            "groups_without_signal": float((highest == lowest).mean()),
        }
        edges = {
            "mask": found.mask,
            "start_values": np.zeros_like(found.advantages),
            "end_values": found.advantages,
        }
        return Further(edges, metrics, {})

    def _metrics(self, sampled: Sampled) -> dict[str, float]:
        """Of the leaves alone."""
        leaves = np.flatnonzero(sampled.samples.flat("mask").any(axis=1))
        one = {name: sampled.samples.flat(name)[leaves, None] for name in ("mask", "stop_reason")}
        samples = sampled.samples._replace(rollouts=sampled.samples.rollouts._replace(**one))
        return rollout_metrics(samples, take_scores(sampled.scores, leaves))

    def record(self, step: int, experience: Experience) -> dict | None:
        """The leaves; an edge's advantage stands in the first of them."""
        record = super().record(step, experience)
        for prompt in record["prompts"]:
            prompt["samples"] = [sample for sample in prompt["samples"] if sample["tokens"]]
        return record


def score_leaves(context: Context, samples: Samples) -> tuple[Scores, float]:
    """Scores of all rows [N], and the seconds it took; empty rows are not scored and get 0."""
    started = time.perf_counter()
    lengths = samples.flat("mask").sum(axis=1)
    leaves = np.flatnonzero(lengths)
    prompts = leaves // samples.samples_per_prompt
    references = context.references(samples.records)
    found = context.scorer.score(
        [samples.prompt_texts[prompt] for prompt in prompts],
        [samples.texts[leaf] for leaf in leaves],
        [references[prompt] for prompt in prompts],
        lengths[leaves].tolist(),
    )

    def of_rows(values: np.ndarray) -> np.ndarray:
        whole = np.zeros(len(lengths), values.dtype)
        whole[leaves] = values
        return whole

    parts = {name: of_rows(values) for name, values in found.parts.items()}
    scores = Scores(of_rows(found.total), parts, of_rows(found.failed), found.first_error)
    return scores, time.perf_counter() - started
