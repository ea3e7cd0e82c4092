"""Sampling, and the distribution that sampler and trainer share.

From the request to the answer:
request.py       what is asked, what is answered, why a row ended
engine.py        a sampler at work on a mesh: weights, length buckets, requests from the host
sampler.py       the pure function: prefill, queue, decode
weights.py       the sampler's own copy of the parameters: layout, precision, sharding
checks.py        bad requests and too little memory, said before anything is compiled
generate.py      texts in, texts out: `Generator`
options.py       what one request of `Generator` may set
batches.py       prompts of a generator as the arrays of one call of an engine
texts.py         tokens of completions to text, without what ended them
completion.py    an answer as people read it

The program:
config.py        what is static
program.py       its loops: slots are filled, decoded, emptied, filled again
step.py          one token more
choose.py        the draw, its log-probabilities, penalties
state.py         what the loops carry
jobs.py          what a request begins with
slots.py         queue, tiles of rows with one prompt, results in order
keys.py          one random key per (seed, purpose, step, prompt id, sample index)

What may be drawn:
distribution.py  bias, temperature, top-k, top-p, min-p; log-probabilities and entropy under them
vocabulary.py    ids without a text, which never come
constraints.py   the protocol of what watches a row
automaton.py     constraints as tables of states and tokens
stop_strings.py  texts that end a row, as an automaton
guides.py        logits of several models become one; guide_rules.py has the arithmetic

Beside it:
diffusion.py     masked-diffusion decoding, for the same requests; diffusion_config.py
diffusion_draws.py  one draw for every position of a block
acceptance.py    which draws of a denoising step are kept, and how many
selection.py     best-of-n, votes, pass@k
"""
