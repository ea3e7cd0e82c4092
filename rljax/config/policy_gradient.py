"""Combinations of policy-gradient parts that cannot work, refused before anything runs."""

import math

import jax

from rljax.config.curriculum import OF_PROMPTS, PLANS, check_single_rows, refuse_others
from rljax.config.stage import Stage
from rljax.config.windows import check_windows
from rljax.objectives.arrays import abstract
from rljax.objectives.credit import CUTS
from rljax.objectives.parts import inputs_of
from rljax.registry.families.policy_gradient import POLICY_GRADIENT

# Fields of samples from prefixes.
OF_PREFIXES = POLICY_GRADIENT.fields["advantage=segment_difference"]

# What reads scores as soon as samples are drawn: the option that is left with answer_reward.
WITH_ANSWERS = {"rollouts": "whole", "group_filter": "none", "demonstrations": "none"}

# Surrogates that read no ratio, or make one of their own.
WITHOUT_RATIO = frozenset({"policy_gradient", "sandwich", "boundary"})


def check_policy_gradient(stage: Stage, where: str) -> None:
    """Raises ValueError for parts that do not go together, naming the fields.

    Args:
        stage: resolved.
        where: its path in the config.
    """
    for check in (
        _bounds,
        _ratio,
        _temperature,
        _components,
        _critic,
        _denoising_critic,
        _corrections,
        _demonstrations,
        _guidance,
        _scaffold,
        _filter,
        _groups,
        _prefixes,
        _tree,
        _search,
        _answers,
    ):
        check(stage, where)
    if stage.objective.choices["rollouts"] == "windows":
        check_windows(stage, where)
    _fields(stage, where)


def _ratio(stage: Stage, where: str) -> None:
    choices = stage.objective.choices
    ratio, surrogate = choices["ratio"], choices["surrogate"]
    if (ratio == "none") != (surrogate in WITHOUT_RATIO):
        raise ValueError(
            f"ratio={ratio!r} does not go with surrogate={surrogate!r}: 'policy_gradient' reads no "
            f"ratio and {surrogate if surrogate not in WITHOUT_RATIO else 'clipped'!r} has nothing "
            f"to work on without one ({where}.objective.ratio, {where}.objective.surrogate)."
        )
    exact = choices["likelihood"] == "autoregressive"  # else there is no exact ratio to take
    if ratio == "none" and exact and stage.batch.updates_per_step > 1:
        raise ValueError(
            f"{stage.batch.updates_per_step} updates per step make the later ones off-policy, and "
            f"ratio='none' does not correct for it: set sequences_per_update="
            f"{stage.batch.sequences_per_step} and epochs_per_step=1, or a ratio "
            f"({where}.batch.sequences_per_update, {where}.objective.ratio)."
        )
    if ratio == "segment" and choices["segmentation"] == "none":
        raise ValueError(
            "ratio='segment' without segments is a ratio of whole sequences: choose a segmentation "
            f"({where}.objective.segmentation, {where}.objective.ratio)."
        )


def _bounds(stage: Stage, where: str) -> None:
    """Surrogates on draws of masks need a likelihood that draws."""
    choices = stage.objective.choices
    reads = "draw_logprobs" in inputs_of(stage.objective.functions["surrogate"])
    if reads and choices["likelihood"] == "autoregressive":
        raise ValueError(
            f"surrogate={choices['surrogate']!r} compares draws of masks, and "
            f"likelihood={choices['likelihood']!r} draws none: take 'elbo' "
            f"({where}.objective.likelihood)."
        )


def _temperature(stage: Stage, where: str) -> None:
    """The temperature may follow one thing, and in completions that are sampled in one go."""
    chosen, rollouts = (
        stage.objective.choices[name] for name in ("sampling_temperature", "rollouts")
    )
    if chosen == "constant":
        return
    if stage.token_filter.entropy_temperature is not None:
        raise ValueError(
            f"sampling_temperature={chosen!r} and entropy_theta="
            f"{stage.token_filter.entropy_temperature.theta} would both set the temperature: "
            f"sampling_temperature must be 'constant' or entropy_theta 0 "
            f"({where}.objective.sampling_temperature, {where}.sampling.entropy_theta)."
        )
    if rollouts != "whole":
        raise ValueError(
            f"sampling_temperature={chosen!r} is for whole completions, and rollouts={rollouts!r}: "
            f"sampling_temperature must be 'constant' or rollouts 'whole' "
            f"({where}.objective.sampling_temperature, {where}.objective.rollouts)."
        )


