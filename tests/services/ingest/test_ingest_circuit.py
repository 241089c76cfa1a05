"""When a subscriber that is gone is called, and how a subscriber's ways are remembered."""

from __future__ import annotations

import pytest

from services.ingest import backoff
from services.ingest.circuit import EARLY_SECONDS, FAILURES_TO_OPEN, Circuit, CircuitState
from services.ingest.rate import Rate
from services.ingest.reception import Reception
from services.ingest.window import MAX_CALL_BYTES
from tests.services.ingest.test_ingest_window import logged


@pytest.fixture
def circuit(monkeypatch: pytest.MonkeyPatch) -> Circuit:
    monkeypatch.setattr(backoff.random, "uniform", lambda _low, high: high)
    return Circuit()


def test_it_opens_after_some_failures_in_a_row_and_closes_with_an_answer(circuit: Circuit) -> None:
    for _ in range(FAILURES_TO_OPEN - 1):
        circuit.failed(10.0)
    assert (circuit.state, circuit.failing) == (CircuitState.CLOSED, True)
    circuit.answered()
    assert (circuit.failing, circuit.next_try_at) == (False, 0.0)
    for _ in range(FAILURES_TO_OPEN):
        circuit.failed(10.0)
    assert circuit.state is CircuitState.OPEN
    circuit.answered()
    assert circuit.state is CircuitState.CLOSED


def test_the_probes_grow_apart_to_a_bound_and_somebody_may_ask_for_one(circuit: Circuit) -> None:
    waits = []
    for _ in range(12):
        circuit.failed(100.0)
        waits.append(round(circuit.next_try_at - 100.0, 3))
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == backoff.CAP_SECONDS
    assert circuit.early_at == 100.0 + EARLY_SECONDS
    circuit.try_now()
    assert (circuit.next_try_at, circuit.state) == (0.0, CircuitState.OPEN)


def test_one_that_is_back_is_not_tried_sooner_than_it_would_have_been(circuit: Circuit) -> None:
    circuit.failed(100.0)
    assert circuit.early_at == circuit.next_try_at == 100.1


def test_calls_stay_small_until_those_among_which_the_bad_one_is_are_through() -> None:
    reception = Reception(8)
    reception.broke([logged(number) for number in range(1, 9)])
    assert reception.limit == 4
    reception.took([1, 2, 3, 4])
    assert reception.limit == 4
    reception.broke([logged(number) for number in range(5, 9)])
    assert reception.limit == 2
    reception.took([5, 6])
    reception.took([7, 8])
    assert reception.limit == 8


@pytest.mark.parametrize(
    ("sent", "said", "sensible", "budget"),
    [
        (3_000_000, 1_000_000, True, 1_000_000 - 4096),
        (3_000_000, 0, False, MAX_CALL_BYTES // 2),
        (3_000_000, 3_100_000, False, MAX_CALL_BYTES // 2),
        (100_000, 65_536, True, 65_536 - 4096),
    ],
)
def test_a_receivers_own_limit_is_believed_as_far_as_it_makes_sense(sent: int, said: int, sensible: bool, budget: int) -> None:
    reception = Reception(50)
    assert reception.too_large(sent, said) is sensible
    assert reception.budget_bytes == budget
    reception.forget()
    assert reception.budget_bytes == MAX_CALL_BYTES


def test_calls_never_become_too_small_for_an_ordinary_event() -> None:
    reception = Reception(50)
    for _ in range(20):
        reception.too_large(5_000_000, 0)
    assert reception.budget_bytes == 60 * 1024


def test_a_rate_is_of_the_last_minute_or_of_what_there_was_yet() -> None:
    rate = Rate(1000.0)
    rate.add(500, 1000.0)
    assert rate.per_second(1010.0) == 50.0
    rate.add(700, 1050.0)
    assert rate.per_second(1060.0) == pytest.approx(700 / 60)
    assert rate.per_second(5000.0) == 0.0
