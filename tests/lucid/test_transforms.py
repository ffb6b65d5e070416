"""Transforms of images: as scalar loops from the law (section 11.2), and beside Pillow and PyTorch."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from PIL import Image

import lucid
from lucid import transforms as T
from lucid.core.angles import of_degrees
from lucid.data import DataLoader, Dataset
from lucid.random import Generator
from lucid.transforms._resampling import turned_size

RNG = np.random.default_rng(0)


def loop_line(x: list[float], new: int, antialias: bool) -> list[float]:
    """One line of pixels in another length, as the law says."""
    old, out = len(x), []
    scale = old / new
    spread = max(scale, 1.0) if antialias else 1.0
    for i in range(new):
        centre = (i + 0.5) * scale
        first = max(math.floor((centre - spread) + 0.5), 0)
        last = min(math.floor((centre + spread) + 0.5), old)
        weights = [max(1.0 - abs(((p - centre) + 0.5) / spread), 0.0) for p in range(first, last)]
        whole = 0.0
        for weight in weights:
            whole = whole + weight
        pixel = 0.0
        for p, weight in zip(range(first, last), weights, strict=True):
            pixel = pixel + x[p] * (weight / whole)
        out.append(pixel)
    return out


def loop_resize(x: np.ndarray, height: int, width: int, antialias: bool) -> np.ndarray:
    """A plane in another size, columns first."""
    across = [loop_line(row, width, antialias) for row in x.tolist()] if width != x.shape[1] else x.tolist()
    if height == x.shape[0]:
        return np.array(across)
    return np.array([loop_line(list(column), height, antialias) for column in zip(*across, strict=True)]).T


SIZES = [((7, 5), (3, 4)), ((4, 9), (11, 2)), ((8, 8), (8, 3)), ((5, 6), (5, 6)), ((1, 3), (4, 1)), ((13, 7), (5, 29))]


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_is_the_law(old: tuple[int, int], new: tuple[int, int], antialias: bool) -> None:
    planes = RNG.normal(size=(2, *old)).astype(np.float32)
    resize = T.Resize(new, antialias=antialias)
    wanted = np.stack([loop_resize(plane.astype(np.float64), *new, antialias) for plane in planes])
    found = resize(lucid.tensor(planes))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.numpy(), wanted.astype(np.float32))
    np.testing.assert_array_equal(resize(planes.transpose(1, 2, 0).astype(np.float64)), wanted.transpose(1, 2, 0))
    pixels = RNG.integers(0, 256, old).astype(np.uint8)
    rounded = np.floor(loop_resize(pixels.astype(np.float64), *new, antialias) + 0.5)
    np.testing.assert_array_equal(resize(pixels), rounded.astype(np.uint8))


def near(found: np.ndarray, wanted: np.ndarray, taps: int) -> None:
    """Two orders of the same two sums of ``taps`` float64 products with weights that are rounded, too."""
    assert np.abs(found - wanted).max() <= 2 * (2 * taps + 8) * 2.0**-53 * np.abs(wanted).max() * 4


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_is_pytorchs(old: tuple[int, int], new: tuple[int, int], antialias: bool) -> None:
    x = RNG.uniform(0.5, 1.0, (3, *old))
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x)[None], new, mode="bilinear", align_corners=False, antialias=antialias
    )[0]
    near(T.Resize(new, antialias=antialias)(lucid.tensor(x)).numpy(), wanted.numpy(), 32)


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((64, 48), (24, 31)), ((30, 40), (64, 90))])
def test_resize_beside_pillow(old: tuple[int, int], new: tuple[int, int]) -> None:
    """Pillow rounds twice to integers, each time by half at most, with weights of 22 bits; this once, by half at most:
    the two differ by less than 2. Of floats it rounds twice to float32, this once."""
    for mode, channels in (("L", ()), ("RGB", (3,)), ("RGBA", (4,))):
        pixels = RNG.integers(0, 256, (*old, *channels)).astype(np.uint8)
        if mode == "RGBA":
            pixels[..., 3] = 255  # Pillow weighs colours by what is opaque
        image = Image.fromarray(pixels)
        assert image.mode == mode
        found = T.Resize(new)(image)
        assert (found.mode, found.size) == (mode, new[::-1])
        wanted = np.asarray(image.resize(new[::-1], Image.Resampling.BILINEAR), np.int64)
        assert np.abs(np.asarray(found, np.int64) - wanted).max() <= 1
    floats = RNG.uniform(0.5, 1.0, old).astype(np.float32)
    image = Image.fromarray(floats)
    wanted = np.asarray(image.resize(new[::-1], Image.Resampling.BILINEAR), np.float64)
    assert np.abs(np.asarray(T.Resize(new)(image), np.float64) - wanted).max() <= 3 * 2.0**-24


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_to_the_nearest(old: tuple[int, int], new: tuple[int, int]) -> None:
    x = RNG.integers(0, 1000, old)
    wanted = [[x[i * old[0] // new[0], j * old[1] // new[1]] for j in range(new[1])] for i in range(new[0])]
    np.testing.assert_array_equal(T.Resize(new, "nearest")(x), wanted)


@pytest.mark.parametrize(
    ("arguments", "old", "new"),
    [
        ((4,), (8, 12), (4, 6)),
        ((4,), (12, 8), (6, 4)),
        (([5],), (7, 9), (5, 6)),
        ((4, "bilinear", 5), (8, 16), (2, 5)),
        (((3, 9),), (5, 5), (3, 9)),
    ],
)
def test_what_size_means(arguments: Any, old: tuple[int, int], new: tuple[int, int]) -> None:
    assert T.Resize(*arguments)(np.zeros(old)).shape == new


# -- turning -----------------------------------------------------------------------------------------------------------


def test_sines_are_the_nearest() -> None:
    angles = [0.0, 30.0, 45.0, 60.0, 90.0, -90.0, 180.0, 270.0, 1e-300, 1e300, -0.1, 359.9999999, 44.99999999999999]
    with mpmath.workprec(1200):
        for angle in [*angles, *RNG.uniform(-400, 400, 300).tolist()]:
            radians = mpmath.mpf(angle) % 360 * mpmath.pi / 180
            wanted = float(mpmath.sin(radians)), float(mpmath.cos(radians))
            found = of_degrees(angle)[::-1]
            for one, other in zip(found, wanted, strict=True):
                assert one == other or abs(one - other) < 2.0**-120, (angle, found, wanted)


def loop_turn(x: np.ndarray, degrees: float, smooth: bool, fill: float) -> np.ndarray:
    """A plane turned about its middle, as the law says."""
    height, width = x.shape
    c, s = of_degrees(degrees)
    mx, my = (width - 1) / 2, (height - 1) / 2

    def pixel(row: int, column: int) -> float:
        return float(x[row, column]) if 0 <= row < height and 0 <= column < width else fill

    out = np.empty(x.shape)
    for row in range(height):
        for column in range(width):
            dx, dy = column - mx, row - my
            at_x, at_y = (dx * c - dy * s) + mx, (dx * s + dy * c) + my
            if not smooth:
                out[row, column] = pixel(math.floor(at_y + 0.5), math.floor(at_x + 0.5))
                continue
            top, left = math.floor(at_y), math.floor(at_x)
            total = 0.0
            for i, wy in ((0, 1.0 - (at_y - top)), (1, at_y - top)):
                for j, wx in ((0, 1.0 - (at_x - left)), (1, at_x - left)):
                    total = total + (wy * wx) * pixel(top + i, left + j)
            out[row, column] = total
    return out


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("angle", [0.0, 17.25, -140.0, 90.0, 45.0])
def test_rotation_is_the_law(angle: float, smooth: bool) -> None:
    planes = RNG.normal(size=(2, 6, 9))
    turn = T.RandomRotation((angle, angle), "bilinear" if smooth else "nearest", fill=0.5)
    wanted = np.stack([loop_turn(plane, angle, smooth, 0.5) for plane in planes])
    np.testing.assert_array_equal(turn(lucid.tensor(planes)).numpy(), wanted)
    np.testing.assert_array_equal(turn(planes.transpose(1, 2, 0)), wanted.transpose(1, 2, 0))


@pytest.mark.parametrize("angle", [0, 90, 180, 270, -90])
def test_quarter_turns(angle: int) -> None:
    x = RNG.integers(0, 255, (4, 7, 3)).astype(np.uint8)
    for smooth in ("nearest", "bilinear"):
        turned = T.RandomRotation((angle, angle), smooth, expand=True)(x)
        np.testing.assert_array_equal(turned, np.rot90(x, angle // 90))
        pillow = Image.fromarray(x).rotate(angle, expand=True)
        np.testing.assert_array_equal(turned, np.asarray(pillow))


@pytest.mark.parametrize("angle", [5.0, 33.0, 120.5, -61.0])
def test_rotation_beside_pillow_and_pytorch(angle: float) -> None:
    """Pillow's places have 16 bits behind the point: pixels that lie so near to a border may be either."""
    height, width = 25, 40
    x = RNG.integers(1, 255, (height, width)).astype(np.uint8)
    image = Image.fromarray(x)
    found = np.asarray(T.RandomRotation((angle, angle))(image))
    wanted = np.asarray(image.rotate(angle))
    s, c = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    dx, dy = np.arange(width) - (width - 1) / 2, (np.arange(height) - (height - 1) / 2)[:, None]
    places = [dx * c - dy * s + (width - 1) / 2, dx * s + dy * c + (height - 1) / 2]
    clear = np.logical_and(*(abs((place + 0.5) - np.round(place + 0.5)) > 2.0**-16 * 80 for place in places))
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(found[clear], wanted[clear])
    assert turned_size(height, width, *of_degrees(angle)[::-1]) == image.rotate(angle, expand=True).size[::-1]
    grid = torch.tensor(np.stack([(2 * places[0] + 1) / width - 1, (2 * places[1] + 1) / height - 1], -1))
    smooth = torch.nn.functional.grid_sample(
        torch.tensor(x, dtype=torch.float64)[None, None], grid[None], align_corners=False
    )
    mine = T.RandomRotation((angle, angle), "bilinear")(x.astype(np.float64))
    assert np.abs(mine - smooth[0, 0].numpy()).max() < 1e-10  # places of 40 pixels, rounded some ten times, times 255


