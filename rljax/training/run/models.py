"""The models of a stage by role: what each is, where it comes from, and whether it is trained.

    role        lives                           comes from
    policy      TrainState.params               what the stage starts from
    value       TrainState.carried["critic"]    a copy of the policy's trunk, or another model
    reference   beside the state, frozen        what the stage starts from, or another model
    reward      beside the state, frozen        another model
    teacher     beside the state, frozen        another model
    judge       beside the state, frozen        another model
    guide       beside the state, frozen        another model

Another model is the end of an earlier stage, what config.model says, another run's checkpoint or a
published folder. What is trained is saved with the state; what is frozen is never saved: a process
reads it again from where it comes from. A critic on the policy's own trunk is a head of the policy
and has no row of its own.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rljax.config.graph import MODEL, has_own_critic, start_of
from rljax.config.model import model_of_role
from rljax.config.runs import find_step
from rljax.config.stage import Stage
from rljax.data.tokenizers import holds_tokenizer
from rljax.errors import shown
from rljax.models.config import ModelConfig
from rljax.models.frozen_base import parameter_shardings
from rljax.models.heads import value_network
from rljax.models.lora import flatten, split_frozen, unflatten
from rljax.models.network import Network, Params
from rljax.models.pretrained import is_pretrained, read_config
from rljax.training.run.start import Source, check_start, load_start, with_stored_head
from rljax.training.update.state import placed

# Frozen roles whose network is that of wherever they come from.
OTHERS = ("reward", "teacher", "judge", "guide")

# Roles that several models may have; those after the first one are its members.
SEVERAL = ("reward", "teacher")

# Roles whose models read samples of the policy, or continue them.
READING = (*SEVERAL, "guide")


@dataclasses.dataclass(frozen=True)
class Model:
    """One role of a stage.

    Attributes:
        role: see above.
        network: its structure.
        origin: an earlier stage, `MODEL` or a folder; "" for a value model that begins as a copy
            of the policy.
        trained: whether it is part of the state.
        params: all of a frozen model, once it is read.
    """

    role: str
    network: Network
    origin: str
    trained: bool
    params: Params | None = dataclasses.field(default=None, repr=False)

    def arrays(self, mesh: Mesh) -> Params:
        """All of a frozen model; before it is read, descriptions of its arrays."""
        if self.params is not None:
            return self.params
        return jax.tree.map(placed, self.network.shapes, self.shardings(mesh))

    def shardings(self, mesh: Mesh) -> Params:
        """The sharding of each parameter that a state holds; of a frozen model, of all."""
        whole = parameter_shardings(self.network, mesh)
        return split_frozen(whole)[0] if self.trained else whole


def stage_networks(network: Network, stages: Sequence[Stage]) -> dict[str, Network]:
    """The network that each stage trains; equal ones are one object, so that programs are shared.

    Args:
        network: of config.model.
        stages: of `resolve_networks` (config/graph.py).
    """
    made = {network.config: network}
    for stage in stages:
        config = _config_of(network, stage)
        if config not in made:
            made[config] = Network.create(config)
    return {stage.name: made[_config_of(network, stage)] for stage in stages}


def models_of(network: Network, stages: Sequence[Stage], index: int) -> dict[str, Model]:
    """The table of a stage: role -> model, frozen ones without parameters.

    Args:
        network: of config.model.
        stages: of the run.
        index: of the stage.
    """
    stage, networks = stages[index], stage_networks(network, stages) | {MODEL: network}
    policy = networks[stage.name]
    table = {"policy": Model("policy", policy, start_of(stages, index), trained=True)}
    origins = {role: fields["start_from"] for role, fields in stage.models.items()}
    if has_own_critic(stage):
        table["value"] = Model("value", value_network(policy), origins.get("value", ""), True)
    if stage.freezes_reference:
        origin = origins.get("reference", table["policy"].origin)
        table["reference"] = Model("reference", policy, origin, trained=False)
    others = {role: origins[role] for role in OTHERS if role in origins}
    for role in SEVERAL:
        others |= dict(zip(role_names(stage, role)[1:], members_of(stage, role), strict=True))
    for role, origin in others.items():
        if origin is not None:
            found = networks.get(origin) or Network.create(model_of_role(origin, policy.config))
            table[role] = Model(role, found, origin, trained=False)
    return table


def members_of(stage: Stage, role: str) -> tuple[str, ...]:
    """Where a stage's models of a role come from besides the first one."""
    return tuple(stage.models.get(role, {}).get("members", ()))


