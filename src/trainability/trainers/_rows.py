"""Vector code over several rows of numbers in lock step: what its emission shares.

All numbers stand in one scratch array and are named by their offsets, counted in elements. A *lane vector* is what
fills a register; rows are padded to whole ones. Sums across lanes are taken in a fixed tree.
"""

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils

from ._vector import emitter_and_indices

# Rows that are taken in lock step; every buffer has a multiple of them.
ROWS = 4


def constant(value):
    return ir.Constant(ir.IntType(64), value)


class Rows:
    """Emission of loops over the lane vectors of ROWS rows, with sums across lanes."""

    def __init__(self, context, builder, signature, arguments):
        self.emit, self.arguments = emitter_and_indices(context, builder, signature, arguments)
        self.builder = builder

    def places(self, start, stride, index=None):
        """Offsets of the vectors numbered `index` of ROWS rows."""
        e = self.emit
        column = [] if index is None else [(index, e.stride)]
        return [e.at(start, (i, stride), *column) for i in range(ROWS)]

    def loop(self, count):
        return cgutils.for_range(self.builder, count)

    def scalar(self, place):
        """The number at an offset, in every lane."""
        return self.emit.splat(self.builder.load(self.builder.gep(self.emit.data, [place])))

    def put(self, vector, place):
        """Write the first lane as one number."""
        first = self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
        self.builder.store(first, self.builder.gep(self.emit.data, [place]))

    def across(self, value, combine):
        """`combine` of all lanes, in every lane."""
        width = self.emit.width
        step = width // 2
        while step:
            order = ir.Constant(ir.VectorType(ir.IntType(32), width), [i ^ step for i in range(width)])
            value = combine(value, self.builder.shuffle_vector(value, value, order))
            step //= 2
        return value

    def total(self, value):
        return self.across(value, self.builder.fadd)

    def larger(self, a, b):
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)
