"""One optimizer update, as pure functions.

| file | what it holds |
| --- | --- |
| `state.py` | TrainState and its shardings |
| `moving_copy.py` | a reference or teacher that follows the policy, in the state |
| `train_step.py` | the one update: accumulate, check, apply |
| `rows.py` | prompts and completions as rows of tokens |
| `sequences.py` | the rows of a batch, in any layout, as sequences of tokens |
| `logprobs.py` | log-probabilities and entropy of completions, the trainer's side |
| `masked_likelihood.py` | the bound of masked diffusion, from passes with hidden tokens |
| `trajectory_values.py` | what a critic says of the steps of masked diffusion |
| `likelihood.py` | which estimator of them a stage uses: `LIKELIHOODS` |
| `sequence_scores.py` | what a value or reward head says of whole completions |
| `verdicts.py` | a language model's verdict on a text, by its next token |
| `token_statistics.py` | the same of chosen tokens, without holding the logits |
| `token_divergence.py` | how far another model is from the policy, over the vocabulary |
| `vocabulary_chunks.py` | logits of some slots at a time, forward and backward |
| `beside.py` | frozen models that a loss runs beside the policy |
| `balancing.py` | what the load of experts adds to a loss |
| `optimizers.py` | optimizers and schedules by name |
| `rounding.py` | stochastic rounding of bfloat16 parameters |
| `metrics.py` | from sums to what is logged |
"""
