"""What the stages of a run share."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from rljax.config.graph import resolve_networks
from rljax.config.mesh import check_mesh, check_row_lengths
from rljax.config.model import resolve_model
from rljax.config.stage import Stage
from rljax.config.validate import plain, resolved_dict
from rljax.data.chat import PlainTemplate, render_chat
from rljax.data.sources import ProblemSource, open_source
from rljax.data.tokenizers import Tokenizer, check_round_trip, load_tokenizer
from rljax.models.frozen_base import parameter_shardings
from rljax.models.lora import (
    check_rank,
    combine,
    drop_adapters,
    flatten,
    has_adapters,
    unflatten,
    without_adapters,
)
from rljax.models.network import Network, Params
from rljax.models.pretrained import stop_token_ids
from rljax.parallel.mesh import make_mesh, remesh
from rljax.parallel.rules import batch_sharding, rows_divisor
from rljax.rewards.pool import Scorer
from rljax.sampling.automaton import TokenAutomaton
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine
from rljax.sampling.stop_strings import stop_string_automaton
from rljax.tasks.reasoning_gym import splits
from rljax.tasks.symbols.records import symbol_splits
from rljax.training.run.engines import check_sampler, sampling_config
from rljax.training.run.layout import choose_layouts
from rljax.training.run.models import Model, check_models, stage_networks
from rljax.training.run.start import Source, check_start
from rljax.training.update.likelihood import check_likelihoods
from rljax.training.update.logprobs import Statistics, make_score

Record = dict[str, Any]

# Kinds of data whose problems are made, not read.
GENERATED = ("reasoning_gym", "symbols")

# Generated training problems looked at before anything compiles; files and held-out problems are
# looked at whole.
CHECKED_PROBLEMS = 1000


@dataclasses.dataclass(frozen=True)
class Context:
    """The fixed surroundings of a run."""

    config: ConfigDict
    workdir: Path
    stages: tuple[Stage, ...]
    mesh: Mesh
    network: Network
    tokenizer: Tokenizer
    train_problems: Sequence[Record]
    heldout_problems: Sequence[Record]
    scorer: Scorer
    stop_tokens: tuple[int, ...] = ()  # that end a completion, besides the tokenizer's eos
    frozen: Params = dataclasses.field(default_factory=dict, repr=False)  # shared by all stages
    # By stage, and of a stage by role (run/models.py).
    networks: Mapping[str, Network] = dataclasses.field(default_factory=dict, repr=False)
    models: Mapping[str, Model] = dataclasses.field(default_factory=dict, repr=False)

    def of(self, stage: str) -> "Context":
        """The surroundings of a stage: `network` is the one that it trains."""
        return self.with_network(self.networks.get(stage, self.network))

    def with_network(self, network: Network) -> "Context":
        """The same with another head on the trunk; what is frozen is shared."""
        if network is self.network:
            return self
        known = flatten(network.shapes)
        frozen = {path: leaf for path, leaf in flatten(self.frozen).items() if path in known}
        return dataclasses.replace(self, network=network, frozen=unflatten(frozen))

    def resolved(self) -> dict[str, Any]:
        """The config as saved with the run: every default, the mesh, the shape of the network.

        Paths are absolute, and the checkpoint of another run is the step that is read now: so a
        start that has changed since is another config.
        """
        resolved = resolved_dict(self.config, self.stages)
        resolved["model"]["init_from"] = Source.of(self.config).init_from
        if Path(self.config.tokenizer.path).is_dir():
            resolved["tokenizer"]["path"] = str(Path(self.config.tokenizer.path).absolute())
        return resolved | {
            "mesh": dict(self.mesh.shape),
            "network": plain(dataclasses.asdict(self.network.config)),
        }

    def full(self, trained: Params) -> Params:
        """All parameters of the network, given those of a TrainState; nothing is copied."""
        return combine(trained, self.frozen)

    def jit_with_params(self, make: Callable, *rest: NamedSharding) -> Callable:
        """Jits `make(network)`, a function of parameters and of `rest`, which returns rows.

        With adapters, parameters without them are taken too: those of the frozen model itself,
        whose reference log-probabilities then cost no product with adapters that are zero.
        """

        def jitted(network: Network, shardings: Params) -> Callable:
            rows = batch_sharding(self.mesh)
            return jax.jit(make(network), in_shardings=(shardings, *rest), out_shardings=rows)

        shardings = parameter_shardings(self.network, self.mesh)
        whole = jitted(self.network, shardings)
        if self.network.config.lora is None:
            return whole
        bare = jitted(without_adapters(self.network), drop_adapters(shardings))
        return lambda params, *args: (whole if has_adapters(params) else bare)(params, *args)

    def make_engine(
        self,
        *,
        samples_per_prompt: int,
        max_new_tokens: int,
        token_filter: TokenFilter,
        extra_stop_tokens: tuple[int, ...] = (),
        stop_strings: tuple[str, ...] = (),
    ) -> Engine:
        """A sampler with the run's settings, `config.sampler` (sampling/engine.py)."""
        stops = (self.tokenizer.eos_id, *self.stop_tokens, *extra_stop_tokens)
        settings = self.config.sampler
        config = sampling_config(
            self.network.config,
            settings,
            samples_per_prompt=samples_per_prompt,
            max_new_tokens=max_new_tokens,
            stop_tokens=tuple(dict.fromkeys(stops)),
            pad_token=self.tokenizer.pad_id,
            token_filter=token_filter,
            stop_strings=stop_strings,
        )
        return Engine(
            self.network,
            config,
            self.sampler_mesh,
            weights=settings.weights,
            gather_weights=settings.gather_weights,
            stop_strings=self._stop_automaton(stop_strings),
        )

    def _stop_automaton(self, strings: tuple[str, ...]) -> TokenAutomaton | None:
        if not strings:
            return None
        for text in strings:
            check_round_trip(text, self.tokenizer, "config.<stage>.sampling.stop_strings")
        vocab_size = self.network.config.vocab_size
        return stop_string_automaton(strings, self.tokenizer.token_bytes(), vocab_size=vocab_size)

    @property
    def sampler_mesh(self) -> Mesh:
        """The mesh of `config.sampler.mesh`, over the devices of the run in the same order."""
        sizes = {k: v for k, v in self.config.sampler.mesh.to_dict().items() if v is not None}
        if not sizes:
            return self.mesh
        return remesh(self.mesh, {"data": -1} | sizes)

    def jit_score(
        self, token_filter: TokenFilter, *, micro_batches: int, likelihood: Statistics
    ) -> Callable:
        """A jitted `score(params, rows)` on this mesh (training/update/logprobs.py)."""
        return self.jit_with_params(
            lambda network: make_score(
                network, token_filter, micro_batches=micro_batches, likelihood=likelihood
            ),
            batch_sharding(self.mesh),
        )

    def prompt_texts(self, records: Sequence[Record], column: str | None = None) -> list[str]:
        """The prompts of records as text; lists of chat messages go through the chat template.

        Args:
            records: of the run's problems, or of a stage's own file.
            column: where the prompt is; by default that of the problems.
        """
        return prompt_texts(self.config, self.tokenizer, records, column)

    def references(self, records: Sequence[Record]) -> list[Any]:
        """What the rewards compare with."""
        column = self.config.data.reference_column
        if self.config.data.kind in GENERATED:
            column = "reference"
        return [record[column] for record in records]