def _critic(stage: Stage, where: str) -> None:
    """A part that reads values needs a critic, and a critic something that reads it."""
    choices, functions = stage.objective.choices, stage.objective.functions
    advantage, target = choices["advantage"], choices["value_target"]
    reads = "values" in inputs_of(functions["advantage"])
    if reads and target == "none":
        raise ValueError(
            f"advantage={advantage!r} reads the values of a critic, and there is none: choose what "
            f"it learns, value_target='lambda_returns' say ({where}.objective.value_target)."
        )
    if target == OF_PROMPTS and reads:
        raise ValueError(
            f"advantage={advantage!r} reads values of every token, and value_target={target!r} "
            f"teaches those of prompts alone ({where}.objective.advantage, "
            f"{where}.objective.value_target)."
        )
    if target not in ("none", OF_PROMPTS, OF_COMPONENTS[1]) and not reads:
        raise ValueError(
            f"value_target={target!r} trains a critic that advantage={advantage!r} never reads "
            f"({where}.objective.advantage, {where}.objective.value_target)."
        )


# The advantage and the target of a critic with a head for each reward: both, or neither.
OF_COMPONENTS = ("mixed_components", "component_returns")


def _components(stage: Stage, where: str) -> None:
    """Advantages of several rewards need a critic with a head for each, and their thresholds."""
    choices, (advantage, target) = stage.objective.choices, OF_COMPONENTS
    chosen = choices["advantage"] == advantage, choices["value_target"] == target
    if chosen[0] != chosen[1]:
        raise ValueError(
            f"advantage={choices['advantage']!r} does not go with value_target="
            f"{choices['value_target']!r}: {advantage!r} reads a value of each reward, which "
            f"{target!r} teaches a critic, and neither is of use without the other "
            f"({where}.objective.advantage, {where}.objective.value_target)."
        )
    if chosen[0] and not stage.objective.values["thresholds"]:
        raise ValueError(
            f"advantage={advantage!r} holds each reward at a threshold, and there is none: "
            f"thresholds must hold a number for each reward that is trained on "
            f"({where}.objective.thresholds, config.scoring.rewards)."
        )


# Parts of a critic that values the steps of a denoising sampler: all of them, or none.
OF_TRAJECTORY = {
    "segmentation": "trajectory",
    "advantage": "trajectory_gae",
    "value_target": "trajectory_returns",
}


def _denoising_critic(stage: Stage, where: str) -> None:
    """A critic of masked diffusion reads the passes of a trajectory, and nothing else has any."""
    choices, of_trajectory = stage.objective.choices, OF_TRAJECTORY.items()
    chosen = [f"{name}={option!r}" for name, option in of_trajectory if choices[name] == option]
    drawn = choices["likelihood"] != "autoregressive"
    if not chosen and not (drawn and choices["value_target"] != "none"):
        return
    all_of_them = ", ".join(f"{name}={option!r}" for name, option in of_trajectory)
    if len(chosen) < len(OF_TRAJECTORY):
        said = chosen or [f"value_target={choices['value_target']!r}"]
        raise ValueError(
            f"{', '.join(said)} with likelihood={choices['likelihood']!r}: a critic of masked "
            f"diffusion values the steps of the sampler, which takes {all_of_them} "
            f"({where}.objective)."
        )
    if not drawn or stage.objective.values["masking"] != "trajectory":
        raise ValueError(
            f"{all_of_them} read the steps in which a sample was filled: they need "
            f"likelihood='elbo' and masking='trajectory' ({where}.objective.likelihood, "
            f"{where}.objective.masking)."
        )