def test_rotation_about_a_corner() -> None:
    x = np.arange(9.0).reshape(3, 3)
    turned = T.RandomRotation((90, 90), center=(0.5, 0.5), fill=-1)(x)
    np.testing.assert_array_equal(turned, loop_about(x, (0, 0)))


def loop_about(x: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """A quarter turn counter-clockwise about the middle of the pixel ``corner``."""
    out = np.full(x.shape, -1.0)
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            dx, dy = column - corner[1], row - corner[0]
            from_x, from_y = -dy + corner[1], dx + corner[0]
            if 0 <= from_x < x.shape[1] and 0 <= from_y < x.shape[0]:
                out[row, column] = x[from_y, from_x]
    return out


def test_a_fill_for_each_channel() -> None:
    x = np.ones((3, 4, 3), np.uint8)
    turned = T.RandomRotation((45, 45), fill=(7, 8, 9))(x)
    assert turned[0, 0].tolist() == [7, 8, 9]
    planes = T.RandomRotation((45, 45), fill=(7, 8, 9))(lucid.tensor(x.transpose(2, 0, 1).copy()))
    np.testing.assert_array_equal(planes.numpy(), turned.transpose(2, 0, 1))


# -- cutting and mirroring ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "top", "left"), [((5, 6), (3, 3), 1, 2), ((5, 5), (2, 4), 2, 0), ((4, 4), (4, 4), 0, 0)]
)
def test_centre_crop(old: tuple[int, int], new: tuple[int, int], top: int, left: int) -> None:
    x = np.arange(old[0] * old[1]).reshape(old)
    np.testing.assert_array_equal(T.CenterCrop(new)(x), x[top : top + new[0], left : left + new[1]])


