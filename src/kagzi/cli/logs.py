"""Logs on stderr: lines for people, or one JSON object per line for programs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from kagzi.cli.output import printable

HUMAN = "human"
JSON = "json"
LEVELS = ("debug", "info", "warning", "error")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logs(*, log_format: str, level: str, number: int | None = None) -> None:
    """Have every log record of this process written to stderr; of several processes, with the `number` of this one."""
    output = logging.StreamHandler()
    output.setFormatter(JsonFormatter(number) if log_format == JSON else HumanFormatter(number))
    logging.basicConfig(level=level.upper(), handlers=[output], force=True)


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, then the record's own fields."""

    def __init__(self, number: int | None = None) -> None:
        super().__init__()
        self._process = {} if number is None else {"process": number}

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | self._process
        for name, value in _own_fields(record).items():
            line[f"{name}_" if name in line else name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class HumanFormatter(logging.Formatter):
    """Time, level, message, then the record's own fields as name=value; a traceback follows on lines of its own."""

    def __init__(self, number: int | None = None) -> None:
        super().__init__()
        self._process = () if number is None else (f"[{number}]",)

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = [f"{name}={_field_text(value)}" for name, value in _own_fields(record).items()]
        line = " ".join([time, *self._process, f"{record.levelname:<7}", printable(record.getMessage()), *fields])
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _own_fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _field_text(value: object) -> str:
    if isinstance(value, tuple | list | set | frozenset):
        return ",".join(_field_text(each) for each in value)
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)
