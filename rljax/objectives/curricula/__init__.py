"""Curricula: which problems a step samples, decided by pure functions on arrays of fixed shapes.

Both loops call them: the host between steps (training/collect/curriculum.py), the device loop
inside its program. What they know of the problems is indexed by the stable number of each.

| file | what it holds |
| --- | --- |
| `curriculum.py` | what a curriculum is; epochs and sources |
| `ordered.py` | from easy to hard, a band of difficulties, mixtures of sources |
| `vade.py` | a Beta posterior of each success rate, and Thompson sampling |
| `dump.py` | a bandit over sources by the size of advantages |
| `gain.py` | a window that slides over problems ranked by the angles of their tokens |
| `greso.py` | epochs that skip what taught nothing before |
| `pcl.py` | candidates whose predicted value is closest to a target |
| `hard_replay.py` | what was not solved comes again |
| `optimum_distance.py` | how much a prompt of some success rate can teach |
"""

from rljax.objectives.curricula.curriculum import Curriculum, Outcomes, Problems, Turn
from rljax.objectives.curricula.dump import dump
from rljax.objectives.curricula.gain import gain
from rljax.objectives.curricula.greso import greso
from rljax.objectives.curricula.hard_replay import hard_replay
from rljax.objectives.curricula.ordered import band, easy_to_hard, mixture, moving_mixture
from rljax.objectives.curricula.pcl import pcl
from rljax.objectives.curricula.vade import vade

# The option "shuffled" of the families has no entry: all problems in the order of the seed.
CURRICULA = {
    "easy_to_hard": easy_to_hard,
    "band": band,
    "mixture": mixture,
    "moving_mixture": moving_mixture,
    "greso": greso,
    "hard_replay": hard_replay,
    "vade": vade,
    "dump": dump,
    "gain": gain,
    "pcl": pcl,
}

# Those that need no critic of prompts, no advantages of scores and no angles, for families without
# them.
OF_SAMPLES = {name: made for name, made in CURRICULA.items() if name not in ("dump", "pcl", "gain")}

__all__ = ["CURRICULA", "OF_SAMPLES", "Curriculum", "Outcomes", "Problems", "Turn"]
