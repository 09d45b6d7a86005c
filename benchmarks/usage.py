"""What a process has used up to now, as it sees itself."""

from __future__ import annotations

import gc
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """`peak_mib` and `resident_bytes` are of memory; None where the system can't tell."""

    cpu_s: float
    peak_mib: float
    resident_bytes: int | None
    written_bytes: int | None


def usage() -> Usage:
    """Look at this process, garbage collected."""
    gc.collect()
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = _fields(Path("/proc/self/status"))
    if "VmHWM" in status:
        # Not ru_maxrss: on Linux a child begins with its parent's.
        peak_mib = status["VmHWM"] / 1024
    else:
        peak_mib = used.ru_maxrss / (_MIB if sys.platform == "darwin" else 1024)
    return Usage(
        cpu_s=used.ru_utime + used.ru_stime,
        peak_mib=peak_mib,
        resident_bytes=status["VmRSS"] * 1024 if "VmRSS" in status else None,
        written_bytes=_fields(Path("/proc/self/io")).get("wchar"),
    )


def _fields(path: Path) -> dict[str, int]:
    """The numbers in a file of proc(5), by name; none where there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = [line.replace(":", " ").split() for line in lines]
    return {word[0]: int(word[1]) for word in words if len(word) > 1 and word[1].isdigit()}
