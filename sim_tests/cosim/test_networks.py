"""Networks that others trained, in Verilator: every layer equal to golden, cycles as predicted.

One runs always, the rest with the long sweeps; `python -m sim_tests.bench` prints the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from sim_tests.bench import measure
from sim_tests.clustering import cluster_model

pytestmark = pytest.mark.cosim

FITTING = (
    *("mlpt_kws_dscnn", "mlpt_ic_resnet8", "mlpt_vww_mbv1_025", "mlpt_ad_toycar"),
    *("alibaba_kws_qdq_s8s8_pc", "alibaba_kws_qoperator_u8s8", "tinymaix_mnist_dw_q"),
    *("tinymaix_mnist_rect_q", "tinymaix_mnist_valid_q", "tinymaix_cifar10_q"),
    *("tinymaix_mbnet96_0.25_q", "tflm_person_detect", "tflm_micro_speech", "tflm_hello_world"),
    *("cfu_magic_wand", "ort_mnist_qdq_u8u8", "qonnx_TFC_2W2A_qcdq"),
    *("qonnx_kws_mlp_w3a3_v07_qcdq", "st_miniresnet_1s", "st_miniresnetv2_1s"),
)
CYCLES = {"mlpt_ic_resnet8": 900_000, "mlpt_vww_mbv1_025": 700_000, "mlpt_ad_toycar": 600_000}
"""What these networks may take at most."""
INT8_CYCLES = 559_878
"""Of mlpt_ad_toycar as it is (`python -m sim_tests.bench --device up5k mlpt_ad_toycar`)."""
FITTING_HX8K = (
    *("tinymaix_mnist_dw_q", "tinymaix_mnist_rect_q", "tinymaix_mnist_valid_q"),
    *("alibaba_kws_qdq_s8s8_pc", "alibaba_kws_qoperator_u8s8", "tflm_hello_world"),
    *("mlpt_ad_toycar", "qonnx_TFC_2W2A_qcdq", "qonnx_kws_mlp_w3a3_v07_qcdq"),
)
ALWAYS = "tinymaix_mnist_dw_q"


def mostly_full(names: tuple[str, ...]) -> list[ParameterSet]:
    """One of the networks runs always, the others with the long sweeps."""
    return [pytest.param(name, marks=[] if name == ALWAYS else pytest.mark.full) for name in names]


@pytest.mark.parametrize("name", mostly_full(FITTING))
def test_verilog_equals_golden_in_every_layer(shared: Path, tmp_path: Path, name: str) -> None:
    row = measure(shared / "models" / f"{name}.onnx", "up5k", tmp_path, 3)
    assert row.problem == ""
    assert row.passed
    assert row.wrong == 0
    assert row.layers > 0 and row.elements > 0
    assert abs(row.predicted - row.first) <= 0.02 * row.first
    assert row.first <= CYCLES.get(name, row.first)
    assert row.later <= CYCLES.get(name, row.later)


@pytest.mark.full
def test_codebook_weights_halve_the_cycles_of_a_weight_bound_network(
    shared: Path, tmp_path: Path
) -> None:
    target = tmp_path / "mlpt_ad_toycar_16.onnx"
    cluster_model(shared / "models" / "mlpt_ad_toycar.onnx", target, 16)
    row = measure(target, "up5k", tmp_path, 3)
    assert row.problem == "" and row.passed
    assert (row.wrong, row.differing) == (0, 0)
    assert row.first <= 0.55 * INT8_CYCLES and row.later <= 0.55 * INT8_CYCLES
    assert abs(row.predicted - row.first) <= 0.01 * row.first


@pytest.mark.parametrize("name", mostly_full(FITTING_HX8K))
def test_verilog_of_hx8k_equals_golden_in_every_layer(
    shared: Path, tmp_path: Path, name: str
) -> None:
    row = measure(shared / "models" / f"{name}.onnx", "hx8k", tmp_path, 3)
    assert row.problem == ""
    assert row.passed
    assert row.wrong == 0
    assert row.layers > 0 and row.elements > 0
    assert abs(row.predicted - row.first) <= 0.02 * row.first
