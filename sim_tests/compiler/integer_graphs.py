"""Builds small random graphs of the integer level, whose expected values golden gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir
from qcompile.compiler.add_tables import solve_add_tables
from qcompile.compiler.golden.float_rules import add_table
from qcompile.compiler.golden.numerics import scale_to_mantissa, scale_to_shift

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


NARROW = 7
"""Largest weight of 4 bits."""


class IntegerGraph:
    """A graph under construction; methods return names of values.

    Requantization scales are such that codes spread over their whole range and few saturate.
    """

    def __init__(
        self, rng: np.random.Generator, *, requant: Literal["exact", "shift"] = "exact"
    ) -> None:
        self.rng = rng
        self.requant_mode: Literal["exact", "shift"] = requant
        self.values: dict[str, ir.Value] = {}
        self.ops: list[ir.Op] = []
        self.inputs: list[str] = []

    def _value(self, stem: str, shape: tuple[int, ...]) -> str:
        name = f"{stem}{len(self.values)}"
        self.values[name] = ir.Value(name=name, shape=shape, dtype="int8")
        return name

    def code(self) -> int:
        """A code; one in four stands at an end of the range."""
        return int(self.rng.choice([-128, 127, *self.rng.integers(-128, 128, 6)]))

    def requant(self, terms: int, channels: int, largest: float) -> ir.Requant:
        """For sums of `terms` random products up to `largest`."""
        spread = self.rng.uniform(0.5, 2.0, channels)
        scale = (spread * 100 / (largest * terms**0.5)).astype(np.float32)
        if self.requant_mode == "exact":
            mantissa, shift = scale_to_mantissa(scale)
        else:
            mantissa, shift = np.ones(channels, np.int64), scale_to_shift(scale)
        low, high = sorted((self.code(), self.code()))
        clamped = self.rng.integers(0, 4) == 0 and low < high
        return ir.Requant(
            mode=self.requant_mode,
            mantissa=mantissa,
            shift=shift,
            zero_point=self.code(),
            low=low if clamped else -128,
            high=high if clamped else 127,
            zero_point_inside=bool(self.rng.integers(0, 2)),
        )

    def input(self, channels: int, height: int = 1, width: int = 1) -> str:
        """A graph input."""
        name = self._value("x", (1, channels, height, width))
        self.inputs.append(name)
        return name

    def _window(self, x: str, channels: int, spans: Pair, strides: Pair, pads: Pads) -> str:
        _, _, *size = self.values[x].shape
        height, width = (
            (size[axis] + pads[axis] + pads[2 + axis] - spans[axis]) // strides[axis] + 1
            for axis in range(2)
        )
        return self._value("y", (1, channels, height, width))

    def conv(
        self,
        x: str,
        out: int = 0,
        kernel: Pair = (1, 1),
        *,
        strides: Pair = (1, 1),
        dilations: Pair = (1, 1),
        pads: Pads = (0, 0, 0, 0),
        nine_bits: bool = False,
        group: int = 1,
        fraction: bool = False,
        levels: int = 0,
    ) -> str:
        """A convolution, depthwise where `out` is 0; `nine_bits` weights reach -255..255.

        With `levels` there are so many different weights at most, and 0 is one. With `fraction`
        weights are narrow and the bias counts parts of a sum.
        """
        channels = self.values[x].shape[1]
        group, out = (group, out) if out else (channels, channels)
        inner = channels // group
        limit = 255 if nine_bits else 127
        if fraction:
            limit = NARROW
        terms = inner * kernel[0] * kernel[1]
        weight = self.rng.integers(-limit, limit + 1, (out, inner, *kernel)).astype(np.int16)
        if levels:
            codebook = np.append(self.rng.integers(-limit, limit + 1, levels - 1), 0)
            weight = self.rng.choice(codebook, weight.shape).astype(np.int16)
        requant = self.requant(terms, out, limit * 128)
        bits = ir.FRACTION_BITS if fraction else 0
        requant = replace(requant, shift=requant.shift + bits, fraction=bits)
        spans = (dilations[0] * (kernel[0] - 1) + 1, dilations[1] * (kernel[1] - 1) + 1)
        y = self._window(x, out, spans, strides, pads)
        self.ops.append(
            ir.Conv(
                inputs=(x,),
                outputs=(y,),
                weight=weight,
                bias=self.rng.integers(-9999 << bits, 10000 << bits, out).astype(np.int64),
                input_zero_point=self.code(),
                strides=strides,
                dilations=dilations,
                pads=pads,
                group=group,
                requant=requant,
            )
        )
        return y

    def pool(self, x: str, kernel: Pair, strides: Pair = (1, 1), pads: Pads = (0, 0, 0, 0)) -> str:
        """Average over windows."""
        channels = self.values[x].shape[1]
        y = self._window(x, channels, kernel, strides, pads)
        requant = self.requant(kernel[0] * kernel[1], 1, 128)
        self.ops.append(
            ir.AveragePool(
                inputs=(x,),
                outputs=(y,),
                kernel=kernel,
                strides=strides,
                pads=pads,
                input_zero_point=self.code(),
                requant=replace(
                    requant,
                    mantissa=np.repeat(requant.mantissa, channels),
                    shift=np.repeat(requant.shift, channels),
                    low=-128,
                    high=127,
                ),
            )
        )
        return y

    def max_pool(
        self,
        x: str,
        kernel: Pair,
        *,
        strides: Pair = (1, 1),
        dilations: Pair = (1, 1),
        pads: Pads = (0, 0, 0, 0),
    ) -> str:
        """Maximum over windows."""
        spans = (dilations[0] * (kernel[0] - 1) + 1, dilations[1] * (kernel[1] - 1) + 1)
        y = self._window(x, self.values[x].shape[1], spans, strides, pads)
        self.ops.append(
            ir.MaxPool(
                inputs=(x,),
                outputs=(y,),
                kernel=kernel,
                strides=strides,
                dilations=dilations,
                pads=pads,
            )
        )
        return y

    def select(
        self,
        index: npt.NDArray[np.integer[Any]],
        *inputs: str,
        fill: int = 0,
        joins_parts: bool = False,
    ) -> str:
        """Codes in other places; `index` is [1, channels, height, width]."""
        y = self._value("moved", index.shape)
        op = ir.Select(
            inputs=inputs,
            outputs=(y,),
            index=index.astype(np.int32),
            fill=fill,
            joins_parts=joins_parts,
        )
        self.ops.append(op)
        return y

    def numbered(self, *inputs: str) -> list[npt.NDArray[np.int32]]:
        """The index of every element of the inputs, in their shapes."""
        begin, numbers = 0, []
        for name in inputs:
            value = self.values[name]
            end = begin + value.elements
            numbers.append(np.arange(begin, end, dtype=np.int32).reshape(value.shape))
            begin = end
        return numbers

    def add(self, a: str, b: str) -> str:
        """The residual sum of two tensors, with the float rule's table."""
        y = self._value("sum", self.values[a].shape)
        table = self._add_table()
        while solve_add_tables(table).differing.size:  # rare
            table = self._add_table()
        self.ops.append(ir.Binary(inputs=(a, b), outputs=(y,), table=table))
        return y

    def constant(self, data: ir.Int8Array) -> str:
        """Codes that are the same for every input."""
        name = self._value("constant", data.shape)
        self.ops.append(ir.Constant(inputs=(), outputs=(name,), data=data))
        return name

    def with_constant(self, x: str, data: ir.Int8Array, table: ir.Int8Array) -> str:
        """table[x, data] of a tensor and a constant that broadcasts to its shape."""
        constant = self.constant(data)
        y = self._value("y", self.values[x].shape)
        self.ops.append(ir.Binary(inputs=(x, constant), outputs=(y,), table=table))
        return y

    def combine(self, a: str, b: str, table: ir.Int8Array) -> str:
        """table[a, b] of two tensors that broadcast."""
        shape = np.broadcast_shapes(self.values[a].shape, self.values[b].shape)
        y = self._value("y", shape)
        self.ops.append(ir.Binary(inputs=(a, b), outputs=(y,), table=table))
        return y

    def _add_table(self) -> ir.Int8Array:
        scales = self.rng.uniform((0.03, 0.03, 0.04), (0.06, 0.06, 0.08)).tolist()
        zero_points = self.rng.integers(-40, 41, 3).tolist()
        quantizations = [
            ir.Quantization(scale=float(np.float32(scale)), zero_point=zero_point)
            for scale, zero_point in zip(scales, zero_points, strict=True)
        ]
        return add_table(*quantizations, dtype="int8")

    def lookup(self, x: str) -> str:
        """A random table."""
        y = self._value("table", self.values[x].shape)
        table = self.rng.integers(-128, 128, 256).astype(np.int8)
        self.ops.append(ir.Lookup(inputs=(x,), outputs=(y,), table=table))
        return y

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        """The same codes in another shape."""
        y = self._value("shaped", shape)
        self.ops.append(ir.Reshape(inputs=(x,), outputs=(y,), shape=shape))
        return y

    def graph(self, *outputs: str, name: str = "graph") -> ir.Graph:
        """The graph with these outputs."""
        return ir.Graph(
            name=name,
            inputs=tuple(self.inputs),
            outputs=outputs,
            values=self.values,
            ops=tuple(self.ops),
        )

    def codes(self, samples: int = 1) -> dict[str, ir.Int8Array]:
        """Random input codes [samples, ...] by name."""
        return {
            name: self.rng.integers(-128, 128, (samples, *self.values[name].shape[1:])).astype(
                np.int8
            )
            for name in self.inputs
        }


def model_of(graph: ir.Graph) -> ir.Model:
    """A model that is the graph alone."""
    return ir.Model(
        name=graph.name,
        path=f"{graph.name}.onnx",
        sha256="5a" * 32,
        inputs=tuple(graph.values[name] for name in graph.inputs),
        outputs=tuple(graph.values[name] for name in graph.outputs),
        prologue=(),
        graph=graph,
        epilogue=(),
    )
