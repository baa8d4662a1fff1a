"""What every importer returns: the content of a bundle before names and types of the data are settled."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Link
from engine.schema import Feature, Output
from kernels.forests.forest import Forest

FOREST = "forest.npz"
LINEAR = "linear.npz"
DENSE = "dense.npz"
ONNX = "model.onnx"


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A model in the engine's own form.

    Attributes:
        kind: The backend that scores it.
        files: The payload, by name.
        features: In the model's order, as the model itself knows them.
        block: ``float32`` where the library casts its input to it; ``float64`` where it computes
            on doubles, so that a block of float32 values gives the same bits.
        output: Name, type and labels of the score.
        link: From margin to score.
        library: The library the model comes from.
        objective: The library's own word for it.
        notes: What people should know, in sentences.
        fold: Makes the payload once the features are settled, where it depends on their types.
    """

    kind: Literal["forest", "linear", "dense", "onnx"]
    files: Mapping[str, bytes]
    features: tuple[Feature, ...]
    block: Literal["float32", "float64"]
    output: Output
    link: Link
    library: str
    objective: str = ""
    notes: tuple[str, ...] = ()
    fold: Callable[[Sequence[Feature]], Mapping[str, bytes]] | None = None

    def forest(self) -> Forest:
        """The payload of a forest as arrays."""
        return Forest.of_arrays(self.arrays(FOREST))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of an ``.npz`` file of the payload."""
        with np.load(io.BytesIO(self.files[name]), allow_pickle=False) as archive:
            return dict(archive)
