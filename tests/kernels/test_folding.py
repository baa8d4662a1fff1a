from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from engine.bundle import read_bundle
from engine.packing import pack
from kernels.choice import choose
from kernels.folded_forest import FoldedColumn, fold_forest
from kernels.folding import NotFoldable, fold_thresholds, ordinals, values_of
from kernels.forest import Forest
from tests.kernels.forests import SPECIAL, Shape, random_forest, random_rows, scored
from tests.reference import forest_margins

# Beyond the largest number lies infinity, and that is meant.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in nextafter:RuntimeWarning")

Floats = NDArray[Any]
EDGES = [0.0, -0.0, np.inf, -np.inf, 5e-324, -5e-324, 1e-35, -1e-35, 1e30, 2.0, -2.0]


@st.composite
def chains(draw: st.DrawFn) -> Callable[[Floats], Floats]:
    """Impute, clip, log1p, standardise, bucketise: any part of it, computed in float32 or float64."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    impute = draw(st.none() | st.floats(-5, 5))
    clip = draw(st.none() | st.tuples(st.floats(-0.9, 1), st.floats(1, 1e6)))
    takes_log = clip is not None and draw(st.booleans())
    mean, scale = draw(st.floats(-100, 100)), draw(st.floats(1e-3, 1e3))
    edges = draw(st.none() | st.lists(st.floats(-3, 3), max_size=5).map(sorted))

    @np.errstate(all="ignore")
    def chain(raw: Floats) -> Floats:
        x = raw.astype(dtype)
        x = x if impute is None else np.where(np.isnan(x), dtype(impute), x)
        x = x if clip is None else np.clip(x, dtype(clip[0]), dtype(clip[1]))
        x = np.log1p(x) if takes_log else x
        x = (x - dtype(mean)) / dtype(scale)
        if edges is None:
            return x
        return np.where(np.isnan(x), x, np.searchsorted(np.array(edges, dtype), x).astype(dtype))

    return chain


def around(values: Floats, dtype: type) -> Floats:
    """The values in a type, with the three numbers on either side of each."""
    near = np.asarray(values, dtype)
    steps = [near]
    for end in (dtype(np.inf), dtype(-np.inf)):
        for _ in range(3):
            steps.append(np.nextafter(steps[-1], end))
        steps.append(near)
    return np.concatenate(steps)


@settings(deadline=None)
@given(chains(), st.data(), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_a_folded_threshold_decides_as_the_transform_and_the_threshold(
    chain: Callable[[Floats], Floats], data: st.DataObject, dtype: type, less: bool
) -> None:
    numbers = st.floats(-50, 50) | st.sampled_from(EDGES)
    drawn = data.draw(hnp.arrays(np.float64, 5, elements=numbers))
    raw = data.draw(hnp.arrays(dtype, 20, elements=st.floats(width=8 * dtype().itemsize, allow_nan=False)))
    reached = chain(raw).astype(np.float64)  # thresholds that a value hits exactly
    thresholds = np.concatenate([drawn, reached])
    folded, never = fold_thresholds(chain, thresholds, dtype, less=less)
    rows = np.concatenate([raw, around(folded, dtype), np.array(EDGES, dtype)])
    transformed = chain(rows).astype(np.float64)[:, None]
    expected = transformed < thresholds if less else transformed <= thresholds
    np.testing.assert_array_equal((rows[:, None] <= folded) & ~never, expected)


@settings(deadline=None, max_examples=50)
@given(st.lists(chains(), min_size=4, max_size=4), st.integers(0, 1 << 32), st.booleans(), st.booleans())
def test_a_folded_forest_answers_as_pipeline_and_forest(
    steps: list[Callable[[Floats], Floats]], seed: int, less: bool, flush_tiny: bool
) -> None:
    random = np.random.default_rng(seed)
    shape = Shape(n_features=4, categorical=0.0, less=less, flush_tiny=flush_tiny, max_leaves=16)
    forest = random_forest(shape, random)
    raw = random.choice([2, 0, 3, 1], 4, replace=False)
    columns = [FoldedColumn(int(feature), step) for feature, step in zip(raw, steps, strict=True)]
    columns[1] = FoldedColumn(int(raw[1]))
    folded = fold_forest(forest, columns, n_features=4, dtype=np.float32)
    X = random_rows(folded, 40, np.float32, random)
    made = [X[:, f] if i == 1 else steps[i](X[:, f]) for i, f in enumerate(raw)]
    expected = forest_margins(forest, np.column_stack([x.astype(np.float64) for x in made]))
    assert forest_margins(folded, X.astype(np.float64)) == expected
    assert scored(choose(folded, np.float32), folded, X).tolist() == expected


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 32), st.sampled_from([np.nan, -1.0, 0.0, 2.5]), st.floats(0, 1))
def test_a_map_of_categories_becomes_sets_of_categories(
    seed: int, missing: float, categorical: float
) -> None:
    random = np.random.default_rng(seed)
    forest = random_forest(Shape(n_features=1, categorical=categorical, max_leaves=16), random)
    values = random.choice(np.append(SPECIAL, np.arange(-2.0, 40.0)), size=70)
    folded = fold_forest(
        forest, [FoldedColumn(0, values=values, missing=missing)], n_features=1, dtype=np.float32
    )
    codes = np.append(np.arange(70.0), np.nan)
    expected = forest_margins(forest, np.append(values, missing)[:, None])
    assert forest_margins(folded, codes[:, None]) == expected
    assert scored(choose(folded, np.float32), folded, codes[:, None].astype(np.float32)).tolist() == expected


def test_several_columns_may_be_made_from_one_feature() -> None:
    forest = random_forest(Shape(n_features=3, categorical=0.0), np.random.default_rng(0))
    one_hot = [FoldedColumn(0, values=row, missing=0.0) for row in np.eye(3)]
    folded = fold_forest(forest, one_hot, n_features=1, dtype=np.float32)
    expected = forest_margins(forest, [*np.eye(3), np.zeros(3)])
    assert forest_margins(folded, [[0.0], [1.0], [2.0], [np.nan]]) == expected


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (np.negative, "decreases"),
        (np.log1p, "missing"),
        (lambda x: np.where(x > 0, 1 / x, x), "decreases"),
        (lambda x: np.where((x > 0.9499995) & (x < 0.9499998), np.float32(0.96), x), "rounding error"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_transform_that_no_threshold_stands_for_is_refused(
    transform: Callable[[Floats], Floats], reason: str
) -> None:
    with pytest.raises(NotFoldable, match=reason):
        fold_thresholds(transform, np.array([0.95]), np.float32)


def test_a_categorical_split_of_a_transformed_number_is_refused() -> None:
    forest = random_forest(Shape(n_features=1, categorical=1.0), np.random.default_rng(0))
    with pytest.raises(NotFoldable, match="split by category"):
        fold_forest(forest, [FoldedColumn(0, np.floor)], n_features=1, dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_places_number_the_floats_in_order_and_back(dtype: type) -> None:
    values = np.array([-np.inf, -1.5, -5e-324, -0.0, 0.0, 1e-40, 1.5, np.inf], dtype)
    places = ordinals(values)
    assert (np.diff(places.astype(np.float64)) >= 0).all()
    assert values_of(places, dtype).tobytes() == values.tobytes()
    assert ordinals(np.nextafter(values[1:2], dtype(0)))[0] == places[1] + 1


def test_a_scikit_learn_pipeline_and_lightgbm_fold_into_one_forest_of_the_same_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    raw = np.exp(random.normal(size=(2000, 4))).astype(np.float32)
    raw[random.random(raw.shape) < 0.05] = np.nan
    clip = FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 5})
    pipeline = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), slice(0, 2)),
        (make_pipeline(clip, FunctionTransformer(np.log1p), StandardScaler()), slice(2, 4)),
    )
    made = pipeline.fit_transform(raw)
    data = lightgbm.Dataset(made, np.nansum(np.sin(raw), axis=1))
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, data, num_boost_round=30)
    booster.save_model(tmp_path / "model.txt")
    bundle = read_bundle(pack(tmp_path / "model.txt", name="m", out=tmp_path))
    forest = Forest.of_arrays(bundle.arrays("forest.npz"))

    def step(feature: int, values: Floats) -> Floats:
        rows = np.zeros((len(values), 4), np.float32)
        rows[:, feature] = values
        with config_context(assume_finite=True):
            return pipeline.transform(rows)[:, feature]

    columns = [FoldedColumn(feature, partial(step, feature)) for feature in range(4)]
    folded = fold_forest(forest, columns, n_features=4, dtype=np.float32)
    rows = np.concatenate([raw, random_rows(folded, 500, np.float32, random)])
    rows[np.isinf(rows)] = 0
    np.testing.assert_array_equal(
        scored(choose(folded, np.float32), folded, rows)[:, 0], booster.predict(pipeline.transform(rows))
    )
