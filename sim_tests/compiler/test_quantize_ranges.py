"""Ranges of activations: against brute force, and from files of a training tool."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.cli import main
from qcompile.compiler.errors import InputError, UsageError
from qcompile.compiler.quantize import Options, Range, load_float, load_ranges, quantize
from qcompile.compiler.quantize.ranges import (
    ENTROPY_BINS,
    SHRINKS,
    Method,
    find_range,
    parameters_of,
)
from sim_tests.compiler.test_quantize import save_network

Array = npt.NDArray[Any]


def squared_error(values: Array, low: float, high: float) -> float:
    """Of affine int8 codes, from their definition."""
    scale = np.float32((high - low) / 255)
    zero = round(-128 - low / float(scale))
    codes = np.clip(np.rint(values / scale) + zero, -128, 127)
    return float(np.sum(((codes - zero) * scale - values) ** 2))


def test_mse_is_the_least_error_of_both_ends_tried_on_their_own() -> None:
    dice = np.random.default_rng(11)
    values = np.concatenate([dice.normal(size=99_000), [-20.0], dice.exponential(2, 99_000)])
    values = values.astype(np.float32)
    found = find_range(values, "mse")
    tried = {
        (low, high): squared_error(values, values.min() * low, values.max() * high)
        for low in SHRINKS
        for high in SHRINKS
    }
    ours = squared_error(values, found.low, found.high)
    assert ours <= min(tried.values()) * 1.02  # one end after the other, over a histogram
    assert ours < 0.75 * tried[1.0, 1.0]


def divergence(counts: list[float], bins: int, codes: int) -> float:
    """As the pseudocode of the entropy calibration says it, number by number."""
    reference = list(counts[:bins])
    reference[-1] += sum(counts[bins:])
    candidate = [0.0] * bins
    for code in range(codes):
        members = [place for place in range(bins) if place * codes // bins == code]
        filled = [place for place in members if counts[place] > 0]
        for place in filled:
            candidate[place] = sum(counts[one] for one in members) / len(filled)
    total = {"reference": sum(reference), "candidate": sum(candidate)}
    result = 0.0
    for wanted, found in zip(reference, candidate, strict=True):
        if wanted > 0:
            share = max(found / total["candidate"], 1e-9)
            result += wanted / total["reference"] * math.log(wanted / total["reference"] / share)
    return result


@pytest.mark.parametrize("signed", [False, True])
def test_kl_is_the_entropy_calibration(signed: bool) -> None:
    dice = np.random.default_rng(12)
    values = dice.exponential(1, 20_000) * (dice.choice([-1, 1], 20_000) if signed else 1)
    values = np.append(values, [0.0] * 50_000).astype(np.float32)  # zeros, as behind a Relu
    found = find_range(values, "kl")
    magnitudes = np.abs(values[values != 0])
    top, codes = float(magnitudes.max()), 128 if signed else 256
    counts = np.histogram(magnitudes, ENTROPY_BINS, (0, top))[0].astype(float).tolist()
    kept = round(found.high / top * ENTROPY_BINS)
    assert found.high == pytest.approx(kept * top / ENTROPY_BINS)
    assert found.low == (0 if not signed else max(float(values.min()), -found.high))
    ours = divergence(counts, kept, codes)
    least = int(np.searchsorted(np.cumsum(counts), 0.99 * sum(counts))) + 1
    for bins in range(max(codes, least), ENTROPY_BINS + 1, 41):
        assert ours <= divergence(counts, bins, codes) + 1e-9
    assert 0.2 * top < found.high < top


def test_kl_does_not_cut_away_what_is_far_from_zero() -> None:
    values = np.random.default_rng(15).choice([-1, 1], 2000) * np.linspace(0.1, 1, 2000) ** 0.5
    assert find_range(values.astype(np.float32), "kl").high > 0.9


def test_output_keeps_what_heavy_weights_read(tmp_path: Path) -> None:
    """Channel 0 is small and counts much, channel 1 is large and counts next to nothing."""
    dice = np.random.default_rng(13)
    x = np.zeros((16, 4, 6, 6), np.float32)
    x[:, 0] = dice.uniform(0, 0.02, (16, 6, 6))
    x[:, 1] = dice.uniform(0, 5, (16, 6, 6))
    weights = np.zeros((2, 4, 1, 1), np.float32)
    weights[0, 0], weights[1, 0], weights[1, 1] = 100, 50, 1e-3
    save_network(tmp_path / "net.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], w=weights)
    network = load_float(tmp_path / "net.onnx")
    ends = {}
    methods: tuple[Method, ...] = ("minmax", "output")
    for method in methods:
        result = quantize(network, {"x": x}, Options(range=method))
        ends[method] = (result.tensors[0].high, result.tensors[1].sqnr_db)
    assert ends["output"][0] < 0.5 * ends["minmax"][0]
    assert ends["output"][1] > ends["minmax"][1] + 3


def test_output_keeps_what_the_network_returns(tmp_path: Path) -> None:
    """The Relu behind reads no negative value, but who reads the network's output does."""
    weights = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    save_network(tmp_path / "net.onnx", nodes, w=weights)
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.output.append(helper.make_tensor_value_info("z", 1, ["n", "c", "h", "w"]))
    onnx.save(model, tmp_path / "net.onnx")
    x = np.random.default_rng(5).normal(size=(16, 4, 6, 6)).astype(np.float32)
    result = quantize(load_float(tmp_path / "net.onnx"), {"x": x}, Options(range="output"))
    (returned,) = (one for one in result.tensors if one.name == "y")
    assert returned.low < -3
    assert returned.sqnr_db > 35


