"""Every tolerance of the oracle, and where it comes from. Nothing else in the package holds a number that decides.

The measure is relative: the root mean square of ``subject - truth`` over that of ``truth``, the truth being PyTorch in
float64 with the very same float32 weights and input. The yardstick is the error that PyTorch's own float32 run makes at
the same layer of the same case. These are factors on a measured error, not yet budgets derived for each layer.
"""

from __future__ import annotations

import math

# A layer may be this many times as wrong as PyTorch's own float32. The project's acceptance rule: over the ten
# models lucid was measured between 0.3 and 1.3, PyTorch without oneDNN up to 1.5, and a small, badly conditioned train
# step takes a healthy implementation to 2.
FACTOR = {"eval": 1.5, "train": 2.0}

# One relative rounding error of each dtype.
UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}

# The yardstick counts as at least this many unit roundoffs. Where PyTorch happens to be exact or lucky (a loss, a
# gradient that a few large elements dominate) its error says nothing; any chain of three or four roundings makes this
# much.
FLOOR_ROUNDOFFS = 4.0

# The largest single deviation, over the truth's root mean square, may be this many times PyTorch's own. Extremes
# scatter more than means: healthy pairs were measured up to 1.5. It is here for what an average hides: one wrong
# element or channel.
LARGEST_FACTOR = 8.0

# A sum is zero but for float64's rounding if it is smaller than this share of its terms (the unit roundoff is 1e-16; a
# case amplifies it some hundred times).
RESIDUE = 1e-11

# Of a million normally distributed deviations the largest is this many times their root mean square.
LARGEST_OF_MANY = 5.0

# A ReLU or a max pooling whose input is a tie to within rounding may decide either way; the gradient then jumps by a
# known amount, which is allowed for, times this for what the layers before make of it (measured: up to 1.7).
BRANCH_FACTOR = 4.0

# A tensor of n elements shows an error's size only to within its own scatter: the logarithm of the ratio of two root
# mean squares over n independent values has a standard deviation of 1 / sqrt(n). This many of them are granted.
SCATTER_DEVIATIONS = 3.0

# The truth's own rounding counts when the subject is a float64 run: both are wrong by about as much.
FLOAT64_FACTOR = 4.0


def scatter(elements: int) -> float:
    """What the allowance of a tensor of so many elements is multiplied by.

    Example:
        >>> round(scatter(1), 1), round(scatter(64), 2), round(scatter(100_000), 2)
        (20.1, 1.45, 1.01)
    """
    return math.exp(SCATTER_DEVIATIONS / math.sqrt(max(1, elements)))


def yardstick_floor(precision: str) -> float:
    """The least error that is granted at a precision.

    Example:
        >>> yardstick_floor("float32") == 4 * 2**-24
        True
    """
    return FLOOR_ROUNDOFFS * UNIT_ROUNDOFF[precision]


def yardstick_scale(precision: str) -> float:
    """What turns PyTorch's float32 error into that expected at ``precision``: it scales with the unit roundoff."""
    if precision == "float32":
        return 1.0
    return FLOAT64_FACTOR * UNIT_ROUNDOFF[precision] / UNIT_ROUNDOFF["float32"]
