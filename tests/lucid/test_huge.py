"""Sizes and places beyond 2^31: counted in 64 bits, or refused in a sentence before anything runs.

The images here are address space without pages, zeros until something is written, of which only the few pixels that
windows far apart look at are ever read: they take no memory.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.backends import BACKENDS, on
from support.bits import bits

import lucid
import lucid.nn.functional as F
from lucid.backends import _cuda_cut, base
from lucid.backends._cuda_cut import MOST_REACH, MOST_TERMS, check_range
from lucid.kernels.pool.reference import pool_problem

SIDE = 46_400  # more than 2^31 pixels in a plane
STRIDE = 23_198  # windows of 4 at 0, STRIDE, 2 * STRIDE: the last ends with the image
KERNELS = [name for name in BACKENDS if name in ("native", "emulated")]  # reference copies images to make a border


def zeros(*shape: int) -> np.ndarray:
    """Zeros ``(N, H, W, C)`` that take memory only where they are written to, shaped ``(N, C, H, W)``."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        memory = mmap.mmap(-1, 4 * int(np.prod(shape, dtype=np.int64)), flags=flags)
    except (OSError, ValueError) as error:
        pytest.skip(f"no address space for {shape}: {error}")
    return np.frombuffer(memory, np.float32).reshape(shape).transpose(0, 3, 1, 2)


def image() -> np.ndarray:
    x = zeros(1, SIDE, SIDE, 1)
    x[0, 0, 0, 0] = 3
    x[0, 0, STRIDE + 1, 2 * STRIDE + 3] = 5
    x[0, 0, -1, -1] = 7
    return x


FOUND = {(0, 0): (3, 0), (1, 2): (5, (STRIDE + 1) * SIDE + SIDE - 1), (2, 2): (7, SIDE * SIDE - 1)}
"""By window: the largest value, and where it is."""


def windows(values: dict[tuple[int, int], float]) -> np.ndarray:
    expected = np.zeros((1, 1, 3, 3))
    for place, value in values.items():
        expected[0, 0][place] = value
    return expected


def test_indices_of_a_plane_of_more_than_31_bits() -> None:
    if "native" not in KERNELS:
        pytest.skip("needs the native kernels")
    with on("native"):
        y, index = F.max_pool2d(lucid.to_tensor(image()), 4, STRIDE, return_indices=True)
    assert (y.numpy() == windows({place: value for place, (value, _) in FOUND.items()})).all()
    for place, (_, where) in FOUND.items():
        assert index.numpy()[0, 0][place] == where
    assert index.numpy()[0, 0][0, 1] == STRIDE  # of equal ones the first


@pytest.mark.parametrize("backend", KERNELS)
def test_averages_of_a_plane_of_more_than_31_bits(backend: str) -> None:
    with on(backend):
        y = F.avg_pool2d(lucid.to_tensor(image()), 4, STRIDE).numpy()
    assert (y == windows({place: value / 16 for place, (value, _) in FOUND.items()})).all()


@pytest.mark.parametrize("backend", KERNELS)
def test_convolution_of_a_plane_of_more_than_31_bits(backend: str) -> None:
    x = image()
    for step in (0, 1, 2):
        x[0, 0, step * STRIDE, step * STRIDE] = step + 1
    with on(backend):
        y = F.conv2d(lucid.to_tensor(x), lucid.full((1, 1, 1, 1), 2.0), stride=STRIDE).numpy()
    assert (y == windows({(step, step): 2 * (step + 1) for step in (0, 1, 2)})).all()


def test_a_weight_gradient_of_a_plane_of_more_than_31_bits() -> None:
    if "native" not in KERNELS:
        pytest.skip("needs the native kernels")
    x = image()
    x[0, 0, 2 * STRIDE, 2 * STRIDE] = 11
    dy = np.zeros((1, 1, 3, 3), np.float32)
    dy[0, 0, 2, 2] = 1
    with on("native"):
        be = lucid.get_backend("native")
        grad = be.conv2d_weight_grad(dy, x, (1, 1, 1, 1), (STRIDE, STRIDE), (0, 0), (1, 1), 1)
    assert grad.item() == 11


@pytest.mark.parametrize("backend", KERNELS)
def test_many_channels_whose_elements_have_more_than_31_bits(backend: str) -> None:
    """Few pixels, but more than 2^31 values; the last channel of the last pixel counts."""
    x = zeros(1, 12_000, 12_000, 16)
    x[0, 15, -1, -1] = 3
    weight = lucid.ones((1, 16, 1, 1))
    with on(backend):
        given = lucid.to_tensor(x)
        assert F.conv2d(given, weight, stride=11_999).numpy()[0, 0].tolist() == [[0, 0], [0, 3]]
        assert F.max_pool2d(given, 2, 11_998).numpy()[0, 15].tolist() == [[0, 0], [0, 3]]
        assert F.avg_pool2d(given, 2, 11_998).numpy()[0, 15].tolist() == [[0, 0], [0, 0.75]]


