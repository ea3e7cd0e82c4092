"""Every strategy at every budget on the held-out problems, with its accuracy and its cost."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rljax.config.decoding import Decoding
from rljax.data.batches import equal_batches
from rljax.models.network import Params
from rljax.sampling.engine import Engine
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests
from rljax.training.collect.branches import Branch, grow
from rljax.training.collect.rollouts import noise_addresses, padded_prompts
from rljax.training.run.context import Context, Record
from rljax.training.test_time.beams import BeamSearch
from rljax.training.test_time.chains import first_attempts, next_attempts
from rljax.training.test_time.choices import Candidates, right_choices
from rljax.training.test_time.scorer import TextScorer
from rljax.training.test_time.settings import Settings
from rljax.training.win_rate.figures import wilson_interval


class Result(NamedTuple):
    """A strategy at a budget."""

    strategy: str
    budget: int  # completions
    accuracy: float
    interval: tuple[float, float]  # Wilson's, over problems
    tokens: float  # that the policy wrote for a problem
    scored: float  # texts of a problem that the model read


class Outcome(NamedTuple):
    """What a strategy gives for some problems. NumPy, [P] each."""

    right: np.ndarray  # f64, how likely it is right
    tokens: np.ndarray
    scored: np.ndarray


class Prompted(NamedTuple):
    """Some of the problems as a sampler reads them."""

    records: Sequence[Record]
    texts: list[str]
    requests: Requests


class Study:
    """Tries the strategies of its settings; the noise is that of the run's evaluations."""

    def __init__(
        self, context: Context, decoding: Decoding, settings: Settings, scorer: TextScorer | None
    ) -> None:
        """Builds the samplers; nothing is compiled yet.

        Args:
            context: its network is the one that answers.
            decoding: as the stage that is judged samples.
            settings: checked (`check_settings`).
            scorer: of texts; None where no strategy compares them.

        Raises:
            ValueError: for a network that does not write token by token, a text between attempts
                that has no tokens, or chains that are longer than the model can read.
        """
        self.context, self.settings, self.scorer = context, settings, scorer
        if not context.network.config.causal:
            raise ValueError(
                "Beams and chains go on from what is written, token by token, which a network that "
                "sees both ways does not (config.model.causal)."
            )
        self.decoding, evaluation = decoding, context.config.evaluation
        self.slots, self.size = evaluation.max_new_tokens, evaluation.prompts_per_batch
        self.key = purpose_key(context.config.seed, Purpose.HELDOUT_SAMPLES)
        self._engines: dict[tuple[int, int], Engine] = {}
        self.sampler = self._engine(settings.samples, self.slots)
        self.again = context.tokenizer.encode_inside(settings.again)
        if "sequential" in settings.strategies:
            self._check_chains()

    def __call__(self, params: Params) -> list[Result]:
        """All results: strategies in the order of the settings, budgets from the least on."""
        problems = self.context.heldout_problems
        count = min(len(problems), self.context.config.data.heldout_size)
        weights, found = self.sampler.load(params), {}
        for indices in equal_batches(count, self.size):
            records = [{**problems[index], "id": index} for index in indices]
            real = min(self.size, count - indices[0])
            for name, outcome in self._batch(weights, self._prompted(records)).items():
                parts = Outcome(*(array[:real] for array in outcome))
                found.setdefault(name, []).append(parts)
        results = []
        for (strategy, budget), parts in found.items():
            right, tokens, scored = (np.concatenate(x) for x in zip(*parts, strict=True))
            value, low, high = wilson_interval(right)
            mean_tokens, mean_scored = float(tokens.mean()), float(scored.mean())
            results.append(Result(strategy, budget, value, (low, high), mean_tokens, mean_scored))
        return results

    def _batch(self, weights: Params, prompted: Prompted) -> dict[tuple[str, int], Outcome]:
        settings, found = self.settings, {}
        samples = self._samples(weights, prompted)
        candidates = self._candidates(prompted, samples)
        lengths = np.array([np.mean([one.length for one in own]) for own in samples])
        for strategy in ("pass", "vote", "weighted_vote", "best_of_n"):
            if strategy != "pass" and strategy not in settings.strategies:
                continue
            for budget in settings.budgets:
                right = right_choices(strategy, candidates, budget, seed=budget)
                reads = float(budget) if strategy in ("weighted_vote", "best_of_n") else 0.0
                scored = np.full(len(right), reads)
                found[strategy, budget] = Outcome(right, budget * lengths, scored)
        if "sequential" in settings.strategies:
            found |= self._sequential(weights, prompted, samples)
        for strategy in ("beam", "lookahead"):
            if strategy in settings.strategies:
                for budget in settings.beam_budgets():
                    found[strategy, budget] = self._beams(strategy, budget, weights, prompted)
        return found

    def _samples(self, weights: Params, prompted: Prompted) -> list[list[Branch]]:
        count = len(prompted.records)
        return grow(
            self.sampler,
            weights,
            prompted.requests,
            [Branch(place) for place in range(count)],
            np.broadcast_to(np.arange(self.settings.samples), (count, self.settings.samples)),
            slots=self.slots,
            rows=count,
            key=self.key,
            step=0,
        )

    def _candidates(
        self, prompted: Prompted, samples: Sequence[Sequence[Branch]], *, scored: bool = True
    ) -> list[Candidates]:
        """The samples of each problem, with verdicts, and with scores of the model."""
        flat = [one for own in samples for one in own]
        texts, correct = self._judged(prompted, flat)
        reads = {"best_of_n", "weighted_vote"} & set(self.settings.strategies)
        scores = self._scores(prompted, flat) if scored and reads else None
        found, first = [], 0
        for own in samples:
            rows = slice(first, first + len(own))
            finished = np.array([one.finished for one in own])
            said = None if scores is None else scores[rows]
            found.append(Candidates(texts[rows], correct[rows], finished, said))
            first += len(own)
        return found

    def _judged(
        self, prompted: Prompted, branches: Sequence[Branch]
    ) -> tuple[list[str], np.ndarray]:
        """Texts, and which of them are right.

        Raises:
            ValueError: for a text that no reward judges.
        """
        references = self.context.references(prompted.records)
        texts = [self.context.text_format.text(one.tokens) for one in branches]
        scores = self.context.scorer.score(
            [prompted.texts[one.prompt] for one in branches],
            texts,
            [references[one.prompt] for one in branches],
            [one.length for one in branches],
        )
        if not scores.judged.all():
            raise ValueError(
                f"{int((~scores.judged).sum())} of {len(texts)} completions have no verdict, and a "
                "choice among completions needs one of each (config.scoring.rewards)."
            )
        return texts, scores.correct

    def _scores(self, prompted: Prompted, branches: Sequence[Branch]) -> np.ndarray:
        return self.scorer(
            [prompted.records[one.prompt] for one in branches],
            [self.context.text_format.text(one.tokens) for one in branches],
            [one.finished for one in branches],
        )

    def _sequential(
        self, weights: Params, prompted: Prompted, samples: Sequence[Sequence[Branch]]
    ) -> dict[tuple[str, int], Outcome]:
        """A vote over the last attempts of chains of each length."""
        settings = self.settings
        chains = [[[one] for one in own] for own in samples]  # of each problem, attempts of each
        for number, running in enumerate(first_attempts(settings.attempts, settings.samples)[1:]):
            self._attempt(weights, prompted, chains, number + 1, running)
        found = {}
        for length in settings.attempts:
            ended = [[own[length - 1] for own in many if len(own) >= length] for many in chains]
            candidates = self._candidates(prompted, ended, scored=False)
            tokens = np.array(
                [
                    np.mean(
                        [sum(x.length for x in own[:length]) for own in many if len(own) >= length]
                    )
                    for many in chains
                ]
            )
            for budget in settings.budgets:
                if votes := budget // length:
                    right = right_choices("vote", candidates, votes, seed=budget)
                    nothing = np.zeros(len(right))
                    name = f"sequential_{length}", budget
                    found[name] = Outcome(right, votes * tokens, nothing)
        return found

    def _attempt(
        self,
        weights: Params,
        prompted: Prompted,
        chains: list[list[list[Branch]]],
        number: int,
        running: int,
    ) -> None:
        """Adds attempt `number` (from 1) to the first chains of each problem."""
        own = prompted.requests
        going = [(place, many[c]) for place, many in enumerate(chains) for c in range(running)]
        first = np.tile(np.arange(running), len(chains)).astype(np.int32)
        found = next_attempts(
            self._engine(1, self.slots),
            weights,
            [row[kept].tolist() for row, kept in zip(own.prompts, own.prompt_mask, strict=True)],
            going,
            again=self.again,
            prompt_ids=own.prompt_ids,
            sample_ids=first + number * self.settings.samples,
            slots=self.slots,
            rows=len(going),
            pad=self.context.tokenizer.pad_id,
            key=self.key,
            step=0,
        )
        for (place, attempts), attempt in zip(going, found, strict=True):
            attempts.append(attempt._replace(prompt=place))

    def _beams(self, strategy: str, budget: int, weights: Params, prompted: Prompted) -> Outcome:
        settings, scored = self.settings, np.zeros(len(prompted.records))

        def value(branches: Sequence[Branch]) -> np.ndarray:
            np.add.at(scored, [one.prompt for one in branches], 1)
            return self._scores(prompted, branches)

        ahead = None
        if strategy == "lookahead":
            ahead = self._engine(1, settings.step_tokens * settings.lookahead_steps)
        search = BeamSearch(
            pieces=self._engine(settings.beam_width, settings.step_tokens),
            ahead=ahead,
            value=value,
            beams=budget,
            slots=self.slots,
            key=self.key,
        )
        best, tokens = search(weights, prompted.requests)
        _, correct = self._judged(prompted, best)
        finished = np.array([one.finished for one in best])
        return Outcome((correct & finished).astype(np.float64), tokens.astype(np.float64), scored)

    def _prompted(self, records: Sequence[Record]) -> Prompted:
        texts, tokens, mask = padded_prompts(self.context, records)
        ids = noise_addresses(self.context, records)
        return Prompted(records, texts, Requests(tokens, mask, ids))

    def _engine(self, samples: int, room: int) -> Engine:
        if (samples, room) not in self._engines:
            temperature = self.context.config.evaluation.temperature
            self._engines[samples, room] = self.context.make_engine(
                samples_per_prompt=samples,
                max_new_tokens=min(room, self.slots),
                token_filter=self.decoding.token_filter.at_temperature(temperature),
                stop_strings=self.decoding.stop_strings,
            )
        return self._engines[samples, room]

    def _check_chains(self) -> None:
        longest = max(self.settings.attempts)
        if longest > 1 and not self.again:
            raise ValueError(f"has no tokens: {self.settings.again!r} (--again).")
        self.context.network.config.check_positions(
            self.context.config.data.max_prompt_tokens + longest * (self.slots + len(self.again)),
            f"A prompt with {longest} attempts",
            "try shorter chains (--attempts) or lower config.evaluation.max_new_tokens",
        )


def figures_of(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as JSON."""
    return [{**one._asdict(), "interval": list(one.interval)} for one in results]


def table_of(results: Sequence[Result]) -> str:
    """Results as people read them."""
    lines = [
        f"{'strategy':<16}{'budget':>7}{'accuracy':>10}{'95 %':>16}{'tokens':>10}{'scored':>9}"
    ]
    for one in results:
        low, high = one.interval
        lines.append(
            f"{one.strategy:<16}{one.budget:>7}{one.accuracy:>10.3f}{f'{low:.3f} - {high:.3f}':>16}"
            f"{one.tokens:>10.1f}{one.scored:>9.1f}"
        )
    return "\n".join(lines)
