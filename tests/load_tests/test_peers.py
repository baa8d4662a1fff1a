"""The contenders ask for the same row and read the same score; their pins are complete."""

import re
import socket

import msgspec
import numpy as np
import pytest

from load_tests.environments import REQUIREMENTS
from load_tests.peers import measuring
from load_tests.peers.asking import ServerFailed
from load_tests.peers.contenders import CONTENDERS, SERVERS, is_same, numbers

ROW = np.array([1.0, 719.0, 39.02, -1.0], np.float32)


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_request_carries_the_row_to_the_last_bit(name: str) -> None:
    body = msgspec.json.decode(CONTENDERS[name].encode(ROW))
    sent = body["inputs"][0]["data"] if "inputs" in body else body["rows"][0]
    assert np.asarray(sent, np.float32).tobytes() == ROW.tobytes()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("triton", {"outputs": [{"name": "score", "datatype": "FP32", "shape": [1, 1], "data": [0.25]}]}),
        ("bentoml", [0.25]),
        ("litserve", {"outputs": [{"data": [0.25]}]}),
    ],
)
def test_an_answer_is_read_in_each_server_s_form(name: str, answer: object) -> None:
    assert CONTENDERS[name].decode(answer) == 0.25


def test_numbers_are_short_and_exact() -> None:
    assert numbers(ROW)[2] == 39.02


def test_scores_are_the_same_up_to_float32_only() -> None:
    assert is_same(0.2345678, 0.2345679)
    assert not is_same(0.2345, 0.2346)


@pytest.mark.parametrize("name", [name for name, contender in CONTENDERS.items() if contender.program])
def test_a_contender_s_program_exists(name: str) -> None:
    assert (SERVERS / CONTENDERS[name].program).is_file()


def test_a_server_has_free_ports_behind_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first = measuring._free_port()
    monkeypatch.setattr(measuring, "PORTS", range(first, first + 3, 3))
    with (
        socket.create_server(("127.0.0.1", first + 1)),
        pytest.raises(ServerFailed, match="no free port"),
    ):
        measuring._free_port()
    assert measuring._free_port() == first


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.stem)
def test_requirements_are_pinned_and_name_no_address(path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+-]+( ;.*)?", line) for line in lines)
