"""How a process learns that the trainer has ended, however that came about."""

import os


class Lifeline:
    """A pipe that nobody writes to: whoever reads it waits until the trainer has ended.

    Attributes:
        end: what children inherit; a read returns once the trainer is gone or has closed this.
    """

    def __init__(self) -> None:
        self.end, self._held = os.pipe()  # neither is inherited, unless it is passed on

    def close(self) -> None:
        """Closes both ends; may be called twice."""
        if self._held >= 0:
            os.close(self.end)
            os.close(self._held)
            self._held = -1
