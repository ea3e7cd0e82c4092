"""Supervised stages: packed rows of demonstrations."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.balance import balanced
from rljax.data.canvas import filled
from rljax.data.packing import Example, PackedEpochs
from rljax.data.rows import column_of, example_of, joined
from rljax.data.sources import Part, ProblemSource, open_source, place_of
from rljax.data.step_examples import STEP_RULES, example_of_steps, ranked_answers
from rljax.environments.problems import DEMONSTRATION
from rljax.errors import typed
from rljax.models.network import Params
from rljax.objectives.metrics import masked
from rljax.objectives.supervised import anchor_loss
from rljax.remarks import say_once
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.demonstrations import PackedDemonstrations, packed_batch
from rljax.training.collect.experience import Experience
from rljax.training.collect.hinted import check_hints
from rljax.training.collect.kept_samples import KeptSamples
from rljax.training.collect.sources import stage_engine
from rljax.training.collect.stage_rows import checked_examples
from rljax.training.collect.tool_marks import Marks, marks_of, packed_marks
from rljax.training.families import Family, StepBatches
from rljax.training.families.bound_evaluation import BoundEvaluator
from rljax.training.run.context import Context
from rljax.training.run.problems import Record, checked_count, checks_whole
from rljax.training.update.balancing import balance_loss
from rljax.training.update.beside import split_beside
from rljax.training.update.likelihood import draws, likelihood_of, likelihood_rows
from rljax.training.update.rows import Rows
from rljax.training.update.sequences import END_SHARE, end_learned_share
from rljax.training.update.state import TrainState
from rljax.training.update.token_divergence import (
    DIVERGENCE,
    FrozenModel,
    compared_statistics,
    make_compare,
)
from rljax.training.update.token_statistics import TokenStatistics
from rljax.training.update.train_step import Batch, Metrics


class Supervised(Family):
    """Learns demonstrations; the rows of a step are a pure function of (seed, step)."""

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        self.context, self.stage = context, stage
        self.network = context.network
        self.tokenizer = context.tokenizer
        self.batch = stage.batch
        self.row_tokens = stage.data["row_tokens"]
        self.first_step = first_step  # masks are drawn by run, not by stage
        self.likelihood = likelihood_of(stage)
        self.token_loss = stage.objective.part("token_loss")
        self.anchored = stage.objective.choices["anchor"] != "none"
        if self.anchored:
            self.in_loss = ("reference",)
            self.compare = make_compare(stage.objective.part("anchor"))
            self.anchor_loss = stage.objective.bind(anchor_loss)
        self.weigh = jax.jit(stage.objective.part("aggregation"))
        self.marks: Sequence[Marks] = ()
        self.factors: np.ndarray | None = None
        # What the stage starts from samples; a reference of its own is another model.
        start = None if "reference" in stage.models else reference
        if stage.data["source"] == "sampled":
            self.source = KeptSamples(context, stage, start, self.packed)
        else:
            records, kept, examples = kept_demonstrations(context, stage)
            if stage.objective.choices["token_weight"] != "none":
                self.marks = marks_of_demonstrations(context, stage, records, kept, examples)
            self.factors = example_factors(stage, records, kept)
            self.source = PackedDemonstrations(
                self.packed(examples), self.batch.sequences_per_update, examples
            )

        self.bound = None
        if draws(stage) and (shown := heldout_demonstrations(context, stage)):
            self.bound = BoundEvaluator(context, stage, shown, self.rows_of)

    @property
    def examples(self) -> Sequence[Example]:
        """All demonstrations; with samples of the policy, once they are drawn."""
        return self.source.examples

    def rows_of(self, examples: Sequence[Example]) -> Rows:
        """A row for each of these examples."""
        plan = [[number] for number in range(len(examples))]
        size, pad_id = self.row_tokens, self.tokenizer.pad_id
        return packed_batch(examples, plan, row_tokens=size, pad_id=pad_id)

    def evaluate(
        self, state: TrainState, heldout: Callable[[Params], dict[str, float]] | None
    ) -> dict[str, float]:
        """Held-out problems, and the bound of their demonstrations where there are some."""
        metrics = super().evaluate(state, heldout)
        if self.bound is None:
            return metrics
        return metrics | self.bound(self.context.full(state.params))

    def packed(self, examples: Sequence[Example]) -> PackedEpochs:
        """The rows of examples, epoch by epoch."""
        return PackedEpochs(
            [len(example.tokens) for example in examples],
            seed=self.context.config.seed,
            row_tokens=self.row_tokens,
            packed=self.stage.data["packed"],
        )

    @staticmethod
    def check(context: Context, stage: Stage) -> None:
        """Encodes the demonstrations of a file, or the first ones of generated problems.

        Where the stage samples them, builds the sampler.
        """
        if stage.data["source"] == "sampled":
            check_sampled(context, stage)
            return
        generated = stage.data["source"] == "problems"
        at_most = checked_count(context.train_problems) if generated else None
        marked = stage.objective.choices["token_weight"] != "none"
        records, kept, examples = kept_demonstrations(
            context, stage, at_most=None if marked else at_most
        )
        if marked:
            marks_of_demonstrations(context, stage, records, kept, examples)
        example_factors(stage, records, kept)
        lengths = [len(on_canvas(context, stage, example).tokens) for example in examples]
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        if lengths[longest] > stage.data["row_tokens"]:
            raise ValueError(
                f"Demonstration {longest} has {lengths[longest]} tokens with its prompt and eos, a "
                f"row holds {stage.data['row_tokens']} (config.{stage.name}.data.row_tokens)."
            )
        context.network.config.check_positions(
            lengths[longest],
            f"Demonstration {longest} with its prompt and eos",
            "leave it out, or raise the limit (config.model.max_positions)",
        )

    def loss_fn(self, params: Params, batch: Batch) -> tuple[Array, Metrics]:
        """Weighted loss of the demonstrated tokens."""
        statistics = self.statistics(*split_beside(params), batch)
        loss, metrics = self.token_loss(statistics.logprobs, batch["mask"])
        if self.anchored:
            anchor, more = self.anchor_loss(statistics.more[DIVERGENCE], batch["mask"])
            loss, metrics = loss + anchor, metrics | more
        metrics["token_accuracy"] = masked(statistics.greedy, batch["mask"])
        balance, balance_metrics = balance_loss(
            self.network.config, statistics.routing, micro_batches=self.batch.micro_batches
        )
        return jnp.sum(batch["weights"] * loss) + balance, metrics | balance_metrics

    def weights(self, rows: Rows, plan: Sequence[Sequence[int]]) -> np.ndarray:
        """Weights [R, S - 1] f32 of the targets; factors of tokens leave their sum as it is."""
        mask = rows["mask"]
        weights = np.asarray(self.weigh(mask), np.float32)
        if self.factors is not None:
            weights = weights * factors_of_rows(self.factors, plan, rows["segment_ids"][:, 1:])
        if not self.marks:
            return weights
        part = self.stage.objective.part("token_weight")
        key, value = packed_marks(self.marks, plan, mask.shape[1] + 1)
        ids = rows["segment_ids"][:, 1:]
        factors = np.asarray(part(mask, key[:, 1:], value[:, 1:], ids), np.float32)
        total = (weights * factors).sum()
        return weights * factors * (weights.sum() / total if total > 0 else 0.0)

    def statistics(self, params: Params, beside: Params, batch: Batch) -> TokenStatistics:
        """The policy's statistics; with an anchor, also how far the reference is."""
        if not self.anchored:
            return self.likelihood(self.network, params, batch, TokenFilter())
        network = self.context.models["reference"].network
        reference = FrozenModel(network, beside["reference"])
        return compared_statistics(self.network, params, [reference], batch, self.compare)

    def batches(
        self, state: TrainState, experience: Experience, step: int
    ) -> tuple[TrainState, StepBatches]:
        """The rows of one update."""
        rows = packed_batch(
            self.examples,
            experience.records,
            row_tokens=self.row_tokens,
            pad_id=self.tokenizer.pad_id,
            prepared=functools.partial(on_canvas, self.context, self.stage),
        )
        if draws(self.stage):
            ids = np.array([index for (index,) in experience.records])
            seed, number = self.context.config.seed, self.first_step + step
            rows |= likelihood_rows(seed, number, ids, np.zeros_like(ids))
        rows["weights"] = self.weights(rows, experience.records)
        metrics = {END_SHARE: end_learned_share(rows, self.context.text_format.ends)}
        return state, StepBatches([rows], metrics, {}, int(rows["mask"].sum()))


