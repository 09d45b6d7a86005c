"""`Ok` and `Err` as values."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from kagzi import Err, KagziError, Ok, StepError, StepFailed
from kagzi.model.error import ErrorKind

ERROR = StepError(kind=ErrorKind.TIMEOUT, type="TimeoutError", message="too late")


def test_they_match_compare_and_say_what_they_are() -> None:
    def tell(result: Ok[int] | Err) -> str:
        match result:
            case Ok(value):
                return f"value {value}"
            case Err(error):
                return f"error {error.message}"

    assert [tell(Ok(5)), tell(Err(ERROR))] == ["value 5", "error too late"]
    assert (Ok(5).is_ok, Err(ERROR).is_ok) == (True, False)
    assert (Ok(5), Err(ERROR)) == (Ok(5), Err(ERROR, exception=TimeoutError("too late")))
    assert repr(Ok(5)) == "Ok(value=5)"
    assert "exception" not in repr(Err(ERROR, exception=TimeoutError()))


def test_unwrap_gives_the_value_or_raises_what_was_raised() -> None:
    failed = StepFailed("charge", ERROR)

    assert Ok(5).unwrap() == 5
    with pytest.raises(StepFailed) as raised:
        Err(ERROR, exception=failed).unwrap()
    assert raised.value is failed
    with pytest.raises(KagziError, match="the branch failed: TimeoutError: too late"):
        Err(ERROR).unwrap()


def test_they_are_frozen_and_pickle() -> None:
    failed = Err(ERROR, exception=StepFailed("charge", ERROR))

    with pytest.raises(dataclasses.FrozenInstanceError):
        Ok(5).value = 6  # type: ignore[misc] # that is what is tested
    assert pickle.loads(pickle.dumps([Ok(5), failed])) == [Ok(5), failed]
