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

    def across(self, value, combine, least=1):
        """`combine` of all lanes in every lane, or of those that are `least` apart."""
        width = self.emit.width
        step = width // 2
        while step >= least:
            order = ir.Constant(ir.VectorType(ir.IntType(32), width), [i ^ step for i in range(width)])
            value = combine(value, self.builder.shuffle_vector(value, value, order))
            step //= 2
        return value

    def total(self, value):
        return self.across(value, self.builder.fadd)

    def totals(self, values):
        """Sums across lanes of ROWS vectors, as many side by side in a vector as it has places for.

        Half as many exchanges of lanes as for each sum alone, and what follows is done for several at once.
        """
        width = self.emit.width
        together = min(ROWS, width)
        step = 1
        while step < together:
            order = [i + width if i & step else i for i in range(width)]
            near, far = (
                ir.Constant(ir.VectorType(ir.IntType(32), width), [k ^ flip for k in order])
                for flip in (0, step)
            )
            values = [
                self.builder.fadd(
                    self.builder.shuffle_vector(a, b, near), self.builder.shuffle_vector(a, b, far)
                )
                for a, b in zip(values[::2], values[1::2], strict=True)
            ]
            step *= 2
        return [self.across(value, self.builder.fadd, least=together) for value in values]

    def each(self, totals):
        """Each of ROWS numbers, side by side as `totals` leaves them, in all lanes."""
        width = self.emit.width
        together = ROWS // len(totals)
        return [
            self.builder.shuffle_vector(
                value, value, ir.Constant(ir.VectorType(ir.IntType(32), width), [i] * width)
            )
            for value in totals
            for i in range(together)
        ]

    def put_totals(self, totals, place):
        """Write ROWS numbers, side by side as `totals` leaves them, one behind another."""
        together = ROWS // len(totals)
        first = ir.Constant(ir.VectorType(ir.IntType(32), together), list(range(together)))
        for i, value in enumerate(totals):
            part = self.builder.shuffle_vector(value, value, first)
            target = self.builder.gep(self.emit.data, [self.builder.add(place, constant(i * together))])
            target = self.builder.bitcast(target, part.type.as_pointer())
            self.builder.store(part, target, align=self.emit.itemsize)

    def larger(self, a, b):
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)
