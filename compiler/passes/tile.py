"""tile: chooses for each layer the plan with the fewest cycles, or says why there is none."""

from __future__ import annotations

from dataclasses import replace

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.codebooks import with_codebook
from qcompile.compiler.passes.loop_nests import candidates
from qcompile.compiler.plan import Plan
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.program import COORDINATE_BITS, COUNT_BITS
from qcompile.hw.weight_fifo import BLOCK_WORDS

LOOPS = ("reads", "channel words", "taps", "taps", "tiles", "positions", "channel groups")


def tile(layers: tuple[Layer, ...], config: AcceleratorConfig) -> tuple[Plan, ...]:
    """The best plan of every layer; CapacityError where a counter or a buffer is too small."""
    return tuple(plan_layer(layer, config) for layer in layers)


def plan_layer(layer: Layer, config: AcceleratorConfig) -> Plan:
    """The plan with the fewest cycles, then the fewest weight words."""
    plans = list(candidates(layer))
    countable = [plan for plan in plans if not _beyond(plan)]
    if config.codebook and layer.weight_source is None:
        countable = [with_codebook(plan) for plan in countable]
    fitting = [
        plan if held else replace(plan, shared_weights=False)  # a group streams them once
        for plan in countable
        if (held := plan.group_parts <= room_parts(config)) or plan.tiles == 1
    ]
    if not fitting:
        raise _refusal(layer, plans, countable, config)
    return min(fitting, key=lambda plan: (plan.cycles_estimate, plan.weights.shape[1]))


def room_parts(config: AcceleratorConfig) -> int:
    """Stream words of weights that several tiles may use."""
    return 2 * (config.weight_depth - BLOCK_WORDS + 1)


def _beyond(plan: Plan) -> list[str]:
    """Loops that the counters do not hold, in words."""
    return [
        f"{name}: {count}, counted up to {1 << bits}"
        for name, count, bits in zip(LOOPS, plan.counts, COUNT_BITS, strict=True)
        if count > 1 << bits
    ]


def _refusal(
    layer: Layer, plans: list[Plan], countable: list[Plan], config: AcceleratorConfig
) -> CapacityError:
    shapes = f"input {list(layer.input_shape)}, output {list(layer.output_shape)}"
    context = [f"'{layer.output}': {shapes}, kernel {list(layer.kernel)}"]
    if countable:
        words = min(plan.weights.shape[1] for plan in countable)
        fewer = "fewer input channels or " if layer.kind == "dense" else ""
        return CapacityError(
            f"'{layer.name}': {words:,} weight words of a channel group do not fit the weight FIFO",
            context=[*context, f"available: {room_parts(config) // 2:,} words"],
            help=f"use {fewer}a smaller kernel in this layer",
        )
    if plans:
        return CapacityError(
            f"'{layer.name}': its loops are longer than the array counts",
            context=[*context, *min((_beyond(plan) for plan in plans), key=len)],
            help="use a smaller picture, kernel or number of channels in this layer",
        )
    if layer.copies > 1 and layer.kind == "dense":
        return CapacityError(
            f"'{layer.name}': no loop is left for weights of nine bits",
            context=context,
            help="quantize the weights symmetrically (zero point 0), or as int8",
        )
    return CapacityError(
        f"'{layer.name}': its picture with padding is longer than coordinates count",
        context=[*context, f"pads {list(layer.pads)}; counted: {1 << COORDINATE_BITS} pixels"],
        help="use a smaller picture or less padding",
    )