def _corrections(stage: Stage, where: str) -> None:
    """The difference between sampler and trainer may be counted once."""
    choices = stage.objective.choices
    for name in ("correction", "rejection"):
        if choices["denominator"] == "behavior" and choices[name] != "none":
            raise ValueError(
                f"denominator='behavior' and {name}={choices[name]!r} count the difference between "
                f"sampler and trainer twice: one of them must be 'old' or 'none' "
                f"({where}.objective.denominator, {where}.objective.{name})."
            )
    if choices["denominator"] == "behavior" and choices["ratio"] == "none":
        raise ValueError(
            "denominator='behavior' is never read with ratio='none' "
            f"({where}.objective.denominator, {where}.objective.ratio)."
        )
    if choices["kl_controller"] != "fixed" and stage.objective.kl is None:
        raise ValueError(
            f"kl_controller={choices['kl_controller']!r} has no KL to control: set kl_placement "
            f"and a kl_weight > 0 ({where}.objective.kl_placement)."
        )


def _demonstrations(stage: Stage, where: str) -> None:
    reads, chosen = "demonstration" in stage.objective.inputs, stage.objective.choices
    if reads and chosen["demonstrations"] in ("none", "scaffolded"):
        raise ValueError(
            f"advantage={chosen['advantage']!r} reads demonstrations, and there "
            f"are none ({where}.objective.demonstrations)."
        )


# What is left with samples behind hints, which are drawn after the others and not for all prompts.
WITH_GUIDANCE = {
    "rollouts": "whole",
    "allocation": "fixed",
    "group_filter": "none",
    "sampling_temperature": "constant",
    "denominator": "old",
    "correction": "none",
    "rejection": "none",
    "selection": "none",
    "token_weight": "none",
    "answer_reward": "none",
    "likelihood": "autoregressive",
    "value_target": "none",
}


# What is left where a sample behind a hint takes the place of one without.
WITH_SCAFFOLD = {
    "rollouts": "whole",
    "allocation": "fixed",
    "group_filter": "none",
    "sampling_temperature": "constant",
    "answer_reward": "none",
    "value_target": "none",
}


def _scaffold(stage: Stage, where: str) -> None:
    """Samples with a prompt of their own, known to be right by verifiers alone."""
    if stage.objective.choices["demonstrations"] != "scaffolded":
        return
    because = "demonstrations='scaffolded'"
    refuse_others(stage, WITH_SCAFFOLD, because, where)
    check_single_rows(stage, because, where)


def _guidance(stage: Stage, where: str) -> None:
    """Samples behind hints have a denominator of their own, and are judged by verifiers alone."""
    choices = stage.objective.choices
    if not stage.objective.guided:
        return
    refuse_others(stage, WITH_GUIDANCE, "demonstrations='guided'", where)
    if stage.token_filter.entropy_temperature is not None:
        raise ValueError(
            f"entropy_theta={stage.token_filter.entropy_temperature.theta} gives tokens a "
            "temperature of the prompt that they were sampled behind, and demonstrations='guided' "
            f"learns them behind another: set it to 0 ({where}.sampling.entropy_theta)."
        )
    if "greedy_scores" in stage.objective.inputs:
        raise ValueError(
            f"advantage={choices['advantage']!r} compares a sample with its prompt alone, and "
            "demonstrations='guided' with samples behind a hint: take one that compares the "
            f"samples of a group ({where}.objective.advantage)."
        )


def _filter(stage: Stage, where: str) -> None:
    """What decides over a group must be known as soon as it is sampled, and decide alone."""
    choices = stage.objective.choices
    if choices["group_filter"] == "none":
        return
    shaping = stage.objective.functions["reward_shaping"]
    later = {"old_entropy", "old_logprobs", "ref_logprobs"} & set(inputs_of(shaping))
    if later:
        raise ValueError(
            f"reward_shaping={choices['reward_shaping']!r} reads {sorted(later)[0]!r}, not known "
            f"when group_filter={choices['group_filter']!r} decides what is sampled again "
            f"({where}.objective.reward_shaping, {where}.objective.group_filter)."
        )
    if choices["demonstrations"] == "switch":
        raise ValueError(
            f"group_filter={choices['group_filter']!r} drops the groups that "
            f"demonstrations='switch' is made for ({where}.objective.group_filter, "
            f"{where}.objective.demonstrations)."
        )


