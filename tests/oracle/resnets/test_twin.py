"""The PyTorch twins: the published totals, the names, the structure, and that they share nothing with lucid."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import oracle.budget.driven  # noqa: E402
import oracle.resnets.graph  # noqa: E402
import oracle.resnets.twin  # noqa: E402
from oracle.errors import UsageError  # noqa: E402
from oracle.resnets import ARCHITECTURES, Architecture, find_architecture  # noqa: E402
from oracle.resnets.twin import ResNet, check_state, layers, make_twin, parameter_shapes  # noqa: E402


def on_meta(architecture: Architecture) -> ResNet:
    with torch.device("meta"):
        return ResNet(architecture)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameter_total(name: str) -> None:
    architecture = find_architecture(name)
    assert sum(parameter.numel() for parameter in on_meta(architecture).parameters()) == architecture.parameters


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_output_and_stage_shapes(name: str) -> None:
    architecture = find_architecture(name)
    model, seen = on_meta(architecture), {}
    for path, module in layers(model):
        module.register_forward_hook(lambda _m, _i, output, path=path: seen.update({path: tuple(output.shape)}))
    model(torch.empty(2, 3, 224, 224, device="meta"))
    expansion = 1 if architecture.block == "basic" else 4
    assert seen["stem.0"] == (2, 64, 112, 112)
    assert seen["maxpool"] == (2, 64, 56, 56)
    for stage, (width, side) in enumerate(zip((64, 128, 256, 512), (56, 28, 14, 7), strict=True), start=1):
        last = f"layer{stage}.{architecture.layers[stage - 1] - 1}"
        assert seen[last] == (2, width * expansion, side, side)
    assert seen["fc"] == (2, 1000)


def test_the_twins_share_no_code_with_lucid() -> None:
    for module in (oracle.budget.driven, oracle.resnets.graph, oracle.resnets.twin):
        file = Path(module.__file__)
        for node in ast.walk(ast.parse(file.read_text())):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in named if name.split(".")[0] == "lucid"], file


def test_importing_the_oracle_imports_nothing_heavy() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "matplotlib", "rich", "PIL")
    code = f"import sys, oracle; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bottleneck_strides_in_its_3x3_convolution() -> None:
    model = on_meta(find_architecture("resnet_50"))
    block = model.get_submodule("layer2.0")
    assert [block.conv1.stride, block.conv2.stride, block.conv3.stride] == [(1, 1), (2, 2), (1, 1)]


def test_preact_projection_takes_the_activated_input() -> None:
    architecture = Architecture("tiny", "preact", (1, 1, 1, 1), num_classes=4, stem_width=8, channels=(8, 8, 8, 8))
    model = ResNet(architecture)
    seen = {}
    block = model.get_submodule("layer2.0")
    block.relu1.register_forward_hook(lambda _m, _i, output: seen.update(activated=output))
    block.downsample.register_forward_pre_hook(lambda _m, inputs: seen.update(taken=inputs[0]))
    model(torch.randn(2, 3, 32, 32))
    assert seen["taken"] is seen["activated"]


def test_names_of_the_deep_stem() -> None:
    architecture = Architecture("deep", "basic", (1, 1, 1, 1), stem_type="deep")
    names = [name for name in parameter_shapes(architecture) if name.startswith("stem") and name.endswith("weight")]
    assert names == [f"stem.{index}.weight" for index in (0, 1, 3, 4, 6, 7)]
    assert parameter_shapes(architecture)["stem.6.weight"] == (64, 32, 3, 3)


def test_state_is_checked_strictly() -> None:
    architecture = Architecture("tiny", "basic", (1, 1, 1, 1), num_classes=4, stem_width=8, channels=(8, 8, 8, 8))
    shapes = parameter_shapes(architecture)
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    state["fc.bias"] = np.zeros(5, np.float32)
    state["fc.bais"] = np.zeros(4, np.float32)
    del state["stem.0.weight"]
    with pytest.raises(ValueError, match=r"missing stem.0.weight; unexpected fc.bais; of another shape fc.bias \(5,\)"):
        check_state(shapes, state)
    with pytest.raises(ValueError, match="do not fit"):
        make_twin(architecture, state, torch.float32)


def test_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'wide_resnet_50'"):
        find_architecture("wide_resnet50")


def test_architecture_is_checked() -> None:
    with pytest.raises(ValueError, match="block"):
        Architecture("odd", "dense", (1, 1, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layers"):
        Architecture("odd", "basic", (1, 1))
