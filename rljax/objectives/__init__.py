"""The mathematics room: arrays in, arrays out.

No model, no text, no I/O and no config object enters here; the only imports are jax, chex and the
standard library. A training step calls these functions on log-probabilities that it computed.

| file | what it holds | table |
| --- | --- | --- |
| `metrics.py` | `SumCount`, the (sum, count) pair that every metric is | |
| `sequences.py` | per-sequence sums of per-token arrays | |
| `aggregation.py` | how per-token losses become one number | `AGGREGATIONS` |
| `advantages.py` | rewards to advantages, per batch or per group | `ADVANTAGES` |
| `ratios.py` | the policy in the denominator of the importance ratio | `RATIOS` |
| `surrogates.py` | ratio and advantage to per-token loss; clipping | `SURROGATES` |
| `kl.py` | estimators of KL(policy || reference) | `KL_ESTIMATORS` |
| `policy_gradient.py` | the whole policy-gradient loss, built from the parts above | |
| `supervised.py` | negative log-likelihood | |
| `preference.py` | pairwise losses: a score and a link | `SCORES`, `LINKS` |
| `evidence.py` | lower bounds on log p(answer | prompt) as a reward | `BOUNDS` |
| `values.py` | TD(lambda) targets of a value function and its loss | |
| `balance.py` | even load of experts: an auxiliary loss, or a bias that is moved | |

A *part* is a function in one of the tables. Its positional arguments are arrays, its keyword-only
arguments are its config fields, with their defaults. A new method is usually one new function in
one of these tables.

Letters in shapes: `B` prompts (or pairs), `G` samples per prompt, `N = B * G` sequences, `T`
completion slots, `V` vocabulary. `mask` is bool, True where a token counts. Losses are returned
per token, per pair or per prompt, never reduced; the step multiplies them by weights computed on
the whole batch and adds up, so that no split into micro-batches can change the result.
"""
