"""Whose categories are whose in a model file of LightGBM.

LightGBM writes the categories of all pandas categories, as maps in the order of their columns, but not
which columns those are. Unordered ones are its categorical features, as a rule. But ordered ones are
trained as numbers, and a list of categorical features may leave out pandas categories and name columns of
whole numbers instead. So the maps may belong, in their order, to any features whose values may be codes of
them. The rule is believed only where no other way to give them out would score the data it is made for
otherwise, but for ways in which the training rows showed less than half of an ordered map's categories.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.features import listed

Map = list[object]
"""Categories in code order: strings, numbers or booleans."""
Choices = NDArray[np.bool_]
"""[n_features, n_maps + 1]: whether a feature has a map; the last column is for none of them."""
LEAST_SEEN = 0.5
"""An ordered category is believed to be one if the training rows show so much of its categories."""
NUMBERS, STRINGS = 1, 2
"""Bits of the kinds of values that a column may hold."""


@dataclass(frozen=True, slots=True)
class Column:
    """What is known of one feature.

    Attributes:
        name: Its name.
        is_categorical: Whether it was trained as a category.
        highest: Of the codes its values may be: -1 for no values, inf where they are no codes.
        known: How many codes its splits tell from missing values: inf where one compares numbers.
        given: Its categories in the features file.
    """

    name: str
    is_categorical: bool
    highest: float
    known: float
    given: tuple[str | int, ...] = ()


def owners(maps: Sequence[Map], columns: Sequence[Column]) -> dict[int, Map]:
    """The map of each feature that has one, by the feature's number; the likeliest where it does not matter.

    Raises:
        InvalidModel: The maps fit no features.
        UnsupportedModel: They may belong to others as well, which would score other rows in silence.
    """
    listings = [_listing(maps, column.given) for column in columns]
    may = _fitting(maps, columns)
    chosen = may & _listed(maps, listings)
    if _ways(chosen).any():
        may = chosen
    likely = _likely(may, columns)
    if not likely.any():
        raise InvalidModel(f"the LightGBM model file holds {len(maps)} category maps that fit no features")
    owned = _first(likely)
    doubtful = likely | _ways(may & _taken_alike(maps, listings, owned))
    if any(
        not listing and _differ(maps, column, choices)
        for column, listing, choices in zip(columns, listings, doubtful, strict=True)
    ):
        raise _refusal(maps, columns, listings, doubtful)
    return {feature: maps[number] for feature, number in enumerate(owned) if number < len(maps)}


def are_strings(categories: Map) -> bool:
    """Whether all categories are strings."""
    return all(isinstance(value, str) for value in categories)


def are_integers(categories: Map) -> bool:
    """Whether all categories are whole numbers, be they floats."""
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
        for value in categories
    )


def are_booleans(categories: Map) -> bool:
    """Whether they are false and true, which are their own codes."""
    return categories == [False, True] and all(isinstance(value, bool) for value in categories)


def _listing(maps: Sequence[Map], given: tuple[str | int, ...]) -> tuple[int, ...]:
    """Which maps the features file repeats, if it gives categories: as they are, or fractions as strings."""
    return tuple(number for number, values in enumerate(maps) if given and [*given] == _as_listed(values))


def _as_listed(categories: Map) -> Map:
    if are_strings(categories) or are_integers(categories):
        return categories
    return [str(value) for value in categories]


def _fitting(maps: Sequence[Map], columns: Sequence[Column]) -> Choices:
    """Each map may belong to a feature whose values may be codes of it, and each feature may have none.

    Numbers that would be codes of the smaller part of the categories only are taken for numbers: else a
    column of flags would put every model with integer categories in doubt.
    """
    highest = np.array([column.highest for column in columns])[:, None]
    sizes = np.array([len(values) for values in maps])
    is_number = np.array([not column.is_categorical and column.highest >= 0 for column in columns])
    fits = (highest < sizes) & ~(is_number[:, None] & (highest + 1 < LEAST_SEEN * sizes))
    return np.column_stack([fits, np.ones(len(columns), bool)])


def _listed(maps: Sequence[Map], listings: Sequence[tuple[int, ...]]) -> Choices:
    """Features have the maps that are listed for them, if there are as many as features that list them."""
    allowed = np.ones((len(listings), len(maps) + 1), bool)
    for listing, n_features in Counter(listing for listing in listings if listing).items():
        features = [number for number, other in enumerate(listings) if other == listing]
        allowed[features] = False
        allowed[np.ix_(features, listing)] = True
        allowed[features, -1] = n_features > len(listing)
    return allowed


def _likely(may: Choices, columns: Sequence[Column]) -> Choices:
    """What is part of a way that gives every categorical feature a map, or of any if there is no such way."""
    ruled = may.copy()
    ruled[[column.is_categorical for column in columns], -1] = False
    ways = _ways(ruled)
    return ways if ways.any() else _ways(may)


def _ways(may: Choices) -> Choices:
    """The choices that are part of a whole way: every map belongs to one feature, in order."""
    n_maps = may.shape[1] - 1
    maps, none = may[:, :n_maps], may[:, n_maps]
    ahead = _reached(maps, none)
    behind = _reached(maps[::-1, ::-1], none[::-1])[::-1, ::-1]
    return np.column_stack([
        ahead[:-1, :-1] & maps & behind[1:, 1:],
        (ahead[:-1] & behind[1:]).any(axis=1) & none,
    ])  # fmt: skip


def _reached(maps: Choices, none: Choices) -> Choices:
    """[n_features + 1, n_maps + 1]: whether so many features can have just so many of the first maps."""
    reached = np.zeros((maps.shape[0] + 1, maps.shape[1] + 1), bool)
    reached[0, 0] = True
    for feature in range(len(maps)):
        reached[feature + 1] = reached[feature] & none[feature]
        reached[feature + 1, 1:] |= reached[feature, :-1] & maps[feature]
    return reached


def _first(ways: Choices) -> list[int]:
    """One way: the number of each feature's map, or how many maps there are if it has none."""
    numbers, n_given, n_maps = [], 0, ways.shape[1] - 1
    for choices in ways:
        has = n_given < n_maps and choices[n_given]
        numbers.append(n_given if has else n_maps)
        n_given += int(has)
    return numbers


