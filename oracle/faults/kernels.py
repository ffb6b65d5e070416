"""Faults of kernels: tiles, borders, strides, groups, accumulation, races, pooling."""

from __future__ import annotations

import numpy as np

from oracle.case.case import Case
from oracle.faults.fault import Array, Context, Injection, Site, changed, fault, masked
from oracle.graph.graph import INPUT, Node

SPATIAL: tuple[str, ...] = ("conv", "norm", "relu", "max pool")


def _large(layer: Node, case: Case) -> bool:
    """Not a 1x1 kernel."""
    return layer.window.taps > 1


def _same_size(layer: Node, case: Case) -> bool:
    return layer.window.taps > 1 and not layer.window.strided


def _strided(layer: Node, case: Case) -> bool:
    return layer.window.strided and layer.window.taps > 1


def _grouped(layer: Node, case: Case) -> bool:
    return layer.attributes.get("groups", 1) > 1


def _many(layer: Node, case: Case) -> bool:
    return case.batch > 1


def _taps(layer: Node, case: Case) -> bool:
    return layer.op == "conv" and layer.window.taps > 1


@fault("right edge dropped", "kernel", "The last column of the output is never written.", *SPATIAL)
def _right_edge(site: Site) -> Injection:
    def output(c: Context) -> Array:
        y = changed(c.y)
        y[..., -1:] = 0
        return y

    return Injection(output=output)