def check_sampled(context: Context, stage: Stage) -> None:
    """Raises ValueError where a prompt with its sample might not fit into a row."""
    longest = context.config.data.max_prompt_tokens + stage.max_new_tokens
    if longest > stage.data["row_tokens"]:
        raise ValueError(
            f"A prompt and its sample may have {longest} tokens "
            f"(config.data.max_prompt_tokens, config.{stage.name}.sampling.max_new_tokens), a row "
            f"holds {stage.data['row_tokens']} (config.{stage.name}.data.row_tokens)."
        )
    stage_engine(context, stage, samples=stage.batch.samples_per_prompt)
    if pattern := stage.data["hint_pattern"]:
        check_hints(context, stage, pattern, f"config.{stage.name}.data.hint_pattern")


def kept_demonstrations(
    context: Context, stage: Stage, at_most: int | None = None
) -> tuple[Sequence[Record], list[int], list[Example]]:
    """All rows, which of them are kept, and these as examples: the demonstrations of the run's
    problems, `at_most` of them, or the rows of a file.

    Raises:
        ValueError: for one that cannot be read.
    """
    if stage.data["source"] == "problems":
        records = problems_of(context, stage)
        count = min(len(records), stage.data["limit"] or len(records), at_most or len(records))
        examples = [_worked_example(context, stage, records, index) for index in range(count)]
        return records, list(range(count)), examples
    field = f"config.{stage.name}.data.path"
    records = open_source(stage.data["source"], path=stage.data["path"] or None, path_field=field)
    first = Part(records, range(min(len(records), stage.data["limit"] or len(records))))

    learn, rank = stage.data["learn"], stage.data["answer_rank"]
    if rank:
        first = Part(first, ranked_answers(first, rank))

    def read(record: Record, where: str, index: int) -> Example:
        words = {"where": where, "field": field, "check_whole": checks_whole(context.config, index)}
        if learn in STEP_RULES:
            marker = stage.data["unsure_marker"]
            return example_of_steps(record, context.text_format, rule=learn, marker=marker, **words)
        seed = (context.config.seed, index)
        phrases = stage.data["error_phrases"]
        return example_of(
            record, context.text_format, learn=learn, error_phrases=phrases, seed=seed, **words
        )

    kept, examples = checked_examples(context, stage, first, read)
    if column := stage.data["balance_column"]:
        classes = [balance_class(first[index], column, place_of(first, index)) for index in kept]
        places = balanced_rows(classes, context.config.seed, stage.name)
        kept, examples = [kept[n] for n in places], [examples[n] for n in places]
    return first, kept, examples


