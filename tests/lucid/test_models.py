"""The models: totals, names, structure, options, the registry, and the summary."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.models import blocks
from lucid.models.blocks import BasicBlock, Bottleneck, PreActBottleneck

# The table of the design: factory, block, blocks of each stage, parameters at 1000 classes.
TOTALS = {
    "resnet_18": (BasicBlock, (2, 2, 2, 2), 11_689_512),
    "resnet_34": (BasicBlock, (3, 4, 6, 3), 21_797_672),
    "resnet_50": (Bottleneck, (3, 4, 6, 3), 25_557_032),
    "resnet_101": (Bottleneck, (3, 4, 23, 3), 44_549_160),
    "resnet_152": (Bottleneck, (3, 8, 36, 3), 60_192_808),
    "resnet_200": (PreActBottleneck, (3, 24, 36, 3), 64_669_864),
    "resnet_269": (PreActBottleneck, (3, 30, 48, 8), 102_069_416),
    "resnet_1001": (PreActBottleneck, (3, 94, 94, 3), 149_071_016),
    "wide_resnet_50": (Bottleneck, (3, 4, 6, 3), 68_883_240),
    "wide_resnet_101": (Bottleneck, (3, 4, 23, 3), 126_886_696),
}
# Multiply-accumulates of one 224x224 image, convolutions and fc, as torchvision's documentation states them (GFLOPS).
GIGA_MACS = {
    "resnet_18": 1.81,
    "resnet_34": 3.66,
    "resnet_50": 4.09,
    "resnet_101": 7.80,
    "resnet_152": 11.51,
    "wide_resnet_50": 11.40,
    "wide_resnet_101": 22.75,
}
NARROW = {"stem_width": 4, "channels": (4, 4, 8, 8)}


def bare(name: str, **kwargs) -> models.ResNet:
    """A model whose weights are not drawn."""
    with nn.init.skip_init():
        return models.get_model(name, **kwargs)


def tiny(block=BasicBlock, layers=(1, 1), channels=(4, 8), **kwargs) -> models.ResNet:
    return models.ResNet(block, list(layers), num_classes=3, stem_width=4, channels=channels, **kwargs)


# -- the ten ---------------------------------------------------------------------------------------------------------


def test_names_are_the_ten_factories():
    assert models.get_model_names() == list(TOTALS)
    assert all(callable(getattr(models, name)) for name in TOTALS)


@pytest.mark.parametrize("name", TOTALS)
def test_totals(name):
    model = bare(name)
    block, layers, parameters = TOTALS[name]
    assert sum(parameter.size for parameter in model.parameters()) == parameters
    assert model.block is block
    assert tuple(len(stage) for stage in model.layers) == layers
    assert model.num_classes == 1000


@pytest.mark.parametrize("name", GIGA_MACS)
def test_macs_are_the_published_ones(name):
    summary = models.summarize(bare(name), (1, 3, 224, 224))
    assert round(summary.total_macs / 1e9, 2) == pytest.approx(GIGA_MACS[name], abs=0.011)
    assert summary.total_parameters == TOTALS[name][2]


def test_the_deepest_does_not_touch_the_recursion_limit():
    limit = sys.getrecursionlimit()
    model = bare("resnet_1001")
    models.summarize(model, (1, 3, 64, 64))
    assert sys.getrecursionlimit() == limit
    assert len(model.state_dict()) > 3000


# -- names -----------------------------------------------------------------------------------------------------------


BASIC_STATE = [
    "stem.0.weight",
    "stem.1.weight",
    "stem.1.bias",
    "stem.1.running_mean",
    "stem.1.running_var",
    "stem.1.num_batches_tracked",
    "layer1.0.conv1.weight",
    "layer1.0.bn1.weight",
    "layer1.0.bn1.bias",
    "layer1.0.bn1.running_mean",
    "layer1.0.bn1.running_var",
    "layer1.0.bn1.num_batches_tracked",
    "layer1.0.conv2.weight",
    "layer1.0.bn2.weight",
    "layer1.0.bn2.bias",
    "layer1.0.bn2.running_mean",
    "layer1.0.bn2.running_var",
    "layer1.0.bn2.num_batches_tracked",
    "layer2.0.conv1.weight",
    "layer2.0.bn1.weight",
    "layer2.0.bn1.bias",
    "layer2.0.bn1.running_mean",
    "layer2.0.bn1.running_var",
    "layer2.0.bn1.num_batches_tracked",
    "layer2.0.conv2.weight",
    "layer2.0.bn2.weight",
    "layer2.0.bn2.bias",
    "layer2.0.bn2.running_mean",
    "layer2.0.bn2.running_var",
    "layer2.0.bn2.num_batches_tracked",
    "layer2.0.downsample.0.weight",
    "layer2.0.downsample.1.weight",
    "layer2.0.downsample.1.bias",
    "layer2.0.downsample.1.running_mean",
    "layer2.0.downsample.1.running_var",
    "layer2.0.downsample.1.num_batches_tracked",
    "fc.weight",
    "fc.bias",
]


def test_parameter_names_are_torchvisions():
    assert list(tiny().state_dict()) == BASIC_STATE


def test_bottleneck_and_preact_names():
    def own(model):
        return [name.removeprefix("layer1.0.") for name, _ in model.named_parameters() if name.startswith("layer1.0.")]

    bn, down = "bn{0}.weight bn{0}.bias", "downsample.0.weight downsample.1.weight downsample.1.bias"
    after = " ".join(f"conv{i}.weight {bn.format(i)}" for i in (1, 2, 3))
    before = " ".join(f"{bn.format(i)} conv{i}.weight" for i in (1, 2, 3))
    assert own(tiny(Bottleneck)) == f"{after} {down}".split()
    assert own(tiny(PreActBottleneck)) == f"{before} {down}".split()


def test_resnet_50_shapes():
    state = bare("resnet_50").state_dict()
    assert state["stem.0.weight"].shape == (64, 3, 7, 7)
    assert state["layer1.0.conv1.weight"].shape == (64, 64, 1, 1)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert state["layer4.2.conv2.weight"].shape == (512, 512, 3, 3)
    assert state["fc.weight"].shape == (1000, 2048)
    assert "layer1.1.downsample.0.weight" not in state


def test_wide_and_resnext_widths():
    assert bare("wide_resnet_50").state_dict()["layer1.0.conv2.weight"].shape == (128, 128, 3, 3)
    resnext = bare("resnet_50", block_args={"base_width": 4, "cardinality": 32})
    assert resnext.state_dict()["layer1.0.conv2.weight"].shape == (128, 4, 3, 3)
    assert sum(parameter.size for parameter in resnext.parameters()) == 25_028_904  # ResNeXt-50 32x4d


def test_wide_block_args_are_added_to():
    model = bare("wide_resnet_50", block_args={"cardinality": 2}, **NARROW)
    assert model.layer1[0].conv2.groups == 2
    assert model.layer1[0].conv2.weight.shape[0] == 4 * 128 // 64 * 2


# -- structure -------------------------------------------------------------------------------------------------------


def test_reachable_by_both_names():
    assert nn.ResNet is models.ResNet


def test_attributes():
    model = tiny(layers=(1, 2))
    assert isinstance(model.stem, nn.Module)
    assert model.layers == [model.layer1, model.layer2]
    assert model.num_classes == 3
    assert model.block is BasicBlock
    assert isinstance(model.layers, list)


def test_a_replaced_stage_is_used():
    model = tiny()
    model.layer2 = nn.Identity()
    assert model.layers[1] is model.layer2


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_any_number_of_stages(stages):
    model = tiny(layers=(1,) * stages, channels=tuple(range(2, 2 + stages)))
    assert model(lucid.ones((2, 3, 64, 64))).shape == (2, 3)
    assert hasattr(model, f"layer{stages}")
    assert not hasattr(model, f"layer{stages + 1}")


def test_shortcuts_by_means():
    model = models.ResNet(BasicBlock, [1, 1], 3, stem_width=4, channels=(4, 8), avg_down=True)
    assert model.layer1[0].downsample is None
    mean, conv, norm = model.layer2[0].downsample
    assert (type(mean), type(conv), type(norm)) == (nn.AvgPool2d, nn.Conv2d, nn.BatchNorm2d)
    assert (mean.kernel_size, mean.count_include_pad, conv.stride) == (2, False, (1, 1))
    assert model(lucid.ones((1, 3, 30, 30))).shape == (1, 3)  # stages of 8 and, of an odd 15, 4 pixels


def test_deep_stem():
    model = models.ResNet(BasicBlock, [1], 3, in_channels=5, stem_width=6, stem_type="deep", channels=(4,))
    weights = [module.weight.shape for module in model.stem if isinstance(module, nn.Conv2d)]
    assert weights == [(3, 5, 3, 3), (3, 3, 3, 3), (6, 3, 3, 3)]
    assert model.stem(lucid.ones((1, 5, 32, 32))).shape == (1, 6, 16, 16)


def test_initial_weights():
    lucid.manual_seed(0)
    model = models.ResNet(BasicBlock, [1], 1000, channels=(64,))
    stem, weight = model.stem[0].weight.numpy(), model.layer1[0].conv1.weight.numpy()
    assert stem.std() == pytest.approx(np.sqrt(2 / (64 * 49)), rel=0.02)  # fan out: the output's channels count
    assert weight.std() == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.02)
    assert abs(weight.mean()) < 1e-3
    bound = 1 / np.sqrt(64)
    assert np.abs(model.fc.weight.numpy()).max() <= bound
    assert model.fc.weight.numpy().std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    np.testing.assert_array_equal(model.layer1[0].bn1.weight.numpy(), 1)
    np.testing.assert_array_equal(model.layer1[0].bn1.bias.numpy(), 0)


def test_the_seed_decides_the_weights():
    def state(seed):
        lucid.manual_seed(seed)
        return {name: value.numpy() for name, value in tiny().state_dict().items()}

    first, again, other = state(1), state(1), state(2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["stem.0.weight"], other["stem.0.weight"])


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, PreActBottleneck])
@pytest.mark.parametrize("block_args", [{}, {"dilation": 2}, {"se": True, "se_reduction": 2}])
def test_blocks_forward_and_backward(block, block_args):
    model = tiny(block, block_args=block_args)
    model(lucid.ones((2, 3, 32, 32))).sum().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


def test_dilation_keeps_the_size():
    plain, dilated = (Bottleneck(8, 2, dilation=dilation) for dilation in (1, 3))
    x = lucid.ones((1, 8, 9, 9))
    assert dilated(x).shape == plain(x).shape == (1, 8, 9, 9)
    assert tuple(dilated.conv2.dilation) == (3, 3)


def test_squeeze_excitation_is_in_the_block():
    model = tiny(Bottleneck, block_args={"se": True, "se_reduction": 4})
    assert isinstance(model.layer1[0].se, nn.SEModule)
    assert tiny().layer1[0].se is None


def test_preact_downsample_takes_the_activated_input():
    block = PreActBottleneck(4, 1, downsample=nn.Conv2d(4, 4, 1, bias=False)).eval()
    for conv in (block.conv3, block.downsample):
        nn.init.zeros(conv.weight)
    with lucid.no_grad():
        block.downsample.weight.copy_(np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1))
    x = lucid.tensor(np.linspace(-1, 1, 36, dtype=np.float32).reshape(1, 4, 3, 3))
    expected = nn.functional.relu(block.bn1(x))
    np.testing.assert_array_equal(block(x).numpy(), expected.numpy())


def test_preact_adds_last_and_applies_nothing_after():
    block = PreActBottleneck(4, 1).eval()
    nn.init.zeros(block.conv3.weight)
    x = lucid.tensor(np.linspace(-1, 1, 36, dtype=np.float32).reshape(1, 4, 3, 3))
    np.testing.assert_array_equal(block(x).numpy(), x.numpy())


def test_own_block():
    class Plain(nn.Module):
        expansion = 2

        def __init__(self, in_channels, channels, stride, downsample, scale=1.0):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, channels * 2, 3, stride=stride, padding=1)
            self.scale = scale

        def forward(self, x):
            return self.conv(x) * self.scale

    model = tiny(Plain, block_args={"scale": 0.5})
    assert model(lucid.ones((1, 3, 16, 16))).shape == (1, 3)
    assert model.fc.weight.shape == (3, 16)


@pytest.mark.slow
def test_the_seed_pages_example():
    Tensor = lucid.Tensor
    from lucid.models.blocks import BasicBlock

    layers = [3, 4, 6, 3]  # Configuration for ResNet-50
    model = nn.ResNet(block=BasicBlock, layers=layers, num_classes=1000)
    input_tensor = Tensor(np.random.randn(8, 3, 224, 224))  # noqa: NPY002 (as the page has it)
    output = model(input_tensor)
    assert output.shape == (8, 1000)
    assert output.dtype == np.float32


def test_the_seed_pages_example_in_small():
    model = nn.ResNet(block=BasicBlock, layers=[3, 4, 6, 3], num_classes=10, **NARROW)
    output = model(lucid.Tensor(np.random.default_rng(0).standard_normal((2, 3, 32, 32))))
    assert output.shape == (2, 10)
    assert output.dtype == np.float32


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"layers": [1, 1], "channels": (4,)}, ValueError, "layers, channels"),
        ({"layers": [], "channels": ()}, ValueError, "layers, channels"),
        ({"layers": [0]}, ValueError, "layers: got 0"),
        ({"channels": (0,)}, ValueError, "channels: got 0"),
        ({"num_classes": 0}, ValueError, "num_classes: got 0"),
        ({"in_channels": -1}, ValueError, "in_channels: got -1"),
        ({"stem_width": 0}, ValueError, "stem_width: got 0"),
        ({"stem_width": 1, "stem_type": "deep"}, ValueError, "stem_width: got 1"),
        ({"stem_type": "shallow"}, ValueError, "stem_type: got 'shallow'"),
        ({"block": nn.ReLU}, TypeError, "block: got"),
        ({"block": BasicBlock(4, 4)}, TypeError, "block: got"),
        ({"block_args": {"base_width": 128}}, TypeError, "BasicBlock takes no base_width; it may be dilation, se"),
        ({"block": Bottleneck, "block_args": {"cardinality": 0}}, ValueError, "cardinality: got 0"),
        ({"block": Bottleneck, "block_args": {"base_width": 1}}, ValueError, "base_width: got 1"),
    ],
)
def test_bad_arguments(kwargs, error, words):
    arguments = {"block": BasicBlock, "layers": [1], "stem_width": 4, "channels": (4,), **kwargs}
    with pytest.raises(error, match=words):
        models.ResNet(**arguments)


@pytest.mark.parametrize("shape", [(1, 4, 32, 32), (3, 32, 32), (1, 3, 32)])
def test_bad_images(shape):
    with pytest.raises(ValueError, match=r"channels|shape|axes|rank|dimension") as caught:
        tiny()(lucid.ones(shape))
    assert "\n" not in str(caught.value)


# -- the registry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet50", "resnet_50"),
        ("ResNet_18", "resnet_18"),
        ("wideresnet_50", "wide_resnet_50"),
        ("resnet_1000", "resnet_1001"),
    ],
)
def test_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(ValueError, match=rf"no model is called '{name}'; did you mean '{near}'\?"):
        models.get_model(name)


def test_hopeless_name_lists_them_all():
    with pytest.raises(ValueError, match=r"'vgg'; it may be one of resnet_18, .*wide_resnet_101"):
        models.get_model("vgg")


def test_a_name_is_registered_once():
    def resnet_18():
        return nn.Identity()

    with pytest.raises(ValueError, match="name of another model"):
        models.register_model(resnet_18)
    assert isinstance(bare("resnet_18", **NARROW), models.ResNet)


def test_factories_pass_arguments_on():
    model = bare("resnet_34", num_classes=7, in_channels=1, stem_type="deep", **NARROW)
    assert model.fc.bias.shape == (7,)
    assert model.stem[0].weight.shape == (2, 1, 3, 3)


def test_blocks_module_is_public():
    assert blocks.__all__ == ["BasicBlock", "Bottleneck", "PreActBottleneck"]


# -- summarize -------------------------------------------------------------------------------------------------------


def test_summary_rows():
    model = tiny()
    model.train()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    summary = models.summarize(model, (2, 3, 32, 32))
    rows = {row.name: row for row in summary.rows}
    assert list(rows)[:5] == ["stem.0", "stem.1", "stem.2", "maxpool", "layer1.0.conv1"]
    assert rows["stem.0"].output_shape == (2, 4, 16, 16)
    assert rows["stem.0"].macs == 2 * 4 * 16 * 16 * 3 * 49
    assert rows["layer2.0"].output_shape == (2, 8, 4, 4)
    assert rows["layer2.0"].kind == "BasicBlock"
    assert rows["fc"].macs == 2 * 8 * 3
    assert rows["fc"].parameters == 8 * 3 + 3
    assert sum(row.parameters for row in summary.rows) == summary.total_parameters
    assert model.training
    assert all(np.array_equal(before[name], value.numpy()) for name, value in model.state_dict().items())


def test_summary_counts_shared_and_frozen_parameters_right():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, layer)
    layer.bias.requires_grad = False
    summary = models.summarize(model, (5, 3))
    assert (summary.total_parameters, summary.trainable_parameters) == (12, 9)
    assert summary.total_macs == 2 * 5 * 9
    assert [row.parameters for row in summary.rows] == [12, 0]


def test_summary_counts_the_terms_of_every_window():
    line, volume = nn.Sequential(nn.Conv1d(4, 6, 3, groups=2)), nn.Sequential(nn.Conv3d(2, 5, (2, 3, 1)))
    assert models.summarize(line, (2, 4, 9)).total_macs == 2 * 6 * 7 * 2 * 3
    assert models.summarize(volume, (1, 2, 3, 4, 5)).total_macs == 5 * 2 * 2 * 5 * 2 * 6
    up = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2))
    assert models.summarize(up, (2, 4, 5, 7)).total_macs == 2 * 4 * 5 * 7 * 3 * 9


def test_summary_prints_a_table():
    text = str(models.summarize(bare("resnet_50"), (1, 3, 224, 224)))
    assert "25,557,032" in text
    assert "1 x 64 x 112 x 112" in text
    assert len({len(line) for line in text.splitlines() if line.startswith("layer")}) >= 1


def test_summary_of_a_wrong_input():
    with pytest.raises(ValueError, match="channels"):
        models.summarize(tiny(), (1, 4, 32, 32))
