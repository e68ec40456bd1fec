"""How a connection ends: refused, silent for too long, or with the server; what was asked before is answered first."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rankine.serving.stalls import Stall, Verdict
from rankine.serving.wire_errors import ClosingAnswer

__all__ = ["EndingProtocol"]

_LINGER_S = 1.0
"""After a refusal, what still comes is read and dropped for so long."""


class EndingProtocol(HttpToolsProtocol):
    """A connection that ends well.

    Whoever calls ``close_if_stalled`` now and then ends connections that send no whole head, or nothing more of a
    body, within ``STALL_S`` seconds, and those whose request is not whole within ``max_read_s``.
    """

    def __init__(self, *arguments: Any, max_read_s: float = 60.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._stall = Stall(self.loop.time(), max_read_s)
        self._refused = False
        self._refusal: bytes | None = None  # that is still to be told
        self._in_message = False
        self._in_head = False

    def shutdown(self) -> None:
        """The server ends: close the connection, once what was asked on it is answered."""
        super().shutdown()
        if self.scheme == "https":  # closing waits for the client to say goodbye, and an idle one does not listen
            self.loop.call_later(_LINGER_S, self._leave)

    def close_if_stalled(self, now_s: float) -> None:
        """Close the connection if its client has kept it waiting too long; ``now_s`` is on the event loop's clock."""
        verdict = self._stall.verdict(
            now_s,
            writes_wait=self.flow.write_paused,
            reads_wait=self.flow.read_paused,
            in_message=self._in_message,
            owes=self._owes,
        )
        if verdict is Verdict.ABORT:
            self.transport.abort()
        elif verdict is Verdict.CLOSE:
            self.transport.close()

    def _leave(self) -> None:
        if self.transport.is_closing() and self.transport.get_write_buffer_size() == 0:
            self.transport.abort()
        elif self in self.connections:
            self.loop.call_later(_LINGER_S, self._leave)

    @property
    def _owes(self) -> bool:
        """Whether a request is not answered yet."""
        return bool(self.pipeline) or not getattr(self.cycle, "response_complete", True)  # there may be no cycle

    def _break_off(self, answer: ClosingAnswer) -> None:
        """Refuse what has come, also in the middle of a message: nobody else answers the request that it was to be."""
        if self._in_message and not self._in_head and not self._refused and self.cycle is not None:
            self.cycle.disconnected = self.cycle.response_complete = True
            self.cycle.message_event.set()
        self._refuse(answer)

    def _refuse(self, answer: ClosingAnswer) -> None:
        if not self._refused:
            self._refused, self._refusal = True, answer.raw
            self._tell_refused(answer.says)
            self._tell_refusal()

    def _tell_refusal(self) -> None:
        """Write a refusal, once all is answered that was asked before: answers have no names, but an order."""
        if self._refusal is None or self._owes:
            return
        self.transport.write(self._refusal)
        self._refusal = None
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # Closing with data unread would reset the connection, and the client might never see the answer.
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _tell_refused(self, why: str) -> None:
        """Log that the connection ends before it has asked anything that could be answered, where somebody logs."""
