"""A worker's processes for steps: started when needed, at most so many, used again, and replaced where they end."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

from kagzi.authoring.steps import StepInfo
from kagzi.engine.processes.functions import main_module, name_function
from kagzi.engine.processes.messages import Answer, Raised, Request, Returned, TooLate
from kagzi.engine.processes.process import Heard, StepProcess, StepProcessDied
from kagzi.errors import KagziError, PayloadError

_LAST_BREATH_S = 5.0


class StepProcesses:
    """Calls functions in at most `limit` processes at a time, each in one that does nothing else meanwhile. A limit of
    0 stands for as many as there are processors."""

    def __init__(self, limit: int) -> None:
        self._places = asyncio.Semaphore(limit or _processors())
        self._idle: list[StepProcess] = []
        self._all: set[StepProcess] = set()
        self._closed = False

    async def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        info: StepInfo,
        on_turn: Callable[[], Awaitable[None]],
        on_begun: Callable[[], object] | None = None,
        on_told: Callable[[str | None], object] | None = None,
        until_s: Callable[[], float] | None = None,
    ) -> Any:
        """Return or raise what the function does; its exceptions arrive as `errors.TravellingError` says.

        `on_turn` is awaited once there is a place, and may raise; `on_begun` is called as the function begins,
        `on_told` with what it tells by its heartbeat. Cancelled, the process is killed at once.

        With `until_s` the function is called at most once, and only before that moment, by the clock `since_boot`:
        where the process comes too late it is asked again, with another moment.

        Raises ConfigError where the function can't be found by its name, PayloadError where an argument or the result
        can't travel, StepProcessDied where the process ends in the middle.
        """
        request = _request(fn, args, kwargs, info)
        async with self._places:
            await on_turn()
            answer = await self._execute(request, Heard(on_begun, on_told), until_s)
        match answer:
            case Returned(value):
                return _read(value, info.name)
            case Raised(error):
                raise error.arrive()

    async def _execute(self, request: Request, heard: Heard, until_s: Callable[[], float] | None) -> Answer:
        while True:
            if until_s is not None:
                request = dataclasses.replace(request, until_s=until_s())
            idle = self._idle_one()
            process = idle or self._new_one()
            try:
                answer = await process.execute(request, heard=heard)
            except StepProcessDied:
                process.kill()
                # What was not heard of a death may have been on its way.
                if process.has_begun or idle is None or until_s is not None:
                    raise
                continue  # it had died since its last step: nothing of this one was executed
            except BaseException:
                process.kill()
                raise
            self._idle.append(process)
            if not isinstance(answer, TooLate):
                return answer

    async def close(self) -> None:
        """Kill all processes and wait until they are gone."""
        self._closed = True
        self._idle.clear()
        for process in self._all:
            process.kill()
        ends = [asyncio.ensure_future(process.ended()) for process in self._all]
        if ends:
            await asyncio.wait(ends, timeout=_LAST_BREATH_S)

    def _idle_one(self) -> StepProcess | None:
        while self._idle:
            process = self._idle.pop()
            if not process.is_over:
                return process
        return None

    def _new_one(self) -> StepProcess:
        if self._closed:
            raise KagziError("the worker has stopped, and its processes with it.")
        self._all = {process for process in self._all if not process.has_ended}
        process = StepProcess.start()
        self._all.add(process)
        return process


def _request(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], info: StepInfo) -> Request:
    function = name_function(fn, step=info.name)
    try:
        arguments = pickle.dumps((args, kwargs), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        where = f"step {info.name!r}"
        raise PayloadError(f"{where}: an argument can't travel to its process: {error}", step=where) from error
    return Request(
        function=function,
        arguments=arguments,
        main=main_module(function.module.encode(), arguments, step=info.name),
        info=dataclasses.replace(info, _cancelled=_never, _beat=_untold),
    )


def _read(pickled: bytes, step: str) -> Any:
    try:
        return pickle.loads(pickled)  # noqa: S301 - from a process of our own, and never stored
    except Exception as error:
        where = f"step {step!r}"
        raise PayloadError(f"{where}: what it returned can't be read back: {error}", step=where) from error


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # those that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _never() -> bool:
    return False


def _untold(details: str | None) -> None:
    """Told by the process in its own way."""
