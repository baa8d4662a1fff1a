"""What counting costs is measured on the same batches, and said with how sure that is."""

import numpy as np

from load_tests.kernels.counts import interval, ratios


def test_all_ways_score_the_same_batches() -> None:
    scored: dict[str, list[float]] = {"one": [], "other": []}

    def way(name: str):
        def score(X: np.ndarray, out: np.ndarray) -> None:
            out[:] = np.sort(np.tile(X, 1000))[0]
            scored[name].append(float(X[0]))

        return score

    batches = [(np.array([float(i)]), np.empty(1)) for i in range(100)]
    costs = ratios({name: way(name) for name in scored}, batches, 0.05)

    assert costs.shape[1] == 1
    assert np.isfinite(costs).all()
    assert scored["one"][-len(scored["other"]) :] == scored["other"]


def test_the_interval_is_that_of_the_median() -> None:
    values = np.random.default_rng(1).normal(3.0, 1.0, 1000)
    low, high = interval(values)
    assert low < np.median(values) < high
    assert 0.03 < high - low < 0.3
    assert interval(np.ones(5)) == (1.0, 1.0)
