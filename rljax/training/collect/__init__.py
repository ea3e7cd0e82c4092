"""Experience: prompts, samples of the policy, and what is said of them.

| file | what it holds |
| --- | --- |
| `rollouts.py` | sample, decode to text, score |
| `rewards.py` | what samples are worth: by verifiers of text, or by a model |
| `rounds.py` | sampling until enough groups have a signal |
| `windows.py` | responses that are written a window at a time |
| `tree_samples.py` | samples that branch as a tree |
| `continuations.py` | samples that go on from beginnings of completions |
| `prefix_values.py` | values of states, by samples from there |
| `population.py`, `perturbation.py` | answers of a population, and the noise of its members |
| `demonstrations.py` | worked demonstrations as completions |
| `pairs.py` | preference pairs from the policy's own samples |
| `staleness.py` | how old samples may get |
| `rollout_record.py` | a step's rollouts as the report reads them |
"""
