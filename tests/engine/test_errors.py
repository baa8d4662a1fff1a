import pickle

import pytest

from engine import errors
from engine.cli.app import exit_code

ERRORS = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_survives_the_way_between_processes(error: type[errors.TandemError]) -> None:
    sent = error("expected float32, got str")
    received = pickle.loads(pickle.dumps(sent))
    assert type(received) is error
    assert str(received) == str(sent) == "expected float32, got str"


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_stands_in_the_tree_of_the_docstring(error: type[errors.TandemError]) -> None:
    assert error.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("error", "code"),
    [(errors.InvalidModel, 2), (errors.OutputExists, 4), (errors.PortTaken, 5), (errors.Overloaded, 5)],
)
def test_the_exit_code_says_whose_fault_it_is(error: type[errors.TandemError], code: int) -> None:
    assert exit_code(error("x")) == code
