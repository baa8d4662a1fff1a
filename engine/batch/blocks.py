"""The blocks that travel through a Ray Data task: a unit's rows, labelled with where they come from."""

from collections.abc import Iterator

import msgspec
import pyarrow as pa

from engine.batch.reading import Piece
from engine.errors import TandemError

KEY = b"tandem"


class Label(msgspec.Struct, frozen=True):
    """What a block is, carried as its schema's metadata.

    Attributes:
        unit: Index of the unit.
        pieces: Where its rows come from, in their order.
        empty: The block has no rows of its own: its only one is there since Ray drops empty blocks.
        error: Class and message of the error that ended the unit.
    """

    unit: int
    pieces: tuple[Piece, ...] = ()
    empty: bool = False
    error: tuple[str, str] | None = None

    @property
    def rows(self) -> int:
        """Rows read for the block, whether or not they are in it still."""
        return sum(piece.rows for piece in self.pieces)

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

    def split(self, block: pa.Table) -> Iterator[tuple[Piece, pa.Table]]:
        """The tables that a block as read was made of."""
        start = 0
        for piece in self.pieces:
            yield piece, block.slice(start, piece.rows)
            start += piece.rows


def described(error: TandemError) -> tuple[str, str]:
    """An error as a label carries it."""
    return type(error).__name__, str(error)