def test_centre_crop_of_a_smaller_image() -> None:
    wanted = np.pad(np.ones((2, 3)), ((1, 2), (0, 0)))[:, :2]
    np.testing.assert_array_equal(T.CenterCrop((5, 2))(np.ones((2, 3))), wanted)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_random_crop(mode: str) -> None:
    x = RNG.integers(0, 99, (5, 6, 2))
    lucid.manual_seed(3)
    found = [T.RandomCrop((4, 3), padding=(1, 2, 3, 0), padding_mode=mode)(x) for _ in range(8)]
    generator = Generator(3)
    more = {"constant_values": 0} if mode == "constant" else {}
    padded = np.pad(x, ((2, 0), (1, 3), (0, 0)), mode, **more)  # type: ignore[call-overload]
    for each in found:
        top, left = int(generator.randint(0, 4).item()), int(generator.randint(0, 8).item())
        np.testing.assert_array_equal(each, padded[top : top + 4, left : left + 3])
    planes = lucid.tensor(x.transpose(2, 0, 1).copy())
    lucid.manual_seed(3)
    one = T.RandomCrop((4, 3), padding=(1, 2, 3, 0), padding_mode=mode)(planes)
    np.testing.assert_array_equal(one.numpy(), found[0].transpose(2, 0, 1))