def role_names(stage: Stage, role: str) -> list[str]:
    """The roles of a stage's reward models, say: reward, reward_2, reward_3, ..."""
    return [role, *(f"{role}_{n + 2}" for n in range(len(members_of(stage, role))))]


def check_models(network: Network, stages: Sequence[Stage], seed: int, mesh: Mesh) -> None:
    """Raises ValueError for a model that does not fit its role, before any parameter is read."""
    networks = stage_networks(network, stages) | {MODEL: network}
    for index, stage in enumerate(stages):
        table = models_of(network, stages, index)
        policy = table["policy"].network.config
        for role, model in table.items():
            where = f"config.{stage.name}.models.{role}.start_from"
            outside = model.origin not in ("", *networks)
            kind = next((name for name in SEVERAL if role in role_names(stage, name)), "")
            if role != kind != "":
                where = f"config.{stage.name}.models.{kind}.members"
            if kind == "reward":
                _check_reward(model, policy, where, stage.models["reward"])
            if kind == "teacher":
                _check_predicts(model, policy, where)
                _check_teaches(stage, model, table["policy"].origin, where)
            if role == "guide":
                _check_predicts(model, policy, where)
            if role == "reference":
                found = None if outside else networks[model.origin].config
                _check_reference(found or model_of_role(model.origin, policy), policy, where)
            if outside:
                model.network.config.check_mesh(dict(mesh.shape))
                _check_folder(model, Source(model.origin, seed), where)


def check_read_positions(
    network: Network,
    stages: Sequence[Stage],
    max_prompt_tokens: int,
    encode: Callable[[str], list[int]],
) -> None:
    """Raises ValueError where a sample is longer than the positions of a model that reads it.

    Args:
        network: of config.model.
        stages: of the run.
        max_prompt_tokens: of `config.data`.
        encode: of a text behind others, to ids; a generative reward model reads a question, too.
    """
    for index, stage in enumerate(stages):
        kinds = [kind for kind in READING if kind in stage.models] if stage.max_new_tokens else []
        found = models_of(network, stages, index) if kinds else {}
        for kind in kinds:
            tokens, fields = _read_tokens(stage, kind, max_prompt_tokens, encode)
            for role in role_names(stage, kind):
                found[role].network.config.check_positions(
                    tokens,
                    f"What the {kind} model {found[role].origin!r} reads ({' + '.join(fields)})",
                    f"lower one of them, or name another model (config.{stage.name}.models.{kind})",
                )


def _read_tokens(
    stage: Stage, kind: str, max_prompt_tokens: int, encode: Callable[[str], list[int]]
) -> tuple[int, list[str]]:
    """Tokens of a sample as a model reads it, and the fields that they follow from."""
    name, tokens = f"config.{stage.name}", max_prompt_tokens + stage.max_new_tokens
    fields = ["config.data.max_prompt_tokens", f"{name}.sampling.max_new_tokens"]
    if question := stage.models[kind].get("question"):
        tokens, fields = tokens + len(encode(question)), [*fields, f"{name}.models.{kind}.question"]
    if kind == "teacher" and "max_context_tokens" in stage.data:
        tokens += stage.data["max_context_tokens"]
        fields.append(f"{name}.data.max_context_tokens")
    return tokens, fields


def load_value(source: Source, network: Network, mesh: Mesh) -> Params:
    """What a value model begins with where it is no copy of the policy.

    The trunk, and the head of a value or reward model: a critic that begins as the reward model is
    InstructGPT's (arXiv:2203.02155, appendix C.4). Without such a head, and for a bias that the
    other head has not, zeros: every value is 0 first.

    Args:
        source: of the other model.
        network: of the value model.
        mesh: to place the parameters on.
    """
    read = flatten(load_start(source, _with_head_of(source, network), mesh)[0])
    leaves = {path: leaf for path, leaf in read.items() if path in flatten(network.shapes)}
    shardings = flatten(network.shardings(mesh))
    for path, shape in flatten(network.shapes).items():
        if path not in leaves:
            zeros = jnp.zeros(shape.shape, shape.dtype)
            leaves[path] = jax.device_put(zeros, shardings[path])
    return unflatten(leaves)


