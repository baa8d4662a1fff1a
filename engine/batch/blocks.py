"""The blocks that travel through a Ray Data task: a unit's name, then its scored rows, under one label."""

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
        error: Class and message of the error that ended the unit.
    """

    unit: int
    rows: int = 0
    empty: bool = False
    error: tuple[str, str] | None = None

    @staticmethod
    def of(block: pa.Table) -> "Label":
        """The label on a block."""
        return msgspec.json.decode(block.schema.metadata[KEY], type=Label)

    def on(self, table: pa.Table) -> pa.Table:
        """The table as a block with this label."""
        return table.replace_schema_metadata({KEY: msgspec.json.encode(self)})

    def alone(self) -> pa.Table:
        """A block that is nothing but this label."""
        return msgspec.structs.replace(self, empty=True).on(pa.table({"empty": [True]}))


def described(error: TandemError) -> tuple[str, str]:
    """An error as a label carries it."""
    return type(error).__name__, str(error)