def test_random_crop_that_pads_and_that_draws_nothing() -> None:
    assert T.RandomCrop(5, pad_if_needed=True, fill=3)(np.zeros((2, 5))).tolist()[0] in ([0.0] * 5, [3.0] * 5)
    lucid.manual_seed(1)
    T.RandomCrop(3)(np.zeros((3, 3)))
    assert lucid.random.get_state() == (1, 0, 0)
    filled = T.RandomCrop(4, padding=1, fill=(1, 2, 3))(lucid.zeros(3, 2, 2))
    assert filled[:, 0, 0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("flip", "axis"), [(T.RandomHorizontalFlip, -1), (T.RandomVerticalFlip, -2)], ids=["horizontal", "vertical"]
)
def test_flips(flip: Any, axis: int) -> None:
    planes = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(flip(1.0)(lucid.tensor(planes)).numpy(), np.flip(planes, axis))
    np.testing.assert_array_equal(flip(0.0)(planes[0]), planes[0])
    image = Image.fromarray(RNG.integers(0, 255, (4, 5, 3)).astype(np.uint8))
    how = Image.Transpose.FLIP_LEFT_RIGHT if axis == -1 else Image.Transpose.FLIP_TOP_BOTTOM
    assert flip(1.0)(image).tobytes() == image.transpose(how).tobytes()
    lucid.manual_seed(5)
    flipped = [not np.array_equal(flip(0.3)(planes), planes) for _ in range(50)]
    generator = Generator(5)
    assert flipped == [generator.uniform(0.0, 1.0, (), lucid.float64).item() < 0.3 for _ in range(50)]


# -- values ------------------------------------------------------------------------------------------------------------


def test_to_tensor() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 16, 2)
    found = T.ToTensor()(pixels)
    wanted = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).div(255)
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    assert found.is_contiguous()
    image = Image.fromarray(pixels[..., 0])
    np.testing.assert_array_equal(T.ToTensor()(image).numpy(), found.numpy()[:1])
    one = image.convert("1")
    np.testing.assert_array_equal(T.ToTensor()(one).numpy()[0], np.asarray(one).astype(np.float32))
    assert T.ToTensor()(pixels[..., 0].astype(np.int32) * 9).dtype == lucid.int32
    with pytest.raises(TypeError, match="got a tensor"):
        T.ToTensor()(found)


