"""Matrix products and transposes of any size, in tiles that fill the registers."""

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ._rows import Rows
from ._vector import VECTOR_BYTES

# Whether there are registers for sixteen running sums, as AVX-512 and NEON have; AVX has not.
SIXTEEN = VECTOR_BYTES != 32

# Of functions that only compiled code calls.
INNER = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def _tile(rows, columns):
    """Make an intrinsic: a tile of C = start + A B, A plain numbers, B and C lane vectors.

    Rows of C and start are `c_row` and `start_row` apart; A's element (i, k) is at a + i a_row + k a_k; rows of B,
    over which the sum runs, are `b_k` apart.
    """

    @intrinsic
    def tile(typing, s, c, c_row, start, start_row, a, a_row, a_k, b, b_k, size):
        def generate(context, builder, signature, arguments):
            r = Rows(context, builder, signature, arguments)
            emit, (c, c_row, start, start_row, a, a_row, a_k, b, b_k, size) = r.emit, r.arguments
            pairs = [(i, j) for i in range(rows) for j in range(columns)]
            sums = emit.variables(
                [emit.load(emit.at(start, (i, start_row), (j, emit.stride))) for i, j in pairs]
            )
            with cgutils.for_range(builder, size) as loop:
                vectors = [emit.load(emit.at(b, (loop.index, b_k), (j, emit.stride))) for j in range(columns)]
                for i in range(rows):
                    number = r.scalar(emit.at(a, (loop.index, a_k), (i, a_row)))
                    for j in range(columns):
                        emit.add_product(sums[i * columns + j], number, vectors[j])
            for (i, j), total in zip(pairs, sums, strict=True):
                emit.store(builder.load(total), emit.at(c, (i, c_row), (j, emit.stride)))
            return context.get_dummy_value()

        return types.void(s, c, c_row, start, start_row, a, a_row, a_k, b, b_k, size), generate

    return tile


_tile_16_1, _tile_8_1, _tile_4_1 = _tile(16, 1), _tile(8, 1), _tile(4, 1)
_tile_8_2, _tile_4_2 = _tile(8, 2), _tile(4, 2)
_tile_6_4, _tile_4_4 = _tile(6, 4), _tile(4, 4)


@njit(**INNER, forceinline=True)
def column(s, c, c_row, start, start_row, a, a_row, a_k, b, b_k, rows, size):
    """`product` of one lane vector, written out where it is called: of small ones the call is a good part."""
    i = 0
    while SIXTEEN and rows - i >= 16:
        _tile_16_1(
            s, c + i * c_row, c_row, start + i * start_row, start_row, a + i * a_row, a_row, a_k, b, b_k, size
        )
        i += 16
    while rows - i >= 8:
        _tile_8_1(
            s, c + i * c_row, c_row, start + i * start_row, start_row, a + i * a_row, a_row, a_k, b, b_k, size
        )
        i += 8
    while i < rows:
        _tile_4_1(
            s, c + i * c_row, c_row, start + i * start_row, start_row, a + i * a_row, a_row, a_k, b, b_k, size
        )
        i += 4


@njit(**INNER)
def product(s, lanes, c, c_row, start, start_row, a, a_row, a_k, b, b_k, rows, columns, size):
    """C = start + A B with `rows` rows, a multiple of ROWS, of `columns` lane vectors; the sum runs over `size`."""
    j = 0
    while j < columns:
        at_c, at_start, at_b = c + j * lanes, start + j * lanes, b + j * lanes
        i = 0
        if SIXTEEN and columns - j >= 4:
            while rows - i >= 12:
                for _ in range(2):
                    _tile_6_4(
                        s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                        a + i * a_row, a_row, a_k, at_b, b_k, size,
                    )  # fmt: skip
                    i += 6
            while i < rows:
                _tile_4_4(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 4
            j += 4
        elif columns - j >= 2:
            while SIXTEEN and rows - i >= 8:
                _tile_8_2(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 8
            while i < rows:
                _tile_4_2(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 4
            j += 2
        else:
            column(s, at_c, c_row, at_start, start_row, a, a_row, a_k, at_b, b_k, rows, size)
            j += 1


@intrinsic
def _turn_tile(typing, s, source, source_row, target, target_row, factor):
    """Transpose a square of lane vectors, times the number at `factor`."""

    def generate(context, builder, signature, arguments):
        r = Rows(context, builder, signature, arguments)
        emit, (source, source_row, target, target_row, factor) = r.emit, r.arguments
        width, scale = emit.width, r.scalar(factor)
        rows = [builder.fmul(emit.load(emit.at(source, (i, source_row))), scale) for i in range(width)]

        def chosen(a, b, order):
            index = ir.Constant(ir.VectorType(ir.IntType(32), width), order)
            return builder.shuffle_vector(a, b, index)

        step = width // 2
        while step:  # exchange the off-diagonal squares of this size
            for i in range(width):
                if not i & step:
                    a, b = rows[i], rows[i + step]
                    rows[i] = chosen(a, b, [width + j - step if j & step else j for j in range(width)])
                    rows[i + step] = chosen(a, b, [width + j if j & step else j + step for j in range(width)])
            step //= 2
        for i, row in enumerate(rows):
            emit.store(row, emit.at(target, (i, target_row)))
        return context.get_dummy_value()

    return types.void(s, source, source_row, target, target_row, factor), generate


@njit(**INNER)
def turn(s, lanes, source, source_row, rows, columns, target, target_row, factor):
    """Transpose `rows` rows of `columns` numbers, times the number at the offset `factor`."""
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            if i + lanes <= rows and j + lanes <= columns:
                a, b = source + i * source_row + j, target + j * target_row + i
                _turn_tile(s, a, source_row, b, target_row, factor)
                continue
            for y in range(i, min(i + lanes, rows)):
                for x in range(j, min(j + lanes, columns)):
                    s[target + x * target_row + y] = s[factor] * s[source + y * source_row + x]
