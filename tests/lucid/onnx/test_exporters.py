"""Files as others write them: both of PyTorch's exporters, and ONNX Runtime's optimiser, of networks made here.

PyTorch in float64 is the second origin: what a file computes in lucid, all in float64, is what the network computes.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest

import lucid

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from torch import nn  # noqa: E402

from lucid.onnx import load  # noqa: E402


class Convolutions(nn.Module):
    """What mobile networks have: groups, SiLU, squeeze and excitation, uneven padding, residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.deep(x)
        y = x + y * torch.sigmoid(self.squeeze(y))
        return self.head(nn.functional.max_pool2d(y, 2, 2, ceil_mode=True).mean((2, 3)))


class Segments(nn.Module):
    """Up and down: transposed convolution, interpolation, concatenation, GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(3, 6), nn.GELU())
        self.up = nn.ConvTranspose2d(6, 6, 2, stride=2)
        self.out = nn.Conv2d(12, 2, 1)

    def forward(self, x):
        full = self.down(x)
        half = self.up(nn.functional.avg_pool2d(full, 2))
        other = nn.functional.interpolate(full, scale_factor=0.5, mode="bilinear", align_corners=False)
        other = nn.functional.interpolate(other, scale_factor=2, mode="nearest")
        return self.out(torch.cat([half, other], 1)).softmax(1)


class Words(nn.Module):
    """A transformer's layer over embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True, activation="gelu")
        self.out = nn.Linear(16, 11)

    def forward(self, x):
        return self.out(self.layer(self.embed(x))).log_softmax(-1)


class Sequence(nn.Module):
    def __init__(self, kind) -> None:
        super().__init__()
        self.rnn = kind(5, 7, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x):
        y, _ = self.rnn(x)
        return y[:, -1]


class Arithmetic(nn.Module):
    """Shapes that are computed, indices, masks, reductions, einsum, in-place updates."""

    def forward(self, x):
        b, c, h, w = x.shape
        y = x.view(b, c * h, w).transpose(1, 2)
        y = torch.where(y > 0.1, y, y.abs().sqrt() * 0.5)
        z = torch.einsum("bij,bkj->bik", y, y) / (h * c) ** 0.5
        top, places = z.topk(2, dim=-1)
        z = z.masked_fill(torch.triu(torch.ones(w, w, dtype=torch.bool), 1), -1e3).softmax(-1)
        taken = z.gather(-1, places)
        z = torch.nn.functional.pad(z[:, 1:, ::2], (1, 0)).cumsum(1)
        return z, (top + taken).amax(1), z.var(1), torch.floor(x).clamp(-1, 2).prod(-1)


EPS = float(np.finfo(np.float32).eps)
IMAGES = (2, 3, 9, 10)
NETWORKS = {
    "convolutions": (Convolutions, IMAGES),
    "segments": (Segments, (2, 3, 8, 8)),
    "words": (Words, (2, 6)),
    "lstm": (lambda: Sequence(nn.LSTM), (2, 6, 5)),
    "gru": (lambda: Sequence(nn.GRU), (2, 6, 5)),
    "arithmetic": (Arithmetic, (2, 3, 4, 6)),
}


def network(name):
    torch.manual_seed(1)
    make, shape = NETWORKS[name]
    made = make().eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randint(0, 11, shape) if name == "words" else torch.randn(shape)
    return made, x


def exported(made, x, dynamo: bool) -> onnx.ModelProto:
    file = io.BytesIO()
    torch.backends.mha.set_fastpath_enabled(False)  # which no exporter has an operator for
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(made, (x,), file, dynamo=dynamo, verbose=False, **({} if dynamo else {"opset_version": 17}))
    return onnx.load_model_from_string(file.getvalue())


def listed(output) -> list[np.ndarray]:
    outputs = output if isinstance(output, tuple | list) else (output,)
    return [value.detach().numpy() for value in outputs]


def assert_is_the_network(proto, made, x) -> None:
    """In float64 as PyTorch; in float32 near it, and the same bits as a plan and by the reference."""
    module = load(proto)
    with lucid.no_grad(), torch.no_grad():
        own = listed(module(x.numpy()))
        plan = lucid.compile(module, lucid.tensor(x.numpy()))
        for planned, eager in zip(listed(plan(x.numpy())), own, strict=True):
            assert planned.tobytes() == eager.tobytes()
        with lucid.use_backend("reference"):
            for referred, eager in zip(listed(load(proto)(x.numpy())), own, strict=True):
                assert referred.tobytes() == eager.tobytes()
        wide = x.double() if x.is_floating_point() else x
        truth = listed(made.double()(wide))
        made.float()
        for exact, mine, theirs in zip(listed(module.double()(wide.numpy())), own, truth, strict=True):
            assert exact.shape == theirs.shape
            scale = float(np.abs(theirs).max())
            assert np.abs(exact - theirs).max() <= 4 * EPS * scale  # a file's own numbers were rounded to float32
            assert np.abs(mine - theirs).max() <= 100 * EPS * scale


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_pytorch_exports(name: str, dynamo: bool) -> None:
    made, x = network(name)
    assert_is_the_network(exported(made, x, dynamo), made, x)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
@pytest.mark.parametrize("name", ["convolutions", "segments", "words", "arithmetic"])
def test_what_onnx_runtime_has_optimised(name: str, level: str, tmp_path: Path) -> None:
    """Its fused operators among them."""
    made, x = network(name)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(exported(made, x, False).SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert_is_the_network(onnx.load(tmp_path / "optimised.onnx"), made, x)


def test_it_is_trained_as_the_network_is() -> None:
    """Gradients by the parameters' own names, in float64 as PyTorch's."""
    made, x = network("convolutions")
    module = load(exported(made, x, True)).double()
    target = torch.tensor([1, 3])
    nn.functional.cross_entropy(made.double()(x.double()), target).backward()
    lucid.nn.functional.cross_entropy(module(x.double().numpy()), lucid.tensor([1, 3])).backward()
    mine, found = dict(module.named_parameters()), 0
    for name, parameter in made.named_parameters():
        if name in mine and np.array_equal(mine[name].numpy(), parameter.detach().numpy()):  # else a norm is folded in
            exact = parameter.grad.numpy()
            assert np.abs(mine[name].grad.numpy() - exact).max() <= 16 * EPS * np.abs(exact).max(), name
            found += 1
    assert found >= 5
