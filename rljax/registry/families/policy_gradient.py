"""Learning from a verifier: samples of a prompt are scored and compared."""

from rljax.objectives.advantages import (
    ADVANTAGES,
    BASELINE_UPDATES,
    NEEDS_GROUPS,
    update_role_baselines,
)
from rljax.objectives.advantages.reweighted import next_loss_history
from rljax.objectives.advantages.signed import SIGNS
from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.allocation import ALLOCATIONS
from rljax.objectives.answer_rewards import ANSWER_REWARDS
from rljax.objectives.batch_inputs import BATCH_INPUTS, TOKEN_WEIGHTS
from rljax.objectives.corrections import CORRECTIONS, REJECTIONS
from rljax.objectives.credit import SEGMENTATIONS
from rljax.objectives.credit.component_gae import (
    component_advantages,
    component_critic_loss,
    component_rewards,
    rewards_to_go,
)
from rljax.objectives.credit.search_values import DEPTH_BONUSES
from rljax.objectives.credit.tree import EDGE_STYLES, edge_advantages
from rljax.objectives.curricula import CURRICULA
from rljax.objectives.distillation import TEACHERS
from rljax.objectives.guide_policies import GUIDE_POLICIES
from rljax.objectives.hypervolume import META_APPLIED_TO, update_front
from rljax.objectives.kl_controllers import KL_CONTROLLERS, KL_UNITS
from rljax.objectives.multipliers import MULTIPLIER_STEPS, THRESHOLD_KINDS, move_multipliers
from rljax.objectives.objective_weights import move_objective_weights
from rljax.objectives.parts import Field, fields_of
from rljax.objectives.ratios import RATIOS
from rljax.objectives.reward_shaping import REWARD_SHAPINGS
from rljax.objectives.selections import GROUP_FILTERS, SELECTIONS
from rljax.objectives.surrogates import SURROGATES
from rljax.objectives.temperatures import TEMPERATURES
from rljax.objectives.values import VALUE_TARGETS, critic_loss
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.limits import COUNT, NOT_NEGATIVE, SHARE, Limit, one_of
from rljax.registry.families.shared import (
    ADVANTAGE_EPSILON_DOC,
    AGGREGATION_DOCS,
    AGGREGATION_LIMITS,
    ANSWER_DATA,
    ANSWER_FORM,
    ANSWER_FORM_DOCS,
    ANSWER_FORM_LIMITS,
    CONTEXT_PATTERN_LIMIT,
    CONTEXT_ROOM,
    CURRICULUM_DOC,
    KL_DOCS,
    KL_LIMITS,
    LIKELIHOOD_DOCS,
    LIKELIHOOD_FIELDS,
    LIKELIHOOD_LIMITS,
    LIKELIHOODS,
    ROLLOUT_BATCH,
    SAMPLING,
    SUPERVISED_WEIGHT_DOC,
    kl_fields,
)

_CHOICES = {
    "curriculum": {"shuffled": None, **CURRICULA},
    "allocation": {"fixed": None, **ALLOCATIONS},
    "rollouts": {"whole": None, "windows": None, "tree": None, "search": None, **GUIDE_POLICIES},
    "sampling_temperature": TEMPERATURES,
    "answer_reward": {"none": None, **ANSWER_REWARDS},
    "reward_shaping": REWARD_SHAPINGS,
    "group_filter": GROUP_FILTERS,
    "segmentation": SEGMENTATIONS,
    "advantage": ADVANTAGES,
    "teacher": TEACHERS,
    "value_target": {"none": None, **VALUE_TARGETS},
    "ratio": RATIOS,
    "denominator": {"old": None, "behavior": None},
    "surrogate": SURROGATES,
    "token_weight": TOKEN_WEIGHTS,
    "correction": CORRECTIONS,
    "rejection": REJECTIONS,
    "selection": SELECTIONS,
    "aggregation": AGGREGATIONS,
    "likelihood": LIKELIHOODS,
    "kl_placement": {"none": None, "loss": None, "reward": None},
    "kl_controller": KL_CONTROLLERS,
    "demonstrations": dict.fromkeys(("none", "switch", "in_group", "guided", "scaffolded")),
}

_DEFAULTS = {
    "curriculum": "shuffled",
    "allocation": "fixed",
    "rollouts": "whole",
    "sampling_temperature": "constant",
    "answer_reward": "none",
    "reward_shaping": "none",
    "teacher": "none",
    "value_target": "none",
    "group_filter": "none",
    "segmentation": "none",
    "denominator": "old",
    "token_weight": "none",
    "correction": "none",
    "rejection": "none",
    "selection": "none",
    "aggregation": "token_mean",
    "likelihood": "autoregressive",
    "kl_placement": "none",
    "kl_controller": "fixed",
    "demonstrations": "none",
}

