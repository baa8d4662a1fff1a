"""The few vector instructions that Numba does not find by itself, as compiler intrinsics.

Each emits *generic* LLVM vectors, never an instruction of one processor: LLVM turns a vector of
512 bits into one AVX-512 register, two of AVX2, or four of SSE or NEON. They check nothing: the
caller guarantees that every index is in range.

    pointer_at     an address as a pointer, to see the memory there as an array
    item_at        an item of an array by its address
    add_at         add to an integer in memory, whichever threads do so at the same time
    stack_memory   memory that the function gives back when it returns
    rank16         how many of 16 sorted edges lie below a value
    exit_leaves    AND one mask row per feature, then the number of the lowest bit in each lane;
                   exit_leaves_of_row does so for a single row
    walks          take many walks to their leaves, a step each in turn
    blends         compare a byte of each of many rows, and take another's byte over where it is greater
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR_BITS = 512
"""Width of the vectors emitted."""
VECTOR_BYTES = VECTOR_BITS // 8
BLEND_ROWS = 256
"""Rows that ``blends`` take through a tree together, at most: four vectors of bytes."""
ROW_BYTES = 128
"""Bytes of one mask row, two vectors: 32 trees of up to 32 leaves, or 16 of up to 64."""
STACK_BYTES = 8192
"""What ``stack_memory`` gives: enough to score 64 rows of 45 columns, and far from a thread's stack."""
_BYTE, _EDGE, _HALF, _INDEX = (ir.IntType(bits) for bits in (8, 16, 32, 64))
LEAF_EDGE = 0xFFFF
"""Nothing is beyond it: a walk stays where it is. All walks are there when the AND of their edges is this."""
_FLOAT_BITS, _MANTISSA_BITS, _EXPONENT_BIAS = 32, 23, 127


@intrinsic
def pointer_at(typingctx: Any, address: Any) -> Any:
    """``address`` (an integer) as a pointer for ``numba.carray``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], _BYTE.as_pointer())

    return types.voidptr(types.intp), emit


@intrinsic
def item_at(typingctx: Any, address: Any, index: Any, array: Any) -> Any:
    """The item ``index`` places after ``address`` (an integer), of the type of the items of ``array``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, index, _ = arguments
        kind = context.get_data_type(array.dtype)
        item = builder.inttoptr(address, kind.as_pointer())
        return builder.load(builder.gep(item, [builder.zext(index, _INDEX)]))

    return array.dtype(types.intp, index, array), emit


@intrinsic
def add_at(typingctx: Any, address: Any, amount: Any) -> Any:
    """Add ``amount`` to the int64 at ``address``, in one step for all threads; what was there before."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, amount = arguments
        return builder.atomic_rmw("add", builder.inttoptr(address, _INDEX.as_pointer()), amount, "monotonic")

    return types.int64(types.intp, types.int64), emit


@intrinsic
def stack_memory(typingctx: Any) -> Any:
    """The address of STACK_BYTES of the calling kernel's stack, aligned to a mask row.

    Only for a kernel's own body: in a function that is compiled into it, the memory ends with that one.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with builder.goto_entry_block():  # not ``cgutils.alloca_once``, which fills it with zeros
            memory = builder.alloca(ir.ArrayType(_BYTE, STACK_BYTES))
        memory.align = ROW_BYTES
        return builder.ptrtoint(memory, _INDEX)

    return types.intp(), emit


