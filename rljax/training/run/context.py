"""What the stages of a run share."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from rljax.config.decoding import longest_evaluated
from rljax.config.graph import resolve_networks
from rljax.config.lengths import check_positions
from rljax.config.mesh import check_mesh, check_row_lengths
from rljax.config.model import resolve_model
from rljax.config.stage import Stage
from rljax.config.validate import plain, resolved_dict
from rljax.data.rows import prompt_of, reference_of
from rljax.data.text_format import Prompt, TextFormat
from rljax.data.tokenizers import Tokenizer
from rljax.environments.agents import Agents
from rljax.environments.problems import STATE
from rljax.environments.stepping import Stepper
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
from rljax.parallel.mesh import make_mesh, remesh
from rljax.parallel.rules import batch_sharding, rows_divisor
from rljax.processes.processes import ONE, Processes
from rljax.rewards.pool import Scorer
from rljax.sampling.distribution import TokenFilter, token_bias
from rljax.sampling.engine import Engine
from rljax.sampling.vocabulary import samplable_ids, text_only
from rljax.training.run.engines import (
    check_canvases,
    check_mask_token,
    check_sampler,
    sampling_config,
    stop_automaton,
    with_text_only,
)
from rljax.training.run.layout import choose_layouts
from rljax.training.run.meshes import run_meshes, sampler_sizes
from rljax.training.run.models import Model, check_models, check_read_positions, stage_networks
from rljax.training.run.problems import GENERATED, Record, checked_problems, prompt_column
from rljax.training.run.roles import with_roles
from rljax.training.run.start import Source, check_start
from rljax.training.run.text_format import make_text_format, settle_tokenizer, tokenizer_folder
from rljax.training.run.tokenizers import check_tokenizers, check_verdicts
from rljax.training.run.workers import make_workers
from rljax.training.update.likelihood import check_likelihoods
from rljax.training.update.logprobs import Statistics, make_score


@dataclasses.dataclass(frozen=True)
class Context:
    """The fixed surroundings of a run."""

    config: ConfigDict
    workdir: Path
    stages: tuple[Stage, ...]
    mesh: Mesh
    network: Network
    text_format: TextFormat
    train_problems: Sequence[Record]
    heldout_problems: Sequence[Record]
    scorer: Scorer
    stepper: Stepper | None = None  # of the environment, where there is one
    agents: Agents | None = None  # that play the episodes, where some do
    processes: Processes = ONE
    # Of the devices that only sample, where there are some (run/meshes.py).
    own_sampler_mesh: Mesh | None = None
    frozen: Params = dataclasses.field(default_factory=dict, repr=False)  # shared by all stages
    # By stage, and of a stage by role (run/models.py).
    networks: Mapping[str, Network] = dataclasses.field(default_factory=dict, repr=False)
    models: Mapping[str, Model] = dataclasses.field(default_factory=dict, repr=False)

    @contextlib.contextmanager
    def workers(self) -> Iterator[None]:
        """Ends the processes that score samples, and those of episodes, in the end."""
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Ends these processes now; may be called twice."""
        self.scorer.close()
        for workers in (self.stepper, self.agents):
            if workers is not None:
                workers.close()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the text format."""
        return self.text_format.tokenizer

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
        start that has changed since is another config. The layout of rows that follows from the
        devices (layout.py) is left open, as the config does: a run may go on with other ones.
        """
        resolved = resolved_dict(self.config, self.stages)
        for stage in self.stages:
            asked = self.config[stage.name].batch.get("share_prompts")
            resolved[stage.name]["batch"]["share_prompts"] = asked
        resolved["model"]["init_from"] = Source.of(self.config).init_from
        if folder := tokenizer_folder(self.config):
            resolved["tokenizer"]["path"] = str(folder.absolute())
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
        mesh: Mesh | None = None,
        network: Network | None = None,
    ) -> Engine:
        """A sampler with the run's settings, `config.sampler` (sampling/engine.py).

        It is on `sampler_mesh`, beside the trainer, unless a mesh is given; and of the run's
        network, unless another is.
        """
        stops = (*self.text_format.ends, *extra_stop_tokens)
        settings = self.config.sampler
        token_filter = text_only(token_filter, _samplable(self.network, self.text_format))
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
            network or self.network,
            config,
            mesh or self.sampler_mesh,
            weights=settings.weights,
            gather_weights=settings.gather_weights,
            stop_strings=stop_automaton(
                stop_strings, self.tokenizer, self.network.config.vocab_size
            ),
        )

    @property
    def sampler_mesh(self) -> Mesh:
        """The mesh of samplers on the trainer's devices, in the same order.

        Its sizes are those of `config.sampler.mesh`, unless these are of devices that only sample.
        """
        if self.own_sampler_mesh is not None:
            return self.mesh
        sizes = sampler_sizes(self.config)
        return remesh(self.mesh, sizes) if sizes else self.mesh

    @property
    def rollout_mesh(self) -> Mesh:
        """The mesh on which a stage samples what it learns from."""
        return self.own_sampler_mesh or self.sampler_mesh

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

    def prompts(self, records: Sequence[Record]) -> list[Prompt]:
        """The prompts of the run's problems, as the model reads them.

        Args:
            records: problems, each with its stable "id".
        """
        column = prompt_column(self.config)
        return [
            prompt_of(record, self.text_format, where=f"problem {record['id']}", column=column)
            for record in records
        ]

    def references(self, records: Sequence[Record]) -> list[Any]:
        """What the rewards compare with."""
        column = self.config.data.reference_column
        if self.config.data.kind in GENERATED:
            column = "reference"
        return [reference_of(record, column) for record in records]


