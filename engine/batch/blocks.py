"""The blocks that travel through a Ray Data task: a unit's name, then its scored rows, under one label."""

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from engine.errors import TandemError

KEY = b"tandem"


class Label(msgspec.Struct, frozen=True):
    """What a block is, carried as its schema's metadata.

    Attributes:
        unit: Index of the unit.
        rows: Rows read for it, whether or not they are in it still.
        empty: The block has no rows of its own: its only one is there since Ray drops empty blocks.
        packed: Its rows are tables of several schemas, each as an Arrow stream.
        error: Class and message of the error that ended the unit.
    """

    unit: int
    rows: int = 0
    empty: bool = False
    packed: bool = False
    error: tuple[str, str] | None = None

    @staticmethod
    def of(block: pa.Table) -> "Label":
        """The label on a block."""
        return msgspec.json.decode(block.schema.metadata[KEY], type=Label)

    def on(self, table: pa.Table) -> pa.Table:
        """The table as a block with this label."""
        return table.replace_schema_metadata({KEY: msgspec.json.encode(self)})

    def on_all(self, tables: Sequence[pa.Table]) -> pa.Table:
        """Some tables as one block with this label: bad rows, as they were read, may have other types."""
        try:
            return self.on(pa.concat_tables(tables, promote_options="default"))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            packed = pa.table({"stream": pa.array(map(_packed, tables), pa.large_binary())})
            return msgspec.structs.replace(self, packed=True).on(packed)

    def tables(self, block: pa.Table) -> list[pa.Table]:
        """The tables that a block with this label is made of."""
        if self.packed:
            streams = block.column("stream").to_pylist()
            return [pa.ipc.open_stream(stream).read_all() for stream in streams]
        return [] if self.empty else [block]

    def alone(self) -> pa.Table:
        """A block that is nothing but this label."""
        return msgspec.structs.replace(self, empty=True).on(pa.table({"empty": [True]}))


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def described(error: TandemError) -> tuple[str, str]:
    """An error as a label carries it."""
    return type(error).__name__, str(error)