_FIELDS = {
    "": {
        "entropy_weight": Field(0.0, float),
        "advantage_sign": Field("both", str),
        "likelihood_weight": Field(0.0, float),
    },
    **LIKELIHOOD_FIELDS,
    **{
        f"group_filter={option}": {"filter_rounds": Field(10, int)}
        for option in GROUP_FILTERS
        if option != "none"
    },
    "kl_controller=adaptive": {"kl_unit": Field("sequence_sum", str)},
    "demonstrations=switch": {
        "switch_threshold": Field(0.0, float),
        "supervised_weight": Field(1.0, float),
    },
    "demonstrations=in_group": {
        "shaping": Field(0.1, float),
        "demonstration_nll": Field(0.0, float),
    },
    "demonstrations=guided": {
        "guided_cap": Field(None, float),
        "hint_pattern": Field("{prompt}\nHint: {context}\n", str),
    },
    "demonstrations=scaffolded": {
        "exempt_share": Field(0.15, float),
        "hint_levels": Field(12, int),
        "hint_pattern": Field("{prompt}\nHints: {context}\n", str),
    },
    "advantage=segment_difference": {
        "value_samples": Field(9, int),
        "cut_limit": Field(8, int),
        "fill_values": Field(False, bool),
        "unfinished_score": Field(0.0, float),
    },
    "reward_shaping=gradient_weighted": {
        "component_count": Field(2, int),
        "weight_layers": Field((), tuple, int),
    },
    "advantage=reweighted_components": {"component_count": Field(2, int)},
    "advantage=mixed_components": {"multiplier_step": Field("update", str)},
    "advantage=role_baseline": {"role_count": Field(2, int)},
    "rollouts=windows": {"window_tokens": Field(32, int)},
    "rollouts=tree": {
        "branching": Field((6, 6, 6), tuple),
        "segment_tokens": Field(30, int),
        **fields_of(edge_advantages),
    },
    "rollouts=search": {
        "segment_tokens": Field(256, int),
        "search_width": Field(8, int),
        "most_expansions": Field(256, int),
        "exploration": Field(2.0, float),
        "parent_weight": Field(0.4, float),
        "entropy_bonus": Field(0.0, float),
        "depth_weight": Field(0.01, float),
        "depth_bonus": Field("sqrt", str),
        "backup_floor": Field(0.1, float),
        "incomplete_value": Field(-1.0, float),
        "penalty_tokens": Field(None, int),
        "screen_samples": Field(4, int),
        "hard_share": Field(0.25, float),
        "round_steps": Field(100, int),
        "kept_solutions": Field(1024, int),
    },
    **{
        # What a probability of 0 would be worth; log-probabilities have no lowest value.
        f"answer_reward={option}": ANSWER_FORM
        | {"missing_phrase_reward": Field(-100.0 if option == "log_probability" else 0.0, float)}
        for option in ANSWER_REWARDS
    },
    "surrogate=lp_reg": {"proxy_threshold": Field(0.02, float)},
    "kl_placement=loss": kl_fields("k3_plus", 0.0) | {"kl_importance_weighted": Field(False, bool)},
    "kl_placement=reward": kl_fields("k1", 0.0),
}

