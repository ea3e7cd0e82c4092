"""Which weights the next piece is drawn with, the same on all processes: process 0 says it.

Devices of several processes run one program, so all have to begin it with the same weights. A fixed
schedule knows them; where the newest weights count, which ones these are differs from process to
process by a moment. The threads that draw meet here before each piece.
"""

from rljax.processes.processes import Processes


class Agreement:
    """One question to process 0, before each piece."""

    def __init__(self, processes: Processes, name: str) -> None:
        """Asks nothing yet; `name` is that of the stage."""
        self.leads = processes.is_first
        self._processes, self._name = processes, f"{name}: weights of the next piece"

    def say(self, weights: int | None) -> None:
        """Process 0: the step after which the weights are taken; None: nothing more is drawn."""
        self._processes.gather_json(self._name, weights)

    def hear(self) -> int | None:
        """The other processes: what process 0 has said; waits for it."""
        return self._processes.gather_json(self._name, None)[0]
