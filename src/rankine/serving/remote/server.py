"""Another server that runs batches: what it must be, whether it is there, and calls to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from rankine.errors import RankineError
from rankine.models.columns import Batch
from rankine.models.schema import Schema
from rankine.serving.logs import LOGGER
from rankine.serving.protocols.batch_tensors import COMPUTED_BY, batch_inputs, batch_outputs, batch_tensors, mark_of
from rankine.serving.remote.link import Link, LinkTimeout
from rankine.serving.remote.lost import RemoteLost, RemoteMismatch
from rankine.serving.remote.wire import decode_reply, encode_request

__all__ = ["RemoteServer"]

_LOOK_S = 1.0
"""Between two looks whether a server that works still does."""
_FIRST_WAIT_S, _MOST_WAIT_S = 0.1, 5.0
"""Between two tries to reach one that does not: twice as long each further time."""
_JSON_BYTES = "inference-header-content-length"
_HOW = "Serve the same artifact there: `rankine serve`, or `rankine export triton-server` for Triton server."


class RemoteServer:
    """A server at ``url`` that runs batches of one variant; an :class:`~rankine.serving.devices.Elsewhere`.

    Args:
        model: name of what it serves to other servers.
        digest: SHA-256 of the variant that it must compute, see :func:`rankine.certification.plan.variant_digest`.
        timeout_s: longest time for an answer.
        agree: holds the answers of the server to what is known, each time that it is reached anew.
        allow_uncertified: take logits of what is not certified there too.

    Attributes:
        up: whether it gets batches.
    """

    def __init__(
        self,
        url: str,
        model: str,
        schema: Schema,
        digest: bytes,
        *,
        timeout_s: float,
        agree: Callable[[RemoteServer], None],
        allow_uncertified: bool = False,
    ) -> None:
        self.url, self.up = url, False
        self._path = f"/v2/models/{quote(model, safe='')}"
        self._model, self._schema, self._timeout_s, self._agree = model, schema, timeout_s, agree
        self._certified, self._uncertified = (mark_of(digest, certified=certified) for certified in (True, False))
        self._allow_uncertified = allow_uncertified
        self._link = Link(url)
        self._left = threading.local()
        self._look, self._closing = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="rankine-remote", daemon=True)

    def start(self) -> None:
        """Reach the server, and look after it from now on. One that is not there is tried again and again.

        Raises:
            RemoteMismatch: it is there, and runs something else.
        """
        try:
            self._reach()
        except RemoteLost as error:
            self._tell(error)
        self._thread.start()

    def close(self) -> None:
        """End the watch, and the connections that are idle."""
        self._closing, self.up = True, False
        self._look.set()
        if self._thread.is_alive():
            self._thread.join()
        self._link.close()

    def within(self, left_s: float) -> None:
        """See :meth:`rankine.serving.devices.Elsewhere.within`."""
        self._left.s = left_s

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """Have a batch run; ``out`` is float32 ``(rows, tasks)``.

        It gets half of the time that is left, so that another device can still run it in the other half.

        Raises:
            RemoteLost: there is no answer, or none in time, or it is not one of this variant's, or not finite. Where
                that is surely the server's fault it gets nothing more until it is reached again.
        """
        if not self.up:
            raise RemoteLost("the server is left out until it is reached again", where=self.url)
        left_s = getattr(self._left, "s", float("inf")) / 2
        try:
            self.infer(batch, out, min(self._timeout_s, left_s))
            if not np.isfinite(out).all():  # the request's fault, or the server's: an engine that is certified decides
                raise RemoteBusy("the server has no finite logits for a batch", where=self.url)
        except LinkTimeout:
            if left_s >= self._timeout_s:
                self._leave_out()
            raise
        except RemoteBusy:
            raise
        except RemoteLost:
            self._leave_out()
            raise
        except RemoteMismatch as error:  # it was started anew, with something else
            self._leave_out()
            raise RemoteLost(error.message, where=error.where, hint=error.hint) from None

    def infer(self, batch: Batch, out: np.ndarray, timeout_s: float | None = None) -> None:
        """One call, whether the server is up or not; ``timeout_s``: the server's own if None.

        Raises:
            RemoteLost: as :meth:`run`.
            RemoteMismatch: the answer is not one of this variant's.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        body, json_bytes = encode_request(batch_tensors(self._schema, batch), timeout_s=timeout_s)
        headers = {"content-type": "application/octet-stream", _JSON_BYTES: str(json_bytes)}
        headers["x-rankine-deadline-ms"] = f"{1000 * timeout_s:.0f}"
        status, names, raw = self._link.ask("POST", f"{self._path}/infer", timeout_s, body, headers)
        if status != 200:
            raise RemoteBusy("the server refused a batch", where=self.url, got=f"{status}: {_text(raw)}")
        outputs = decode_reply(raw, names.get(_JSON_BYTES), self.url)
        logits, computed_by = outputs.get("logits"), outputs.get(COMPUTED_BY)
        self._check_mark(None if computed_by is None else computed_by.tobytes())
        if logits is None or logits.shape != out.shape:
            got = "none" if logits is None else str(logits.shape)
            raise RemoteLost("the reply has no logits of this batch", where=self.url, got=got, allowed=str(out.shape))
        np.copyto(out, logits)

    def _check_mark(self, mark: bytes | None) -> None:
        if mark == self._certified or (mark == self._uncertified and self._allow_uncertified):
            return
        if mark == self._uncertified:
            hint = "Start the server there without --allow-uncertified; `rankine certify ARTIFACT --data … --parity` "
            hint += "there makes what it lacks. Or accept it here with --allow-uncertified."
            raise RemoteMismatch("the server runs what has no certificate there", where=self.url, hint=hint)
        raise RemoteMismatch("the server computes another variant than is served here", where=self.url, hint=_HOW)

    def _reach(self) -> None:
        """Take the server in, if it is there and is what it must be.

        Raises:
            RemoteLost: it is not there, or not ready.
            RemoteMismatch: it runs something else.
        """
        status, _, raw = self._link.ask("GET", self._path, self._timeout_s)
        if status in (400, 404):
            raise RemoteMismatch(
                f"the server has no model '{self._model}'", where=self.url, got=f"{status}: {_text(raw)}", hint=_HOW
            )
        if status != 200:
            raise RemoteLost("the server does not tell its model", where=self.url, got=f"{status}: {_text(raw)}")
        self._check(raw)
        self._check_ready(f"{self._path}/ready")
        self._agree(self)
        self.up = True
        LOGGER.info("a remote engine is in use", extra={"fields": {"server": self.url}})

    def _check_ready(self, path: str) -> None:
        status, _, raw = self._link.ask("GET", path, self._timeout_s)
        if status != 200:
            raise RemoteLost("the server is not ready", where=self.url, got=f"{status}: {_text(raw)}")

    def _check(self, raw: bytes) -> None:
        """Hold the server's metadata to the artifact's."""
        try:
            told = json.loads(raw)
            sides = [_by_name(told[side]) for side in ("inputs", "outputs")]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise RemoteMismatch(
                "is no server of the Open Inference Protocol", where=self.url, got=str(error)
            ) from None
        for side, theirs, specs in zip(
            ("input", "output"), sides, (batch_inputs(self._schema), batch_outputs(self._schema)), strict=True
        ):
            ours = _by_name(specs)
            extra = sorted(theirs.keys() - ours.keys()) if side == "input" else []
            for name in (*ours, *extra):
                if theirs.get(name) != ours.get(name):
                    raise RemoteMismatch(
                        f"the server's {side} '{name}' is not that of the artifact", where=self.url,
                        got=_shown(theirs.get(name)), allowed=_shown(ours.get(name)), hint=_HOW,
                    )  # fmt: skip

    def _leave_out(self) -> None:
        self.up = False
        self._look.set()

    def _watch(self) -> None:
        """Look after the server until it is closed."""
        wait_s, trouble = _FIRST_WAIT_S, ""
        while not self._closing:
            self._look.wait(_LOOK_S if self.up else wait_s)
            self._look.clear()
            if self._closing:
                return
            try:
                if self.up:
                    self._check_ready("/v2/health/ready")
                else:
                    self._reach()
                wait_s, trouble = _FIRST_WAIT_S, ""
            except Exception as error:  # noqa: BLE001  whatever a server does, it is tried again
                if self.up:
                    wait_s = _FIRST_WAIT_S
                self.up, wait_s = False, min(_MOST_WAIT_S, 2 * wait_s)
                if (told := _told(error)) != trouble:
                    trouble = told
                    self._tell(error)

    def _tell(self, error: Exception) -> None:
        """Log why it is left out; of what nobody expected, where it came from too."""
        fields = {"server": self.url, "error": _told(error)}
        known = isinstance(error, RankineError)
        LOGGER.warning("a remote engine is left out", extra={"fields": fields}, exc_info=None if known else error)


class RemoteBusy(RemoteLost):
    """The server did not run a batch as it should; it is there."""


def _by_name(specs: Any) -> Mapping[str, tuple[str, list[int]]]:
    return {spec["name"]: (spec["datatype"], [int(size) for size in spec["shape"]]) for spec in specs}


def _shown(spec: tuple[str, list[int]] | None) -> str:
    return "none" if spec is None else f"{spec[0]} {spec[1]}"


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, RankineError) else f"{type(error).__name__}: {error}"


def _text(raw: bytes) -> str:
    return raw[:300].decode("utf-8", "replace")
