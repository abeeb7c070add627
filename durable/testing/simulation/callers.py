"""Callers: programs outside of objects, with stubs of their own, whose calls are answered, fail, or
are cancelled."""

from __future__ import annotations

import json
from typing import Any

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

import durable

from .history import History
from .model import Operation
from .orders import NAMES, draw
from .subject import Refusal, Subject

CALLERS = 4


@define(eq=False)
class Caller:
    """Stubs, and how many calls were made on each."""

    stubs: dict[str, tuple[int, Any]] = field(factory=dict)
    sent: dict[int, int] = field(factory=dict)


@define(eq=False)
class Callers:
    """All callers of one life."""

    history: History
    namespace: durable.Namespace[Subject]
    tasks: TaskGroup
    unconfirmed: float  # how many of the changes are made so
    open_calls: int = 0
    _callers: list[Caller] = field(factory=lambda: [Caller() for _ in range(CALLERS)])
    _scopes: list[anyio.CancelScope] = field(factory=list)
    _stub_count: int = 0

    def call(self) -> None:
        """A caller calls an object, up to three times."""
        chance = self.history.chance
        caller = chance.choice(self._callers)
        name = chance.choice(NAMES)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            self._call_once(caller, name)

    def cancel(self) -> None:
        """Cancel a caller that waits for an answer."""
        if self._scopes:
            self.history.count("cancellations")
            self.history.chance.choice(self._scopes).cancel()

    def _call_once(self, caller: Caller, name: str) -> None:
        chance = self.history.chance
        order = draw(self.history, name, self.unconfirmed)
        stub_number, stub = self._stub(caller, name)
        caller.sent[stub_number] = number = caller.sent.get(stub_number, 0) + 1
        message = order.message(stub_number, number)
        is_fetch = chance.random() < 0.3 and order.kind != "drip"
        try:
            if order.kind == "drip":
                answer = stub.drip(**message)
            elif is_fetch:
                answer = stub.fetch("https://subject/", method="POST", body=json.dumps(message))
            else:
                answer = stub.do(**message)
        except durable.DurableError as error:
            self._failed(caller, name, error)
            return
        self.history.count("calls")
        if chance.random() < 0.05:
            return  # no caller waits for it
        scope = anyio.CancelScope()
        self._scopes.append(scope)
        self.tasks.start_soon(self._hear, caller, name, answer, order.operations, is_fetch, scope)

    def _stub(self, caller: Caller, name: str) -> tuple[int, Any]:
        if name not in caller.stubs:
            self._stub_count += 1
            caller.stubs[name] = self._stub_count, self.namespace.get_by_name(name)
        return caller.stubs[name]

    async def _hear(
        self,
        caller: Caller,
        name: str,
        answer: Any,
        operations: list[Operation],
        is_fetch: bool,
        scope: anyio.CancelScope,
    ) -> None:
        self.open_calls += 1
        try:
            with scope:
                if hasattr(answer, "__aiter__"):
                    left = iter(operations)
                    async for said in answer:
                        self._heard([next(left)], [said])
                    return
                answers = await answer
                if is_fetch:
                    answers = json.loads(await answers.text())
                self._heard(operations, answers)
        except Refusal as refusal:
            self._heard(operations, refusal.args[0])
        except (durable.DurableError, ValueError) as error:
            self._failed(caller, name, error)
        finally:
            self.open_calls -= 1
            self._scopes.remove(scope)

    def _heard(self, operations: list[Operation], answers: list[Any]) -> None:
        self.history.count("answers")
        for operation, answer in zip(operations, answers, strict=True):
            self.history.heard(operation, answer)

    def _failed(self, caller: Caller, name: str, error: Exception) -> None:
        self.history.failed(error)
        if getattr(error, "reset", False):
            caller.stubs.pop(name, None)
