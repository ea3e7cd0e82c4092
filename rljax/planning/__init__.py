"""A run planned for a TPU slice that is not there: memory, operations, traffic, least times.

    config ─► programs ─► compiler for TPUs ─► costs ─► roofline ─► plan ─► table

| file | what it holds |
| --- | --- |
| `chips.py` | TPU chips and slices, with the sources of their figures |
| `programs.py` | the programs of a run, lowered with descriptions of arrays |
| `worker.py` | the process that compiles one of them, and keeps what it found |
| `compiling.py` | starts that process, and says why it ended |
| `wire.py`, `hlo.py` | read a compiled program |
| `loops.py` | how often its loops run |
| `groups.py` | which chips exchange, along which axes |
| `costs.py` | its operations, bytes of memory and collectives |
| `useful.py` | operations that a step needs, however it is compiled |
| `roofline.py` | the least time of a program on a chip |
| `plan.py` | all phases of a step put together |
| `table.py` | a plan as text |
"""
