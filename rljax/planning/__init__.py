"""A run planned for a TPU slice that is not there: memory, operations, traffic, least times.

    config ─► programs ─► compiler for TPUs ─► costs ─► roofline ─► plan ─► table

| file | what it holds |
| --- | --- |
| `chips.py` | TPU chips, slices, several slices, with the sources of their figures |
| `parts.py` | the chips that train, and those that only sample |
| `program.py` | a program of a step: how it is lowered, what it finds on a chip |
| `programs.py` | the programs of a run, lowered with descriptions of arrays |
| `sampling_programs.py` | those that sample, with the policy or a teacher |
| `further_calls.py` | what a step asks its sampler besides the first samples |
| `frozen_models.py` | passes of teachers and reward models |
| `batches.py` | the rows that a step scores and learns from, by family |
| `worker.py` | the process that compiles one of them, and keeps what it found |
| `compiling.py` | starts that process, and says why it ended |
| `wire.py`, `executable.py`, `hlo.py` | read a compiled program |
| `loops.py` | how often its loops run |
| `sampler_loops.py` | how often those of decoding do, whose ends depend on data |
| `kernels.py` | operations of attention kernels, by their masks |
| `overlapped.py` | collectives that are hidden behind fusions, each once |
| `groups.py` | which chips exchange, along which axes |
| `between_slices.py` | what it exchanges with other slices |
| `costs.py` | its operations, bytes of memory and collectives |
| `lengths.py` | how long a stage's sequences are |
| `useful.py` | operations that a step needs, however it is compiled |
| `roofline.py` | the least time of a program on a chip |
| `plan.py` | all phases of a step put together |
| `ahead.py` | a step whose sampler runs ahead on chips of its own |
| `workload.py` | what a stage asks of its chips, in numbers |
| `analytic.py` | memory and times by hand formulas, for an order |
| `layouts.py` | meshes, splits and remat policies that divide a slice |
| `search.py` | compiles the best of them, and ranks |
| `splits.py` | a step in turn beside one with the sampler ahead |
| `remedies.py` | what would fit where a plan does not |
| `choices.py` | splits, remedies and the ranking as text |
| `table.py` | a plan as text |
| `published.json`, `published.py` | runs that others measured, as configs |
| `expected.py` | what a step is expected to take, by terms and published efficiencies |
| `trust.py` | plans of those beside what was measured |
| `decode_bound.py` | what decoding reads, from a shape alone |
| `llamarl.py` | sampling and training in turns, or side by side: a theory, with a paper's figures |
| `page.py`, `bars.py` | a plan as one HTML file |
"""
