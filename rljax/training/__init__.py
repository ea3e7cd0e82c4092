"""From experience to better parameters.

context.py      what every stage of a run shares: mesh, network, tokenizer, problems, scorer
rows.py         prompts and completions as rows of tokens
start.py        the parameters that a run starts from
first_step.py   the start of LoRA-SB
logprobs.py     log-probabilities and entropy of completions, the trainer's side
token_statistics.py   of chosen tokens, without holding the logits
rollouts.py     sample, decode to text, score
pairs.py        preference pairs from the policy's own samples
families/       one file per family of methods: how it collects a batch, and its loss
balancing.py    what the load of experts adds to a loss
train_step.py   the one update: accumulate, check, apply
rounding.py     stochastic rounding of bfloat16 parameters
state.py        TrainState and its shardings
optimizers.py   optimizers and schedules by name
evaluation.py   held-out accuracy, pass@k, majority@k
checkpoints.py  orbax: asynchronous, keep-n and best, exact resume
rollout_record.py, summary.py   what the report shows of a step, and of the run
workdir.py      the files of a run, and whether a workdir belongs to a config
loop.py         the train loop: read this first
"""