def _groups(stage: Stage, where: str) -> None:
    """Parts of a whole batch that compare the samples of a prompt need them in one update."""
    batch = stage.batch
    whole = {"score_weights"} & set(stage.objective.batch_inputs)
    if whole and batch.sequences_per_update % batch.rows_per_prompt:
        raise ValueError(
            f"surrogate={stage.objective.choices['surrogate']!r} compares the samples of a prompt: "
            f"sequences_per_update={batch.sequences_per_update} must be a multiple of "
            f"{batch.rows_per_prompt} ({where}.batch.sequences_per_update)."
        )


def _prefixes(stage: Stage, where: str) -> None:
    """Values of segments need states that samples can start from, and nothing besides scores."""
    choices = stage.objective.choices
    if "start_values" not in stage.objective.inputs:
        return
    advantage = choices["advantage"]
    if choices["rollouts"] == "windows":
        raise ValueError(
            f"advantage={advantage!r} takes values from whole completions: rollouts must be "
            f"'whole' or 'tree', got 'windows' ({where}.objective.rollouts)."
        )
    if choices["rollouts"] == "whole" and choices["segmentation"] not in CUTS:
        raise ValueError(
            f"advantage={advantage!r} takes values at the cuts of a segmentation: "
            f"segmentation must be one of {', '.join(map(repr, CUTS))}, got "
            f"{choices['segmentation']!r} ({where}.objective.segmentation)."
        )
    if choices["reward_shaping"] != "none" or choices["kl_placement"] == "reward":
        raise ValueError(
            f"advantage={advantage!r} compares the score of a sample with the scores of others "
            f"from the same state, which reward_shaping={choices['reward_shaping']!r} and "
            f"kl_placement={choices['kl_placement']!r} would leave as they are: take 'none', and "
            f"'loss' or 'none' ({where}.objective.reward_shaping, "
            f"{where}.objective.kl_placement)."
        )
    if choices["demonstrations"] != "none":
        raise ValueError(
            f"demonstrations={choices['demonstrations']!r} have no values of states for "
            f"advantage={advantage!r}: take 'none' ({where}.objective.demonstrations)."
        )


def _answers(stage: Stage, where: str) -> None:
    """Scores by the likelihood of an answer come after the verifier's, and replace them all."""
    choices = stage.objective.choices
    if choices["answer_reward"] == "none":
        return
    for name, option in WITH_ANSWERS.items():
        if choices[name] != option:
            raise ValueError(
                f"{name}={choices[name]!r} reads scores before answer_reward="
                f"{choices['answer_reward']!r} replaces them: it must be {option!r} "
                f"({where}.objective.{name}, {where}.objective.answer_reward)."
            )
    if "greedy_scores" in stage.objective.inputs:
        raise ValueError(
            f"advantage={choices['advantage']!r} compares with a greedy completion that the "
            f"verifier scores, and answer_reward={choices['answer_reward']!r} scores the others: "
            f"choose another ({where}.objective.advantage, {where}.objective.answer_reward)."
        )
    if "reward" in stage.models:
        raise ValueError(
            f"answer_reward={choices['answer_reward']!r} takes the place of the reward model: "
            f"leave out one of them ({where}.models.reward, {where}.objective.answer_reward)."
        )