_DOCS = {
    "curriculum": CURRICULUM_DOC,
    "allocation": "how many samples a prompt gets (objectives/allocation.py)",
    "rollouts": "whole completions; windows: a bounded number of new tokens a step; tree: "
    "branches; search: trajectories of a Monte-Carlo tree search; guide_...: a guide policy writes "
    "a part of them (objectives/guide_policies.py)",
    "window_tokens": "new tokens of a response in one step, at most; it goes on in the next one",
    "branching": "samples of each node, level by level; their product is samples_per_prompt",
    "segment_tokens": "new tokens of a node of the tree; of rollouts=tree the nodes of the last "
    "level go to the end",
    "search_width": "children of a node of a searched tree",
    "most_expansions": "nodes of a searched tree that get children, at most",
    "exploration": "factor of the exploration term among the children of a node",
    "parent_weight": "of tanh(mean value of the parent), in the score of a node of the frontier",
    "entropy_bonus": "of the mean surprise of the node's tokens, in that score",
    "depth_weight": "of the bonus for deep nodes, in that score",
    "depth_bonus": "how this bonus grows with the depth: constant, log or sqrt",
    "backup_floor": "least share of a completion's value that a node far above its end gets",
    "incomplete_value": "value of a searched completion that was cut off and is not right",
    "penalty_tokens": "tokens before the limit over which a penalty of the length grows to 1; "
    "None: a quarter of the limit, 0: no penalty",
    "screen_samples": "samples of every problem at the start of a round, which say how hard it is",
    "hard_share": "share of right ones up to which a problem is in the round",
    "round_steps": "steps of a round",
    "kept_solutions": "right completions of hard problems that are kept, in all",
    "edge_style": "rloo: V(child) - V(node); grpo: divided by the deviation of the children",
    "edge_epsilon": "added to the deviation of edge_style=grpo",
    "sampling_temperature": "constant, or by_entropy: of each token (objectives/temperatures.py)",
    "answer_reward": "none: config.scoring's rewards; else the likelihood of the reference answer "
    "behind the sample (objectives/answer_rewards.py)",
    **ANSWER_FORM_DOCS,
    "missing_phrase_reward": "with answer_reward: of a sample without the answer phrase, or the "
    "lowest reward of its group if that is lower",
    "reward_shaping": "what is done to scores first (objectives/reward_shaping.py)",
    "group_filter": "groups trained on; others are sampled again (objectives/selections.py)",
    "filter_rounds": "with group_filter: times that prompts are sampled in a step, at most",
    "segmentation": "how a completion is cut into segments (objectives/credit/)",
    "advantage": "how rewards become advantages (objectives/advantages/)",
    "advantage_epsilon": ADVANTAGE_EPSILON_DOC,
    "advantage_sign": "both, or negative / positive: the other advantages become 0",
    "teacher": "what a teacher's log-ratio adds to each token (objectives/distillation.py)",
    "weight_layers": "(first, last) of the layers whose gradients are asked, from 0; (): all "
    "parameters",
    "multiplier_step": "when multipliers move: after each update, by its samples, as in the paper; "
    "or once a step, by all of the step's",
    "ema_decay": "weight of the past in the moving average of rewards",
    "role_count": "roles of the environment, which says how many there are",
    "value_target": "what a critic learns (objectives/values.py)",
    "value_samples": "continuations of each state whose value is their mean score (SPO, VinePPO)",
    "cut_limit": "cuts of a completion that are sampled from, at most; the first ones",
    "fill_values": "segments that begin beyond cut_limit have no advantage (VinePPO); else they "
    "belong to the segment before them",
    "unfinished_score": "score of a sample that was cut off, in values of states and segments",
    "ratio": "policy in the denominator of the importance ratio (objectives/ratios.py)",
    "denominator": "old: the policy that the step started from; behavior: as the sampler reported",
    "surrogate": "ratio and advantage to per-token loss (objectives/surrogates/)",
    "clip_low": "clip width below a ratio of 1",
    "clip_high": "clip width above a ratio of 1",
    "dual_clip": "cap on the ratio where the advantage is negative",
    "old_kl_weight": "factor of a KL to the policy of the step's start",
    "proxy_threshold": "tokens less likely than this share of the likeliest one are noise",
    "token_weight": "factor of each token's surrogate (objectives/batch_inputs/)",
    "correction": "for a sampler that is not quite the trainer (objectives/corrections/)",
    "rejection": "tokens and samples whose sampler was too far off (objectives/corrections/)",
    "selection": "which sampled tokens are trained on (objectives/selections.py)",
    "entropy_weight": "factor of the entropy bonus",
    "likelihood_weight": "factor of the negative log-likelihood of right samples, mean over tokens",
    **AGGREGATION_DOCS,
    **LIKELIHOOD_DOCS,
    **KL_DOCS,
    "kl_importance_weighted": "multiply the KL term by the ratio, for several updates per step",
    "kl_controller": "fixed, or adaptive: the weight follows the KL that was measured",
    "kl_unit": "of kl_target: sequence_sum or token_mean (objectives/kl_controllers.py)",
    "demonstrations": "none; switch: instead of the samples of a prompt that is not solved (HPT); "
    "in_group: one more sample of each prompt (LUFFY); guided: as many samples again behind a "
    "hint, of prompts without a right one (Guide); scaffolded: the first right sample behind a "
    "hint in place of a wrong one (Scaf-GRPO)",
    "exempt_share": "share of the stage's steps, the first ones, in which no hint is told",
    "hint_levels": "levels of help that are tried, at most: the parts of all tiers",
    "guided_cap": "largest ratio of a token that was sampled behind a hint; None for no cap",
    "hint_pattern": "how the prompt with its hint reads: {prompt} and {context} in it",
    "switch_threshold": "share of right samples up to which a prompt counts as not solved",
    "supervised_weight": SUPERVISED_WEIGHT_DOC,
    "shaping": "c of p / (p + c), by which demonstrations in the group are weighted; none: p",
    "demonstration_nll": "weight of the negative log-likelihood of demonstrations in the group, "
    "times exp(-H) of their mean entropy H",
}

