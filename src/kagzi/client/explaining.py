"""Describing a run, and saying what exactly it waits for."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime

from kagzi.client import workers as registered
from kagzi.client.link import Link
from kagzi.client.views import as_run, as_step
from kagzi.errors import RunNotFound
from kagzi.model.run import TERMINAL, MessageKind, Run, RunId, RunStatus, StoredRun
from kagzi.model.step import StoredStep
from kagzi.model.worker import RegisteredWorker
from kagzi.rules import waiting


async def describe(link: Link, stored: StoredRun) -> Run:
    """A run as people see it; one that is due tells why no worker takes it, where none does."""
    unreceived = await link.store.undelivered(stored.run_id) if stored.inbox else []
    unreceived = [message for message in unreceived if message.kind is not MessageKind.CANCEL]
    if stored.status in TERMINAL:
        return as_run(stored, link.payloads, unreceived=unreceived)
    if stored.status is RunStatus.RUNNING or stored.available_at is None:
        open_steps = await link.store.open_steps(stored.run_id)
        return as_run(stored, link.payloads, open_steps=open_steps, unreceived=unreceived)
    open_steps, workers, now = await _look(link, stored)
    run = as_run(stored, link.payloads, open_steps=open_steps, unreceived=unreceived)
    nobody = waiting.unserved(run, workers) if stored.available_at <= now else None
    return run if nobody is None else dataclasses.replace(run, waiting_for=(*run.waiting_for, nobody))


async def explain(link: Link, run_id: str) -> tuple[Run, list[str]]:
    """A run and everything that it waits for, most important first. Raises RunNotFound."""
    stored = await link.store.get(RunId(run_id))
    if stored is None:
        raise RunNotFound(run_id)
    open_steps, workers, now = await _look(link, stored)
    run = as_run(stored, link.payloads, open_steps=open_steps)
    texts = waiting.waits(run, [as_step(step, link.payloads) for step in open_steps], workers, now=now)
    return run, waiting.with_statuses(texts, await _children(link, open_steps))


async def _children(link: Link, open_steps: list[StoredStep]) -> dict[str, RunStatus]:
    """How the first of the children stand that are awaited."""
    run_ids = [step.child_run_id for step in open_steps if step.child_run_id is not None][: waiting.CHILDREN_SHOWN]
    found = await asyncio.gather(*(link.store.get(run_id) for run_id in run_ids))
    return {child.run_id: child.status for child in found if child is not None}


async def _look(link: Link, stored: StoredRun) -> tuple[list[StoredStep], list[RegisteredWorker], datetime]:
    """The run's open steps, the workers of its namespace and the store's time."""
    open_steps, workers = await asyncio.gather(
        link.store.open_steps(stored.run_id), registered.find(link, ended=True, namespace=stored.namespace)
    )
    return open_steps, workers, workers[0].seen_at if workers else (await link.store.probe()).now
