"""Generation for people: prompts in, completions out, on top of the engine.

    generator = Generator(network, params, tokenizer, mesh, weights="bfloat16")
    options = SamplingOptions(n=4, max_new_tokens=256, temperature=0.8, top_p=0.95, stop=["\\n\\n"])
    for completions in generator.generate(["1 + 1 =", "2 + 2 ="], options):
        print([completion.text for completion in completions])

A completion depends on (parameters, prompt, its options, seed, id of the prompt, number of the
completion) only, up to float rounding: not on what else is asked for in the call, nor on batches.
To choose among completions see selection.py.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import NamedTuple

import jax
from jax import Array
from jax.sharding import Mesh

from rljax.models.decoding import check_decodable
from rljax.models.network import Network, Params
from rljax.parallel.rules import rows_divisor
from rljax.sampling.batches import Prompt, make_requests, row_count
from rljax.sampling.checks import check_memory
from rljax.sampling.completion import Completion, Origin, complete
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import token_bias
from rljax.sampling.engine import Engine, bucket
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.options import SamplingOptions, check_integer, own_names
from rljax.sampling.texts import Texts, TextTokenizer
from rljax.sampling.vocabulary import samplable_ids, text_only


class Call(NamedTuple):
    """One call of an engine, planned."""

    engine: Engine
    seed: int
    members: Sequence[int]  # which prompts of the generator's call
    rows: int  # of the program


class Generator:
    """Completes prompts with one set of parameters, on one mesh.

    Options that are compiled into a program (all but temperature, lengths and noise) have an engine
    of their own, which is kept. Programs are compiled by number and length of prompts, and by the
    length of completions, in coarse steps.
    """

    def __init__(
        self,
        network: Network,
        params: Params,
        tokenizer: TextTokenizer,
        mesh: Mesh,
        *,
        weights: str = "",
        cache: str = "",
        slots: int = 64,
        stop_tokens: Sequence[int] = (),
        add_bos: bool = False,
        max_prompt_tokens: int | None = None,
        batch_prompts: int = 128,
        gather_weights: bool = True,
        refill_every: int = 8,
        prefill_tokens: int = 1024,
    ) -> None:
        """Copies the parameters into the sampler's layout; nothing else is compiled yet.

        Args:
            network: a causal language model.
            params: of the network; see `load`.
            tokenizer: of the model.
            mesh: of the sampler.
            weights: their precision: "" as they are, "bfloat16", or "int8".
            cache: of keys and values: "" as activations, or "int8".
            slots: completions decoded at a time on all devices; others wait. 0: all at once.
            stop_tokens: that end every completion, besides the tokenizer's eos.
            add_bos: put the tokenizer's bos before each prompt that is text.
            max_prompt_tokens: a longer prompt is an error; None: no limit but memory.
            batch_prompts: prompts whose caches are held at a time.
            gather_weights, refill_every, prefill_tokens: see `Engine` and `SamplingConfig`.

        Raises:
            ValueError: for a network or a setting that cannot work.
        """
        _check_network(network, tokenizer, add_bos)
        check_integer(batch_prompts, 1, "Generator.batch_prompts")
        self.network, self.tokenizer, self.mesh = network, tokenizer, mesh
        self.add_bos, self.max_prompt_tokens = add_bos, max_prompt_tokens
        self.batch_prompts = batch_prompts
        self._stop_tokens = (tokenizer.eos_id, *stop_tokens)
        self._settings = {
            "pad_token": tokenizer.pad_id,
            "slots": slots,
            "refill_every": refill_every,
            "prefill_tokens": prefill_tokens,
            "cache_dtype": cache,
        }
        self._layout = {"weights": weights, "gather_weights": gather_weights}
        self._engines: dict[tuple[SamplingOptions, int], Engine] = {}
        self._texts = Texts(tokenizer, network.config.vocab_size)
        self.load(params)

    def load(self, params: Params) -> None:
        """Takes other parameters of the same network, on any mesh, from now on.

        They are copied; the caller's may be freed.
        """
        self._weights = self._engine(SamplingOptions().static(1), bucket(1)).load(params)

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        options: SamplingOptions | Sequence[SamplingOptions] = SamplingOptions(),  # noqa: B008
        *,
        seed: int = 0,
        ids: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Completes all prompts.

        Args:
            prompts: texts or token ids.
            options: of all of them, or one of each.
            seed: of the noise; with the seed of a run, and the indices of its held-out problems as
                ids, the noise is that of the run's evaluations.
            ids: address of each prompt's noise, by default its place. Equal prompts with the same
                id have equal completions.

        Returns:
            The n completions of each prompt, in order.

        Raises:
            ValueError: for anything that cannot be answered, before a program is compiled.
        """
        asked = self._prompts(prompts, options, seed, ids)
        return self._answer(asked)

    def stream(
        self,
        prompts: Sequence[str | Sequence[int]],
        options: SamplingOptions | Sequence[SamplingOptions] = SamplingOptions(),  # noqa: B008
        *,
        seed: int = 0,
        ids: Sequence[int] | None = None,
        batch_prompts: int | None = None,
    ) -> Iterator[list[list[Completion]]]:
        """The same completions as `generate`, as soon as a batch of prompts is done.

        Arguments as in `generate`, all checked before the first batch, and

        Args:
            batch_prompts: prompts of a batch, by default the generator's.

        Returns:
            Iterator over the results of one batch of prompts after the other, in order.
        """
        size = self.batch_prompts if batch_prompts is None else batch_prompts
        check_integer(size, 1, "Generator.batch_prompts")
        asked = self._prompts(prompts, options, seed, ids)
        every = range(len(asked))
        plans = self._plan(asked, [every[start : start + size] for start in every[::size]], size)
        return (list(self._run(calls, asked).values()) for calls in plans)

    def resume(self, completions: Sequence[Completion], more_tokens: int) -> list[Completion]:
        """Goes on with completions that ended because of their length.

        The result is what `generate` would have given with a max_new_tokens that is larger by
        `more_tokens`, up to float rounding. With cache="int8" it is only near to that: tokens that
        are read again see each other before they are rounded.

        Args:
            completions: of this generator, or of another one with the same settings.
            more_tokens: for each of them.

        Returns:
            The longer completions in the same order; finished ones as they are.
        """
        check_integer(more_tokens, 1, "Generator.resume.more_tokens")
        done = list(completions)
        paused = [place for place, completion in enumerate(done) if not completion.finished]
        asked = [_continuation(done[place], more_tokens) for place in paused]
        for place, (longer,) in zip(paused, self._answer(asked), strict=True):
            done[place] = longer
        return done

    def _prompts(
        self,
        prompts: Sequence[str | Sequence[int]],
        options: SamplingOptions | Sequence[SamplingOptions],
        seed: int,
        ids: Sequence[int] | None,
    ) -> list[Prompt]:
        """The prompts of a call, checked."""
        if isinstance(prompts, str):
            raise ValueError(f"Prompts must be a list, got the text {prompts[:40]!r} (prompts).")
        count = len(prompts)
        each = [options] * count if isinstance(options, SamplingOptions) else list(options)
        ids = range(count) if ids is None else ids
        for name, given in (("options", each), ("ids", ids)):
            if len(given) != count:
                raise ValueError(f"There are {count} prompts, but {len(given)} {name} ({name}).")
        check_integer(seed, 0, "Generator.seed")
        for prompt_id in ids:
            check_integer(prompt_id, 0, "Generator.ids")
        return [
            Prompt(
                tokens=self._tokens(place, prompt),
                options=of_prompt,
                seed=seed if of_prompt.seed is None else of_prompt.seed,
                prompt_id=int(prompt_id),
                sample_ids=tuple(
                    range(of_prompt.first_sample, of_prompt.first_sample + of_prompt.n)
                ),
            )
            for place, (prompt, of_prompt, prompt_id) in enumerate(
                zip(prompts, each, ids, strict=True)
            )
        ]

    def _tokens(self, place: int, prompt: str | Sequence[int]) -> tuple[int, ...]:
        """The ids of a prompt."""
        if isinstance(prompt, str):
            tokens = self.tokenizer.encode(prompt)
            tokens = (self.tokenizer.bos_id, *tokens) if self.add_bos else tuple(tokens)
        else:
            tokens = tuple(prompt)
        if not tokens:
            raise ValueError(f"Prompt {place} is empty: at least one token is needed (prompts).")
        if self.max_prompt_tokens is not None and len(tokens) > self.max_prompt_tokens:
            raise ValueError(
                f"Prompt {place} has {len(tokens)} tokens; at most {self.max_prompt_tokens} are "
                "allowed (Generator.max_prompt_tokens)."
            )
        size = self.network.config.vocab_size
        for token in tokens:
            if not isinstance(token, Integral) or not 0 <= token < size:
                raise ValueError(
                    f"Prompt {place} holds {token!r}: a prompt is a text, or ids of the "
                    f"vocabulary, in 0..{size - 1} (prompts)."
                )
        return tuple(map(int, tokens))

    def _engine(self, static: SamplingOptions, room: int) -> Engine:
        """The engine for `SamplingOptions.static` and up to `room` new tokens; compiles nothing.

        Raises:
            ValueError: for options that do not fit the model or the tokenizer.
        """
        if (static, room) not in self._engines:
            stops = tuple(dict.fromkeys((*self._stop_tokens, *static.stop_tokens)))
            size = self.network.config.vocab_size
            for token in stops:
                if not isinstance(token, Integral) or not 0 <= token < size:
                    raise ValueError(
                        f"stop_tokens must be ids in 0..{size - 1}, got {token!r} "
                        "(SamplingOptions.stop_tokens)."
                    )
            samplable = samplable_ids(self.tokenizer.known(), size, stops)
            with own_names():
                token_filter = text_only(static.token_filter, samplable)
                token_bias(token_filter, size)
                config = SamplingConfig(
                    samples_per_prompt=static.n,
                    max_new_tokens=room,
                    stop_tokens=stops,
                    token_filter=token_filter,
                    penalties=static.penalties,
                    top_logprobs=static.top_logprobs,
                    **self._settings,
                )
                self._engines[static, room] = Engine(
                    self.network,
                    config,
                    self.mesh,
                    stop_strings=self._texts.automaton(static.stop),
                    **self._layout,
                )
        return self._engines[static, room]

    def _plan(
        self, prompts: Sequence[Prompt], parts: Sequence[Sequence[int]], size: int
    ) -> list[list[Call]]:
        """The calls for each part of the prompts, with at most `size` prompts, all of them checked.

        A last call that is smaller than others of its kind runs the same program as they do.
        """
        for place, prompt in enumerate(prompts):
            self.network.config.check_positions(
                len(prompt.tokens) + prompt.options.max_new_tokens,
                f"Prompt {place} and its completion",
                "lower max_new_tokens or shorten the prompt (SamplingOptions.max_new_tokens)",
            )
        static = functools.cache(SamplingOptions.static)
        kinds = [static(prompt.options, len(prompt.sample_ids)) for prompt in prompts]
        rooms: dict[SamplingOptions, int] = defaultdict(int)
        for kind, prompt in zip(kinds, prompts, strict=True):
            rooms[kind] = max(rooms[kind], bucket(prompt.room))
        engines = {kind: self._engine(kind, room) for kind, room in rooms.items()}
        shards, plans = rows_divisor(self.mesh), []
        for part in parts:
            groups: dict[tuple[SamplingOptions, int], list[int]] = defaultdict(list)
            for place in part:
                groups[kinds[place], prompts[place].seed].append(place)
            calls = []
            for (kind, seed), group in groups.items():
                full = len(group) > size or (len(parts) > 1 and len(groups) == 1)
                for start in range(0, len(group), size):
                    members = group[start : start + size]
                    rows = row_count(size if full else len(members), size, shards)
                    calls.append(Call(engines[kind], seed, members, rows))
            plans.append(calls)
        self._check_memory([call for calls in plans for call in calls], prompts)
        return plans

    def _check_memory(self, calls: Sequence[Call], prompts: Sequence[Prompt]) -> None:
        def longest(call: Call) -> int:
            members = (prompts[place] for place in call.members)
            return max(len(prompt.tokens) + prompt.continued for prompt in members)

        shapes = {(call.engine.config, call.rows, bucket(longest(call))) for call in calls}
        models, shards = [self.network.config], rows_divisor(self.mesh)
        with own_names():
            for config, rows, slots in shapes:
                check_memory(models, config, rows, slots, self.mesh, shards)

    def _answer(self, prompts: Sequence[Prompt]) -> list[list[Completion]]:
        """The completions of all prompts, in order."""
        (calls,) = self._plan(prompts, [range(len(prompts))], self.batch_prompts)
        return list(self._run(calls, prompts).values())

    def _run(self, calls: Sequence[Call], prompts: Sequence[Prompt]) -> dict[int, list[Completion]]:
        """The completions of each prompt of the calls, by its place, in order."""
        found = {}
        for call in calls:
            members = [prompts[place] for place in call.members]
            requests, rows = make_requests(members, call.rows, rows_divisor(self.mesh))
            rollouts = call.engine.sample(self._weights, requests, key=noise(call.seed), step=0)
            for place, prompt, row in zip(call.members, members, rows, strict=True):
                of_prompt = jax.tree.map(lambda x, row=row: x[row], rollouts)
                origin = Origin(prompt.tokens, prompt.options, prompt.seed, prompt.prompt_id, 0)
                found[place] = [
                    complete(
                        of_prompt,
                        sample,
                        origin._replace(sample_id=sample_id),
                        prompt.written,
                        self._texts,
                    )
                    for sample, sample_id in enumerate(prompt.sample_ids)
                ]
        return dict(sorted(found.items()))


def noise(seed: int) -> Array:
    """The key of a call, as in a run's evaluations; training has other noise."""
    return purpose_key(seed, Purpose.HELDOUT_SAMPLES)


def _continuation(completion: Completion, more_tokens: int) -> Prompt:
    """What is asked for, to go on with a completion."""
    prompt, options, seed, prompt_id, sample_id = completion.origin
    longer = len(completion.tokens) + more_tokens
    options = dataclasses.replace(options, max_new_tokens=longer)
    return Prompt(prompt, options, seed, prompt_id, (sample_id,), written=completion)


def _check_network(network: Network, tokenizer: TextTokenizer, add_bos: bool) -> None:
    config = network.config
    check_decodable([config])
    if config.head != "language_model":
        raise ValueError(
            f"The network has a {config.head} head; tokens are sampled from language models "
            "(Generator.network)."
        )
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocab_size} tokens, the model {config.vocab_size}: they "
            "do not belong together (Generator.tokenizer)."
        )
    if add_bos and tokenizer.bos_id is None:
        raise ValueError("The tokenizer has no bos token (Generator.add_bos).")