def build_context(
    config: ConfigDict,
    stages: Sequence[Stage],
    workdir: Path,
    processes: Processes = ONE,
    meshes: tuple[Mesh, Mesh | None] | None = None,
    weights: bool = True,
    trains: bool = True,
) -> Context:
    """Opens everything that a run needs, checking as it goes; nothing is compiled.

    Args:
        config: complete.
        stages: as `validate` gives them.
        workdir: of the run.
        processes: of the run.
        meshes: as `run_meshes` gives them; by default over this process's devices.
        weights: whether the files that models start from are checked.
        trains: whether the stages learn from what they sample. A model that is only evaluated may
            be decoded otherwise than its objective scored samples.

    Raises:
        ValueError: bad mesh, model, tokenizer, data or reward settings.
    """
    config = settle_tokenizer(config)
    mesh, own_sampler_mesh = meshes or run_meshes(config, make_mesh)
    text_format = make_text_format(config)
    if weights:  # before sizes are compared, whose error says that the tokenizers agree
        check_tokenizers(stages, text_format.tokenizer)
    check_verdicts(stages, text_format.tokenizer)
    network, stages = build_network(
        config, stages, mesh, text_format.tokenizer.vocab_size, weights=weights
    )
    if trains:
        check_canvases(stages, config.sampler)
    check_mask_token(network.config, text_format.tokenizer)
    check_read_positions(
        network, stages, config.data.max_prompt_tokens, text_format.tokenizer.encode_inside
    )
    train, heldout = checked_problems(config, text_format)
    stages = with_roles(config, stages)
    samplable = _samplable(network, text_format)
    stages = tuple(with_text_only(stage, network.config, samplable) for stage in stages)
    networks = stage_networks(network, stages)
    # Last: they have processes, which an error would leave behind.
    scorer, stepper, agents = make_workers(config, text_format, processes)
    context = Context(
        config=config,
        workdir=workdir,
        stages=stages,
        mesh=mesh,
        network=network,
        text_format=text_format,
        train_problems=train,
        heldout_problems=heldout,
        scorer=scorer,
        stepper=stepper,
        agents=agents,
        own_sampler_mesh=own_sampler_mesh,
        networks=networks,
        processes=processes,
    )
    if config.scoring.try_first:
        try_rewards(context)
    return context


def try_rewards(context: Context) -> None:
    """Asks the rewards, and the environment, about the first training problem."""
    record = {**context.train_problems[0], "id": 0}
    (prompt,), (reference,) = context.prompts([record]), context.references([record])
    try:
        context.scorer.try_first(prompt.text, reference)
        if context.stepper is not None:
            context.stepper.try_first(record[STATE])
    except BaseException:
        context.close()
        raise


def _samplable(network: Network, text_format: TextFormat) -> np.ndarray:
    """[V] bool, the rows of the model that may be sampled."""
    known = text_format.tokenizer.known()
    return samplable_ids(known, network.config.vocab_size, text_format.ends)


def build_network(
    config: ConfigDict,
    stages: Sequence[Stage],
    mesh: Mesh,
    tokenizer_size: int,
    *,
    weights: bool = True,
) -> tuple[Network, tuple[Stage, ...]]:
    """The structure of the run's model, and its stages with the layout of their rows.

    Args:
        config: of the run.
        stages: as `validate` gives them.
        mesh: of the run.
        tokenizer_size: ids that the tokenizer can produce.
        weights: whether the files that models start from are checked.

    Raises:
        ValueError: unless model, mesh, rows, adapters and start fit each other.
    """
    model = resolve_model(config.model, tokenizer_size)
    model.check_mesh(dict(mesh.shape))
    check_sampler(model, config.sampler)
    stages = choose_layouts(config, resolve_networks(model, stages), model, mesh)
    check_likelihoods(stages, model)
    for stage in stages:
        token_bias(stage.token_filter, model.vocab_size)  # its checks
    check_mesh(stages, rows_divisor(mesh), config.evaluation.prompts_per_batch)
    check_row_lengths(stages, mesh.shape, config.data.max_prompt_tokens)
    longest = (config.data.max_prompt_tokens, longest_evaluated(config.evaluation))
    check_positions(stages, model, *longest)
    network = Network.create(model)
    check_rank(network)
    if weights:
        check_start(Source.of(config), network)
        check_models(network, stages, config.seed, mesh)
    return network, stages