_LIMITS = {
    "window_tokens": COUNT,
    "branching": Limit(
        lambda x: len(x) and all(isinstance(n, int) and n >= 2 for n in x),
        "one or more whole numbers >= 2: an only child has no advantage",
    ),
    "segment_tokens": COUNT,
    "search_width": COUNT,
    "most_expansions": COUNT,
    "exploration": NOT_NEGATIVE,
    "parent_weight": NOT_NEGATIVE,
    "entropy_bonus": NOT_NEGATIVE,
    "depth_weight": NOT_NEGATIVE,
    "depth_bonus": one_of(DEPTH_BONUSES),
    "backup_floor": SHARE,
    "penalty_tokens": Limit(lambda x: x >= 0, ">= 0"),
    "screen_samples": COUNT,
    "hard_share": SHARE,
    "round_steps": COUNT,
    "kept_solutions": COUNT,
    "edge_style": one_of(EDGE_STYLES),
    "edge_epsilon": NOT_NEGATIVE,
    "filter_rounds": COUNT,
    **ANSWER_FORM_LIMITS,
    "advantage_epsilon": NOT_NEGATIVE,
    "ema_decay": SHARE,
    "threshold_kind": one_of(THRESHOLD_KINDS),
    "multiplier_step": one_of(MULTIPLIER_STEPS),
    "meta_applied_to": one_of(META_APPLIED_TO),
    "role_decay": SHARE,
    "role_count": COUNT,
    "value_samples": COUNT,
    "cut_limit": COUNT,
    "clip_low": NOT_NEGATIVE,
    "clip_high": NOT_NEGATIVE,
    "dual_clip": Limit(lambda x: x > 1, "> 1"),
    "old_kl_weight": NOT_NEGATIVE,
    "proxy_threshold": SHARE,
    "likelihood_weight": NOT_NEGATIVE,
    **AGGREGATION_LIMITS,
    **KL_LIMITS,
    **LIKELIHOOD_LIMITS,
    "kl_unit": one_of(KL_UNITS),
    "advantage_sign": one_of(SIGNS),
    "supervised_weight": NOT_NEGATIVE,
    "demonstration_nll": NOT_NEGATIVE,
    "guided_cap": Limit(lambda x: x > 1, "> 1"),
    "exempt_share": SHARE,
    "hint_levels": COUNT,
    "hint_pattern": CONTEXT_PATTERN_LIMIT,
}

# A second network, which learns what states are worth.
_CRITIC = {"trunk": "separate", "learning_rate": 1e-3, "clip_norm": 1.0, "warmup_updates": 0}

POLICY_GRADIENT = Family(
    name="policy_gradient",
    data="prompts with a verifier",
    online=True,
    choices=_CHOICES,
    defaults=_DEFAULTS,
    fields=_FIELDS,
    functions={
        **{f"advantage={name}": {"baseline": move} for name, move in BASELINE_UPDATES.items()},
        **{f"value_target={name}": {"critic": critic_loss} for name in VALUE_TARGETS},
        "value_target=component_returns": {"critic": component_critic_loss},
        "advantage=mixed_components": {
            "component_rewards": component_rewards,
            "component_advantages": component_advantages,
            "rewards_to_go": rewards_to_go,
            "multipliers": move_multipliers,
        },
        "advantage=reweighted_components": {"loss_history": next_loss_history},
        "advantage=role_baseline": {"role_baselines": update_role_baselines},
        "reward_shaping=hypervolume": {"front": update_front},
        "reward_shaping=gradient_weighted": {"objective_weights": move_objective_weights},
    },
    batch_inputs=BATCH_INPUTS,
    docs=_DOCS,
    limits=_LIMITS,
    reads=Reads(
        stage={"reference_kl": False},
        batch={**ROLLOUT_BATCH, "epochs_per_step": 1, "sequences_per_update": 0},
        sampling=SAMPLING,
    ),
    adds={
        **{f"value_target={name}": Reads(critic=_CRITIC) for name in VALUE_TARGETS},
        **{f"answer_reward={name}": ANSWER_DATA for name in ANSWER_REWARDS},
        "demonstrations=guided": CONTEXT_ROOM,
        "demonstrations=scaffolded": CONTEXT_ROOM | Reads(batch={"share_prompts": False}),
        "allocation=by_variance": Reads(batch={"share_prompts": False}),
        # The samples of a prompt are not written together.
        "rollouts=windows": Reads(batch={"share_prompts": False}),
    },
    more_slots={f"answer_reward={name}": ("data.max_answer_tokens",) for name in ANSWER_REWARDS},
    rows_beside={"demonstrations=switch": 1, "demonstrations=in_group": 1},
    together=Together(in_batch=1, in_row=None),
    group_baselines={"advantage": NEEDS_GROUPS},
    scored=True,
    causal=(True, False),
    device_loop=True,
    ahead=True,
    episodes=True,
    checks=("policy_gradient", "curriculum", "teacher", "guide"),
)
