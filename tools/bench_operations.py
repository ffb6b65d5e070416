"""The rows of ``python tools/bench.py --operations``: operations beside PyTorch eager, float32, at sizes that matter.

A row is a function that makes its inputs and returns lucid's call and PyTorch's. To add one is to add a function here.
"""

from __future__ import annotations

import collections
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lucid
import lucid.nn.functional as F
from lucid import optim

Call = Callable[[], Any]
Pair = tuple[Call, Call]
ROWS: dict[str, Callable[[], Pair]] = {}


def row(make: Callable[[], Pair]) -> Callable[[], Pair]:
    """Make it a row, named as the function is."""
    ROWS[make.__name__] = make
    return make


def drawn(*shape: int, low: float = -3.0, high: float = 3.0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape)).uniform(low, high, shape).astype(np.float32)


def both(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: np.ndarray[Any, Any]) -> Pair:
    """Forward alone, without recording."""
    a, b = [lucid.tensor(x) for x in arrays], [torch.from_numpy(x) for x in arrays]

    def run() -> Any:
        with lucid.no_grad():
            return ours(*a)

    def run_torch() -> Any:
        with torch.no_grad():
            return theirs(*b)

    return run, run_torch


def trained(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: np.ndarray[Any, Any]) -> Pair:
    """Forward and backward, with the gradient of every float input."""

    def step(of: Callable[..., Any], tensors: list[Any], make: Callable[[Any], Any]) -> Call:
        dy = make(np.ones(tuple(of(*tensors).shape), np.float32))

        def run() -> None:
            for tensor in tensors:
                tensor.grad = None
            of(*tensors).backward(dy)

        return run

    a = [lucid.tensor(x, requires_grad=x.dtype == np.float32) for x in arrays]
    b = [torch.from_numpy(x).requires_grad_(x.dtype == np.float32) for x in arrays]
    return step(ours, a, lucid.tensor), step(theirs, b, torch.from_numpy)


# -- elementwise ------------------------------------------------------------------------------------------------------

SIXTEEN_MILLION = 1 << 24


@row
def add_16m() -> Pair:
    return both(lambda x, y: x + y, lambda x, y: x + y, drawn(SIXTEEN_MILLION), drawn(SIXTEEN_MILLION))


@row
def exp_16m() -> Pair:
    return both(lucid.exp, torch.exp, drawn(SIXTEEN_MILLION))


@row
def gelu_16m() -> Pair:
    return both(F.gelu, torch.nn.functional.gelu, drawn(SIXTEEN_MILLION))


@row
def gelu_tanh_16m_train() -> Pair:
    return trained(
        lambda x: F.gelu(x, "tanh"), lambda x: torch.nn.functional.gelu(x, approximate="tanh"), drawn(SIXTEEN_MILLION)
    )


@row
def sin_16m() -> Pair:
    return both(lucid.sin, torch.sin, drawn(SIXTEEN_MILLION))


@row
def tanh_16m() -> Pair:
    return both(lucid.tanh, torch.tanh, drawn(SIXTEEN_MILLION))


@row
def erf_16m() -> Pair:
    return both(lucid.erf, torch.erf, drawn(SIXTEEN_MILLION))


@row
def log2_16m() -> Pair:
    return both(lucid.log2, torch.log2, drawn(SIXTEEN_MILLION, low=0.1))


@row
def power_2_5_16m() -> Pair:
    return both(lambda x: x**2.5, lambda x: x**2.5, drawn(SIXTEEN_MILLION, low=0.1))


@row
def power_3_16m() -> Pair:
    return both(lambda x: x**3, lambda x: x**3, drawn(SIXTEEN_MILLION))


@row
def power_of_16m() -> Pair:
    return both(lucid.power, torch.pow, drawn(SIXTEEN_MILLION, low=0.1), drawn(SIXTEEN_MILLION))


@row
def power_of_float64_16m() -> Pair:
    x, n = drawn(SIXTEEN_MILLION, low=0.1).astype(np.float64), drawn(SIXTEEN_MILLION).astype(np.float64)
    return both(lucid.power, torch.pow, x, n)


@row
def arctan2_16m() -> Pair:
    return both(lucid.arctan2, torch.arctan2, drawn(SIXTEEN_MILLION), drawn(SIXTEEN_MILLION))


@row
def exp_float64_16m() -> Pair:
    return both(lucid.exp, torch.exp, drawn(SIXTEEN_MILLION).astype(np.float64))


