"""Attacks: many cases by seed, counted by kind; `--rounds 10` for ten times as many."""

import time
from collections import Counter
from collections.abc import Callable

import pytest

CASES: Counter[str] = Counter()
SECONDS: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=1, help="how many times the usual cases")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How many times the usual number of cases is wanted."""
    return int(request.config.getoption("--rounds", 1))


@pytest.fixture
def count() -> Callable[[str, int], None]:
    """Note how many cases of a kind have passed, with the time of the test."""
    start = time.monotonic()

    def note(kind: str, cases: int) -> None:
        CASES[kind] += cases
        SECONDS[kind] += time.monotonic() - start

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for kind, cases in CASES.items():
        terminalreporter.write_line(f"{cases:6} cases of {kind} in {SECONDS[kind]:.0f} s")
    if CASES:
        terminalreporter.write_line(f"{CASES.total():6} cases in all")
