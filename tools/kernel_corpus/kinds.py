"""What a check may say of each kind of bug: one of these words stands in the kind, the place, the note or the draw."""

from __future__ import annotations

# Of a denominator or a statistic that is wrong, each row or channel is off by a factor that is its own.
OWN = "of its own"

WORDS: dict[str, tuple[str, ...]] = {
    "a column left out": ("column", "zero", "left out"),
    "a constant factor": ("factor", "lean away"),
    "a mask off by one": ("mask", "left out", "label", "column", "one more", OWN),
    "a tail left out": ("tile", "left out", "missing"),
    "a tap left out": ("tap", "left out", "missing"),
    "a term left out": ("left out", "missing", "twice", "exclusive", OWN),
    "a truncating store": ("cut off", "truncat", "towards zero"),
    "accumulators in the storage type": ("accumulat", "sums in"),
    "another divisor": ("divi", "factor", "sum for", "left out"),
    "another eps": ("eps",),
    "bias missing": ("bias", "shift", "channel", "feature"),
    "broadcast wrong": ("broadcast", "repeat", "for all", "first column"),
    "carry lost": ("tile", "carry", "begins anew"),
    "ceil_mode wrong": ("divi", "counted", "padding", "window", "ceil"),
    "count_include_pad wrong": ("divi", "counted", "padding", "count_include_pad"),
    "dilation ignored": ("dilation", "shape"),
    "factors in TF32": ("TF32", "tf32"),
    "fast-math exp": ("exp", "lean", "function", "fast"),
    "groups mixed": ("group", "channel"),
    "infinities clamped": ("infinit",),
    "input overwritten": ("after the call", "overwritten"),
    "label smoothing ignored": ("smoothing",),
    "lost negative zero": ("wrong sign", "negative zero"),
    "mean left out": ("mean", "variance", "statistic"),
    "NaN swallowed": ("NaN is swallowed",),
    "negative part": ("negative", "slope", "factor"),
    "one rounding too many": ("rounded", "rounding", "in between"),
    "overflow": ("NaN where", "infinit", "overflow"),
    "padding as zero": ("padding", "negative part", "zero"),
    "strides ignored": ("stride", "contiguous", "C order", "memory"),
    "stride ignored": ("stride", "shift", "row"),
    "tanh for erf": ("tanh", "sigmoid"),
    "the batch's first element for all": ("for all", "repeat", "of the batch"),
    "the kernel flipped": ("flip", "exchanged", "turned"),
    "the kernel transposed": ("transpos", "turned", "exchanged"),
    "ties counted twice": ("tie", "twice", "window"),
    "unbiased variance": ("unbiased", OWN),
    "uninitialised": ("past the last whole tile", "written", "the last", "zeros"),
    "windows wrong": ("window", "left out", "column", "row"),
    "wrong axis": ("axis", "axes", "transpos", "shape"),
}