def _tree(stage: Stage, where: str) -> None:
    """The leaves of a tree are the samples of its prompt; edges bring their own values."""
    choices, values = stage.objective.choices, stage.objective.values
    if choices["rollouts"] != "tree":
        return
    if "start_values" not in stage.objective.inputs:
        raise ValueError(
            f"rollouts='tree' gives values to segments, and advantage={choices['advantage']!r} "
            "reads none: take 'segment_difference', or rollouts='whole' "
            f"({where}.objective.advantage, {where}.objective.rollouts)."
        )
    if choices["group_filter"] != "none":
        raise ValueError(
            f"group_filter={choices['group_filter']!r} does not go with rollouts='tree', where "
            f"edges without an advantage are left out ({where}.objective.group_filter)."
        )
    branching, tokens = tuple(values["branching"]), values["segment_tokens"]
    if stage.batch.samples_per_prompt != math.prod(branching):
        raise ValueError(
            f"samples_per_prompt={stage.batch.samples_per_prompt} must be the number of leaves, "
            f"{' x '.join(map(str, branching))} = {math.prod(branching)} of branching={branching} "
            f"({where}.batch.samples_per_prompt, {where}.objective.branching)."
        )
    inner = (len(branching) - 1) * tokens
    if stage.max_new_tokens <= inner:
        raise ValueError(
            f"max_new_tokens={stage.max_new_tokens} leaves nothing for the last level of a tree "
            f"whose {len(branching) - 1} levels before it take segment_tokens={tokens} each: it "
            f"must be > {inner} ({where}.sampling.max_new_tokens, "
            f"{where}.objective.segment_tokens)."
        )
    for name in ("value_samples", "cut_limit", "fill_values"):
        if values[name] != OF_PREFIXES[name].default:
            raise ValueError(
                f"{name}={values[name]!r} is never read with rollouts='tree', whose nodes have the "
                f"values of their children ({where}.objective.{name})."
            )


# What is left with searched trees, whose pieces have values of their own.
WITH_SEARCH = {
    "curriculum": "shuffled",
    "allocation": "fixed",
    "sampling_temperature": "constant",
    "answer_reward": "none",
    "reward_shaping": "none",
    "group_filter": "none",
    "demonstrations": "none",
    "denominator": "old",
    "correction": "none",
    "rejection": "none",
    "value_target": "none",
    "likelihood": "autoregressive",
    "kl_placement": ("none", "loss"),
}


def _search(stage: Stage, where: str) -> None:
    """Values of nodes come from the search alone, and no sampler reports kept solutions."""
    choices, inputs = stage.objective.choices, stage.objective.inputs
    searched = choices["rollouts"] == "search"
    reads = "end_values" in inputs and "start_values" not in inputs
    if reads != searched:
        raise ValueError(
            f"rollouts={choices['rollouts']!r} does not go with advantage="
            f"{choices['advantage']!r}: 'search' gives values to pieces, which 'search_mean' reads "
            f"and no other does ({where}.objective.rollouts, {where}.objective.advantage)."
        )
    if not searched:
        return
    refuse_others(stage, WITH_SEARCH, "rollouts='search'", where)
    if stage.token_filter.entropy_temperature is not None:
        raise ValueError(
            f"entropy_theta={stage.token_filter.entropy_temperature.theta} gives tokens a "
            "temperature that kept solutions of rollouts='search' do not have: set it to 0 "
            f"({where}.sampling.entropy_theta)."
        )
    penalty = stage.objective.values["penalty_tokens"]
    if penalty is not None and penalty > stage.max_new_tokens:
        raise ValueError(
            f"penalty_tokens={penalty} is more than max_new_tokens={stage.max_new_tokens} "
            f"({where}.objective.penalty_tokens, {where}.sampling.max_new_tokens)."
        )


def _fields(stage: Stage, where: str) -> None:
    """Every part sees its fields once, on arrays without numbers: it checks them itself."""
    components = len(stage.objective.values.get("thresholds", ())) or 2
    for choice, part in stage.objective.functions.items():
        if choice in PLANS:  # no functions of arrays: config/curriculum.py
            continue
        bound = stage.objective.bind(part)
        arrays = [
            abstract(name, slots=stage.max_new_tokens, components=components)
            for name in inputs_of(part)
        ]
        try:
            jax.eval_shape(bound, *arrays)
        except ValueError as error:
            raise ValueError(str(error).replace("config.<stage>", where)) from error
