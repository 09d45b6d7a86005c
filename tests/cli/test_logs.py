"""Logs: one line per record, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from kagzi.cli.logs import HumanFormatter, JsonFormatter


def a_record(message: str = "A run ended.", **fields: Any) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "kagzi.worker", "levelno": logging.INFO, "levelname": "INFO", "msg": message}
    )
    vars(record).update(fields)
    return record


def test_a_json_line_has_the_record_s_own_fields() -> None:
    line = json.loads(JsonFormatter().format(a_record(run_id="r1", steps=("a", "b"), odd={1})))

    assert line | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "kagzi.worker",
        "message": "A run ended.",
        "run_id": "r1",
        "steps": ["a", "b"],
        "odd": "{1}",
    }


def test_a_field_named_like_a_standard_one_is_kept_beside_it() -> None:
    line = json.loads(JsonFormatter().format(a_record(level="loud")))

    assert (line["level"], line["level_"]) == ("info", "loud")


def test_a_json_line_holds_the_traceback() -> None:
    try:
        raise ValueError("odd\nerror")
    except ValueError:
        record = a_record(exc_info=sys.exc_info())

    text = JsonFormatter().format(record)

    assert len(text.splitlines()) == 1
    assert "ValueError: odd\nerror" in json.loads(text)["exception"]


def test_no_field_and_no_message_can_forge_a_line_for_people() -> None:
    text = HumanFormatter().format(a_record("one\ntwo\x1b[31m", reason="three\nfour", queues=("a", "b c")))

    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert text.endswith(r"INFO    one\ntwo\x1b[31m reason='three\nfour' queues=a,'b c'")
