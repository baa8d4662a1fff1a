"""The page that people read: what is served here, and commands that can be pasted."""

from collections.abc import Sequence

from engine.realtime.doors.examples import curl_command, rows_example, tensors_example
from engine.realtime.serving.served import Revision
from engine.schema import Feature

SHOWN_CATEGORIES = 5


def page(revisions: Sequence[Revision], *, may_load: bool) -> bytes:
    """The page of an engine that serves these models, and may load them again by request."""
    from engine.pages.rendering import rendered  # Jinja, which no other answer needs

    models = [_shown(revision) for revision in revisions]
    values = {"title": "Tandem: how to ask", "models": models, "may_load": may_load}
    return rendered("engine.realtime.doors", "docs.html", values).encode()


def _shown(revision: Revision) -> dict[str, object]:
    features = [
        {
            "name": feature.name,
            "type": feature.type,
            "tensor": revision.datatypes[feature.name],
            "required": feature.required,
            "values": _values(feature),
        }
        for feature in revision.schema.features
    ]
    return {
        "name": revision.name,
        "revision": revision.id,
        "features": features,
        "has_values": any(feature["values"] for feature in features),
        "output": revision.output.name,
        "output_type": revision.output_datatype,
        "labels": revision.output.labels,
        "score": curl_command(f"$URL/v1/models/{revision.name}/score", rows_example(revision.schema)),
        "infer": curl_command(f"$URL/v2/models/{revision.name}/infer", tensors_example(revision)),
    }


def _values(feature: Feature) -> str:
    if feature.type != "category":
        return ""
    n_more = len(feature.categories) - SHOWN_CATEGORIES
    shown = ", ".join(str(category) for category in feature.categories[:SHOWN_CATEGORIES])
    more = f" and {n_more} more" if n_more > 0 else ""
    unseen = {"missing": "missing", "bad": "refused", "other": "a code of its own"}[feature.unseen]
    return f"{shown}{more}; any other is {unseen}"