FORMS = {
    "tensorrt": ({"tensorrt": {"blob_range": {"x": 2.54}}}, Range(low=-2.56, high=2.54)),
    "snpe": (
        {"activation_encodings": {"x": [{"bitwidth": 8, "min": -1.0, "max": 3.0}]},
         "param_encodings": {}},
        Range(low=-1.0, high=3.0),
    ),
    "ppl": (
        {"ppl": {"x": {"step": 0.1, "zero_point": -128, "min": 0.0, "max": 25.5, "bit": 8,
                       "type": "biased"},
                 "w": {"step": [0.1], "zero_point": [0], "min": [-1.0], "max": [1.0]}}},
        Range(low=0.0, high=25.5),
    ),
    "ppl-cuda": ({"ppl-cuda": {"x": 1.27}}, Range(low=-1.28, high=1.27)),
    "vitis": ({"vitis": {"x": {"scale": 0.25}}}, Range(low=-32.0, high=31.75)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_clip_ranges_of_each_backend_are_read(tmp_path: Path, form: str) -> None:
    content, wanted = FORMS[form]
    (tmp_path / "clip_ranges.json").write_text(json.dumps(content))
    (found,) = load_ranges(tmp_path / "clip_ranges.json").values()
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_symmetric_clip_ranges_have_zero_point_zero_and_127_steps(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"tensorrt": {"blob_range": {"x": 1.27}}}')
    found = parameters_of(load_ranges(tmp_path / "r.json")["x"])
    assert found.zero_point == 0
    assert found.scale == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "holds no clip ranges"),
        ("{", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ('{"ppl-cuda": {"x": 1%s}}' % ("0" * 400), "'x' has no range that holds 0"),
        ('{"ppl": {"x": {"min": 1.0, "max": 3.0, "bit": 8}}}', "'x' has no range that holds 0"),
        ('{"ppl": {"x": {"min": 0.0, "max": 3.0, "bit": 4}}}', "'x' has no range that holds 0"),
        ('{"tensorrt": {"blob_range": {"x": NaN}}}', "'x' has no range that holds 0"),
        ('{"tensorrt": {"blob_range": {"x": "1"}}}', "'x' has no range that holds 0"),
        ('{"ppl-cuda": {"x": 1e40}}', r"'x' has a range that float32 does not hold: 1e\+40\n"),
        ('{"ppl-cuda": {"x": 1e-37}}', "'x' has a range that float32 does not hold: 1e-37\n"),
        ('{"vitis": {"x": {"scale": 1e-40}}}', 'does not hold: {"scale": 1e-40}\n'),
        ('{"vitis": {"x": {"scale": 3e36}}}', r"does not hold: {\"scale\": 3e\+36}\n"),
    ],
)
def test_other_clip_ranges_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_ranges(tmp_path / "r.json")


