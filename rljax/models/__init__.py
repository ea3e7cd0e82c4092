"""Networks (flax.nnx).

config.py       ModelConfig: the shape of a decoder transformer, and its validation
layers.py       RMSNorm, rotary positions, grouped-query attention, gated MLP
transformer.py  the trunk: embedding, scanned blocks, output; forward, prefill and decode
network.py      Network: the module as a pure function of a parameter tree, with its shardings
"""