def balance_class(record: Record, column: str, where: str) -> str | int | bool:
    """The class of a row; raises ValueError where the column has none."""
    value = column_of(record, column, where)
    if not isinstance(value, str | int):
        raise ValueError(
            f"{where}: the column {column!r} must hold a text, true or false, or a whole number, "
            f"got {value!r}."
        )
    return value


def balanced_rows(classes: Sequence[str | int], seed: int, stage: str) -> list[int]:
    """`balanced`, and says how many rows each class has; raises ValueError for a single one."""
    counts = Counter(map(str, classes))
    if len(counts) < 2:
        raise ValueError(
            f"All rows that are learned are {next(iter(counts))!r}: there is nothing to balance "
            f"(config.{stage}.data.balance_column)."
        )
    said = ", ".join(f"{count} {name}" for name, count in counts.most_common(8))
    say_once(f"rows of each class, learned equally often: {said} ({stage}.data.balance_column)")
    return balanced(classes, seed)


def example_factors(
    stage: Stage, records: Sequence[Record], kept: Sequence[int]
) -> np.ndarray | None:
    """How much each demonstration counts, [N] f32 of mean 1; None where all count alike.

    Args:
        stage: that learns them.
        records: rows of the file.
        kept: the places of the N demonstrations among them.

    Raises:
        ValueError: for a row without a weight, one that is no finite number >= 0, or zeros alone.
    """
    column, where = stage.data.get("weight_column", ""), f"config.{stage.name}.data.weight_column"
    if not column:
        return None
    weights = []
    for index in kept:
        value = records[index].get(column)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < float("inf"):
            raise ValueError(
                f"{place_of(records, index)}: {column!r} must be a finite number >= 0, got "
                f"{typed(value)} ({where})."
            )
        weights.append(float(value))
    if not any(weights):
        raise ValueError(f"All {len(weights)} rows have the weight 0 in {column!r} ({where}).")
    return (np.array(weights) / np.mean(weights)).astype(np.float32)


