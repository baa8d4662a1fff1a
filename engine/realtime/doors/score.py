"""The door for people with curl: JSON rows in, scores out."""

from functools import partial
from typing import Any

import msgspec
import numpy as np

from engine.errors import InvalidRequest
from engine.prepare.rows import Prepared
from engine.realtime.batching.waiting import Result
from engine.realtime.doors.answers import JSON, Answer
from engine.realtime.doors.calls import Asked, Call
from engine.realtime.doors.oip import too_many_rows
from engine.realtime.doors.pieces import MALFORMED, PIECE_BYTES, ROWS, in_pieces
from engine.realtime.serving.served import Revision

_encode = msgspec.json.encode


class AnyRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body of rows whatever they hold."""

    rows: list[Any]


_ANY_ROWS = msgspec.json.Decoder(AnyRows)
_SOME_ROWS = msgspec.json.Decoder(list[Any])


def read(revision: Revision, call: Call) -> Asked:
    """The rows of ``{"rows": [{…}]}``; raises ``InvalidRequest``."""
    X, bad = _read(revision, call)
    return Asked(X, bad, call.timeout_s)


def write(revision: Revision, asked: Asked, result: Result) -> Answer:  # noqa: ARG001 the doors' one signature
    """The scores in order, null in bad rows, which are explained."""
    return Answer(200, [JSON], _body(revision, result))


def _read(revision: Revision, call: Call) -> Prepared:
    try:
        if len(call.body) > PIECE_BYTES:
            return _read_in_pieces(revision, call)
        rows: list[msgspec.Struct] = revision.rows_decoder.decode(call.body).rows
    except MALFORMED:
        return _read_any(revision, call)
    if len(rows) > call.max_rows:
        raise too_many_rows(len(rows), call.max_rows)
    return revision.preparer.typed_rows(rows)


def _read_in_pieces(revision: Revision, call: Call) -> Prepared:
    """The same of a long body; careful with those pieces only that have a bad row."""
    blocks, bad, n_rows = [], dict[int, str](), 0
    for rows in in_pieces(call.body, ROWS, partial(_decode_some, revision)):
        if n_rows + len(rows) <= call.max_rows:
            is_typed = isinstance(rows[0], msgspec.Struct)
            X, reasons = revision.preparer.typed_rows(rows) if is_typed else revision.preparer.rows(rows)
            blocks.append(X)
            bad |= {n_rows + row: reason for row, reason in reasons.items()}
        n_rows += len(rows)
    if n_rows > call.max_rows:
        raise too_many_rows(n_rows, call.max_rows)
    return np.concatenate(blocks), bad


def _decode_some(revision: Revision, piece: bytes) -> list[Any]:
    try:
        return revision.some_rows_decoder.decode(piece)
    except MALFORMED:
        return _SOME_ROWS.decode(piece)


def _read_any(revision: Revision, call: Call) -> Prepared:
    """The careful way, which says what is wrong with the body or with each bad row."""
    try:
        rows = _ANY_ROWS.decode(call.body).rows
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply for rows") from None
    except MALFORMED as error:
        raise InvalidRequest(f'expected {{"rows": [{{…}}]}}: {error}') from error
    if len(rows) > call.max_rows:
        raise too_many_rows(len(rows), call.max_rows)
    return revision.preparer.rows(rows)


def _body(revision: Revision, result: Result) -> bytes:
    scores = result.scores.tolist() if revision.output.labels else result.scores[:, 0].tolist()
    if not result.bad:
        return b"%b%b}" % (revision.score_head, _encode(scores))
    for row in result.bad:
        scores[row] = None
    errors = [{"row": row, "error": result.bad[row]} for row in sorted(result.bad)]
    return b'%b%b,"errors":%b}' % (revision.score_head, _encode(scores), _encode(errors))