def _with_head_of(source: Source, network: Network) -> Network:
    """The network with the head of where it comes from; of drawn parameters, without scores."""
    described = {"head": "language_model", "head_outputs": 1, "head_bias": False}
    if is_pretrained(source.init_from):
        found = read_config(source.init_from)
        described = {name: getattr(found, name) for name in described}
    elif source.init_from:
        return with_stored_head(find_step(source.init_from), network)
    return Network.create(dataclasses.replace(network.config, **described))


def _config_of(network: Network, stage: Stage) -> ModelConfig:
    return dataclasses.replace(network.config, **stage.network)


def _check_folder(model: Model, source: Source, where: str) -> None:
    value, network = model.role == "value", model.network
    try:
        check_start(source, _with_head_of(source, network) if value else network)
    except ValueError as error:
        raise ValueError(
            f"{where}={model.origin!r} holds no {model.role} model for this stage: {error} "
            f"({where})."
        ) from error


def _check_reference(given: ModelConfig, policy: ModelConfig, where: str) -> None:
    """A reference is run by the policy's programs."""
    if given.head != policy.head:
        raise ValueError(
            f"{where} names a model with a {given.head} head; the reference of this stage must "
            f"have the head of its policy, {policy.head} ({where})."
        )


def _check_reward(model: Model, policy: ModelConfig, where: str, fields: Mapping[str, Any]) -> None:
    config, asked = model.network.config, bool(fields["question"] or fields["judge"])
    for name in ("question", "judge", "step_score"):
        if fields[name] and not config.causal:
            raise ValueError(
                f"{where}={model.origin!r} has causal=False, a network whose every slot sees the "
                f"whole sample; {name}={shown(fields[name])} reads slots that must not see what "
                f"comes behind them: leave it out, or name a causal model ({where}, "
                f"{where.rpartition('.')[0]}.{name})."
            )
    if asked and config.head != "language_model":
        raise ValueError(
            f"{where}={model.origin!r} has the head {config.head!r}; a model that is asked a "
            f"question is a language model ({where}, {where.rpartition('.')[0]}.question)."
        )
    if not asked and config.head not in ("reward", "value") or config.head_outputs != 1:
        raise ValueError(
            f"{where}={model.origin!r} has the head {config.head!r} with {config.head_outputs} "
            f"outputs; a model that scores samples needs 'reward' with one, or a question "
            f"({where}, {where.rpartition('.')[0]}.question)."
        )
    _check_vocabulary(model, policy, where)


def _check_predicts(model: Model, policy: ModelConfig, where: str) -> None:
    config, kind = model.network.config, model.role.partition("_")[0]
    if config.head != "language_model" or not config.causal:
        raise ValueError(
            f"{where}={model.origin!r} has the head {config.head!r} and causal={config.causal}; a "
            f"{kind} predicts the next token: 'language_model' and causal=True ({where})."
        )
    _check_vocabulary(model, policy, where)


def _check_teaches(stage: Stage, model: Model, start: str, where: str) -> None:
    """Refuses a teacher that the policy starts as, where nothing else would ever move it."""
    if model.origin == start and _learns_of_teacher_alone(stage):
        raise ValueError(
            f"{where}={model.origin!r} is what the policy starts as: every log-ratio is 0, and "
            f"nothing is learned; name another model ({where})."
        )


def _learns_of_teacher_alone(stage: Stage) -> bool:
    """Whether a policy that says what its teacher says has a gradient of zero."""
    choices, values = stage.objective.choices, stage.objective.values
    if "teacher_divergence" in stage.objective.inputs:
        same = choices["teacher_context"] == "same" and values["teacher_temperature"] == 1
        return same and values["likelihood_share"] == 0 and not members_of(stage, "teacher")
    return values.get("reward_weight") == 0 and not members_of(stage, "teacher")


def _check_vocabulary(model: Model, policy: ModelConfig, where: str) -> None:
    sizes = model.network.config.vocab_size, policy.vocab_size
    if sizes[0] == sizes[1]:
        return
    why = "it reads the policy's tokens and needs the same tokenizer"
    if is_pretrained(model.origin) and holds_tokenizer(model.origin):
        # `check_tokenizers` (tokenizers.py) has found the same tokens in both.
        why = (
            "both have the same tokenizer, so only rows differ that pad the table of tokens; equal "
            f"numbers are needed: save the larger model with {min(sizes)} rows "
            "(`resize_token_embeddings` of transformers cuts them) and name that folder"
        )
    raise ValueError(
        f"{where}={model.origin!r} has {sizes[0]} tokens, the policy {sizes[1]}: {why} ({where})."
    )