def test_normalize() -> None:
    planes = RNG.uniform(size=(2, 3, 4, 5)).astype(np.float32)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    found = T.Normalize(mean, std)(lucid.tensor(planes)).numpy()
    wanted = [[[[(float(x) - m) / s for x in row] for row in plane] for plane, m, s in zip(one, mean, std, strict=True)]
              for one in planes]  # fmt: skip
    np.testing.assert_array_equal(found, np.array(wanted).astype(np.float32))
    rows = T.Normalize(mean, std)(planes[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(rows, found[0].transpose(1, 2, 0))


def test_grey() -> None:
    pixels = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    wanted = np.asarray(Image.fromarray(pixels).convert("L"))
    grey = T.RandomGrayscale(1.0)
    np.testing.assert_array_equal(grey(pixels), np.stack([wanted] * 3, -1))
    assert grey(Image.fromarray(pixels)).mode == "RGB"
    floats = RNG.uniform(size=(3, 4, 5)).astype(np.float32)
    r, g, b = floats.astype(np.float64)
    np.testing.assert_array_equal(
        grey(lucid.tensor(floats)).numpy(), np.stack([((0.2989 * r + 0.587 * g) + 0.114 * b).astype(np.float32)] * 3)
    )
    assert T.RandomGrayscale(0.0)(pixels).tobytes() == pixels.tobytes()
    assert grey(pixels[..., 0]).tobytes() == pixels[..., 0].tobytes()


# -- all of them -------------------------------------------------------------------------------------------------------

ALL = [
    T.Resize((5, 4)),
    T.CenterCrop(3),
    T.RandomCrop(4, padding=1),
    T.RandomHorizontalFlip(),
    T.RandomVerticalFlip(),
    T.RandomRotation(30, "bilinear", expand=True),
    T.RandomGrayscale(0.5),
]
EVERY = T.Compose([*ALL, T.ToTensor(), T.Normalize([0.5], [0.5])])


class Images(Dataset):
    """Images that a worker transforms at random."""

    def __getitem__(self, index: int) -> Any:
        pixels = (np.arange(6 * 7 * 3) * (index + 3) % 251).astype(np.uint8).reshape(6, 7, 3)
        return T.Resize((4, 4))(EVERY(pixels)), T.Compose(ALL[:5])(pixels)

    def __len__(self) -> int:
        return 12


def test_every_kind_of_image_has_the_same_bits() -> None:
    pixels = RNG.integers(0, 256, (8, 7, 3)).astype(np.uint8)
    for transform in ALL:
        outs = []
        for image in (pixels, Image.fromarray(pixels), lucid.tensor(pixels.transpose(2, 0, 1).copy())):
            lucid.manual_seed(8)
            out = transform(image)
            assert type(out) is (Image.Image if isinstance(image, Image.Image) else type(image))
            outs.append(out.numpy().transpose(1, 2, 0) if isinstance(out, lucid.Tensor) else np.asarray(out))
            assert outs[-1].dtype == np.uint8
            assert not np.shares_memory(outs[-1], pixels) or np.array_equal(outs[-1], pixels)
        np.testing.assert_array_equal(outs[0], outs[1])
        np.testing.assert_array_equal(outs[0], outs[2])


def test_any_number_of_workers_gives_the_same_bits() -> None:
    def bits(workers: int) -> list[bytes]:
        loader = DataLoader(
            Images(), 3, shuffle=True, seed=2, num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )  # fmt: skip
        return [part.numpy().tobytes() for batch in [*loader, *loader] for part in batch]

    assert bits(0) == bits(3)


def test_tensors_stay_on_their_device(gpu: str) -> None:
    x = lucid.rand(3, 6, 7)
    for transform in [*ALL, T.Normalize(0.5, 0.5)]:
        lucid.manual_seed(8)
        wanted = transform(x)
        lucid.manual_seed(8)
        found = transform(x.to(gpu))
        assert found.device == gpu
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())


def test_pillow_is_not_imported() -> None:
    program = (
        "import sys, numpy, lucid\n"
        "assert 'lucid.transforms' not in sys.modules and 'multiprocessing' not in sys.modules\n"
        "print(lucid.transforms.Resize(2)(numpy.ones((4, 4, 3), numpy.uint8)).shape)\n"
        "assert not {'PIL', 'torch', 'torchvision'} & set(sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        == "(2, 2, 3)\n"
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: T.Resize(0), ValueError, "size"),
        (lambda: T.Resize((1, 2, 3)), ValueError, "size"),
        (lambda: T.Resize(4, "cubic"), ValueError, "'nearest' or 'bilinear'"),
        (lambda: T.Resize((4, 4), max_size=8), ValueError, "max_size"),
        (lambda: T.Resize(4)([[1]]), TypeError, "list"),
        (lambda: T.Resize(4)(np.zeros(3)), ValueError, r"\(3,\)"),
        (lambda: T.Resize(4)(np.zeros((3, 3), bool)), TypeError, "bool"),
        (lambda: T.Resize(4)(lucid.zeros(3)), ValueError, r"\(3,\)"),
        (lambda: T.Resize(4)(Image.new("P", (3, 3))), TypeError, "mode P"),
        (lambda: T.RandomCrop(4)(np.zeros((3, 5))), ValueError, r"\(4, 4\).*\(3, 5\)"),
        (lambda: T.RandomCrop(4, padding=(1, 2, 3)), ValueError, "padding"),
        (lambda: T.RandomCrop(4, padding_mode="wrap"), ValueError, "padding_mode"),
        (lambda: T.RandomHorizontalFlip(1.5), ValueError, "p: got"),
        (lambda: T.RandomRotation(-5), ValueError, "degrees"),
        (lambda: T.RandomRotation((1, 2, 3)), ValueError, "degrees"),
        (lambda: T.RandomRotation(5, center=(1,)), ValueError, "center"),
        (lambda: T.RandomGrayscale()(np.zeros((3, 3, 2))), ValueError, "2 channels"),
        (lambda: T.Normalize([0.5], [0.0]), ValueError, "std"),
        (lambda: T.Normalize([0.5] * 2, [1.0] * 2)(lucid.zeros(3, 2, 2)), ValueError, "3 channels"),
        (lambda: T.Normalize([0.5], [1.0])(np.zeros((2, 2), np.uint8)), TypeError, "uint8"),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