@pytest.mark.slow
@pytest.mark.skipif("native" not in KERNELS, reason="needs the native kernels")
def test_whole_planes_of_more_than_31_bits() -> None:
    """Every pixel is read: pages of zeros are one page, so that it takes time alone."""
    x = image()
    with on("native"):
        given = lucid.to_tensor(x)
        assert given.sum().item() == 15
        assert F.max_pool2d(given, 64, return_indices=True)[1].numpy()[0, 0, -1, -1] == SIDE * SIDE - 1


# -- the same numbers whatever they are counted in -------------------------------------------------------------------


@pytest.mark.skipif("native" not in KERNELS, reason="needs the native kernels")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wide_indices_are_the_narrow_ones(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.standard_normal((3, 21, 13, 11)) * 2).astype(dtype)  # with ties
    x[0, 0, 0, 0] = np.nan
    dy = rng.standard_normal((3, 21, 6, 5)).astype(dtype)
    be, found = lucid.get_backend("native"), []
    for width in (np.int32, np.int64):
        monkeypatch.setattr("lucid.backends.native.index_dtype", lambda _shape, width=width: np.dtype(width))
        y, index = be.max_pool2d(x, (3, 3), (2, 2), (0, 0), (1, 1), (6, 5))
        assert index.dtype == width
        found.append((bits(y), index.tolist(), bits(be.max_pool2d_grad(dy, index, x.shape))))
    assert found[0] == found[1]


def test_which_integers_hold_the_places_of_a_plane() -> None:
    assert base.index_dtype((1, 1, 46_340, 46_341)) == np.int32
    assert base.index_dtype((1, 1, 2, 2**30)) == np.int64
    assert base.index_dtype((1, 1, 65_536, 65_536)) == np.int64


FAR = {
    "padding and stride": (1, {"stride": 100_000, "padding": 100_000}, (3, 3)),
    "as far as can be": (1, {"stride": 2**31 - 1, "padding": 2**31 - 1}, (3, 3)),
    "one side": (1, {"stride": (2**31 - 1, 1), "padding": (2**31 - 1, 2)}, (3, 10)),
    "the stride alone": (1, {"stride": 2**31 - 1}, (1, 1)),
    "dilation": (1, {"dilation": 2**20, "padding": 2**20, "stride": 3}, (3, 3)),
    "groups": (4, {"stride": 100_000, "padding": 100_000}, (3, 3)),
}


TOO_FAR_FOR_A_GPU = ("as far as can be", "one side", "the stride alone")


@pytest.mark.parametrize("name", FAR)
@pytest.mark.parametrize("backend", BACKENDS)
def test_windows_far_apart_and_far_outside(backend: str, name: str) -> None:
    """A few windows of an image and of nothing around it: no copy of the image with its padding is made."""
    groups, geometry, size = FAR[name]
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((2, 4, 8, 8)).astype(np.float32), rng.standard_normal((4, 4 // groups, 3, 3))
    results = []
    for each in (backend, "reference"):
        with on(each):
            image, weight = (lucid.tensor(a.astype(np.float32), requires_grad=True) for a in (x, w))
            if each in ("cuda", "emulated") and name in TOO_FAR_FOR_A_GPU:
                with pytest.raises(ValueError, match="may be at most 1073741823 on a GPU"):
                    F.conv2d(image, weight, groups=groups, **geometry)
                return
            y = F.conv2d(image, weight, groups=groups, **geometry)
            assert y.shape == (2, 4, *size)
            y.sum().backward()
            results.append([bits(np.asarray(t)) for t in (y, image.grad, weight.grad)])
    assert results[0] == results[1]


NO_SUCH = {
    "stride": lambda x, w: F.conv2d(x, w, stride=2**31),
    "padding": lambda x, w: F.conv2d(x, w, padding=2**40),
    "dilation": lambda x, w: F.conv2d(x, w, dilation=(1, 2**63)),
    "kernel_size": lambda x, w: F.max_pool2d(x, 2**31),
    "output_size": lambda x, w: F.adaptive_avg_pool2d(x, 2**31),
}


@pytest.mark.parametrize("name", NO_SUCH)
def test_geometry_beyond_31_bits_is_refused_by_name(name: str) -> None:
    x, w = lucid.ones((1, 1, 4, 4)), lucid.ones((1, 1, 3, 3))
    with pytest.raises(ValueError, match=rf"^{name}: got .*; may be at most 2147483647"):
        NO_SUCH[name](x, w)


@pytest.mark.skipif("native" not in KERNELS, reason="needs the native kernels")
@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**62, 1), (2**31, 2**31, 4), (2**63 - 1, 2)])
def test_a_size_that_overflows_is_no_small_array(shape: tuple[int, ...]) -> None:
    import _lucid_native

    with pytest.raises(MemoryError):
        _lucid_native.empty(list(shape), False)
    assert _lucid_native.empty([2, 0, 3], True).shape == (2, 0, 3)


# -- what a GPU's kernels refuse -------------------------------------------------------------------------------------


def test_a_plane_whose_places_have_no_index_on_a_gpu() -> None:
    if "emulated" not in KERNELS:
        pytest.skip("needs the emulator")
    with on("emulated"), pytest.raises(ValueError, match="max_pool2d: got images of 46400x46400; on a GPU a plane"):
        F.max_pool2d(lucid.to_tensor(image()), 4, STRIDE)


