"""Which types of columns a feature takes; without the kernels, for plans are made before those are loaded."""

import pyarrow as pa

from engine.errors import InvalidTable
from engine.prepare.rules import INTEGER_TYPES, holds_strings
from engine.schema import Feature


def place_of(found: pa.Schema, feature: Feature) -> int:
    """Where a feature's column is; ``InvalidTable`` unless it is there once, of a type that suits."""
    places = found.get_all_field_indices(feature.name)
    if len(places) != 1:
        got = "none" if not places else f"{len(places)} of that name"
        raise InvalidTable(f"expected a column '{feature.name}' of {expected(feature)}, got {got}")
    _check_type(feature, found.field(places[0]).type)
    return places[0]


def expected(feature: Feature) -> str:
    """What a feature's column holds, in words."""
    if feature.type == "category":
        return f"{'strings' if holds_strings(feature) else 'integers'} (a category)"
    if feature.type == "bool":
        return "bool, or the numbers 0 and 1"
    if feature.type in INTEGER_TYPES:
        return f"integers in the range of {feature.type}"
    return f"numbers ({feature.type})"


def _check_type(feature: Feature, found: pa.DataType) -> None:
    """Raise ``InvalidTable`` unless a column of type ``found`` can hold the feature's values."""
    if not _suits(feature, _value_type(found)):
        raise InvalidTable(
            f"column '{feature.name}': expected {expected(feature)}, got {found}{_cure(found)}"
        )


def _suits(feature: Feature, found: pa.DataType) -> bool:
    if pa.types.is_null(found):
        return True
    if feature.type == "category" and holds_strings(feature):
        return pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    if pa.types.is_boolean(found):
        return feature.type == "bool"
    return pa.types.is_integer(found) or pa.types.is_floating(found)


def _value_type(found: pa.DataType) -> pa.DataType:
    if isinstance(found, pa.BaseExtensionType):
        return _value_type(found.storage_type)
    if isinstance(found, pa.DictionaryType | pa.RunEndEncodedType):
        return _value_type(found.value_type)
    return found


def _cure(found: pa.DataType) -> str:
    found = _value_type(found)
    if pa.types.is_decimal(found):
        return "; cast it to double, which may round"
    if pa.types.is_temporal(found):
        return "; make a number of it as in training"
    return ""