@intrinsic
def rank16(typingctx: Any, edges: Any, start: Any, value: Any) -> Any:
    """How many of the 16 values from ``edges[start]`` are less than ``value``; 16 if it is NaN.

    ``edges`` is a contiguous float32 or float64 array and ``value`` of its type.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, start, value = arguments
        vector = ir.VectorType(value.type, 16)
        place = builder.gep(_data(context, builder, signature.args[0], array), [start])
        these = builder.load(builder.bitcast(place, vector.as_pointer()), align=value_bytes)
        less = builder.fcmp_unordered(">", _splat(builder, value, vector), these)
        return builder.zext(builder.ctpop(builder.bitcast(less, ir.IntType(16))), _INDEX)

    value_bytes = edges.dtype.bitwidth // 8
    return types.intp(edges, types.intp, edges.dtype), emit


def exit_leaves(lane_bits: int, n_rows: int, *, symmetric: bool = False) -> Any:
    """The intrinsic that finds the leaves of all trees of a block for ``n_rows`` rows at once.

    Its arguments: ``masks``, rows of ROW_BYTES, aligned to a vector; ``first_mask``, the block's
    first one; ``pairs`` uint32[P, 2], of which ``start`` to ``end`` name a bin column and the start
    of its part of ``local`` uint16[L], which turns a bin into a mask row of the block; ``bins``
    uint16[n, C]; ``row``, the first row; ``leaves`` uint8[n_rows * trees], which receives, row after row,
    the number of each tree's leaf: the lowest bit left in its lane or, if ``symmetric`` (then lanes have 8
    bits), what is left itself.
    """

    @intrinsic
    def exit_leaves_of_rows(
        typingctx: Any, masks: Any, first_mask: Any, pairs: Any, start: Any, end: Any,
        local: Any, bins: Any, row: Any, leaves: Any,
    ) -> Any:  # fmt: skip
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            masks, first_mask, pairs, start, end, local, bins, row, leaves = _pointers(
                context, builder, signature, arguments
            )
            n_columns = _row_length(context, builder, signature.args[6], arguments[6])
            rows = [
                builder.gep(bins, [builder.mul(builder.add(row, _INDEX(r)), n_columns)])
                for r in range(n_rows)
            ]
            left = [_Lanes(builder, lane_bits, symmetric) for _ in rows]
            block = _mask_row(builder, masks, first_mask)
            with cgutils.for_range_slice(builder, start, end, _INDEX(1), intp=_INDEX) as (pair, _):
                column = _load_index(builder, pairs, builder.mul(pair, _INDEX(2)))
                place = _load_index(builder, pairs, builder.add(builder.mul(pair, _INDEX(2)), _INDEX(1)))
                for lanes, bins_of_row in zip(left, rows, strict=True):
                    bin_ = _load_index(builder, bins_of_row, column)
                    mask = _load_index(builder, local, builder.add(place, bin_))
                    lanes.strike_out(_mask_row(builder, block, mask))
            for r, lanes in enumerate(left):
                lanes.write_leaves(builder.gep(leaves, [_INDEX(r * ROW_BYTES * 8 // lane_bits)]))
            return context.get_dummy_value()

        index = types.intp
        return types.void(masks, index, pairs, index, index, local, bins, index, leaves), emit

    return exit_leaves_of_rows


def exit_leaves_of_row(lane_bits: int, *, symmetric: bool = False) -> Any:
    """The intrinsic that finds the leaves of all trees of a block for a single row.

    Its arguments: ``masks``, ``first_mask`` and ``leaves`` as in ``exit_leaves``; ``by_bin`` uint16[bins, B],
    which turns a bin of any column into the mask row of each block, so that the next block's number comes
    with the same cache line; ``places`` uint32[P], of which ``start`` to ``end`` say where in it the row's
    bins begin; ``block``, the block's number.
    """

    @intrinsic
    def exit_leaves_of_one(
        typingctx: Any, masks: Any, first_mask: Any, by_bin: Any, places: Any, start: Any, end: Any,
        block: Any, leaves: Any,
    ) -> Any:  # fmt: skip
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            masks, first_mask, by_bin, places, start, end, block, leaves = _pointers(
                context, builder, signature, arguments
            )
            lanes = _Lanes(builder, lane_bits, symmetric)
            first, numbers = _mask_row(builder, masks, first_mask), builder.gep(by_bin, [block])
            with cgutils.for_range_slice(builder, start, end, _INDEX(1), intp=_INDEX) as (number, _):
                place = _load_index(builder, places, number)
                lanes.strike_out(_mask_row(builder, first, _load_index(builder, numbers, place)))
            lanes.write_leaves(leaves)
            return context.get_dummy_value()

        index = types.intp
        return types.void(masks, index, by_bin, places, index, index, index, leaves), emit

    return exit_leaves_of_one


def walks(n_walks: int) -> Any:
    """The intrinsic that takes ``n_walks`` walks from their nodes to leaves at once.

    Its arguments: ``nodes`` uint64[N], each its edge (16 bits), face (16) and left child (32), which the
    right one follows; a leaf's child is itself, its edge LEAF_EDGE. ``looks`` uint16[L], how faces look.
    ``place`` uint32[W], where in ``looks`` a walk's faces begin; ``at`` uint32[W], its node, then its leaf;
    ``first``, of the walks. A walk steps on the spot at its leaf until the last one has come to its own.
    """

    @intrinsic
    def walk(typingctx: Any, nodes: Any, looks: Any, place: Any, at: Any, first: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            nodes, looks, place, at, first = _pointers(context, builder, signature, arguments)
            numbers = [builder.add(first, _INDEX(number)) for number in range(n_walks)]
            faces = [builder.gep(looks, [_load_index(builder, place, number)]) for number in numbers]
            starts = [_load_index(builder, at, number) for number in numbers]
            before = builder.block
            step, end = builder.append_basic_block("step"), builder.append_basic_block("end")
            builder.branch(step)
            builder.position_at_end(step)
            here = [builder.phi(_INDEX) for _ in numbers]
            there, edges = [], _EDGE(LEAF_EDGE)
            for number, looks_of_walk in zip(here, faces, strict=True):
                node = builder.load(builder.gep(nodes, [number]))
                edge = builder.trunc(node, _EDGE)
                face = builder.lshr(builder.trunc(node, _HALF), _HALF(_EDGE.width))
                look = builder.load(builder.gep(looks_of_walk, [builder.zext(face, _INDEX)]))
                right = builder.zext(builder.icmp_unsigned(">", look, edge), _INDEX)
                there.append(builder.add(builder.lshr(node, _INDEX(_HALF.width)), right))
                edges = builder.and_(edges, edge)
            for number, start, next_ in zip(here, starts, there, strict=True):
                number.add_incoming(start, before)
                number.add_incoming(next_, step)
            builder.cbranch(builder.icmp_unsigned("==", edges, _EDGE(LEAF_EDGE)), end, step)
            builder.position_at_end(end)
            for number, leaf in zip(numbers, there, strict=True):
                builder.store(builder.trunc(leaf, _HALF), builder.gep(at, [number]))
            return context.get_dummy_value()

        return types.void(nodes, looks, place, at, types.intp), emit

    return walk


def blends(n_vectors: int) -> Any:
    """The intrinsic that runs a tree's program for ``n_vectors`` times VECTOR_BYTES rows: where each ends.

    Its arguments: ``steps`` uint64[S], from ``step`` on one after the other: the edge (8 bits), the operand's
    first vector in ``slots`` (from bit 16, 16 bits), how many vectors it moves on for the next rows, 0 or 1
    (8), and the face (24). ``chains`` uint64[C], ``chain`` to ``end_chain`` being the tree's: the vector of
    ``slots`` that all rows start from (16 bits), the first one that they end in (16), and the number of steps
    (32). A row takes over the operand's byte where the face looks greater than the edge. ``looks``
    uint8[L * BLEND_ROWS], ``slots`` and ``leaves``, which receives the leaf numbers from ``place`` on, are
    aligned to a vector.
    """

    @intrinsic
    def blend(
        typingctx: Any, steps: Any, step: Any, chains: Any, chain: Any, end_chain: Any,
        looks: Any, slots: Any, leaves: Any, place: Any,
    ) -> Any:  # fmt: skip
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            steps, step, chains, chain, end_chain, looks, slots, leaves, place = _pointers(
                context, builder, signature, arguments
            )
            vector = ir.VectorType(_BYTE, VECTOR_BYTES)
            parts = [cgutils.alloca_once(builder, vector) for _ in range(n_vectors)]
            next_step = cgutils.alloca_once_value(builder, step)

            def at(start: Any, number: Any, part: int = 0) -> Any:
                number = builder.add(number, _INDEX(part))
                byte = builder.gep(start, [builder.mul(number, _INDEX(VECTOR_BYTES))])
                return builder.bitcast(byte, vector.as_pointer())

            def bits(word: Any, first: int, count: int) -> Any:
                return builder.and_(builder.lshr(word, _INDEX(first)), _INDEX((1 << count) - 1))

            with cgutils.for_range_slice(builder, chain, end_chain, _INDEX(1), intp=_INDEX) as (number, _):
                word = builder.load(builder.gep(chains, [number]))
                for part in parts:
                    builder.store(builder.load(at(slots, bits(word, 0, 16)), align=VECTOR_BYTES), part)
                first_step = builder.load(next_step)
                end_step = builder.add(first_step, bits(word, 32, 32))
                builder.store(end_step, next_step)
                with cgutils.for_range_slice(builder, first_step, end_step, _INDEX(1), intp=_INDEX) as (s, _):
                    code = builder.load(builder.gep(steps, [s]))
                    edge = _splat(builder, builder.trunc(code, _BYTE), vector)
                    face = builder.mul(bits(code, 40, 24), _INDEX(BLEND_ROWS // VECTOR_BYTES))
                    operand, stride = bits(code, 16, 16), bits(code, 32, 8)
                    for p, part in enumerate(parts):
                        look = builder.load(at(looks, face, p), align=VECTOR_BYTES)
                        other = builder.load(at(slots, operand), align=VECTOR_BYTES)
                        takes_over = builder.icmp_unsigned(">", look, edge)
                        builder.store(builder.select(takes_over, other, builder.load(part)), part)
                        operand = builder.add(operand, stride)
                for p, part in enumerate(parts):
                    builder.store(builder.load(part), at(slots, bits(word, 16, 16), p), align=VECTOR_BYTES)
            for p, part in enumerate(parts):
                leaf = at(builder.gep(leaves, [place]), _INDEX(p))
                builder.store(builder.load(part), leaf, align=VECTOR_BYTES)
            return context.get_dummy_value()

        index = types.intp
        return types.void(steps, index, chains, index, index, looks, slots, leaves, index), emit

    return blend


class _Lanes:
    """The leaves still possible for a row in all trees of a block, in vector registers."""

    def __init__(self, builder: Any, lane_bits: int, symmetric: bool) -> None:
        self._builder = builder
        self._symmetric = symmetric
        self._vector = ir.VectorType(ir.IntType(lane_bits), VECTOR_BITS // lane_bits)
        self._parts = [
            cgutils.alloca_once(builder, self._vector) for _ in range(ROW_BYTES * 8 // VECTOR_BITS)
        ]
        for part in self._parts:
            builder.store(ir.Constant(self._vector, [-1] * self._vector.count), part)

    def strike_out(self, mask_row: Any) -> None:
        """AND the mask row at this address."""
        for place, part in enumerate(self._parts):
            at = self._builder.gep(mask_row, [_INDEX(place * VECTOR_BITS // 8)])
            at = self._builder.bitcast(at, self._vector.as_pointer())
            mask = self._builder.load(at, align=VECTOR_BITS // 8)
            self._builder.store(self._builder.and_(self._builder.load(part), mask), part)

    def write_leaves(self, leaves: Any) -> None:
        """Write the number of each lane's lowest bit (if symmetric, its value), one byte each."""
        for place, part in enumerate(self._parts):
            lanes = self._builder.load(part)
            numbers = lanes if self._symmetric else self._lowest_bits(lanes)
            at = self._builder.gep(leaves, [_INDEX(place * self._vector.count)])
            self._builder.store(numbers, self._builder.bitcast(at, numbers.type.as_pointer()), align=1)

    def _lowest_bits(self, lanes: Any) -> Any:
        vector = self._vector
        if vector.element.width == _FLOAT_BITS:
            return self._exponents(lanes)
        name = f"llvm.cttz.v{vector.count}i{vector.element.width}"
        kind = ir.FunctionType(vector, [vector, ir.IntType(1)])
        function = cgutils.get_or_insert_function(self._builder.module, kind, name)
        numbers = self._builder.call(function, [lanes, ir.IntType(1)(1)])  # 1: no lane is ever 0
        if vector.element.width == _BYTE.width:
            return numbers
        return self._builder.trunc(numbers, ir.VectorType(_BYTE, vector.count))

    def _exponents(self, lanes: Any) -> Any:
        """The same for lanes of 32 bits: the lowest bit alone is a power of two, the exponent of a float.

        That takes two thirds of the instructions of counting zeros on AVX2, and no more on AVX-512. In lanes
        of 64 bits, which are two floats each, it would take AVX-512 half as many again.
        """
        builder, vector = self._builder, self._vector
        lowest = builder.and_(lanes, builder.sub(_all(vector, 0), lanes))
        floats = builder.sitofp(lowest, ir.VectorType(ir.FloatType(), vector.count))  # exact
        biased = builder.lshr(builder.bitcast(floats, vector), _all(vector, _MANTISSA_BITS))
        numbers = builder.trunc(biased, ir.VectorType(_BYTE, vector.count))  # away goes the sign of bit 31
        return builder.sub(numbers, _all(numbers.type, _EXPONENT_BIAS))


def _mask_row(builder: Any, start: Any, row: Any) -> Any:
    """The address of the ``row``-th mask row from ``start``."""
    return builder.gep(builder.bitcast(start, _BYTE.as_pointer()), [builder.mul(row, _INDEX(ROW_BYTES))])


def _load_index(builder: Any, start: Any, index: Any) -> Any:
    return builder.zext(builder.load(builder.gep(start, [index])), _INDEX)


def _all(vector: Any, value: int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def _pointers(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """The arguments, with each array replaced by the address of its data."""
    return [
        _data(context, builder, kind, argument) if isinstance(kind, types.Array) else argument
        for kind, argument in zip(signature.args, arguments, strict=True)
    ]


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _row_length(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    shape = context.make_array(array_type)(context, builder, array).shape
    return builder.extract_value(shape, 1)