@row
def tanh_float64_16m() -> Pair:
    return both(lucid.tanh, torch.tanh, drawn(SIXTEEN_MILLION).astype(np.float64))


@row
def sigmoid_16m() -> Pair:
    return both(lucid.sigmoid, torch.sigmoid, drawn(SIXTEEN_MILLION))


# -- rows of numbers --------------------------------------------------------------------------------------------------


@row
def sum_rows_4096x1024() -> Pair:
    return both(lambda x: x.sum(1), lambda x: x.sum(1), drawn(4096, 1024))


@row
def softmax_4096x1024() -> Pair:
    return both(lambda x: F.softmax(x, 1), lambda x: x.softmax(1), drawn(4096, 1024))


@row
def softmax_4096x1024_train() -> Pair:
    return trained(lambda x: F.softmax(x, 1), lambda x: x.softmax(1), drawn(4096, 1024))


def _layer_norm() -> tuple[Callable[..., Any], Callable[..., Any], tuple[np.ndarray[Any, Any], ...]]:
    return (
        lambda x, w, b: F.layer_norm(x, (1024,), w, b),
        lambda x, w, b: torch.nn.functional.layer_norm(x, (1024,), w, b),
        (drawn(4096, 1024), drawn(1024), drawn(1024)),
    )


@row
def layer_norm_4096x1024() -> Pair:
    ours, theirs, arrays = _layer_norm()
    return both(ours, theirs, *arrays)


@row
def layer_norm_4096x1024_train() -> Pair:
    ours, theirs, arrays = _layer_norm()
    return trained(ours, theirs, *arrays)


@row
def cross_entropy_4096x1000_train() -> Pair:
    target = np.random.default_rng(0).integers(0, 1000, 4096)
    return trained(F.cross_entropy, torch.nn.functional.cross_entropy, drawn(4096, 1000), target)


@row
def cumsum_1m() -> Pair:
    return both(lambda x: lucid.cumsum(x, 0), lambda x: torch.cumsum(x, 0), drawn(1 << 20))


@row
def cumprod_1m() -> Pair:
    return both(lambda x: lucid.cumprod(x, 0), lambda x: torch.cumprod(x, 0), drawn(1 << 20, low=0.999, high=1.001))


# -- contractions -----------------------------------------------------------------------------------------------------


@row
def matmul_1024() -> Pair:
    return both(lambda x, y: x @ y, lambda x, y: x @ y, drawn(1024, 1024), drawn(1024, 1024))


@row
def conv1d_64x16000_k9() -> Pair:
    return both(
        lambda x, w: F.conv1d(x, w, padding=4),
        lambda x, w: torch.nn.functional.conv1d(x, w, padding=4),
        drawn(4, 64, 16000),
        drawn(64, 64, 9),
    )


@row
def conv3d_64x16x28x28_k3() -> Pair:
    return both(
        lambda x, w: F.conv3d(x, w, padding=1),
        lambda x, w: torch.nn.functional.conv3d(x, w, padding=1),
        drawn(1, 64, 16, 28, 28),
        drawn(64, 64, 3, 3, 3),
    )


@row
def conv2d_depthwise_128x56x56_k3() -> Pair:
    return both(
        lambda x, w: F.conv2d(x, w, padding=1, groups=128),
        lambda x, w: torch.nn.functional.conv2d(x, w, padding=1, groups=128),
        drawn(4, 128, 56, 56),
        drawn(128, 1, 3, 3),
    )


@row
def conv_transpose2d_64x56x56_k4_s2() -> Pair:
    return both(
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
        lambda x, w: torch.nn.functional.conv_transpose2d(x, w, stride=2, padding=1),
        drawn(2, 64, 56, 56),
        drawn(64, 64, 4, 4),
    )


@row
def attention_8x16x512x64() -> Pair:
    arrays = [drawn(8, 16, 512, 64, low=-1, high=1) for _ in range(3)]
    return both(F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention, *arrays)


@row
def attention_8x16x512x64_train() -> Pair:
    arrays = [drawn(8, 16, 512, 64, low=-1, high=1) for _ in range(3)]
    return trained(F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention, *arrays)


# -- images -----------------------------------------------------------------------------------------------------------


