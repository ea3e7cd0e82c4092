"""Policy gradients from the samples of a step to an update: pure functions that both loops share.

    samples, scores ─► annotate ─► compare ─► advantages, masks, weights of tokens ─┐
                                                                                    ├─► update
    the update's whole batch ─► prepare, then the loss of its parts ────────────────┘

| file | what it holds |
| --- | --- |
| `learner.py` | create, annotate, compare, update: read this first |
| `group.py` | a step's completions by prompt |
| `prompt_values.py` | what a critic expects of prompts |
| `scoring.py` | what the trainer knows of samples before the first update |
| `embedding_gradients.py` | how steep completions are in the embedding |
| `needs.py` | what an objective needs besides its samples |
| `compare.py` | samples compared with each other |
| `batches.py` | which rows and arrays an update gets |
| `arrays.py` | what belongs to completions in a batch |
| `loss.py` | the policy's loss on a micro-batch |
| `critic.py` | the value model: network, state, values, loss |
| `objective_weights.py` | weights of rewards, from a backward pass of each |
| `critics.py` | two value models that take turns |
| `update.py` | one update of policy and critic |
| `multiplied.py` | the same with advantages that multipliers of rewards mix, which move with it |
"""
