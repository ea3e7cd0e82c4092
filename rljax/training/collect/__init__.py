"""Experience: what the side that samples, or reads, hands to the side that learns.

    prompt source ─► rollout source ─► rewards ─► annotators ─► Experience

| file | what it holds |
| --- | --- |
| `experience.py` | the types: policy with its version, experience, sources of it |
| `prompts.py` | prompt sources: which problems come next, with a state that is saved |
| `curriculum.py` | a prompt source that follows a curriculum |
| `prompt_values.py` | what a critic expects of prompts that are not sampled yet |
| `rollouts.py` | samples of prompts, as text, with scores |
| `sampled.py` | sampled experience: prompts, rollouts, rewards, annotators put together |
| `episode.py` | an episode under way, and what each of its players has seen |
| `episodes.py` | replies and an environment's answers in turn, as one completion each |
| `episode_roles.py` | annotator: roles of samples, their groups, whose are learned |
| `agent_episodes.py` | episodes that agents play against a server in this process |
| `samplers.py` | what answers problems: an engine, or a player of episodes |
| `turn_rewards.py` | annotator: which turn of an episode earned what |
| `rounds.py` | sampling until enough groups have a signal |
| `successive.py` | samples in rounds, of prompts that have not said enough |
| `screened.py` | further samples of prompts whose first few passed |
| `by_variance.py` | more samples of prompts whose gradient varies more |
| `windowed.py`, `windows.py` | sampled experience whose responses take several steps |
| `branches.py` | completions that grow piece by piece, with children |
| `tree_samples.py` | a sampler of completions that branch as a tree |
| `population.py`, `perturbation.py` | a population that answers, and the noise of its members |
| `rewards.py` | rewards of text, and of models |
| `judge_scorer.py` | what a language model answers that is asked about samples |
| `model_scorer.py` | what one model says of rows: at their ends, of their steps, by a verdict |
| `model_scores.py` | what is made of models' scores: normalised, one of several, clipped |
| `greedy.py` | annotator: scores of greedy completions |
| `reference_answers.py` | rows of sampled thoughts with the reference answer behind them |
| `answer_likelihood.py` | annotator: how likely the policy finds the reference answer |
| `searched.py` | sampled experience of tree searches, in rounds of hard problems |
| `search_tree.py`, `tree_search.py` | the tree of one prompt; searches side by side |
| `solutions.py` | right completions that are kept for later steps |
| `tree_edges.py` | annotator: what the edges of a tree are worth |
| `prefix_values.py`, `continuations.py` | annotator: values of states, by samples from there |
| `demonstrations.py` | worked demonstrations: as completions, and packed into rows |
| `mixed.py` | samples of the policy in some steps, of a teacher or demonstrations in others |
| `tool_marks.py` | tokens of demonstrations that decide a tool call |
| `chains.py` | a chain of completions for each problem, beside a fresh sample |
| `hinted.py` | samples of prompts that show the answer |
| `behind_hints.py` | a sampler of some prompts of a step again, each behind a hint |
| `guide_rollouts.py` | samples that a policy and its guide write, one after the other |
| `guided.py` | samples behind hints, of prompts that are not solved |
| `scaffolded.py` | one sample behind the smallest hint that helps, in place of a wrong one |
| `single_rows.py` | samples as rows with a prompt each |
| `told_prompts.py` | prompts that tell more than the policy reads |
| `teachers.py` | which of several teachers a prompt has, and what they say of samples |
| `kept_samples.py` | demonstrations that the policy wrote and a verifier kept |
| `sampled_once.py` | samples of a stage's policy, drawn once in a round and kept in a file |
| `pairs.py` | preference pairs: from a file, or from the policy's own samples |
| `sampled_pairs.py` | pairs and labelled completions of own samples, in rounds |
| `round_prompts.py` | which problems their rounds sample |
| `stage_rows.py` | rows of a stage's file: each read once, cut or left out by the stage's rule |
| `reference_cache.py` | what the reference says of a file, kept in a folder |
| `labelled.py` | labelled completions from a file |
| `sources.py` | which source of experience a stage has |
| `repetition.py` | samples that say the same again and again |
| `grouped.py` | a step's samples by prompt, as rows of the model |
| `rollout_record.py` | a step's rollouts as the report reads them |
"""