def _resized(**options: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return lambda x: F.interpolate(x, **options), lambda x: torch.nn.functional.interpolate(x, **options)


@row
def bilinear_64x56x56_to_112() -> Pair:
    return both(*_resized(size=112, mode="bilinear"), drawn(4, 64, 56, 56))


@row
def bilinear_64x56x56_to_112_train() -> Pair:
    return trained(*_resized(size=112, mode="bilinear"), drawn(4, 64, 56, 56))


@row
def bilinear_photo_to_224() -> Pair:
    return both(*_resized(size=224, mode="bilinear", antialias=True), drawn(8, 3, 500, 375))


@row
def nearest_64x56x56_to_112_train() -> Pair:
    return trained(*_resized(size=112), drawn(4, 64, 56, 56))


@row
def bicubic_64x56x56_to_112() -> Pair:
    return both(*_resized(size=112, mode="bicubic"), drawn(4, 64, 56, 56))


@row
def grid_sample_64x56x56_train() -> Pair:
    return trained(
        lambda x, g: F.grid_sample(x, g, align_corners=False),
        lambda x, g: torch.nn.functional.grid_sample(x, g, align_corners=False),
        drawn(4, 64, 56, 56),
        drawn(4, 56, 56, 2, low=-1, high=1),
    )


# -- order and places -------------------------------------------------------------------------------------------------


@row
def sort_1m() -> Pair:
    return both(lambda x: lucid.sort(x, 0), lambda x: torch.sort(x, 0), drawn(1 << 20))


@row
def topk_100_of_1m() -> Pair:
    return both(lambda x: lucid.topk(x, 100), lambda x: torch.topk(x, 100), drawn(1 << 20))


@row
def sort_1000x1000() -> Pair:
    return both(lambda x: lucid.sort(x, 1), lambda x: torch.sort(x, 1), drawn(1000, 1000))


@row
def topk_10_of_1000x1000() -> Pair:
    return both(lambda x: lucid.topk(x, 10), lambda x: torch.topk(x, 10), drawn(1000, 1000))


@row
def gather_1m() -> Pair:
    index = np.random.default_rng(0).integers(0, 1 << 20, 1 << 20)
    return both(lambda x, i: lucid.gather(x, 0, i), lambda x, i: torch.gather(x, 0, i), drawn(1 << 20), index)


@row
def scatter_add_1m() -> Pair:
    index = np.random.default_rng(0).integers(0, 1 << 20, 1 << 20)
    return both(
        lambda x, i: lucid.scatter_add(x, 0, i, x), lambda x, i: torch.scatter_add(x, 0, i, x), drawn(1 << 20), index
    )


@row
def index_add_8192_to_30000x512() -> Pair:
    index = np.random.default_rng(0).integers(0, 30000, 8192)
    return both(
        lambda x, v, i: lucid.index_add(x, 0, i, v),
        lambda x, v, i: torch.index_add(x, 0, i, v),
        drawn(30000, 512),
        drawn(8192, 512),
        index,
    )


@row
def embedding_8192_of_50000x384_train() -> Pair:
    index = np.random.default_rng(0).integers(0, 50000, 8192)
    return trained(
        lambda i, w: F.embedding(i, w), lambda i, w: torch.nn.functional.embedding(i, w), index, drawn(50000, 384)
    )


# -- optimisers -------------------------------------------------------------------------------------------------------


@row
def adam_25m() -> Pair:
    values, slopes = drawn(25_000_000), drawn(25_000_000)
    ours, theirs = lucid.nn.Parameter(lucid.tensor(values)), torch.nn.Parameter(torch.from_numpy(values.copy()))
    ours.grad, theirs.grad = lucid.tensor(slopes), torch.from_numpy(slopes.copy())
    return optim.Adam([ours], lr=1e-3).step, torch.optim.Adam([theirs], lr=1e-3).step


# -- loading ----------------------------------------------------------------------------------------------------------


class Images:
    """Samples that cost next to nothing: what is measured is how they come together, and come here."""

    def __init__(self, count: int, *shape: int) -> None:
        self.count, self.image = count, drawn(*shape).astype(np.uint8)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any], int]:
        return self.image.astype(np.float32), index


def loaded(data: Images, batch: int, workers: int) -> Pair:
    """An epoch; workers are there already."""
    more: dict[str, Any] = {"num_workers": workers}
    if workers:
        more |= {"persistent_workers": True, "multiprocessing_context": "fork"}
    loaders = lucid.data.DataLoader(data, batch, **more), torch.utils.data.DataLoader(data, batch, **more)
    ours, theirs = (lambda loader=loader: collections.deque(loader, 0) for loader in loaders)
    return ours, theirs


@row
def load_320x3x224x224_b32() -> Pair:
    return loaded(Images(320, 3, 224, 224), 32, 0)


