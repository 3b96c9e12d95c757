"""An array of lines that runs a model on a device: what a search chooses from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qcompile.compiler import ir, search
from qcompile.compiler.lines.backend import LinesCompiled
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.lines.program_stream import packets
from qcompile.compiler.lines.resources import LinesResources
from qcompile.compiler.lines.trials import Trial
from qcompile.hw.lines.config import LinesConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An array that runs the model, and what it takes."""

    trial: Trial
    config: LinesConfig
    resources: LinesResources

    @property
    def model(self) -> ir.Model:
        """With its inputs as the host sends them."""
        return self.trial.model

    @property
    def compiled(self) -> LinesCompiled:
        """As `Trial` has it."""
        return self.trial.compiled

    @property
    def program_words(self) -> int:
        """As `Trial` has them."""
        return self.trial.program_words

    @property
    def total_cycles(self) -> int:
        """Of one inference, by the cycle model."""
        return self.trial.cycles

    @property
    def running(self) -> LinesCompiled:
        """The compilation for the array as it is."""
        return replace(self.compiled, config=self.config)

    @property
    def cells(self) -> int:
        """LUTs."""
        return self.resources.luts

    def limits(self) -> dict[str, str]:
        """Layer name -> "compute", "activation bandwidth", "drain", "weight bandwidth"; "latency"
        where none of them takes half of the layer's cycles."""
        compiled = self.compiled
        words = [part.words for part in packets(compiled.program.words)]
        pace = 0 if compiled.flash is None else compiled.flash.word_cycles
        found = zip(compiled.layers, compiled.plans, compiled.cycles(), words, strict=True)
        return {
            layer.name: _limit(plan, self.config, pace * n, taken.cycles)
            for layer, plan, taken, n in found
        }


def _limit(plan: LinePlan, config: LinesConfig, arrival: int, cycles: int) -> str:
    """`arrival`: cycles in which the layer's part of the program comes from a flash; `cycles`: what
    the layer takes."""
    passes = plan.groups * plan.tiles * plan.passes
    bounds = {
        "compute": passes * plan.products,
        "activation bandwidth": passes * plan.pass_cycles,
        "drain": plan.cycles_estimate(config),
        "weight bandwidth": arrival,
    }
    # A layer begins when the last one has been written: what it waits for then is no rate.
    return "latency" if 2 * max(bounds.values()) < cycles else search.limit(bounds)
