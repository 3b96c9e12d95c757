"""Arrays of lines sized for a model and a device; what they take against measured parts."""

from __future__ import annotations

import pytest

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.lines import resources, sizing
from qcompile.compiler.pipeline import load_model
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.devices import DEVICES, LinesDevice
from qcompile.hw.lines.lanes import LineLanes
from sim_tests.bench import SHARED
from sim_tests.hw import xc7

NETWORKS = ("mlpt_ic_resnet8", "mlpt_kws_dscnn", "mlpt_ad_toycar")


@pytest.mark.parametrize("device", DEVICES.values(), ids=list(DEVICES))
@pytest.mark.parametrize("network", NETWORKS)
def test_best_candidate_within_budget(network: str, device: LinesDevice) -> None:
    path = SHARED / "models" / f"{network}.onnx"
    if not path.exists():
        pytest.skip(f"no {path.name} in the shared folder")
    graph = load_model(path)
    found = sizing.candidates(graph, device)
    fitting = [c for c in found if sizing.fits(c.resources, device)]
    if not fitting:
        with pytest.raises(CapacityError, match=f"no array of lines fits {device.name}"):
            sizing.size_for(graph, device)
        return
    chosen = sizing.size_for(graph, device)
    assert chosen.resources.luts <= 0.7 * device.luts
    assert chosen.resources.dsps <= 0.9 * device.dsps
    assert chosen.resources.block_rams <= 0.9 * device.block_rams
    assert all(chosen.cycles <= c.cycles for c in fitting)


@pytest.mark.parametrize(("bits", "depth", "blocks"), [(128, 512, 2), (128, 2048, 8), (64, 513, 2)])
def test_memory_blocks(bits: int, depth: int, blocks: int) -> None:
    assert resources.memory_blocks(bits, depth) == blocks


@pytest.mark.parametrize(("lines", "memory", "weights"), [(2, 738, 258), (8, 5390, 1544)])
def test_memory_luts_are_measured_ones(lines: int, memory: int, weights: int) -> None:
    config = LinesConfig(lines=lines)
    assert resources.activation_luts(config) == pytest.approx(memory, rel=0.15)
    assert resources.weight_luts(config) == pytest.approx(weights, rel=0.15)


@pytest.mark.full
@pytest.mark.cosim
def test_lanes_agree_with_synthesis() -> None:
    measured = xc7.synthesize(LineLanes(LinesConfig(lanes=2)))
    luts = resources.LANE_BASE + 2 * resources.LANE
    assert luts == pytest.approx(measured.luts, rel=0.15)
    assert measured.multipliers == 4