def _taken_alike(maps: Sequence[Map], listings: Sequence[tuple[int, ...]], owned: Sequence[int]) -> Choices:
    """The choices whose data a feature would take in silence, as it does not strings for numbers.

    Categories that the features file lists are taken either way.
    """
    kinds = np.array([*(_kinds(values) for values in maps), NUMBERS])
    alike: Choices = (kinds[list(owned)][:, None] & kinds) != 0
    alike[[bool(listing) for listing in listings]] = True
    return alike


def _kinds(categories: Map) -> int:
    kinds = {STRINGS if isinstance(value, str) else NUMBERS for value in categories}
    return sum(kinds) or NUMBERS | STRINGS


def _differ(maps: Sequence[Map], column: Column, choices: NDArray[np.bool_]) -> bool:
    """Whether it matters which of the choices is true."""
    meanings = [_meaning([*maps, None][number], column.known) for number in np.flatnonzero(choices)]
    return any(meaning != meanings[0] for meaning in meanings)


def _meaning(categories: Map | None, known: float) -> object:
    """What a map does: nothing if it has booleans, or integers that are their own codes.

    Integers past their end are missing, which only splits on numbers tell from codes that they do not know.
    Without splits, the kind of the data is all that matters.
    """
    if not known:
        return NUMBERS if categories is None else _kinds(categories)
    if categories is None or are_booleans(categories):
        return None
    own = are_integers(categories) and categories == [*range(len(categories))] and len(categories) >= known
    return None if own else categories


def _refusal(
    maps: Sequence[Map],
    columns: Sequence[Column],
    listings: Sequence[tuple[int, ...]],
    doubtful: Choices,
) -> UnsupportedModel:
    names = [
        column.name
        for column, listing, choices in zip(columns, listings, doubtful, strict=True)
        if choices.sum() > 1 and not listing
    ]
    return UnsupportedModel(
        f"the model holds {len(maps)} category maps (pandas_categorical) but not whose they are, and"
        f" {listed(names)} may have one or not; list the categories of those among them that are pandas"
        " categories, ordered ones included, in a features file (fractions as strings)"
    )
