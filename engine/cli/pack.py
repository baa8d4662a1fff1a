"""``tandem pack``: a trained model in, an immutable bundle out."""

from pathlib import Path
from typing import Annotated

import typer


def pack(
    model: Annotated[
        Path, typer.Argument(help="LightGBM text, XGBoost JSON or UBJ, CatBoost JSON, or an ONNX graph.")
    ],
    name: Annotated[str, typer.Option(help="The model's name in requests and outputs.")],
    out: Annotated[Path, typer.Option(help="Directory for bundles; made if missing.")],
    features: Annotated[
        Path | None, typer.Option(help="YAML with names, types and categories the model lacks.")
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(help="Parquet file or folder whose column types are those of the data to come."),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Where it asks to be scored: cpu, cuda (a GPU) or auto (a GPU where it is faster)."
        ),
    ] = "cpu",
) -> None:
    """Pack a trained model into an immutable bundle and print its path."""
    from engine import packing

    bundle = packing.pack(
        model,
        name=name,
        out=out,
        features=features,
        sample=sample,
        device=device,  # type: ignore[arg-type]  # checked there
    )
    print(bundle)
