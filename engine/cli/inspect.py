"""``tandem inspect``: what is in a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.bundle import Bundle
    from engine.schema import Feature

SHOWN_CATEGORIES = 6


def inspect(
    bundle: Annotated[Path, typer.Argument(help="Directory that tandem pack wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what is in a bundle: features, types, categories, output, size, digest and kernel."""
    import msgspec

    from engine.bundle import read_bundle

    read = read_bundle(bundle)
    facts = _facts(read)
    if as_json:
        manifest = msgspec.to_builtins(read.manifest)
        print(msgspec.json.format(msgspec.json.encode({**facts, "manifest": manifest}), indent=2).decode())
    else:
        _show(read, facts)


def _facts(bundle: "Bundle") -> dict[str, Any]:
    manifest = bundle.manifest
    facts: dict[str, Any] = {
        "model": bundle.label,
        "revision": bundle.revision,
        "kind": manifest.kind,
        "library": manifest.provenance.library,
        "objective": manifest.provenance.objective,
        "link": manifest.link.name,
        "n_features": len(manifest.schema.features),
        "outputs": list(manifest.schema.output.columns),
        "output_type": manifest.schema.output.type,
        "block": manifest.schema.block,
        "device": manifest.device_for("bundle"),
        "size_bytes": sum(len(data) for data in bundle.files.values()),
    }
    if manifest.kind == "forest":
        return facts | _forest_facts(bundle)
    return facts | {"kernel": "ONNX Runtime" if manifest.kind == "onnx" else manifest.kind}


def _forest_facts(bundle: "Bundle") -> dict[str, Any]:
    import numpy as np

    from engine.backends.forest import FILE, load

    kernel = load(bundle).name
    arrays = bundle.arrays(FILE)
    before = np.cumsum([0, *(np.asarray(arrays["feature"], np.int64) < 0)])
    leaves = np.diff(before[arrays["tree_start"]])
    return {
        "n_trees": len(leaves),
        "n_leaves": int(leaves.sum()),
        "max_leaves_per_tree": int(leaves.max(initial=0)),
        "kernel": kernel,
    }


def _show(bundle: "Bundle", facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    summary = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    summary.add_column(no_wrap=True)
    summary.add_column(overflow="fold")
    for key, value in facts.items():
        summary.add_row(key.removeprefix("n_").replace("_", " "), _in_words(value))
    console.print(summary)
    features = Table("feature", "type", "categories", "missing", "unseen category", title_justify="left")
    for feature in bundle.manifest.schema.features:
        features.add_row(*_row(feature))
    console.print(features)
    for note in bundle.manifest.provenance.notes:
        console.print(f"note: {note}", markup=False)


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _row(feature: "Feature") -> tuple[str, str, str, str, str]:
    shown = ", ".join(str(category) for category in feature.categories[:SHOWN_CATEGORIES])
    if len(feature.categories) > SHOWN_CATEGORIES:
        shown += f", … ({len(feature.categories)})"
    unseen = feature.unseen if feature.categories else ""
    return feature.name, feature.type, shown, "bad row" if feature.required else "scored", unseen