@fault("bottom edge dropped", "kernel", "The rows that do not fill a tile are never written.", *SPATIAL)
def _bottom_edge(site: Site) -> Injection:
    def output(c: Context) -> Array:
        y = changed(c.y)
        y[..., y.shape[2] // 2 * 2 - 1 :, :] = 0
        return y

    return Injection(output=output)


@fault("last channels dropped", "kernel", "The channels that do not fill a vector are never written.", *SPATIAL)
def _last_channels(site: Site) -> Injection:
    def output(c: Context) -> Array:
        y = changed(c.y)
        y[:, -max(1, y.shape[1] // 16) :] = 0
        return y

    return Injection(output=output)


@fault(
    "stale tile", "kernel", "A race: one tile is read before it is written, and holds its neighbour's values.", "conv"
)
def _stale_tile(site: Site) -> Injection:
    def output(c: Context) -> Array:
        y = changed(c.y)
        side = max(1, y.shape[3] // 2)
        y[-1, 0, :side, -side:] = y[-1, 0, :side, :side]
        return y

    return Injection(output=output)


@fault(
    "stale buffer", "kernel", "A workspace is used again: one image holds the image before it.", *SPATIAL, where=_many
)
def _stale_buffer(site: Site) -> Injection:
    def output(c: Context) -> Array:
        y = changed(c.y)
        y[1] = y[0]
        return y

    return Injection(output=output)


@fault("first image for all", "kernel", "All images hold the first one's values.", *SPATIAL, where=_many)
def _first_for_all(site: Site) -> Injection:
    return Injection(output=lambda c: np.repeat(c.y[:1], len(c.y), 0))


@fault(
    "first image's shortcut",
    "kernel",
    "The first image's shortcut is added to all images.",
    "sum",
    where=_many,
    engines=("torch",),
)
def _first_shortcut(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: site.ended(main + shortcut[:1]))


@fault(
    "decisions of the first image",
    "kernel",
    "The ReLU passes where the first image is positive.",
    "relu",
    where=_many,
    needs="channels that hold both signs, differently in each image, at this ReLU",
)
def _first_decisions(site: Site) -> Injection:
    return Injection(output=lambda c: masked(c.x, c.x[:1]))


@fault("dropout left on", "kernel", "One element in eight is dropped, the others are made larger.", "relu", "flatten")
def _dropout(site: Site) -> Injection:
    def output(c: Context) -> Array:
        words = np.random.Philox(key=site.draw.integer(1 << 62)).random_raw(c.y.size).reshape(c.y.shape)
        return np.where(words % np.uint64(8) == 0, 0, c.y * np.float32(8 / 7)).astype(c.y.dtype)

    return Injection(output=output)


@fault("batch reversed", "kernel", "The images of a batch come out in the wrong order.", *SPATIAL, where=_many)
def _batch_reversed(site: Site) -> Injection:
    return Injection(output=lambda c: np.ascontiguousarray(c.y[::-1]))


@fault("stride starts one off", "kernel", "A strided kernel starts one pixel late.", "conv", where=_strided)
def _late_start(site: Site) -> Injection:
    return Injection(output=lambda c: site.wrong_conv(c, np.roll(c.x, -1, 3)))


@fault("stride of one", "kernel", "The stride is ignored: the output is twice as large.", "conv", where=_strided)
def _no_stride(site: Site) -> Injection:
    return Injection(output=lambda c: site.wrong_conv(c, c.x, stride=(1, 1)))


@fault("dilation off by one", "kernel", "Taps are two pixels apart instead of one.", "conv", where=_taps)
def _dilated(site: Site) -> Injection:
    def output(c: Context) -> Array:
        reach = 2 * (site.layer.window.kernel[0] // 2)
        return site.wrong_conv(c, c.x, dilation=(2, 2), padding=(reach, reach))

    return Injection(output=output)


@fault(
    "padding on the wrong side", "kernel", "All padding is put behind the image, none before it.", "conv", where=_large
)
def _wrong_side(site: Site) -> Injection:
    def output(c: Context) -> Array:
        p = site.layer.window.padding[0]
        return site.wrong_conv(c, np.pad(c.x, ((0, 0), (0, 0), (0, 2 * p), (0, 2 * p))), padding=(0, 0))

    return Injection(output=output)


@fault("padding repeats the border", "kernel", "Padding repeats the border instead of zeros.", "conv", where=_large)
def _edge_padding(site: Site) -> Injection:
    def output(c: Context) -> Array:
        p = site.layer.window.padding[0]
        return site.wrong_conv(c, np.pad(c.x, ((0, 0), (0, 0), (p, p), (p, p)), mode="edge"), padding=(0, 0))

    return Injection(output=output)


@fault("no padding", "kernel", "Padding is forgotten: the output is smaller.", "conv", where=_large)
def _no_padding(site: Site) -> Injection:
    def fits(c: Context) -> bool:
        return min(c.x.shape[2:]) >= site.layer.window.kernel[0]

    return Injection(output=lambda c: site.wrong_conv(c, c.x, padding=(0, 0)) if fits(c) else c.y * 0)


@fault("groups swapped", "kernel", "Two groups' outputs change places.", "conv", where=_grouped)
def _groups_swapped(site: Site) -> Injection:
    def output(c: Context) -> Array:
        size = c.y.shape[1] // site.layer.attributes["groups"]
        return np.roll(c.y, size, axis=1)

    return Injection(output=output)


@fault("groups read alike", "kernel", "Every group reads the first group's input channels.", "conv", where=_grouped)
def _groups_alike(site: Site) -> Injection:
    def output(c: Context) -> Array:
        size = c.x.shape[1] // site.layer.attributes["groups"]
        return site.wrong_conv(c, np.tile(c.x[:, :size], (1, site.layer.attributes["groups"], 1, 1)))

    return Injection(output=output)


@fault(
    "kernel flipped",
    "kernel",
    "A true convolution instead of a correlation: the kernel is turned.",
    "conv",
    where=_taps,
)
def _flipped(site: Site) -> Injection:
    return Injection(
        output=lambda c: site.wrong_conv(c, c.x, np.ascontiguousarray(site.parameter("weight")[..., ::-1, ::-1]))
    )


@fault("kernel rows and columns exchanged", "kernel", "Taps are read in the wrong order.", "conv", where=_taps)
def _taps_transposed(site: Site) -> Injection:
    return Injection(
        output=lambda c: site.wrong_conv(c, c.x, np.ascontiguousarray(site.parameter("weight").swapaxes(2, 3)))
    )


@fault("tail of the sum dropped", "kernel", "The input channels that do not fill a vector are left out.", "conv")
def _short_sum(site: Site) -> Injection:
    def output(c: Context) -> Array:
        weight = changed(site.parameter("weight"))
        weight[:, -max(1, weight.shape[1] // 16) :] = 0
        return site.wrong_conv(c, c.x, weight)

    return Injection(output=output)


@fault("one tap left out", "kernel", "One tap of the kernel is skipped for one output channel.", "conv", where=_taps)
def _missing_tap(site: Site) -> Injection:
    def output(c: Context) -> Array:
        weight = changed(site.parameter("weight"))
        weight[site.draw.integer(weight.shape[0]), :, 0, 0] = 0
        return site.wrong_conv(c, c.x, weight)

    return Injection(output=output)


@fault("block of the sum counted twice", "kernel", "One block of input channels is added twice.", "conv")
def _double_block(site: Site) -> Injection:
    def output(c: Context) -> Array:
        weight = changed(site.parameter("weight"))
        weight[:, : max(1, weight.shape[1] // 8)] *= 2
        return site.wrong_conv(c, c.x, weight)

    return Injection(output=output)


@fault(
    "thread takes its neighbour's weights",
    "kernel",
    "A quarter of the channels uses the weights of the quarter before.",
    "conv",
)
def _neighbour(site: Site) -> Injection:
    def output(c: Context) -> Array:
        y, part = changed(c.y), max(1, c.y.shape[1] // 4)
        y[:, part : 2 * part] = c.y[:, :part]
        return y

    return Injection(output=output)


@fault("lane one off", "kernel", "Vector lanes are rotated by one pixel within a row.", *SPATIAL)
def _lane(site: Site) -> Injection:
    return Injection(output=lambda c: np.roll(c.y, 1, axis=3))


@fault("rows and columns exchanged", "kernel", "The image comes out transposed.", *SPATIAL)
def _image_transposed(site: Site) -> Injection:
    return Injection(output=lambda c: np.ascontiguousarray(c.y.swapaxes(2, 3)))


@fault("bias added twice", "kernel", "The bias is added twice.", "linear")
def _double_bias(site: Site) -> Injection:
    return Injection(output=lambda c: c.y + site.parameter("bias"))


@fault("bias left out", "kernel", "The bias is not added.", "linear")
def _no_bias(site: Site) -> Injection:
    return Injection(output=lambda c: c.y - site.parameter("bias"))


@fault(
    "max pool pads with zero",
    "kernel",
    "Max pooling pads with zero, not with minus infinity.",
    "max pool",
    no_op="behind a ReLU nothing is negative, so a zero never wins over what it should not",
)
def _zero_pad(site: Site) -> Injection:
    def output(c: Context) -> Array:
        y = changed(c.y)
        y[..., 0, :], y[..., :, 0] = np.maximum(y[..., 0, :], 0), np.maximum(y[..., :, 0], 0)
        return y

    return Injection(output=output)


@fault("max pool's window too small", "kernel", "Max pooling looks at 2x2 of 3x3.", "max pool")
def _small_window(site: Site) -> Injection:
    def output(c: Context) -> Array:
        x = np.pad(c.x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        rows, columns = c.y.shape[2:]
        parts = [x[..., i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in (0, 1) for j in (0, 1)]
        return np.maximum.reduce(parts)

    return Injection(output=output)


@fault("average for max", "kernel", "Max pooling averages.", "max pool")
def _average(site: Site) -> Injection:
    def output(c: Context) -> Array:
        x = np.pad(c.x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        rows, columns = c.y.shape[2:]
        parts = [x[..., i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
        return (np.sum(parts, axis=0) / 9).astype(np.float32)

    return Injection(output=output)


@fault(
    "average pool divides by another count",
    "kernel",
    "The mean divides by the padded number of pixels.",
    "average pool",
)
def _count(site: Site) -> Injection:
    def output(c: Context) -> Array:
        pixels = c.x.shape[2] * c.x.shape[3]
        return (c.y * np.float32(pixels / (pixels + 1))).astype(np.float32)

    return Injection(output=output)


@fault("average pool drops a row", "kernel", "The mean's sum leaves out the last row.", "average pool")
def _row(site: Site) -> Injection:
    def output(c: Context) -> Array:
        pixels = c.x.shape[2] * c.x.shape[3]
        return (c.y - c.x[:, :, -1:].sum((2, 3), keepdims=True) / pixels).astype(np.float32)

    return Injection(output=output)


@fault("no ReLU", "kernel", "The ReLU lets everything pass.", "relu")
def _no_relu(site: Site) -> Injection:
    return Injection(output=lambda c: c.x)


@fault("leaky ReLU", "kernel", "The ReLU lets a hundredth of what is negative pass.", "relu")
def _leaky(site: Site) -> Injection:
    return Injection(output=lambda c: np.where(c.x > 0, c.y, c.x * np.float32(0.01)))


@fault("ReLU with a ceiling", "kernel", "The ReLU is a ReLU6.", "relu")
def _ceiling(site: Site) -> Injection:
    return Injection(output=lambda c: np.minimum(c.y, np.float32(6)))


def _relu_at_end(layer: Node, case: Case) -> bool:
    return layer.attributes["relu"]


@fault("shortcut left out", "kernel", "The shortcut is not added.", "sum", engines=("torch",))
def _no_shortcut(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: site.ended(main + shortcut * 0))


@fault("shortcut added twice", "kernel", "An in-place sum runs twice.", "sum", engines=("torch",))
def _twice(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: site.ended(main + shortcut + shortcut))


@fault(
    "ReLU before the sum",
    "kernel",
    "The block's ReLU stands before the sum.",
    "sum",
    engines=("torch",),
    where=_relu_at_end,
)
def _early(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: main.relu() + shortcut)


@fault(
    "no ReLU after the sum", "kernel", "The block's ReLU is left out.", "sum", engines=("torch",), where=_relu_at_end
)
def _no_end(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: main + shortcut)


@fault(
    "ReLU after the sum of a pre-activation block",
    "kernel",
    "A pre-activation block ends in a ReLU.",
    "sum",
    engines=("torch",),
    where=lambda layer, case: not layer.attributes["relu"],
)
def _extra_end(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: (main + shortcut).relu())


@fault(
    "image's channels reversed",
    "kernel",
    "The first layer takes BGR for RGB.",
    "conv",
    where=lambda layer, case: INPUT in layer.inputs,
)
def _bgr(site: Site) -> Injection:
    return Injection(input=lambda c: np.ascontiguousarray(c.x[:, ::-1]))
