"""The rows about versions: each a default (without a time) or a deprecated version (with the time since when)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from kagzi.model.version import VersionPolicy


def policies(rows: Iterable[tuple[str, int, datetime | None]]) -> dict[str, VersionPolicy]:
    """Put rows (workflow, version, deprecated_at) together, by workflow."""
    found: dict[str, VersionPolicy] = {}
    for workflow, version, deprecated_at in rows:
        policy = found.get(workflow) or VersionPolicy(deprecated={})
        if deprecated_at is None:
            found[workflow] = msgspec.structs.replace(policy, default=version)
        else:
            policy.deprecated[version] = deprecated_at
            found[workflow] = policy
    return found
