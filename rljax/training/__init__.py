"""From experience to better parameters.

| room or file | what it holds |
| --- | --- |
| `update/` | one optimizer update: state, train step, log-probabilities, optimizers |
| `learner/` | policy gradients from scored samples to an update, for both loops |
| `run/` | what a run is and where its files are: context, stages, models by role, checkpoints |
| `collect/` | experience: prompts, samples, scores, pairs, demonstrations |
| `win_rate/` | how often one set of completions is preferred to another one |
| `data_selection/` | which examples of a file are worth learning, and how much |
| `test_time/` | search at test time: what more samples, attempts or beams buy |
| `families/` | one file for each family of methods: its batches and its loss |
| `ahead/` | a sampler that runs ahead of the trainer: threads, queue, transfer, event log |
| `device_loop/` | whole runs as one compiled program |
| `answer_evaluation.py` | held-out likelihood of reference answers behind sampled thoughts |
| `evaluation.py` | held-out accuracy, pass@k, majority@k |
| `pair_evaluation/` | held-out pairs: accuracy, calibration, ranking accuracy |
| `judged.py` | evaluation alone, of a checkpoint or a published model |
| `preflight.py` | a run as far as its first compilation |
| `guard.py` | parameters and optimizer are finite before they are saved |
| `signals.py` | SIGTERM and Ctrl-C end a step, not a run; the grace time |
| `notices.py` | notices that the machine will be taken away, which end a run as SIGTERM does |
| `step_log.py` | the rows that the loop writes of its steps, and when it stops |
| `self_check/` | what a run checks of itself in its first step |
| `step.py` | one step, from experience to updates; what is due after it |
| `saving.py` | when the run's checkpoints are written, and what each says of itself |
| `stage_run.py` | the steps of one stage: metrics, evaluation, saving, where it stops |
| `loop.py` | a run, for every method, stage after stage: read this first |

A room imports rooms above it in this table only.
"""
