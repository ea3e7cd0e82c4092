"""Timing the code that training runs, on random weights and random prompts.

workload.py  what is run: model, prompts, tokenizer and reward of a benchmark
flops.py     floating-point operations that the model needs
machine.py   the rates that the machine gives
sampling.py  the sampler alone, beside bounds and other programs
batch_size.py the sampler for more and more prompts, beside a critic's pass over them
evolution.py a population with low-rank noise, beside the same rows without
ahead.py     whole runs with the sampler in turn and ahead, where the verifier waits
copy_reward.py  the reward of its task
timing.py    a whole GRPO step, or its update alone
pairs.py     a whole step of DPO on pairs of a file, beside other programs
diffusion.py canvases of a masked diffusion model, and its gradient's memory by draws of masks
plain_diffusion.py the decoding of published code, beside it
side_by_side.py  seeds side by side in one compiled program
serving.py   a server under load, beside the generator on the same requests
serving_load.py  its clients
table.py     the results as text

`launch/bench.py` is the command, and `launch/compare.py --time` that of `side_by_side.py`.

decode_attention.py  by itself: what the TPU compiler expects of the kernels of decode attention
"""
