"""scikit-learn estimators, given as fitted objects: which of them can be represented, and by whom."""

from collections.abc import Callable
from typing import Any

from engine.errors import InvalidModel, UnsupportedModel
from engine.importers import sklearn_histogram, sklearn_linear, sklearn_networks, sklearn_trees
from engine.importers.features import Options
from engine.importers.imported import Imported

READERS: dict[str, Callable[[Any], Imported]] = {
    **sklearn_linear.READERS,
    **sklearn_trees.READERS,
    **sklearn_histogram.READERS,
    **sklearn_networks.READERS,
}
"""By class name. A subclass may predict otherwise and is not taken for its parent."""


def import_object(model: Any, options: Options) -> tuple[bytes, Imported]:
    """Read a fitted estimator; raises ``UnsupportedModel`` for any other class."""
    del options
    name = type(model).__name__
    if type(model).__module__.startswith("sklearn.") and (reader := READERS.get(name)):
        if not hasattr(model, "n_features_in_"):
            raise InvalidModel(f"expected a fitted {name}; call fit first")
        return b"", reader(model)
    raise UnsupportedModel(
        f"scikit-learn's {name} is not represented exactly; convert it with skl2onnx and pack the ONNX graph"
    )