def small_network(path: Path) -> Path:
    """x to Conv to y, weights of one channel each."""
    weights = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    save_network(path / "net.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], w=weights)
    return path / "net.onnx"


def test_given_ranges_need_no_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranges = {"x": {"min": 0.0, "max": 2.55, "bit": 8}, "y": {"min": -1.0, "max": 1.55, "bit": 8},
              "z": {"min": -1.0, "max": 1.0, "bit": 8}}  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps({"ppl": ranges}))
    target = tmp_path / "int8.onnx"
    arguments = ["quantize", str(small_network(tmp_path)), "--ranges", str(tmp_path / "r.json"),
                 "-o", str(target)]  # fmt: skip
    assert main(arguments) == 0
    model = onnx.load(target)
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert constants["x/scale"] == np.float32(0.01)
    assert constants["x/zero_point"] == -128
    assert constants["y/zero_point"] == -28
    assert "range of 'z' is not used" in capsys.readouterr().out


def test_ranges_that_fit_nothing_or_not_everything_are_refused(tmp_path: Path) -> None:
    network = load_float(small_network(tmp_path))
    one = Range(low=0.0, high=1.0)
    with pytest.raises(InputError, match=r"^values of tensor 'y' are needed, and there is no cal"):
        quantize(network, None, Options(ranges={"x": one}))
    x = np.ones((2, 4, 6, 6), np.float32)
    with pytest.raises(InputError, match="none of the 1 given ranges is of a tensor"):
        quantize(network, {"x": x}, Options(ranges={"other": one}))
    both = {"x": one, "y": one}
    for more in (
        Options(ranges=both, bias_correction=True),
        Options(ranges=both, rounding="search"),
    ):
        with pytest.raises(UsageError, match="do without calibration"):
            quantize(network, None, more)
    with pytest.raises(UsageError, match="exclude each other"):
        quantize(network, {"x": x}, Options(ranges=both, equalize="weights"))
    with pytest.raises(UsageError, match="nothing to take ranges from"):
        quantize(network, None)


@pytest.mark.parametrize("high", [1e40, 1e-40])
def test_ranges_from_python_that_float32_does_not_hold_are_refused(
    tmp_path: Path, high: float
) -> None:
    network = load_float(small_network(tmp_path))
    ranges = {"x": Range(low=0.0, high=high), "y": Range(low=0.0, high=1.0)}
    message = re.escape(f"the given range of tensor 'x', 0 to {high:.6g}, has ends")
    with pytest.raises(InputError, match=message):
        quantize(network, None, Options(ranges=ranges))


@pytest.mark.parametrize(
    ("high", "weight", "bias", "message"),
    [
        (
            1.0,
            1e-38,
            None,
            r"^Conv 'layer': the weights: a scale of 7.874e-41 is no normal float32\n",
        ),
        (
            2e-18,
            1e-20,
            1e-36,
            r"^Conv 'layer': the bias: a scale of 6.176e-43 is no normal float32\n",
        ),
    ],
)
def test_scales_of_layers_that_are_no_normal_float32_are_refused(
    tmp_path: Path, high: float, weight: float, bias: float | None, message: str
) -> None:
    constants: dict[str, Array] = {"w": np.full((4, 4, 1, 1), weight, np.float32)}
    if bias is not None:
        constants["b"] = np.full(4, bias, np.float32)
    nodes = [helper.make_node("Conv", ["x", *constants], ["y"], name="layer")]
    save_network(tmp_path / "net.onnx", nodes, **constants)
    x = np.full((2, 4, 6, 6), high, np.float32)
    ranges = {"x": Range(low=0.0, high=high), "y": Range(low=0.0, high=1.0)}
    for inputs in (None, {"x": x}):
        with pytest.raises(InputError, match=message):
            quantize(load_float(tmp_path / "net.onnx"), inputs, Options(ranges=ranges))