def fields(**given: int) -> dict[str, int]:
    """A convolution of 3 by 3 on images of 8 by 8."""
    small = {"m": 64, "n": 4, "k": 36, "batch": 1, "rows_h": 8, "rows_w": 8, "stride_h": 1, "stride_w": 1}
    image = {"step_h": 1, "step_w": 1, "image_h": 8, "image_w": 8, "taps_h": 3, "taps_w": 3, "channels": 4}
    return {**small, **image, **given}


REFUSED: dict[str, tuple[str, dict[str, int], str]] = {
    "rows": ("FORWARD", fields(m=MOST_TERMS + 1), "each may be at most"),
    "columns": ("MATMUL_NN", {"m": 1, "n": 2**31, "k": 1}, "each may be at most"),
    "terms": ("MATMUL_NN", {"m": 1, "n": 1, "k": 2**31 - 1}, "each may be at most"),
    "a high image": ("FORWARD", fields(image_h=2**30), "of an image 1073741824 high"),
    "a wide image": ("FORWARD", fields(image_w=2**30), "of an image 1073741824 wide"),
    "strides": ("FORWARD", fields(stride_w=2**28), "of an image 8 wide"),
    "a start before": ("FORWARD", fields(start_h=-(2**30)), "of an image 8 high"),
    "taps": ("INPUT_GRAD", fields(step_h=-(2**29)), "of an image 8 high"),
    "a plane": ("WEIGHT_GRAD", fields(image_h=2**16, image_w=2**15), "a weight gradient of images of 2147483648 pix"),
    "a deep image": ("FORWARD_DEEP", fields(image_d=2**30), "of an image 1073741824 deep"),
    "planes": ("WEIGHT_GRAD_DEEP", fields(image_d=2**11, image_h=2**10, image_w=2**10), "of images of 2147483648 pix"),
}
TAKEN: dict[str, tuple[str, dict[str, int]]] = {
    "small": ("FORWARD", fields()),
    "as many terms as can be": ("MATMUL_NN", {"m": MOST_TERMS, "n": MOST_TERMS, "k": MOST_TERMS}),
    "a plane that is not counted": ("FORWARD", fields(image_h=2**16, image_w=2**15)),
    "a reach as far as can be": ("FORWARD", fields(image_h=MOST_REACH - 8 - 3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_contraction_that_a_gpu_would_count_wrongly_is_refused(name: str) -> None:
    source, given, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        check_range(source, given)


@pytest.mark.parametrize("name", TAKEN)
def test_a_contraction_that_a_gpu_counts(name: str) -> None:
    check_range(*TAKEN[name])


def test_what_the_kernel_counts_stays_below_32_bits() -> None:
    """One tile beyond the last term and one beyond the last row, as gemm.cuh goes."""
    tile = max(tile.m for tiles in _cuda_cut.TILES.values() for tile in tiles)
    assert MOST_TERMS + _cuda_cut.SEGMENT < 2**31
    assert MOST_TERMS + 2 * tile < 2**32
    assert MOST_REACH < 2**30  # rows that do not exist lie 2^30 before the image


def test_a_grid_that_no_gpu_takes_is_refused() -> None:
    if "emulated" not in KERNELS:
        pytest.skip("needs the emulator")
    be: Any = lucid.get_backend("emulated")
    for grid in ((2**31, 1, 1), (1, 65_536, 1), (1, 1, 65_536)):
        with pytest.raises(ValueError, match="max_pool: so large a problem takes a grid"):
            be._run("pool.cu", "max_pool", np.dtype(np.float32), grid)


SIDES: list[Callable[[Any], Any]] = [
    lambda be: be._check_sides(pool_problem((1, 1, 2**31, 1), (1, 1))),
    lambda be: be._check_sides(pool_problem((1, 1, 1, 1), (1, 2**31))),
    lambda be: be._check_sides(pool_problem((1, 1, 2**31, 1, 1), (1, 1, 1))),
]


@pytest.mark.parametrize("number", range(len(SIDES)))
def test_a_side_that_a_gpu_cannot_divide_by_is_refused(number: int) -> None:
    if "emulated" not in KERNELS:
        pytest.skip("needs the emulator")
    with pytest.raises(ValueError, match="a side has at most 2147483647 pixels on a GPU"):
        SIDES[number](lucid.get_backend("emulated"))


@pytest.mark.skipif("native" not in KERNELS, reason="needs the native kernels")
def test_thin_images_with_wide_padding_take_no_memory() -> None:
    """In a process that may have little."""
    code = """
import resource, lucid, lucid.nn.functional as F
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
F.conv2d(lucid.ones((1, 3, 8, 8)), lucid.ones((4, 3, 3, 3)), padding=1)
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (256 << 20),) * 2)
x = lucid.ones((1, 3, 8, 8))
w = lucid.ones((4, 3, 3, 3), requires_grad=True)
y = F.conv2d(x, w, padding=100_000, stride=100_000)
y.sum().backward()
print(y.sum().item(), w.grad.sum().item())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["108.0", "108.0"]
