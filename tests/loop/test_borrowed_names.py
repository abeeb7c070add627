"""Private names of asyncio, anyio and Trio that are used are there: a release without one is told.

Where such a name is gone, the code that uses it goes on without, in silence: deadlocks are seen
less often, say. So the names are asked for here, one by one, on each supported version.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from anyio.abc import TaskStatus

from durable._loop.asyncio_parking import AsyncioParking, swap_in

asyncio_only = pytest.mark.backends("asyncio")
trio_only = pytest.mark.backends("trio")


@asyncio_only
async def test_asyncio_tasks_tell_what_they_wait_for() -> None:
    """`_fut_waiter` and `_callbacks` lead from a task to what it waits for, and back."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await future

    task: Any = asyncio.create_task(wait())
    await asyncio.sleep(0)

    assert task._fut_waiter is future
    assert [callback.__self__ for callback, _ in future._callbacks] == [task]
    future.set_result(None)
    await task


@asyncio_only
async def test_gather_and_task_groups_tell_whom_they_wait_for() -> None:
    """`_children` of a gather, `_parent_task` of a task group and the callback of its tasks."""
    gathered: Any = asyncio.gather(asyncio.sleep(0))
    assert len(gathered._children) == 1
    await gathered

    async with asyncio.TaskGroup() as group:
        task: Any = group.create_task(asyncio.sleep(0))
        assert group._parent_task is asyncio.current_task()  # type: ignore[attr-defined]
        assert [callback.__self__ for callback, _ in task._callbacks] == [group]


@asyncio_only
async def test_callbacks_close_over_what_they_set() -> None:
    """Those of `asyncio.wait` over how long it waits, too."""
    future: Any = asyncio.get_running_loop().create_future()
    waits = [
        asyncio.create_task(asyncio.wait([future], return_when=asyncio.FIRST_COMPLETED)),
        asyncio.create_task(asyncio.wait([future], timeout=60)),
    ]
    shielded = asyncio.shield(future)
    gathered = asyncio.gather(future)
    await asyncio.sleep(0)

    callbacks = [inspect.getclosurevars(callback).nonlocals for callback, _ in future._callbacks]
    outers = [each["outer"] for each in callbacks if "outer" in each]
    assert {shielded, gathered} <= set(outers)
    first, limited = (each for each in callbacks if "waiter" in each)
    assert (first["return_when"], first["counter"]) == (asyncio.FIRST_COMPLETED, 1)
    assert first["timeout_handle"] is None
    assert limited["timeout_handle"] is not None
    future.set_result(None)
    await asyncio.wait([*waits, shielded, gathered])


@asyncio_only
async def test_anyio_keeps_a_state_of_each_task() -> None:
    """`_task_states` leads from a task to its cancel scope, and from that to the task's."""
    states = importlib.import_module("anyio._backends._asyncio")._task_states
    task = asyncio.current_task()

    with anyio.CancelScope() as outer, anyio.CancelScope() as scope:
        found: Any = states[task].cancel_scope
        assert found is scope
        assert found._host_task is task
        assert found._parent_scope is outer
        await anyio.lowlevel.checkpoint()


@asyncio_only
async def test_tasks_can_be_taken_out_of_asyncios_list() -> None:
    """`_unregister_task` takes a task out of `all_tasks`."""
    task = asyncio.create_task(asyncio.sleep(0))
    asyncio._unregister_task(task)

    assert task not in asyncio.all_tasks()
    await task


@asyncio_only
async def test_the_current_task_of_an_asyncio_loop_can_be_set() -> None:
    """By `_swap_current_task`; before Python 3.12 in the table `_current_tasks`."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    other = loop.create_task(asyncio.sleep(0))
    swap = swap_in(loop)

    assert swap(other) is this
    assert asyncio.current_task() is other
    assert swap(None) is other
    assert asyncio.current_task() is None
    swap(this)
    assert asyncio.current_task() is this
    await other


@asyncio_only
async def test_asyncio_tasks_wait_for_what_has_the_methods_of_a_future() -> None:
    """`_asyncio_future_blocking` and `add_done_callback`; what that is given wakes the task."""
    parked: list[None] = []
    loop = asyncio.get_running_loop()
    parking = AsyncioParking(
        loop, swap_in(loop), lambda: parked.append(None), lambda: True, lambda: False
    )

    async def wait() -> Any:
        return await parking

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert parked == [None]
    assert parking.task is task
    parking.dismiss()  # at once
    assert task.done()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are eager from Python 3.12 on")
def test_an_eager_task_factory_keeps_the_class_of_tasks() -> None:
    """The one cell of the closure is what makes the tasks."""
    factory: Any = asyncio.create_eager_task_factory(asyncio.Task)  # type: ignore[attr-defined]

    assert factory.__code__ is asyncio.eager_task_factory.__code__  # type: ignore[attr-defined]
    assert [cell.cell_contents for cell in factory.__closure__] == [asyncio.Task]


@trio_only
async def test_trio_tasks_tell_how_they_are_cancelled() -> None:
    """`_abort_func`, `_attempt_abort`, `_cancel_status` and `_child_nurseries` of a task."""
    found: list[Any] = []

    async def wait(*, task_status: TaskStatus[None]) -> None:
        found.append(trio.lowlevel.current_task())
        task_status.started()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(wait)
        await trio.testing.wait_all_tasks_blocked()
        (task,) = found
        assert callable(task._abort_func)
        assert callable(task._attempt_abort)
        assert task._cancel_status is nursery._cancel_status
        assert trio.lowlevel.current_task()._child_nurseries[-1] is nursery  # type: ignore[attr-defined]
        nursery.cancel_scope.cancel()


@trio_only
async def test_the_current_task_of_a_trio_run_can_be_set() -> None:
    """`GLOBAL_RUN_CONTEXT.task` is what `current_task` returns."""
    context: Any = importlib.import_module("trio._core._run_context").GLOBAL_RUN_CONTEXT

    assert context.task is trio.lowlevel.current_task()


@trio_only
async def test_trio_tasks_wait_by_one_of_two_traps_and_know_when_they_are_to_go_on() -> None:
    """`WaitTaskRescheduled`, `CancelShieldedCheckpoint`, and `_next_send_fn` of a task."""
    traps: Any = importlib.import_module("trio._core._traps")
    task: Any = trio.lowlevel.current_task()

    wait = trio.lowlevel.wait_task_rescheduled
    waiting: Any = wait(lambda _: trio.lowlevel.Abort.FAILED)
    checkpoint: Any = trio.lowlevel.cancel_shielded_checkpoint
    passing: Any = checkpoint()

    assert type(waiting.send(None)) is traps.WaitTaskRescheduled
    assert passing.send(None) is traps.CancelShieldedCheckpoint
    assert task._next_send_fn is None
    assert callable(task._attempt_delivery_of_any_pending_cancel)
