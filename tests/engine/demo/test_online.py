"""Scores are compared bit by bit."""

import numpy as np
import pytest

from engine.demo.online import n_differing
from engine.errors import Failed


def test_equal_bits_do_not_differ() -> None:
    scores = np.array([0.1, 0.2, np.nan])
    assert n_differing(scores, scores.copy()) == 0


def test_the_last_bit_counts() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    assert n_differing(scores, np.nextafter(scores, [0.0, 0.2, 1.0])) == 2


def test_a_zero_s_sign_counts() -> None:
    assert n_differing(np.array([0.0]), np.array([-0.0])) == 1


def test_a_missing_answer_is_no_equality() -> None:
    with pytest.raises(Failed, match="expected 2 online scores, got 1"):
        n_differing(np.array([0.1, 0.2]), np.array([0.1]))