def factors_of_rows(
    factors: np.ndarray, plan: Sequence[Sequence[int]], segment_ids: np.ndarray
) -> np.ndarray:
    """[R, S - 1] f32, the factor of each target's demonstration; 0 on padding.

    Args:
        factors: [N] f32, of all demonstrations.
        plan: per row, the numbers of its demonstrations.
        segment_ids: [R, S - 1] i32, from 1, 0 on padding.
    """
    found = np.zeros(segment_ids.shape, np.float32)
    for row, members in enumerate(plan):
        of_segment = np.concatenate([[0.0], factors[list(members)]])
        found[row] = of_segment[segment_ids[row]]
    return found


def marks_of_demonstrations(
    context: Context,
    stage: Stage,
    records: Sequence[Record],
    kept: Sequence[int],
    examples: Sequence[Example],
) -> list[Marks]:
    """Which tokens of the demonstrations of a file decide a tool call.

    Args:
        context, stage: that learn them.
        records, kept, examples: of `kept_demonstrations`.

    Raises:
        ValueError: for rows without tools, or if no row holds a call.
    """
    token_bytes = context.tokenizer.token_bytes()
    marks = [
        marks_of(records[index], example, token_bytes, stage, place_of(records, index))
        for index, example in zip(kept, examples, strict=True)
    ]
    plain = [index for index, mark in zip(kept, marks, strict=True) if not mark.key.any()]
    _say_without_calls(stage, [place_of(records, index) for index in plain], len(marks))
    return marks


def _say_without_calls(stage: Stage, places: Sequence[str], count: int) -> None:
    """Says how many demonstrations hold no call that is understood: all their tokens weigh alike.

    Args:
        stage: that learns them.
        places: of these demonstrations.
        count: of all.

    Raises:
        ValueError: if it is all of them, whose weights would change nothing.
    """
    if not places:
        return
    said = (
        f"{len(places)} of {count} completions are no call `name(key = value)` on one line, so "
        f"token_weight='key_tokens' finds no token that decides it: the first is {places[0]} "
        f"(config.{stage.name}.objective.token_weight, config.{stage.name}.data.path)"
    )
    if len(places) == count:
        raise ValueError(f"{said}; write the calls in this form, or choose token_weight='none'.")
    say_once(said)


def problems_of(context: Context, stage: Stage) -> Sequence[Record]:
    """The run's training problems, with as many worked demonstrations as the stage asks for.

    Raises:
        ValueError: where problems have one demonstration each, or none.
    """
    share, problems = stage.data["worked_share"], context.train_problems
    if share is None:
        return problems
    if context.config.data.kind != "reasoning_gym":
        raise ValueError(
            f"worked_share={share} is never read with kind={context.config.data.kind!r}, whose "
            f"demonstrations are given (config.{stage.name}.data.worked_share, config.data.kind)."
        )
    return ProblemSource(problems.problems.with_worked_share(share))


def heldout_demonstrations(context: Context, stage: Stage) -> list[Example]:
    """The demonstrations of the held-out problems, on their canvas; [] where these have none."""
    problems = context.heldout_problems
    count = min(len(problems), context.config.data.heldout_size)
    if not count or "demonstration" not in problems[0]:
        return []
    examples = (_worked_example(context, stage, problems, index) for index in range(count))
    return [on_canvas(context, stage, example) for example in examples]


def _worked_example(
    context: Context, stage: Stage, records: Sequence[Record], index: int
) -> Example:
    record, where = records[index], place_of(records, index)
    if DEMONSTRATION in record:  # a whole conversation, whose replies are learned
        shown, tools = record[DEMONSTRATION], record.get("tools")
        return context.text_format.turns(shown, tools=tools, where=where)
    if "demonstration" not in record:
        raise ValueError(
            f"{where} has no worked demonstration (there are some for the tasks of "
            "rljax/tasks/worked.py); leave its task out, or give a file of your own "
            f"(config.data.tasks, config.{stage.name}.data.source)."
        )
    (prompt,) = context.prompts([{**record, "id": index}])
    return joined(prompt, context.text_format.completion(prompt, record["demonstration"], where))


def on_canvas(context: Context, stage: Stage, example: Example) -> Example:
    """A demonstration as a stage learns it: on a whole canvas, if it has one (data/canvas.py)."""
    where = f"config.{stage.name}.data.canvas_tokens"
    tokens = stage.data.get("canvas_tokens", 0)
    return filled(example, tokens, context.text_format.ends, where)
