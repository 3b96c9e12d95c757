"""The conformance models through the accelerator's compiler, without a simulation of Verilog.

Whatever golden takes compiles, or is refused with the tensor, a reason that is true and a way out.
Layers of small models give golden's codes, and their plans are walked; `full` walks all.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.backend import Compiled, compile_model, flash_image
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.pipeline import load_model
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.layouts import IMAGE_HEADER_BYTES
from sim_tests.compiler.compiled_runs import WALKED_MACS, check_compiled
from sim_tests.compiler.test_conformance_models import PASSING, save_models
from sim_tests.compiler.test_conformance_ort import FOLDER, chosen_shapes
from sim_tests.compiler.test_conformance_ort import REFUSED as UNREAD

LIMIT_SECONDS = 10
"""Of the processor, for a model: more is a hang."""

REFUSED = {
    "layout_transform_reshape.qdq": (
        "'5007_QuantizeLinear_Output:image3': this Transpose is more than 128 copies of parts\n"
        "  input '831_QuantizeLinear_Output:sunk' [512, 4, 1]\n"
        "  output [4, 1, 512]\n"
        "  help: move the operator to the input or output of the model, where the host runs it"
    ),
}
"""512 channels become pixels of 4 channels: a word is gathered from 4 places for each of them."""

LARGE = {
    "conv_qdq_external_ini",
    "conv_qdq_s8s8",
    "conv_qdq_s8s8_perchannel",
    "conv_qdq_u8u8",
    "test_conv_follow_convtrans_s8",
}
"""Models of so many products that Python takes long."""

READ = sorted(path.stem for path in FOLDER.glob("*.onnx") if path.stem not in UNREAD)


def compiled(path: Path) -> Compiled:
    """A model of the folder for the UP5K, in good time."""
    began = time.process_time()
    try:
        model = load_model(path, shapes=chosen_shapes(path))
        result = compile_model(model, board=ICEBREAKER, requant="exact")
    finally:
        assert time.process_time() - began < LIMIT_SECONDS
    assert len(flash_image(result)) == IMAGE_HEADER_BYTES + 2 * len(result.program.words)
    assert len(result.plans) == len(result.layers) == len(result.cycles) > 0
    return result


@pytest.mark.parametrize("name", READ)
def test_model_of_onnxruntime_compiles_or_is_refused_with_reason(
    rng: np.random.Generator, name: str
) -> None:
    path = FOLDER / f"{name}.onnx"
    if name in REFUSED:
        with pytest.raises(UnsupportedError) as raised:
            compiled(path)
        assert str(raised.value) == REFUSED[name]
        return
    result = compiled(path)
    assert (sum(layer.macs for layer in result.layers) > WALKED_MACS) == (name in LARGE)
    assert check_compiled(result, rng) == (name not in LARGE)


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(LARGE))
def test_large_model_of_onnxruntime_gives_goldens_codes(
    rng: np.random.Generator, name: str
) -> None:
    result = compiled(FOLDER / f"{name}.onnx")
    assert check_compiled(result, rng, limit=sum(layer.macs for layer in result.layers))


@pytest.mark.parametrize("name", PASSING)
def test_operator_test_of_onnx_compiles(
    shared: Path, tmp_path: Path, rng: np.random.Generator, name: str
) -> None:
    for path, _, _ in save_models(shared, tmp_path, name):
        assert check_compiled(compiled(path), rng)
