"""Random workflow programs whose steps and runs fail, crashed at random moments: nothing is forgotten or done twice.

`retrying_world.py` says what may be begun and stored, `retrying_replays.py` how it is held against what happens. A
failure prints the program and the choices that led to it. Many more programs go by hand (`retrying_replays.py`).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kagzi.authoring.options import WorkflowOptions
from tests.engine.programs import Choices
from tests.engine.retrying_programs import make_calm_program, make_retrying_program
from tests.engine.retrying_replays import RetryingTrial, StoredTrial

numbers = st.binary(min_size=40, max_size=120).map(Choices)
choices = st.binary(min_size=20, max_size=300).map(Choices)
wild = st.tuples(numbers, numbers).map(lambda given: make_retrying_program(*given))
calm = st.tuples(numbers, numbers).map(lambda given: make_calm_program(*given))

Program = tuple[Any, WorkflowOptions]


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=wild, choices=choices)
def test_whatever_fails_and_crashes_every_replay_is_the_same_and_nothing_finished_is_executed(
    program: Program, choices: Choices
) -> None:
    """P10, P11, P15, P18 and P21."""
    RetryingTrial(*program, choices).run()


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=calm, choices=choices)
def test_a_run_that_fails_and_is_tried_again_ends_as_it_would_without_crashes(
    program: Program, choices: Choices
) -> None:
    """P21: a crash uses no attempt, and no attempt is forgotten in one."""
    RetryingTrial(*program, choices, calm=True).run()


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=wild, choices=choices)
def test_a_real_store_remembers_failures_as_it_should_though_its_answers_get_lost(
    program: Program, choices: Choices
) -> None:
    """P4, with P10 and P21."""
    StoredTrial(*program, choices).run()
