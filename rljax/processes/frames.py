"""Messages between processes: a header in JSON, and bytes. Nothing is ever unpickled."""

import json
import socket
import struct
import threading
from typing import Any, NamedTuple

MAGIC = b"rljx"
HEAD = struct.Struct("!4sIQ")  # magic, bytes of the header, bytes of the payload
MOST_HEADER = 2**22
MOST_PAYLOAD = 2**30


class Message(NamedTuple):
    """What one process says to another."""

    kind: str
    fields: dict[str, Any]
    payload: bytes = b""


class BrokenLine(ConnectionError):
    """The other side has gone, or does not speak as we do."""


class Line:
    """A connection that carries messages; several threads may send, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._sending = threading.Lock()

    def limit(self, seconds: float) -> None:
        """Sends within so many seconds, or breaks; receiving waits as long as it takes."""
        self._socket.settimeout(None)
        whole, rest = divmod(seconds, 1)
        value = struct.pack("@ll", int(whole), int(rest * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        """Sends one message.

        Raises:
            BrokenLine: if the other side has gone or does not read.
            ValueError: for a message that is too large.
        """
        header = json.dumps({"kind": kind, **fields}).encode()
        if len(header) > MOST_HEADER or len(payload) > MOST_PAYLOAD:
            raise ValueError(
                f"A message {kind!r} between processes may have {MOST_HEADER} bytes of header and "
                f"{MOST_PAYLOAD} of payload, got {len(header)} and {len(payload)}."
            )
        head = HEAD.pack(MAGIC, len(header), len(payload))
        with self._sending:
            try:
                self._socket.sendall(head + header)
                if payload:
                    self._socket.sendall(payload)
            except OSError as error:
                raise BrokenLine(error.strerror or str(error)) from error

    def receive(self, *, seconds: float | None = None, most: int = MOST_PAYLOAD) -> Message:
        """Waits for one message.

        Args:
            seconds: limit for each wait; None: as `limit` has set it.
            most: bytes of payload that are accepted.

        Raises:
            BrokenLine: at the end of the connection, and for anything that is no message.
        """
        if seconds is not None:
            self._socket.settimeout(seconds)
        try:
            magic, header_bytes, payload_bytes = HEAD.unpack(self._read(HEAD.size))
            if magic != MAGIC or header_bytes > MOST_HEADER or payload_bytes > most:
                raise BrokenLine("it does not speak our language")
            fields = json.loads(self._read(header_bytes))
            payload = self._read(payload_bytes)
        except OSError as error:
            raise BrokenLine(error.strerror or str(error)) from error
        except (ValueError, RecursionError) as error:
            raise BrokenLine(f"it does not speak our language ({error})") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
            raise BrokenLine("it does not speak our language")
        return Message(fields.pop("kind"), fields, payload)

    def close(self) -> None:
        """Closes the connection, also under a thread that waits for a message."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed by the other side
            pass
        self._socket.close()

    def _read(self, count: int) -> bytes:
        parts, missing = [], count
        while missing:
            part = self._socket.recv(min(missing, 2**20))
            if not part:
                raise BrokenLine("the connection was closed")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
