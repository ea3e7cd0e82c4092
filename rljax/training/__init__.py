"""From experience to better parameters.

| room or file | what it holds |
| --- | --- |
| `loop.py` | the train loop, for every method: read this first |
| `step_log.py` | the rows that the loop writes of its steps, and when it stops |
| `evaluation.py` | held-out accuracy, pass@k, majority@k |
| `run/` | what a run is and where its files are: context, start, checkpoints, workdir |
| `update/` | one optimizer update: state, train step, log-probabilities, optimizers |
| `collect/` | experience: prompts, samples, scores, pairs, demonstrations |
| `learner/` | policy gradients from scored samples to an update, for both loops |
| `families/` | one file for each family of methods: its batches and its loss |
| `device_loop/` | whole runs as one compiled program |

A room imports those above it in this order, from the bottom: update, learner, run, collect,
families, device_loop; `loop.py` imports them all.
"""
