"""Tensors of a float network over calibration inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy.typing as npt

from qcompile.compiler.errors import InputError
from qcompile.compiler.quantize.float_inputs import check_finite
from qcompile.compiler.quantize.normal_scales import first_odd
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.ranges import Range, find_range, least_error, parameters_of
from qcompile.compiler.quantize.readers import Readers
from qcompile.compiler.quantize.sessions import Say, observe, silent

Array = npt.NDArray[Any]


class Observations:
    """Tensors of a float network over calibration inputs, each computed when first asked for.

    Parameters
    ----------
    network : Network
    inputs : float32 arrays [N, ...] by input name, or None where there is no calibration
    """

    def __init__(
        self, network: Network, inputs: Mapping[str, Array] | None, progress: Say = silent
    ) -> None:
        self.network = network.copy()
        self.model = network.to_model()
        self.inputs = inputs
        self._progress = progress
        self._found: dict[str, Array] = {}
        self._readers: Readers | None = None

    def values(self, name: str) -> Array:
        """float32 [N, ...]: a tensor's values, one row an input."""
        self.prefetch([name])
        return self._found[name]

    def prefetch(self, names: Iterable[str]) -> None:
        """Compute several tensors in one run."""
        missing = [name for name in names if name not in self._found]
        if not missing:
            return
        if self.inputs is None:
            raise InputError(
                f"values of tensor '{missing[0]}' are needed, and there is no calibration",
                help="give --calibration X.npz; schemes affine and shift do with a range for it",
            )
        for name, values in observe(self.model, self.inputs, missing, self._progress).items():
            check_finite(f"tensor '{name}' of the float network", values)
            self._found[name] = values

    def range_of(self, name: str, options: Options) -> Range:
        """The range of a tensor, found or given as the options say."""
        if options.ranges is not None and name in options.ranges:
            return _usable(name, options.ranges[name])
        method = options.range or "minmax"
        if method == "output":
            return least_error(
                find_range(self.values(name), "minmax"),
                lambda one: self.readers.error(name, parameters_of(one)),
            )
        return find_range(self.values(name), method)

    @property
    def readers(self) -> Readers:
        """Measures what encodings of tensors do to the layers behind them."""
        if self._readers is None:
            self._readers = Readers(self.network, self.inputs or {}, self.values)
        return self._readers


def _usable(name: str, given: Range) -> Range:
    """A range from Python; those of files were checked when they were read."""
    if first_odd([given.scale, max(-given.low, given.high)]) is not None:
        raise InputError(
            f"the given range of tensor '{name}', {given.low:.6g} to {given.high:.6g}, has ends or"
            " steps that are no normal float32",
            help="give the range of the tensor's values",
        )
    return given
