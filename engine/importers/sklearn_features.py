"""The feature names of a fitted scikit-learn estimator."""

from typing import Any

from engine.schema import Feature, FeatureType


def features_of(model: Any, *, required: bool, kind: FeatureType = "float64") -> tuple[Feature, ...]:
    """Features as the estimator saw them in ``fit``; ``x0``, ``x1``, … where it saw an array.

    Args:
        model: A fitted estimator.
        required: The estimator refuses missing values.
        kind: Type of all of them.
    """
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        names = [f"x{number}" for number in range(model.n_features_in_)]
    return tuple(Feature(str(name), kind, required=required) for name in names)
