"""The mathematics room: arrays in, arrays out.

No model, no text, no I/O and no config object enters here; the only imports are jax, chex and the
standard library. A training step calls these functions on log-probabilities that it computed.

| file | what it holds | table |
| --- | --- | --- |
| `parts.py` | what a part is: its inputs and its fields, read from its signature | |
| `arrays.py` | the arrays that parts name, a table for each family | `ARRAYS`, ... |
| `metrics.py` | `SumCount`, the (sum, count) pair that every metric is | |
| `means.py` | means of equal numbers that are exactly that number | |
| `sequences.py` | per-sequence sums of per-token arrays | |
| `aggregation.py` | how per-token losses become one number | `AGGREGATIONS` |
| `reward_shaping.py` | what is done to scores before they are compared | `REWARD_SHAPINGS` |
| `hypervolume.py` | what several rewards reach together, and by how much a step enlarges it | |
| `multipliers.py` | rewards that are held at thresholds by weights that are learned | |
| `objective_weights.py` | rewards that are weighed by what their gradients do for each other | |
| `advantages/` | rewards to advantages, per batch, group, segment or token | `ADVANTAGES` |
| `curricula/` | which problems a step samples | `CURRICULA` |
| `angles.py` | how parallel the token vectors of a question are | |
| `data_selection.py` | which examples are worth learning: by gradients, by losses | `LOSS_MAPS` |
| `allocation.py`, `variance_allocation.py` | how many samples a prompt gets | `ALLOCATIONS` |
| `guide_policies.py` | which part of a sample a guide policy writes | `GUIDE_POLICIES` |
| `credit/` | values of tokens, segments and macro actions: GAE, Monte-Carlo values | |
| `ratios.py` | the policy in the denominator of the importance ratio | `RATIOS` |
| `surrogates/` | ratio and advantage to per-token loss; clipping | `SURROGATES` |
| `batch_inputs/` | what a surrogate knows of the whole batch of its update | `BATCH_INPUTS` |
| `corrections/` | sampler and trainer differ: weights, rejection | `CORRECTIONS`, `REJECTIONS` |
| `selections.py` | which sampled tokens and groups are trained on | `SELECTIONS`, `GROUP_FILTERS` |
| `kl.py` | estimators of KL(policy || reference) | `KL_ESTIMATORS` |
| `kl_controllers.py` | the weight of a KL, fixed or adaptive | `KL_CONTROLLERS` |
| `masking.py` | which tokens a draw of masked diffusion hides, and their weights | `MASKINGS` |
| `bounds.py` | bounds on the likelihood of a completion, from such draws | |
| `switching.py` | a demonstration in place of a prompt's samples | |
| `temperatures.py` | the sampler's temperature, token by token | `TEMPERATURES` |
| `whitening.py` | mean 0 and variance 1 over tokens or rows | |
| `policy_gradient.py` | the whole policy-gradient loss, built from the parts above | |
| `diagnostics.py` | what a run logs about its updates | |
| `evolution.py` | EGGROLL: low-rank noise, fitness and update without a gradient | |
| `supervised.py` | of demonstrated tokens: loss, weight, anchor | `TOKEN_LOSSES`, `TOKEN_WEIGHTS` |
| `divergences.py` | how far two next-token distributions are apart | `DIVERGENCES`, `SUPPORTS` |
| `distillation.py` | a teacher: as the loss of a token, as its advantage | `TEACHERS` |
| `preference/` | losses on preferences: a score of each side, links, extras | `SCORES`, `LINKS` |
| `unpaired/` | losses on single completions, desired or not, and their steps | `UNPAIRED_LINKS` |
| `reward_models/` | losses of reward models: pairs, labels, ratings | `REWARD_LOSSES` |
| `evidence.py` | lower bounds on log p(answer | prompt) as a reward | `BOUNDS` |
| `posterior.py` | chains of right samples, and what each weighs | `CONTROL_VARIATES` |
| `answer_rewards.py` | the likelihood of a reference answer as a reward | `ANSWER_REWARDS` |
| `values.py` | targets of a value function and its losses | |
| `balance.py` | even load of experts: an auxiliary loss, or a bias that is moved | |

A *part* is a function in one of the tables. Its positional arguments are arrays, found by their
names; its keyword-only arguments are its config fields, with their defaults. A new method is
usually one new function in one of these tables.

Which arrays there are, a table for each family, is in `arrays.py`.

Letters in shapes: `B` prompts (or pairs), `G` samples per prompt, `N = B * G` sequences, `T`
completion slots, `V` vocabulary. `mask` is bool, True where a token counts. Losses are returned
per token, per pair or per prompt, never reduced; the step multiplies them by weights computed on
the whole batch and adds up, so that no split into micro-batches can change the result.
"""
