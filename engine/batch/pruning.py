"""Which row groups need not be read: those whose statistics say that no row meets the condition.

The decision is Arrow's, from the footer and from what the directories say. Where the statistics are
missing, or a column has nulls in the row group, the row group is read.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import fs

from engine.batch.fragments import FOOTER_THREADS, Footer
from engine.batch.plan import InputFile, PartitionType, RowGroup
from engine.batch.reading import partition_values
from engine.batch.where import columns_of, condition_of, may_choose_nan
from engine.errors import InvalidConfig

if TYPE_CHECKING:
    import pyarrow.compute as pc


def row_groups_of(
    filesystem: fs.FileSystem,
    files: Sequence[InputFile],
    footers: Sequence[Footer],
    types: Mapping[str, PartitionType],
    where: str,
) -> list[list[RowGroup]]:
    """The row groups of all files, those marked that a condition (empty for none) passes over.

    Raises ``InvalidConfig`` where it compares a column with a value of another kind, or is not a truth value.
    """
    condition = condition_of(where)
    if condition is None:
        return list(map(_all_of, footers))

    def of_file(file: InputFile, footer: Footer) -> list[RowGroup]:
        groups, partition = _all_of(footer), partition_values(file, types)
        schema = footer.schema
        for name, value in partition.items():
            schema = schema.append(pa.field(name, value.type))
        try:
            schema.empty_table().filter(condition)  # refused now, not at the first row
            if _nan_matters(footer.schema, where):
                return groups
            chosen = _chosen(filesystem, file, schema, partition, condition)
        except pa.ArrowException as error:
            raise InvalidConfig(
                f"the condition does not suit the columns: {error} - at {file.path}"
            ) from error
        return [group._replace(chosen=index in chosen) for index, group in enumerate(groups)]

    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        return list(pool.map(of_file, files, footers))


def _all_of(footer: Footer) -> list[RowGroup]:
    return list(map(RowGroup, footer.rows, footer.n_bytes))


def _nan_matters(schema: pa.Schema, where: str) -> bool:
    """Whether the condition may choose a NaN: Parquet's least and largest value do not know of those."""
    named = [schema.field(name).type for name in columns_of(where) if name in schema.names]
    return may_choose_nan(where) and any(map(pa.types.is_floating, named))


def _chosen(
    filesystem: fs.FileSystem,
    file: InputFile,
    schema: pa.Schema,
    partition: Mapping[str, pa.Scalar],
    condition: "pc.Expression",
) -> frozenset[int]:
    from pyarrow import compute as pc  # here, since few jobs have a condition
    from pyarrow import dataset

    known = [
        pc.field(name) == value if value.is_valid else pc.field(name).is_null()
        for name, value in partition.items()
    ]
    fragment = dataset.ParquetFileFormat().make_fragment(
        file.path, filesystem, reduce(and_, known) if known else None
    )
    return frozenset(group.id for group in fragment.subset(condition, schema=schema).row_groups)
