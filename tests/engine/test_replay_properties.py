"""Random workflow programs, crashed at random moments, are the same in every replay (P10, P11, P15).

`programs.py` says what a program is, `replays.py` what "the same" means. A failure prints the program and the choices
that led to it: `Trial(program, choices).run()` shows it again. Many more programs go by hand (`replays.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.programs import Choices, Machine, Part, make_program
from tests.engine.replays import Trial
from tests.engine.sync_programs import SyncMachine

programs = st.binary(min_size=40, max_size=120).map(lambda numbers: make_program(Choices(numbers)))
choices = st.binary(min_size=20, max_size=200).map(Choices)


@pytest.mark.slow
@settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs, choices=choices)
def test_every_replay_asks_the_same_sees_the_same_and_ends_the_same(program: Part, choices: Choices) -> None:
    Trial(program, choices).run()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs, choices=choices)
def test_every_replay_of_a_def_workflow_asks_the_same_sees_the_same_and_ends_the_same(
    program: Part, choices: Choices
) -> None:
    Trial(program, choices, SyncMachine).run()


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs, choices=choices)
def test_a_change_behind_patched_never_diverges_whenever_it_is_deployed(program: Part, choices: Choices) -> None:
    """P16, with P10 and P15: the run goes on as it began, and every later replay is the same."""
    Trial(program, choices, changed=True).run()


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs, choices=choices, machine=st.sampled_from([Machine, SyncMachine]))
def test_a_run_that_is_cancelled_at_any_moment_is_the_same_in_every_replay(
    program: Part, choices: Choices, machine: type[Machine] | type[SyncMachine]
) -> None:
    """P20, with P10 and P15: the cancellation has one place in the record."""
    Trial(program, choices, machine, cancelled=True).run()


@pytest.mark.slow
def test_hash_seeds_and_memory_addresses_make_no_difference() -> None:
    digests = {_digest(hash_seed) for hash_seed in ("0", "1", "4711")}

    assert len(digests) == 1


def _digest(hash_seed: str) -> str:
    # A process of its own has its own addresses, too.
    finished = subprocess.run(
        [sys.executable, "-m", "tests.engine.replays", "--programs", "150"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return finished.stdout.splitlines()[0]
