"""Networks (flax.nnx): one trunk, configured, for every family.

config.py       ModelConfig: the shape of a transformer, and its validation
presets.py      published shapes by name
layers.py       RMSNorm, projections with adapters, grouped-query attention, gated MLP
products.py     matrix products and look-ups with float32 gradients
rotary.py       rotary positions and their scalings
attention/      who sees whom, and the kernel that computes it
moe.py          mixture of experts, sharded over the mesh
grouped_matmul.py  its products: sorted rows, one matrix per group
block.py        one block of the residual stream
transformer.py  the trunk and its heads, on whole rows
prefill.py      prompts in chunks, into a cache
decoding.py     a token of every row at a time, on caches
by_position.py  the same where rows come and go: a token's column is its position
kv_cache.py     keys and values of prompts, and of what each row has written
network.py      Network: the module as a pure function of a parameter tree, with its shardings
sizes.py        bytes that a model takes, held and trained
finite.py       the first layer whose output is not finite
heads.py        value, reward and process-reward use of the trunk
lora.py         low-rank adapters: split, join, merge, initialise
quantize.py     matrices in int8 or nf4
frozen_base.py  the frozen part of a tree, in full or quantised
merge.py        the largest changes of a trained model alone
peft_format.py  adapters in PEFT's files
pretrained/     Hugging Face checkpoints in and out
"""
