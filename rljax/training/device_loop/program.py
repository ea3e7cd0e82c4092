"""What is static in a compiled run: network, stage, samplers, task."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.config.decoding import decoding_of
from rljax.config.graph import resolve_networks
from rljax.config.model import resolve_model
from rljax.config.stage import Stage
from rljax.config.validate import plain, validate
from rljax.data.tokenizers import load_tokenizer
from rljax.models.network import Network
from rljax.objectives.curricula import Problems
from rljax.rewards.member import RewardSpec, parse_rewards
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.sampler import Sampler, make_sampler
from rljax.tasks.symbols.alphabet import EOS_ID, PAD_ID, VOCAB_SIZE
from rljax.training.collect.rounds import drawn_at_once
from rljax.training.device_loop.data import TaskData, load_task, make_judge
from rljax.training.run.engines import check_sampler, stop_automaton, with_text_only
from rljax.training.run.layout import choose_layouts

# Arrays that only the host loop makes.
ON_HOST = frozenset(
    {"start_values", "answer_logprobs", "base_scores", "satisfied", "components", "roles"}
)


@dataclasses.dataclass(frozen=True)
class DeviceProgram:
    """One stage of policy gradients on a symbol task."""

    config: ConfigDict
    stage: Stage
    network: Network
    train: TaskData
    heldout: TaskData
    problems: Problems  # what curricula know of those in `train`
    judge: Callable
    sample: Sampler
    greedy: Sampler  # one completion of each prompt of a step
    evaluate: Sampler  # one completion of each held-out problem

    @classmethod
    def create(cls, config: ConfigDict, mesh: Mesh) -> "DeviceProgram":
        """Builds what a config says; nothing is compiled.

        Raises:
            ValueError: for a config that needs the host: texts, several stages, adapters, prefixes.
        """
        (stage,) = check_device_loop(config, validate(config))
        model = resolve_model(config.model, VOCAB_SIZE)
        check_sampler(model, config.sampler)
        (stage,) = resolve_networks(model, (stage,))
        if stage.network:
            raise ValueError(
                f"The device loop trains the network of config.model, got another head for stage "
                f"{stage.name!r} (config.{stage.name}.network.head)."
            )
        (stage,) = choose_layouts(config, (stage,), model, mesh)
        samplable = np.arange(model.vocab_size) < VOCAB_SIZE
        stage = with_text_only(stage, model, samplable)
        network = Network.create(model)
        train, heldout, problems = load_task(config, stage)

        evaluation = config.evaluation
        judged = decoding_of(evaluation, (stage,), 0)
        greedy = stage.token_filter.at_temperature(0.0)
        sizes = drawn_at_once(stage), stage.max_new_tokens
        return cls(
            config=config,
            stage=stage,
            network=network,
            train=train,
            heldout=heldout,
            problems=problems,
            judge=make_judge(config),
            sample=_sampler(network, *sizes, stage.token_filter, stage.stop_strings),
            greedy=_sampler(network, 1, stage.max_new_tokens, greedy, stage.stop_strings),
            evaluate=_sampler(
                network,
                1,
                evaluation.max_new_tokens,
                judged.token_filter.at_temperature(0.0),
                judged.stop_strings,
            ),
        )


def _sampler(
    network: Network,
    samples: int,
    new_tokens: int,
    token_filter: TokenFilter,
    stop_strings: tuple[str, ...],
) -> Sampler:
    """A sampler of the symbols' vocabulary."""
    config = SamplingConfig(
        samples_per_prompt=samples,
        max_new_tokens=new_tokens,
        stop_tokens=(EOS_ID,),
        pad_token=PAD_ID,
        token_filter=token_filter,
        shrink=(),
        lockstep=True,
    )
    stops = stop_automaton(stop_strings, load_tokenizer("symbols"), network.config.vocab_size)
    return functools.partial(make_sampler(network, config), stop_strings=stops)


def _check_no_episodes(config: ConfigDict) -> None:
    for field in ("name", "agent"):
        if given := config.environment[field]:
            raise ValueError(
                f"The device loop plays no episodes of {given!r}: leave the {field} out "
                f"(config.environment.{field})."
            )


def _is_bare(first: RewardSpec) -> bool:
    """Whether a reward is the verifier of the symbol tasks, without weight and options."""
    bare = {"name": "symbols", "as": first.label, "right_at": first.right_at}
    return [first] == parse_rewards([bare])


def check_device_loop(config: ConfigDict, stages: tuple[Stage, ...]) -> tuple[Stage]:
    """Raises ValueError unless the whole run can be one program."""
    _check_no_episodes(config)
    if config.data.kind != "symbols":
        raise ValueError(
            f"kind={config.data.kind!r} has rewards of texts; the device loop runs tasks with a "
            "verifier in JAX, kind='symbols' (config.data.kind)."
        )
    first, *others = parse_rewards(config.scoring.rewards)
    if others or not _is_bare(first):
        raise ValueError(
            "The device loop scores with the verifier of the task: it takes the reward 'symbols' "
            f"alone, which may have a label and right_at, got {plain(config.scoring.rewards)} "
            "(config.scoring.rewards)."
        )
    if len(stages) != 1 or not stages[0].objective.description.device_loop:
        raise ValueError(
            f"The device loop runs one stage of policy gradients, got {len(stages)}: "
            f"{', '.join(stage.objective.method.name for stage in stages)}; start from the "
            "checkpoint of an earlier stage instead (config.stages, config.model.init_from)."
        )
    (stage,) = stages
    if config.model.lora.rank:
        raise ValueError(
            f"rank={config.model.lora.rank}: the device loop trains whole models "
            "(config.model.lora.rank)."
        )
    if stage.models:
        raise ValueError(
            "The device loop reads no models besides those that it makes itself, got "
            f"{', '.join(stage.models)} (config.{stage.name}.models)."
        )
    _check_objective(stage)
    return stages


def _check_objective(stage: Stage) -> None:
    """Raises ValueError for parts of an objective that only the host loop has."""
    rollouts = stage.objective.choices["rollouts"]
    if rollouts != "whole":
        raise ValueError(
            f"rollouts={rollouts!r} needs the host loop; the device loop samples whole completions "
            f"(config.{stage.name}.objective.rollouts)."
        )
    allocation = stage.objective.choices["allocation"]
    if allocation not in ("fixed", "successive"):
        raise ValueError(
            f"allocation={allocation!r} needs the host loop: prompts get different numbers of "
            f"samples (config.{stage.name}.objective.allocation)."
        )
    demonstrations = stage.objective.choices["demonstrations"]
    if demonstrations in ("guided", "scaffolded"):
        raise ValueError(
            f"demonstrations={demonstrations!r} needs the host loop, where hints become prompts "
            f"(config.{stage.name}.objective.demonstrations)."
        )
    likelihood = stage.objective.choices["likelihood"]
    if likelihood != "autoregressive":
        raise ValueError(
            f"likelihood={likelihood!r} needs the host loop: the device loop samples token by "
            f"token (config.{stage.name}.objective.likelihood)."
        )
    on_host = ON_HOST & stage.objective.inputs
    if on_host:
        raise ValueError(
            f"method={stage.objective.method.name!r} reads {sorted(on_host)[0]!r}, which only the "
            f"host loop makes (config.{stage.name}.method)."
        )
