"""Whole runs as compiled programs, for tasks whose verifier is JAX (`rljax/verifiers/`).

    prompts ─► sampler ─► verifier ─► compare_samples ─► updates ─┐   one step
       ▲                                                         │   scanned over steps
       └──────────────────────── parameters ◄────────────────────┘   vmapped over runs

The parts are those of the host loop: sampler, experience, loss and update. Runs that differ in
their seed, or in a number of their config, are computed side by side: they are one more axis of
every array, and can be spread over devices.

| file | what it holds |
| --- | --- |
| `data.py` | problems on the device |
| `prompts.py` | which problems a step samples |
| `program.py` | what is static in a compiled run |
| `rollout.py` | sampling and verifying, as many rounds as a step takes |
| `successive.py` | rounds that prompts leave |
| `step.py` | one step of one run |
| `runs.py` | several runs side by side: what differs between them, steps by the chunk |
"""
