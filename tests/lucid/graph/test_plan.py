"""Inference plans: the bits of eager mode, whatever is fused, on every backend, and clear refusals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support import tables
from support.bits import bits
from support.gradients import Lambda
from support.operations import Row

import lucid
from lucid import nn
from lucid.graph import compile, trace
from lucid.graph._plan import _Layout, fuse
from lucid.models import ResNet
from lucid.models.blocks import BasicBlock, Bottleneck, PreActBottleneck

MODELS = {
    "basic": (BasicBlock, {}, None),
    "bottleneck": (Bottleneck, {}, None),
    "preact": (PreActBottleneck, {}, None),
    "deep stem": (BasicBlock, {}, "deep"),
    "squeeze-and-excitation": (Bottleneck, {"se": True}, None),
    "cardinality": (Bottleneck, {"cardinality": 2, "base_width": 32}, None),
    "dilation": (BasicBlock, {"dilation": 2}, None),
}


def make(name: str) -> ResNet:
    """A narrow network whose statistics and affine parts are nobody's defaults."""
    block, block_args, stem = MODELS[name]
    lucid.manual_seed(1)
    model = ResNet(block, [2, 1, 2], 7, stem_width=6, stem_type=stem, channels=(8, 20, 9), block_args=block_args)
    rng = np.random.default_rng(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                write(tensor, low + rng.random(tensor.shape))
            write(module.running_var, 0.5 + rng.random(module.running_var.shape))
    return model.eval()


def write(tensor: lucid.Tensor, values: np.ndarray) -> None:
    with lucid.no_grad():
        tensor.copy_(values.astype(np.float32))


def images(*shape: int, dtype: type = np.float32) -> lucid.Tensor:
    return lucid.tensor(np.random.default_rng(3).standard_normal(shape).astype(dtype))


def assert_plan_is_eager(model: nn.Module, x: lucid.Tensor) -> None:
    plan = compile(model, x)
    with lucid.no_grad():
        expected = model(x).numpy()
    for _ in range(2):  # the arena's leftovers must not matter
        got = plan(x).numpy()
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert bits(got) == bits(expected)


class Residual(nn.Module):
    """``relu(conv(body(x)) + shortcut(x))``, the last contraction of ``terms`` terms."""

    def __init__(self, terms: int, reads_again: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, terms, 3, padding=1)
        self.shortcut = nn.Conv2d(3, terms if reads_again == "input" else 40, 1)
        self.last = nn.Conv2d(terms, terms if reads_again == "input" else 40, 1)
        self.reads_again = reads_again

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        shortcut = self.shortcut(x)
        y = lucid.relu(self.last(shortcut if self.reads_again == "input" else self.first(x)) + shortcut)
        return y + shortcut if self.reads_again == "later" else y + y


@pytest.mark.parametrize("reads_again", ["never", "later", "input"])
@pytest.mark.parametrize("terms", [64, 256, 257])
def test_a_sum_may_take_its_residuals_place(terms: int, reads_again: str) -> None:
    lucid.manual_seed(4)
    model, x = Residual(terms, reads_again).eval(), images(2, 3, 9, 13)
    assert_plan_is_eager(model, x)
    graph = trace(model, x)
    steps = fuse(graph)
    places = _Layout(graph, steps, 256).places
    (added,) = [step for step in steps if step.residual is not None]
    shares = places[added.output] == places[added.residual]
    assert shares == (terms <= 256 and reads_again == "never")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_a_plan_has_the_bits_of_eager_mode(backend: str, name: str, batch: int) -> None:
    assert_plan_is_eager(make(name), images(batch, 3, 37, 40))


def test_float64(backend: str) -> None:
    assert_plan_is_eager(make("preact").to(lucid.float64), images(2, 3, 32, 32, dtype=np.float64))


def test_a_contraction_of_several_groups(backend: str) -> None:
    """More than 8192 terms: the epilogue waits for the last group."""
    model = nn.Sequential(nn.Conv2d(920, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()).eval()
    assert_plan_is_eager(model, images(1, 920, 3, 2))


def test_what_is_fused() -> None:
    steps = compile(make("basic"), images(1, 3, 32, 32)).steps
    assert steps[0].startswith("stem.2 = conv2d + batch_norm + relu")
    assert any("conv2d + batch_norm + add" in step and "relu" in step for step in steps)
    assert not any(step.split(" = ")[1].startswith(("batch_norm", "add", "relu")) for step in steps)


def test_a_value_that_two_read_is_not_fused_away(backend: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: lucid.Tensor) -> lucid.Tensor:
            y = self.conv(x)
            return lucid.relu(self.norm(y)) + y

    assert_plan_is_eager(Twice().eval(), images(2, 3, 5, 5))


@pytest.mark.parametrize(
    ("x", "message"),
    [(images(2, 3, 32, 32), "the plan takes float32"), (images(1, 3, 32, 32, dtype=np.float64), "got float64")],
)
def test_another_input_is_refused(x: lucid.Tensor, message: str) -> None:
    plan = compile(make("basic"), images(1, 3, 32, 32))
    with pytest.raises(ValueError, match=message):
        plan(x)


class Of(nn.Module):
    """A module of one function, with a parameter, and with statistics, to use."""

    def __init__(self, function: Callable[..., lucid.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(np.linspace(-1, 1, 6, dtype=np.float32).reshape(6, 1, 1))
        self.kernel = nn.Parameter(np.linspace(-1, 2, 36, dtype=np.float32).reshape(6, 6, 1, 1))
        self.norm = nn.BatchNorm2d(6)

    def forward(self, *inputs: lucid.Tensor) -> Any:
        return self.function(self, *inputs)

    def late(self, x: lucid.Tensor) -> lucid.Tensor:
        """A normalisation whose scale is computed after the convolution before it."""
        y = nn.functional.conv2d(x, self.kernel)
        gamma = x.mean(axis=(0, 2, 3))
        return nn.functional.batch_norm(y, self.norm.running_mean, self.norm.running_var, gamma, None)


ANYTHING: dict[str, Callable[..., lucid.Tensor]] = {
    "a reduction": lambda m, x: x.sum(axis=1),
    "reductions and what they meet": lambda m, x: (x - x.mean(axis=(2, 3), keepdims=True)) / (x.max() + 2),
    "a product": lambda m, x: lucid.matmul(x, x.transpose(0, 1, 3, 2)),
    "softmax": lambda m, x: nn.functional.log_softmax(x.reshape(2, -1), 1),
    "images from rows": lambda m, x: nn.functional.max_pool2d(lucid.relu(x.reshape(2, 3, 8, 7)), 2),
    "rows of images": lambda m, x: lucid.relu(nn.functional.max_pool2d(x, 2)).reshape(2, -1) * 2,
    "a constant": lambda m, x: x * m.weight + lucid.ones((4, 7)),
    "a constant first": lambda m, x: lucid.relu(m.weight) - x,
    "a broadcast maximum": lambda m, x: lucid.maximum(x, m.weight),
    "a choice": lambda m, x: lucid.where(x > 0, x, m.weight),
    "a comparison": lambda m, x: x >= m.weight,
    "float64 on the way": lambda m, x: lucid.exp(x.astype(lucid.float64)).astype(lucid.float32) + x,
    "parts": lambda m, x: lucid.concatenate([x[:, 1:3], lucid.relu(x[:, :2]), x[:, ::2]], 1),
    "the input again": lambda m, x: x,
    "a view": lambda m, x: x.transpose(0, 2, 3, 1),
    "a view of a result": lambda m, x: lucid.exp(x).transpose(0, 2, 3, 1).reshape(-1),
    "a view and its base": lambda m, x: (lambda y: y.reshape(-1).sum() + lucid.exp(y))(lucid.relu(x)),
    "powers": lambda m, x: x**3 + lucid.abs(x) ** 0.3,
    "a norm alone": lambda m, x: m.norm(x) + m.norm(lucid.exp(x)),
    "a computed weight": lambda m, x: nn.functional.conv2d(x, x[:, :, :3, :3]),
    "a norm of what comes later": lambda m, x: m.late(x),
    "the input added": lambda m, x: lucid.relu(nn.functional.conv2d(x, m.kernel) + x),
    "pools": lambda m, x: nn.functional.avg_pool2d(x, 3, padding=1) + nn.functional.adaptive_avg_pool2d(x, (2, 3)),
    "one side": lambda m, x: nn.functional.max_pool1d(
        lucid.relu(nn.functional.conv1d(x[..., 0], m.kernel[..., 0], padding=1) + x[..., :1].sum()), 2
    ),
    "three sides": lambda m, x: nn.functional.avg_pool3d(
        lucid.relu(nn.functional.conv3d(x.reshape(2, 6, 2, 2, 7), m.kernel[:, :, None])), (1, 2, 2)
    ),
    "three sides, a sum": lambda m, x: lucid.relu(
        nn.functional.conv3d(x.reshape(2, 6, 1, 4, 7), m.kernel[:, :, None]) + x.reshape(2, 6, 1, 4, 7)
    ),
    "a transposed convolution": lambda m, x: lucid.relu(
        nn.functional.conv_transpose2d(x, m.kernel, m.weight[:, 0, 0], 2)
    ),
    "a composed operation": lambda m, x: nn.functional.layer_norm(x, (4, 7)) * m.weight,
    "no elements": lambda m, x: lucid.relu(x[:, :0]) * 2,
}


@pytest.mark.parametrize("name", ANYTHING)
def test_what_can_be_run_can_be_compiled(backend: str, name: str) -> None:
    assert_plan_is_eager(Of(ANYTHING[name]).eval(), images(2, 6, 4, 7))


def test_an_input_without_axes(backend: str) -> None:
    assert_plan_is_eager(Of(lambda m, x: lucid.exp(x) * x).eval(), images())


@pytest.mark.parametrize("name", ["a view and its base", "parts", "a norm alone", "a broadcast maximum"])
def test_every_input_has_its_own_result(backend: str, name: str) -> None:
    """Nothing of the run that was recorded is in the plan: not its input, nor what it made."""
    model, x = Of(ANYTHING[name]).eval(), images(2, 6, 4, 7)
    plan = compile(model, lucid.zeros_like(x))
    with lucid.no_grad():
        for scale in (1.0, -3.0, float("nan")):
            assert bits(plan(x * scale).numpy()) == bits(model(x * scale).numpy())


def test_a_plan_makes_what_is_read_alone() -> None:
    """Max pooling is asked for no indices, and statistics are prepared once."""
    pytest.importorskip("_lucid_native")
    model = nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(64), nn.Conv2d(64, 8, 1)).eval()
    with lucid.use_backend("native"):
        plan = compile(model, images(1, 64, 32, 32))
        assert plan.arena_bytes < 4 * (64 * 32 * 32 + 2 * 64 * 16 * 16)
        assert not any(array.dtype == np.float64 for array in plan.constants().values())


SEVERAL = {
    "sums and products": lambda m, x, y: (x + y, x * y.exp()),
    "an input as it is": lambda m, x, y: (x, y, x - y),
    "one result twice": lambda m, x, y: ((x * m.weight), (t := y.relu()), t),
    "constants": lambda m, x, y: (m.weight, m.weight * 2, x + m.weight.exp()[:1]),
    "made of the second alone": lambda m, x, y: y.tanh() * m.weight,
    "comparisons": lambda m, x, y: lucid.where(x > y, x, y * 2),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_inputs_and_results(backend: str, name: str) -> None:
    """The same bits as eager, also for an array that is given twice, and for other values than the recorded ones."""
    model = Of(SEVERAL[name]).eval()
    x, y = images(2, 6, 7, 7), images(2, 6, 7, 7) * -0.5 + 0.25
    plan = compile(model, x, x)
    assert plan.input_shapes == [(2, 6, 7, 7)] * 2
    with lucid.no_grad():
        for given in ((x, y), (y, x), (x, x)):
            outputs, expected = plan(*given), model(*given)
            pairs = zip(outputs, expected, strict=True) if isinstance(expected, tuple) else [(outputs, expected)]
            for output, right in pairs:
                assert output.shape == right.shape
                assert bits(output.numpy()) == bits(right.numpy())
                output.numpy()[...] = 0  # nothing of the plan's own is handed out
    seen: list[str] = []
    plan.observe(x, y, lambda step, value: seen.append(step))
    assert seen == plan._names


def test_a_wrong_number_of_inputs_is_refused() -> None:
    with pytest.raises(TypeError, match="got no example of an input"):
        compile(nn.ReLU())
    plan = compile(Of(lambda m, x, y: x + y), images(1, 6, 2, 2), images(1, 6, 2, 2))
    with pytest.raises(TypeError, match="got 1; the plan takes 2"):
        plan(images(1, 6, 2, 2))


class Every(nn.Module):
    """Every kind of parameter and statistic that a plan is made of: folded into convolutions, and on their own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=True)
        self.folded = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4, bias=True)
        self.alone = nn.BatchNorm2d(8)
        self.plain = nn.BatchNorm2d(8, affine=False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        y = lucid.relu(self.folded(self.conv(x)))
        y = lucid.relu(self.alone(nn.functional.max_pool2d(y, 2)))
        y = self.plain(nn.functional.max_pool2d(self.grouped(y), 1))
        return self.fc(nn.functional.adaptive_avg_pool2d(y, 1).reshape(len(x), 8))


def every() -> Every:
    lucid.manual_seed(8)
    model, rng = Every(), np.random.default_rng(9)
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.dtype == np.float32:
            write(tensor, (0.5 if "running_var" in name else -0.5) + rng.random(tensor.shape))
    return model.eval()


KINDS = [name for name, tensor in Every().state_dict().items() if tensor.dtype == np.float32]
CHANGES = {
    "in place": lambda tensor: tensor.fill_(3.0),
    "behind lucid's back": lambda tensor: tensor.numpy().fill(3.0) if tensor.device == "cpu" else tensor.fill_(3.0),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_made_of_what_the_parameters_are_then(backend: str, kind: str, change: str) -> None:
    model, x = every(), images(2, 3, 9, 9)
    plan = compile(model, x)
    with lucid.no_grad():
        before = bits(model(x).numpy())
        CHANGES[change](model.state_dict(keep_vars=True)[kind])  # before the plan has run
        assert bits(plan(x).numpy()) == before
        assert bits(model(x).numpy()) != before
        model.state_dict(keep_vars=True)[kind].fill_(2.0)  # and after
        assert bits(plan(x).numpy()) == before


class Joined(nn.Module):
    """A parameter that is moved by no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(lucid.ones(2, 3))

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return lucid.relu(lucid.concatenate([x, self.weight]))


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_that_is_run_as_a_whole_has_its_own_parameters(backend: str, change: str) -> None:
    model, x = Joined().eval(), lucid.ones(1, 3)
    plan = compile(model, x)
    with lucid.no_grad():
        CHANGES[change](model.weight)
    assert plan(x).tolist() == [[1.0] * 3] * 3


MEMORY = """
import re
from pathlib import Path
import lucid
from lucid import nn

def mib(field):
    return int(re.search(rf"{field}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

wide = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)]  # results of 32 MiB each
deep = [layer for _ in range(4) for layer in (nn.Conv2d(512, 512, 3, padding=1), nn.ReLU())]  # weights of 9 MiB each
model = nn.Sequential(*wide, nn.AdaptiveAvgPool2d(4), nn.Conv2d(8, 512, 1), *deep).eval()
before = mib("VmRSS")
plan = lucid.compile(model, lucid.zeros(1, 8, 1024, 1024))
print(mib("VmHWM") - before, sum(x.nbytes for x in plan.constants().values()) / 2**20)
"""


def test_recording_holds_no_more_than_it_must() -> None:
    """Two results beside the input, then copies of the weights; not both, and no copy of a copy."""
    pytest.importorskip("_lucid_native")
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    environment = os.environ | {"LUCID_BACKEND": "native"}
    command = [sys.executable, "-c", MEMORY]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    grown, constants = map(float, ran.stdout.split())
    assert constants > 36
    assert grown < 3 * 32 + 16


def test_a_plan_does_not_follow_its_model(backend: str) -> None:
    """Nor its mode, its modules, its hooks or an optimiser's step."""
    model, x = every(), images(2, 3, 9, 9)
    plan = compile(model, x)
    with lucid.no_grad():
        before = bits(model(x).numpy())
    called = []
    model.fc.register_forward_hook(lambda *_: called.append("hook"))
    optimiser = lucid.optim.SGD(model.parameters(), lr=0.5)
    model.train()
    (model(x) * model(x)).sum().backward()
    optimiser.step()
    called.clear()
    model.fc = nn.Linear(8, 5)
    assert bits(plan(x).numpy()) == before
    assert called == []
    assert model.training


@pytest.mark.parametrize("name", ["basic", "preact", "squeeze-and-excitation"])
def test_every_step_can_be_observed(backend: str, name: str) -> None:
    """By name, the bits of the module of that name; and observing changes nothing of what a call gives."""
    model, x = make(name), images(2, 3, 33, 35)
    expected: dict[str, np.ndarray] = {}
    for path, module in model.named_modules():
        module.register_forward_hook(lambda _m, _i, y, path=path: expected.__setitem__(path, y.numpy()))
    plan = compile(model, x)
    with lucid.no_grad():
        output = bits(model(x).numpy())
    seen: list[str] = []

    def observe(step: str, value: lucid.Tensor) -> None:
        seen.append(step)
        if step in expected:
            assert bits(value.numpy()) == bits(expected[step]), step

    for _ in range(2):
        seen.clear()
        assert bits(plan.observe(x, observe).numpy()) == output
        assert bits(plan(x).numpy()) == output
    if backend != "reference":  # which has no plans
        assert seen == [step.split(" = ")[0] for step in plan.steps]
        assert len([step for step in seen if step in expected]) > 10


def test_what_a_plan_holds_decides_what_it_gives(backend: str) -> None:
    """A change of any of its constants shows in its output: all are there, and are the plan's own memory."""
    model, x = every(), images(2, 3, 9, 9)
    plan = compile(model, x)
    before = bits(plan(x).numpy())
    constants = plan.constants()
    ignored = 0
    for name, array in constants.items():
        if array.dtype != np.float32:
            continue
        first = array.copy()
        array += 1
        ignored += bits(plan(x).numpy()) == before
        array[...] = first
        assert bits(plan(x).numpy()) == before, name
    assert ignored == 0
    if backend != "reference":
        assert sum("weight" in name for name in constants) == 3
        assert sum("bias" in name for name in constants) == 3
        assert sum("mean" in name for name in constants) == 3


FAMILIES = [module for module in vars(tables).values() if isinstance(module, ModuleType)]
UNTRACED = r"cannot be traced|random|without empty axes"


def misses(row: Row, dtype: type) -> str:
    """Where a plan of a row's operation has other bits than the operation, on the arrays of two seeds."""
    first = [lucid.tensor(array) for array in row.arrays(dtype, "dense", 0)]
    model = Lambda(row.ours)
    try:
        plan = compile(model, *first)
    except (RuntimeError, ValueError, TypeError) as error:
        return "" if re.search(UNTRACED, str(error)) else f"{row.name}: {type(error).__name__}: {error}"
    for seed in (1, 0):
        given = [lucid.tensor(array) for array in row.arrays(dtype, "dense", seed)]
        with lucid.no_grad():
            expected, got = model(*given), plan(*given)
        pairs = zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]
        for right, planned in pairs:
            a, b = right.numpy(), planned.numpy()
            if (a.dtype, a.shape) != (b.dtype, b.shape) or bits(a) != bits(b):
                return f"{row.name}: other bits of seed {seed}"
    return ""


UNTRACED_ON_A_DEVICE = {"getitem", "tile", "unique", "solve", "repeat", "inv", "det", "slogdet", "eig"}
"""What is worked out by NumPy on the way, or takes an array (getitem): the arrays of a traced run are NumPy's."""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_operation_has_its_bits_in_a_plan(backend: str, family: ModuleType) -> None:
    """On other values than it was recorded with: a plan that leaves a part of a step out would repeat old ones."""
    rows = [row for row in family.ROWS if row.dtypes and row.inputs]
    with np.errstate(all="ignore"):
        said = {row: misses(row, row.dtypes[0]) for row in rows}
    found = {row: what for row, what in said.items() if what}
    if backend == "strict_cuda":
        untraced = {row.operation.__name__ for row, what in found.items() if "a NumPy array" in what}
        assert untraced == UNTRACED_ON_A_DEVICE & {row.operation.__name__ for row in rows}
        found = {row: what for row, what in found.items() if row.operation.__name__ not in untraced}
    assert not found, "\n".join(found.values())