def prompt_texts(
    config: ConfigDict, tokenizer: Tokenizer, records: Sequence[Record], column: str | None = None
) -> list[str]:
    """See `Context.prompt_texts`."""
    if column is None:
        column = "prompt" if config.data.kind in GENERATED else config.data.prompt_column
    turn, opening = config.tokenizer.chat_turn, config.tokenizer.chat_generation_prompt
    template = PlainTemplate(turn, opening) if turn else None
    prompts = [record[column] for record in records]
    return [
        prompt if isinstance(prompt, str) else render_chat(prompt, tokenizer, template=template)
        for prompt in prompts
    ]


def check_prompts(
    texts: Sequence[str], tokenizer: Tokenizer, config: ConfigDict, what: str = "record"
) -> None:
    """Raises ValueError for a prompt that is empty or longer than the budget."""
    budget = config.data.max_prompt_tokens
    for index, text in enumerate(texts):
        count = len(tokenizer.encode(text)) + config.tokenizer.add_bos
        if not 1 <= count <= budget:
            raise ValueError(
                f"The prompt of {what} {index} has {count} tokens; 1 to {budget} are allowed "
                f"(config.data.max_prompt_tokens): {text[:80]!r}"
            )


def build_context(config: ConfigDict, stages: Sequence[Stage], workdir: Path) -> Context:
    """Opens everything that a run needs, checking as it goes; nothing is compiled.

    Raises:
        ValueError: bad mesh, model, tokenizer, data or reward settings.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes: rollouts are decoded and scored by one controller "
            "so far; start a single process."
        )
    mesh = make_mesh(config.mesh.to_dict())
    tokenizer = load_tokenizer(config.tokenizer.path, tuple(config.tokenizer.special_tokens))
    if config.tokenizer.add_bos and tokenizer.bos_id is None:
        raise ValueError(f"{config.tokenizer.path} has no bos token (config.tokenizer.add_bos).")
    network, stages = build_network(config, stages, mesh, tokenizer.vocab_size)
    train, heldout = open_problems(config)
    heldout_count = min(len(heldout), config.data.heldout_size)
    for problems, count in ((heldout, heldout_count), (train, checked_count(train))):
        records = [{**problems[index], "id": index} for index in range(count)]
        check_prompts(prompt_texts(config, tokenizer, records), tokenizer, config, "problem")
    scoring = config.scoring
    scorer = Scorer(
        scoring.rewards,
        workers=scoring.workers,
        timeout_seconds=scoring.timeout_seconds,
        failure_reward=scoring.failure_reward,
        failed_samples=scoring.failed_samples,
        max_failed_share=scoring.max_failed_share,
    )
    folders = [path for path in (config.model.init_from, config.tokenizer.path) if path]
    stops = [token for folder in folders for token in stop_token_ids(folder)]
    context = Context(
        config=config,
        workdir=workdir,
        stages=stages,
        mesh=mesh,
        network=network,
        tokenizer=tokenizer,
        train_problems=train,
        heldout_problems=heldout,
        scorer=scorer,
        stop_tokens=tuple(dict.fromkeys(stops)),
        networks=stage_networks(network, stages),
    )
    if scoring.try_first:
        try_rewards(context)
    return context


def try_rewards(context: Context) -> None:
    """Asks the rewards about the first training problem (`Scorer.try_first`)."""
    record = {**context.train_problems[0], "id": 0}
    (prompt,), (reference,) = context.prompt_texts([record]), context.references([record])
    try:
        context.scorer.try_first(prompt, reference)
    except BaseException:
        context.scorer.close()
        raise


def build_network(
    config: ConfigDict, stages: Sequence[Stage], mesh: Mesh, tokenizer_size: int
) -> tuple[Network, tuple[Stage, ...]]:
    """The structure of the run's model, and its stages with the layout of their rows.

    Args:
        config: of the run.
        stages: as `validate` gives them.
        mesh: of the run.
        tokenizer_size: ids that the tokenizer can produce.

    Raises:
        ValueError: unless model, mesh, rows, adapters and start fit each other.
    """
    model = resolve_model(config.model, tokenizer_size)
    model.check_mesh(dict(mesh.shape))
    check_sampler(model, config.sampler)
    stages = choose_layouts(config, resolve_networks(model, stages), model, mesh)
    check_likelihoods(stages, model)
    check_mesh(stages, rows_divisor(mesh), config.evaluation.prompts_per_batch)
    check_row_lengths(stages, mesh.shape, config.data.max_prompt_tokens)
    network = Network.create(model)
    check_rank(network)
    check_start(Source.of(config), network)
    check_models(network, stages, config.seed, mesh)
    return network, stages


def checked_count(records: Sequence[Record]) -> int:
    """How many records are checked at the start: files whole, generated problems in part."""
    generated = isinstance(records, ProblemSource)
    return min(len(records), CHECKED_PROBLEMS) if generated else len(records)


def open_problems(config: ConfigDict) -> tuple[Sequence[Record], Sequence[Record]]:
    """Training and held-out problems as random-access records."""
    data = config.data
    if data.kind == "reasoning_gym":
        train, heldout = splits(
            [dict(task) for task in data.tasks],
            train_seed=data.train_seed,
            heldout_seed=data.heldout_seed,
            train_size=data.train_size,
            heldout_size=data.heldout_size,
            prompt_pattern=data.prompt_pattern or None,
            answer_template=data.answer_template,
            worked_share=data.worked_share,
        )
        return ProblemSource(train), ProblemSource(heldout)
    if data.kind == "symbols":
        if len(data.tasks) != 1:
            raise ValueError(
                f"kind='symbols' runs one task, got {len(data.tasks)} (config.data.tasks)."
            )
        train, heldout = symbol_splits(
            dict(data.tasks[0]),
            train_seed=data.train_seed,
            heldout_seed=data.heldout_seed,
            train_size=data.train_size,
            heldout_size=data.heldout_size,
        )
        return ProblemSource(train), ProblemSource(heldout)
    columns = {"chat_columns": (data.prompt_column,), "columns": (data.reference_column,)}
    train = open_source(data.kind, path=data.path or None, **columns)
    heldout = open_source(
        data.kind,
        path=data.heldout_path or None,
        path_field="config.data.heldout_path",
        **columns,
    )
    return train, heldout