@row
def load_320x3x224x224_b32_2_workers() -> Pair:
    return loaded(Images(320, 3, 224, 224), 32, 2)


@row
def load_6400x28x28_b64_2_workers() -> Pair:
    return loaded(Images(6400, 28, 28), 64, 2)


# -- measuring --------------------------------------------------------------------------------------------------------


class TorchGPT(torch.nn.Module):
    """The model of ``examples/gpt.py``, of PyTorch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        activation = torch.nn.GELU(approximate="tanh")
        layer = torch.nn.TransformerEncoderLayer(384, 6, 1536, 0.0, activation, batch_first=True, norm_first=True)
        self.token, self.position = torch.nn.Embedding(512, 384), torch.nn.Embedding(256, 384)
        self.blocks = torch.nn.TransformerEncoder(layer, 6, torch.nn.LayerNorm(384), enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        mask = torch.nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return torch.nn.functional.linear(self.blocks(x, mask, is_causal=True), self.token.weight)


@row
def gpt_6x384_8x256_train_step() -> Pair:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    import gpt

    tokens = np.random.default_rng(0).integers(0, 512, (8, 257))
    ours, theirs = gpt.GPT(), TorchGPT()
    optimizer = optim.AdamW(ours.parameters(), lr=3e-4)
    other = torch.optim.AdamW(theirs.parameters(), lr=3e-4)
    batch, of_torch = lucid.tensor(tokens), torch.from_numpy(tokens)

    def step() -> None:
        logits = theirs(of_torch[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 512), of_torch[:, 1:].reshape(-1))
        other.zero_grad()
        loss.backward()
        other.step()

    return lambda: gpt.train_step(ours, optimizer, batch), step


def operation_rows(names: list[str], timed: Callable[[Call, Call], tuple[float, float]]) -> list[dict[str, Any]]:
    """Seconds of both, by row; a row whose operation lucid does not have is named and left out."""
    found = []
    for name in names or ROWS:
        try:
            ours, theirs = ROWS[name]()
            ours()
        except AttributeError as error:
            print(f"{name:40s} not there: {error}")
            continue
        lucid_s, torch_s = timed(ours, theirs)
        found.append({"operation": name, "lucid_s": lucid_s, "torch_s": torch_s, "ratio": lucid_s / torch_s})
    return found


def show_operations(rows: list[dict[str, Any]]) -> None:
    """Each row, and the median and the largest ratio."""
    for each in rows:
        times = f"lucid {1e3 * each['lucid_s']:9.2f} ms   torch {1e3 * each['torch_s']:9.2f} ms"
        print(f"{each['operation']:40s} {times}   {each['ratio']:6.2f}")
    if rows:
        ratios = sorted(each["ratio"] for each in rows)
        middle = math.exp(np.log([ratios[(len(ratios) - 1) // 2], ratios[len(ratios) // 2]]).mean())
        print(f"median {middle:.2f}, largest {ratios[-1]:.2f} of PyTorch's time")


# -- linear algebra ---------------------------------------------------------------------------------------------------


def _matrix(name: str, *shape: int) -> Pair:
    """Of matrices that are positive definite; what has several results makes them all."""
    n = shape[-1]
    x = drawn(*shape)
    x = (x @ x.swapaxes(-1, -2) / n + np.eye(n)).astype(np.float32)
    return both(getattr(lucid.linalg, name), getattr(torch.linalg, name), x)


@row
def solve_1000x16() -> Pair:
    return both(lucid.linalg.solve, torch.linalg.solve, drawn(1000, 16, 16), drawn(1000, 16, 1))


@row
def solve_1024() -> Pair:
    return both(lucid.linalg.solve, torch.linalg.solve, drawn(1024, 1024), drawn(1024, 1))


@row
def inv_256() -> Pair:
    return _matrix("inv", 256, 256)


@row
def inv_1024() -> Pair:
    return _matrix("inv", 1024, 1024)


@row
def cholesky_1000x16() -> Pair:
    return _matrix("cholesky", 1000, 16, 16)


@row
def cholesky_1024() -> Pair:
    return _matrix("cholesky", 1024, 1024)


@row
def qr_256() -> Pair:
    return _matrix("qr", 256, 256)


@row
def qr_1024() -> Pair:
    return _matrix("qr", 1024, 1024)


@row
def eigh_256() -> Pair:
    return _matrix("eigh", 256, 256)


@row
def svd_256() -> Pair:
    return _matrix("svd", 256, 256)
