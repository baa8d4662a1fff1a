"""``pack``: a trained model in, an immutable bundle out."""

import hashlib
import os
from pathlib import Path
from typing import Literal, get_args

import msgspec
from msgspec import UNSET

from engine.after import NOTHING
from engine.bundle import After, Device, Manifest, ModelName, Provenance, write_bundle
from engine.errors import InvalidConfig
from engine.importers.features import Options, narrow, read_options, read_sample, settle, settle_output
from engine.importers.formats import import_model
from engine.importers.imported import Imported
from engine.importers.pipelines import transformed
from engine.schema import Feature, Schema


def pack(
    model: object,
    *,
    name: str,
    out: str | os.PathLike[str],
    features: str | os.PathLike[str] | None = None,
    sample: str | os.PathLike[str] | None = None,
    device: Device = "cpu",
) -> Path:
    """Write the bundle of a model and return its directory, ``out/name@revision``.

    Args:
        model: Path of a model file, or a fitted object of LightGBM, XGBoost or scikit-learn, or an
            ``onnx.ModelProto``.
        name: The model's name: a letter or digit, then up to 63 of letters, digits, ``.``, ``_``, ``-``.
        out: Directory for bundles; made if missing.
        features: A features file, see ``configs/features.yaml``.
        sample: A Parquet file, or a folder of them, whose column types are those of the data to come.
        device: Where it asks to be scored, unless ``--device`` says otherwise.

    Raises:
        InvalidModel: It is no model that an importer reads.
        UnsupportedModel: It cannot be represented exactly.
        InvalidConfig: The name, the device, ``out`` or the features file is wrong.
        InvalidTable: The sample does not fit the model.
    """
    checked = _name(name)
    if device not in get_args(Device):
        raise InvalidConfig(f"expected one of the devices {', '.join(get_args(Device))}, got '{device}'")
    if Path(out).exists() and not Path(out).is_dir():
        raise InvalidConfig(f"expected a directory for bundles, got the file '{os.fspath(out)}'")
    options = Options() if features is None else read_options(features)
    source, imported = import_model(model, options)
    imported = transformed(imported, options.transforms)
    manifest = _manifest(checked, source, imported, options, sample, device)
    files = imported.files if imported.fold is None else imported.fold(manifest.schema.features)
    return write_bundle(manifest, files, Path(out))


def _manifest(
    name: str,
    source: bytes,
    imported: Imported,
    options: Options,
    sample: str | os.PathLike[str] | None,
    device: Device,
) -> Manifest:
    columns = None if sample is None else read_sample(sample)
    settled = settle(imported.features, options, columns, block=imported.block)
    return Manifest(
        name=name,
        kind=imported.kind,
        schema=Schema(
            features=settled,
            block=_block(imported, settled),
            output=settle_output(imported.output, options.output),
        ),
        link=imported.link,
        after=after if (after := After(options.output.thresholds, options.output.top)) != NOTHING else UNSET,
        device=UNSET if device == "cpu" else device,
        provenance=Provenance(
            library=imported.library,
            objective=imported.objective,
            source_sha256=hashlib.sha256(source).hexdigest() if source else "",
            notes=(*imported.notes, *_numbered(imported.output.labels, options)),
        ),
    )


def _numbered(labels: tuple[str, ...], options: Options) -> tuple[str, ...]:
    """What the numbers of the best outputs stand for."""
    if not options.output.top:
        return ()
    given = labels if options.output.labels is UNSET else options.output.labels
    names = ", ".join(f"{number} {label}" for number, label in enumerate(given))
    return (f"Each best score comes with its output's number: {names}.",)


def _block(imported: Imported, features: tuple[Feature, ...]) -> Literal["float32", "float64"]:
    if imported.kind != "onnx" and narrow(features):
        return "float32"
    return imported.block


def _name(name: str) -> str:
    try:
        return msgspec.convert(name, ModelName)
    except msgspec.ValidationError as error:
        raise InvalidConfig(
            f"expected a model name of letters, digits, '.', '_' and '-' (64 at most), got '{name}'"
        ) from error
