"""The settings of `config.processes`, as plain values."""

import dataclasses

DEFAULT_PORT = 8476


@dataclasses.dataclass(frozen=True)
class Settings:
    """`config.processes` (config/schema.py says what each means).

    Attributes:
        count, id, coordinator, port: who this process is; None or "": as the environment says.
        roll_call_port: None for the one after `port`.
        connect_seconds: within which all processes must have come.
        lost_seconds: without a sign of life after which a process counts as lost.
        step_seconds, compile_seconds: of the watchdog; 0 turns it off.
    """

    count: int | None = None
    id: int | None = None
    coordinator: str = ""
    port: int | None = None
    roll_call_port: int | None = None
    connect_seconds: float = 60.0
    lost_seconds: float = 60.0
    step_seconds: float = 1800.0
    compile_seconds: float = 3600.0
