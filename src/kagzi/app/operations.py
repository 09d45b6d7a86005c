"""What people who run an application do: with the versions of its workflows, and with many runs at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Unpack

from kagzi.app.connection import Connection
from kagzi.client import bulk, versions
from kagzi.model.bulk import BulkOutcome, RunsWanted
from kagzi.model.version import WorkflowVersion
from kagzi.settings import Settings


class Operations(ABC):
    """The part of an application that looks after what is in the database."""

    settings: Settings

    @abstractmethod
    def _open_link(self) -> Connection:
        """The connection. Raises ConfigError where there is none."""

    # -- versions ----------------------------------------------------------------------------------------------

    async def set_default_workflow_version(self, name: str, version: int) -> None:
        """Set, for every process on this database, the version that new runs of a workflow get.

        Raises VersionNotFound where this application knows the workflow but not the version, VersionDeprecated where it
        gets no new runs.
        """
        await versions.set_default(self._open_link(), name, version)

    async def get_default_workflow_version(self, name: str) -> int | None:
        """The version that new runs of a workflow get: the one set, else the highest registered here, else None.

        Deprecated versions are passed over.
        """
        return await versions.get_default(self._open_link(), name)

    async def deprecate_workflow_version(self, name: str, version: int) -> None:
        """Have a version get no new runs, in every process on this database within about a second.

        Its open runs go on. A start that asks for it raises VersionDeprecated, one that asks for none gets another.
        Raises ConfigError where it is the default that was set.
        """
        await versions.deprecate(self._open_link(), name, version)

    async def undeprecate_workflow_version(self, name: str, version: int) -> None:
        """Let a version get new runs again; nothing happens where it isn't deprecated."""
        await versions.undeprecate(self._open_link(), name, version)

    async def find_workflow_versions(self) -> list[WorkflowVersion]:
        """List the versions of all workflows: those that workers know or runs need, the defaults, the deprecated ones.

        One that `can_go` is deprecated and has no open runs, so its code can be deleted.
        """
        return await versions.find(self._open_link())

    async def count_open_runs(self) -> dict[tuple[str, int], int]:
        """Count the runs that have not ended, by workflow and version. The cost grows with them, and with no others."""
        return await self._open_link().store.count_open(self.settings.namespace)

    # -- many runs ---------------------------------------------------------------------------------------------

    async def cancel_runs(
        self,
        *,
        reason: str | None = None,
        all: bool = False,  # noqa: A002 - the public name
        dry_run: bool = False,
        **which: Unpack[RunsWanted],
    ) -> BulkOutcome:
        """Cancel as `WorkflowHandle.cancel` does every run that has not ended and that the filters of `find_runs` find.

        At least one filter, or `all=True`, must be given. With `dry_run` nothing is done, and the answer says what
        would be. Runs go by pages, each in a transaction of its own; where it breaks off, call it again. Raises
        ValueError or TypeError for what can't be asked, OutcomeUnknown where the database could not be reached in time.
        """
        verb = bulk.cancelling(self.settings.namespace, name="cancel_runs", reason=reason, at_once=False)
        return await self._in_bulk(verb, which, every=all, dry_run=dry_run)

    async def terminate_runs(
        self,
        *,
        reason: str | None = None,
        all: bool = False,  # noqa: A002 - the public name
        dry_run: bool = False,
        **which: Unpack[RunsWanted],
    ) -> BulkOutcome:
        """End runs as `WorkflowHandle.terminate` does; see `cancel_runs`."""
        verb = bulk.cancelling(self.settings.namespace, name="terminate_runs", reason=reason, at_once=True)
        return await self._in_bulk(verb, which, every=all, dry_run=dry_run)

    async def pause_runs(
        self,
        *,
        reason: str | None = None,
        all: bool = False,  # noqa: A002 - the public name
        dry_run: bool = False,
        **which: Unpack[RunsWanted],
    ) -> BulkOutcome:
        """Have runs rest as `WorkflowHandle.pause` does; see `cancel_runs`."""
        return await self._in_bulk(
            bulk.pausing(self.settings.namespace, reason=reason), which, every=all, dry_run=dry_run
        )

    async def resume_runs(
        self,
        *,
        all: bool = False,  # noqa: A002 - the public name
        dry_run: bool = False,
        **which: Unpack[RunsWanted],
    ) -> BulkOutcome:
        """Let paused runs go on as `WorkflowHandle.resume` does; others are not looked at. See `cancel_runs`."""
        return await self._in_bulk(bulk.resuming(self.settings.namespace), which, every=all, dry_run=dry_run)

    async def retry_runs(
        self,
        *,
        all: bool = False,  # noqa: A002 - the public name
        dry_run: bool = False,
        **which: Unpack[RunsWanted],
    ) -> BulkOutcome:
        """Have FAILED runs go on as `WorkflowHandle.retry` does, or CANCELLED ones where that is the status asked for.

        See `cancel_runs`.
        """
        return await self._in_bulk(bulk.retrying(self.settings.namespace), which, every=all, dry_run=dry_run)

    async def _in_bulk(self, verb: bulk.BulkVerb, which: RunsWanted, *, every: bool, dry_run: bool) -> BulkOutcome:
        asked = bulk.wanted_by(verb, self.settings.namespace, which, every=every)
        return await bulk.carry_out(self._open_link(), verb, asked, dry_run=dry_run)
