"""Feature names of an XGBoost model, and the category maps that XGBoost 3.1 and later write."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.features import Options
from engine.schema import Feature

MAX_FEATURES = 1 << 20
"""No model has more; a damaged file may say so."""


def features_of(
    learner: Mapping[str, Any], booster: Mapping[str, Any], n_features: int, options: Options
) -> tuple[Feature, ...]:
    """The features in order; ``f0``, ``f1``, … where the model has no names, as XGBoost itself calls them.

    A category that training has not seen makes a row bad: XGBoost 3.2 scores it as the next known
    one in order, and raises for one past the last.
    """
    if not 0 < n_features <= MAX_FEATURES:
        raise InvalidModel(f"the XGBoost model says that it has {n_features} features")
    names = learner.get("feature_names") or [f"f{number}" for number in range(n_features)]
    types = learner.get("feature_types") or ["float"] * n_features
    if not len(names) == len(types) == n_features:
        raise InvalidModel(f"the XGBoost model names {len(names)} features but has {n_features}")
    encoders = (booster.get("cats") or {}).get("enc") or [{}] * n_features
    if len(encoders) != n_features:
        raise InvalidModel(f"the XGBoost model holds {len(encoders)} category maps for {n_features} features")
    return tuple(
        _categorical(name, encoder, options) if kind == "c" else Feature(name, "float32")
        for name, kind, encoder in zip(names, types, encoders, strict=True)
    )


def _categorical(name: str, encoder: Mapping[str, Any], options: Options) -> Feature:
    """Without a map its codes are the data, as in training."""
    values = encoder.get("values", ())
    if len(values) == 0 or options.categories(name):
        return Feature(name, "int32", unseen="bad")
    if "offsets" in encoder:
        return Feature(name, "category", _strings(name, encoder["offsets"], values), unseen="bad")
    return Feature(name, "category", tuple(int(value) for value in values), unseen="bad")


def _strings(name: str, offsets: Sequence[int], values: Sequence[int]) -> tuple[str, ...]:
    if not all(0 <= value < 128 for value in values):
        raise UnsupportedModel(
            f"feature '{name}' has categories beyond ASCII, which XGBoost 3.2 cuts off when it trains from"
            " pandas; list them, in code order, in a features file"
        )
    text = bytes(values).decode()
    return tuple(text[one:other] for one, other in pairwise(offsets))
