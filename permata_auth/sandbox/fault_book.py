"""The faults and gates still to come: which requests they are for, in which order, for how long."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs

from .faults import Effect, build
from .messages import Inbound, Reply

if TYPE_CHECKING:
    from typing_extensions import Self

_MATCHES: dict[str, Callable[[Inbound], bool]] = {
    "any": lambda request: True,
    "token": lambda request: request.is_login,
    "calls": lambda request: not request.is_login,
}


def _check_count(n: float) -> None:
    if n < 1:
        raise ValueError("n must be at least 1")


class Gate:
    """Holds the next requests inside the bank until it is released; made by ``hold_next()``.

    ``arrived`` is set when as many requests as asked for are waiting. As a context manager it
    releases on the way out.

    Args:
        count: The number of requests to hold.
    """

    def __init__(self, count: int) -> None:
        self.arrived = threading.Event()
        self._released = threading.Event()
        self._missing = count
        self._lock = threading.Lock()

    @property
    def is_released(self) -> bool:
        return self._released.is_set()

    def release(self) -> None:
        """Let the held requests go on; those that have not come yet will not be held."""
        self._released.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()

    def pass_through(self) -> None:
        """Wait at the gate; called by the server."""
        with self._lock:
            self._missing -= 1
            if self._missing == 0:
                self.arrived.set()
        self._released.wait()


@attrs.define(kw_only=True, eq=False)
class _Rule:
    """Which requests a fault or a gate is for, and how many or how long still."""

    on: str = attrs.field(validator=attrs.validators.in_(_MATCHES))
    name: str = ""
    effect: Effect | None = None
    gate: Gate | None = None
    left: float = math.inf
    until: float = math.inf

    def is_spent(self) -> bool:
        return self.left <= 0 or time.monotonic() >= self.until


@attrs.define(eq=False)
class FaultBook:
    """The faults and gates still to come, first in, first out. Thread-safe."""

    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _faults: list[_Rule] = attrs.field(factory=list, init=False)
    _holds: list[_Rule] = attrs.field(factory=list, init=False)
    _gates: list[Gate] = attrs.field(factory=list, init=False)

    def fail(
        self,
        fault: str,
        on: str,
        arguments: Mapping[str, Any],
        *,
        left: float = math.inf,
        seconds: float = math.inf,
    ) -> None:
        """Queue a fault for ``left`` requests or for ``seconds``.

        Args:
            fault: Its name.
            on: The requests it is for: "any", "token" or "calls".
            arguments: The fault's own.
            left: The number of requests; by default any number.
            seconds: Counted from now; by default without end.
        """
        _check_count(left)
        if not seconds > 0:
            raise ValueError("seconds must be positive")
        until = time.monotonic() + seconds
        rule = _Rule(on=on, name=fault, effect=build(fault, arguments), left=left, until=until)
        with self._lock:
            self._faults.append(rule)

    def hold(self, n: int, on: str) -> Gate:
        """Queue a gate for ``n`` requests."""
        _check_count(n)
        rule = _Rule(on=on, gate=Gate(n), left=n)
        assert rule.gate is not None
        with self._lock:
            self._holds.append(rule)
            self._gates = [gate for gate in self._gates if not gate.is_released]
            self._gates.append(rule.gate)
        return rule.gate

    def clear(self) -> None:
        """Forget all faults and release all gates."""
        with self._lock:
            self._faults.clear()
        self.release()

    def release(self) -> None:
        """Release all gates and forget those that nobody has reached."""
        with self._lock:
            self._holds.clear()
            gates, self._gates = self._gates, []
        for gate in gates:
            gate.release()

    def _take(self, rules: list[_Rule], request: Inbound) -> _Rule | None:
        with self._lock:
            rules[:] = [rule for rule in rules if not rule.is_spent()]
            for rule in rules:
                if _MATCHES[rule.on](request):
                    rule.left -= 1
                    return rule
            return None

    def hold_back(self, request: Inbound) -> None:
        """Block at the next gate that is meant for this request, if there is one."""
        rule = self._take(self._holds, request)
        if rule and rule.gate:
            rule.gate.pass_through()

    def apply(self, request: Inbound, answer: Callable[[], Reply]) -> Reply:
        """Return the honest reply, changed by the next fault that is for this request."""
        rule = self._take(self._faults, request)
        if rule is None or rule.effect is None:
            return answer()
        return attrs.evolve(rule.effect(request, answer), reason=f"fault: {rule.name}")
