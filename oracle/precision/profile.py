"""What a runtime computes in: a format, and the choices of a healthy implementation that cost more than the usual ones.

A *profile* is a base precision and options, written with commas between them::

    float16, sums in float16
    tf32, truncated
    float32, one-pass variance, winograd 6x6

Capitals do not matter, and hyphens may stand for spaces. It says where numbers are rounded, in one place:
`oracle.precision.rounding` makes the local view's error model of it and `oracle.budget.driven` the disturbances of the
free view. What the options grant:

- ``sums in float16``, ``sums in bfloat16``: pieces of a gradient are sums in float32, but each is stored, and added to
  what is stored. Of a parameter's gradient the pieces are the images of the batch, of a convolution's input gradient
  the taps of the kernel. That is what a library does that multiplies matrices of columns (``im2col``), image by image,
  and what accumulating gradients over small batches does. (``sums in float32`` says that it does not, the default.)
- ``truncated``: TF32 cuts an operand's low bits off instead of rounding them (``rounded``, the default). All operands
  become smaller, by u in the mean at most, and no sum averages that away.
- ``one-pass variance``: a normalisation takes the batch's variance as the mean of the squares less the square of the
  mean, in float32, and loses what the two have in common.
- ``winograd 2x2``, ``4x4``, ``6x6``: 3x3 convolutions of stride 1 run by Winograd's algorithm with output tiles of that
  size, in float32.

Options never change what a precision stores, and a profile without any is the base precision itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from oracle.errors import UsageError
from oracle.precision.difference import PRECISIONS, Precision


@dataclass(frozen=True)
class Format:
    """Where a base precision rounds, as unit roundoffs.

    Args:
        stored: of every tensor that is written.
        sums: of the partial sums of a contraction or reduction.
        factors: of the factors of a contraction, where the hardware shortens them.
        weights: of the parameters, where they are not float32.
        least: half the distance of the smallest stored numbers.
        matrix_units: whether such contractions usually run on matrix units, which cut partial sums off instead of
            rounding them (an error up to twice as large).
    """

    stored: float
    sums: float
    factors: float = 0.0
    weights: float = 0.0
    least: float = 0.0
    matrix_units: bool = False


# The lower precisions add in float32. TF32 keeps 10 bits of a factor's fraction.
FORMATS: dict[Precision, Format] = {
    "float64": Format(2.0**-53, 2.0**-53),
    "float32": Format(2.0**-24, 2.0**-24, least=2.0**-150),
    "tf32": Format(2.0**-24, 2.0**-24, factors=2.0**-11, least=2.0**-150, matrix_units=True),
    "bfloat16": Format(2.0**-8, 2.0**-24, weights=2.0**-8, least=2.0**-134, matrix_units=True),
    "float16": Format(2.0**-11, 2.0**-24, weights=2.0**-11, least=2.0**-25, matrix_units=True),
}

TRUNCATED, ONE_PASS = "truncated", "one-pass variance"
WINOGRAD = {"winograd 2x2": 2, "winograd 4x4": 4, "winograd 6x6": 6}

# By base, the options that exist for it, in the order of the canonical spelling; of a group, at most one. What is
# usual may be said too, and is then left out.
_GROUPS: dict[Precision, tuple[tuple[str, ...], ...]] = {
    "float64": (),
    "float32": ((ONE_PASS,), tuple(WINOGRAD)),
    "tf32": ((TRUNCATED, "rounded"), (ONE_PASS,)),
    "bfloat16": (("sums in bfloat16", "sums in float32"), (ONE_PASS,)),
    "float16": (("sums in float16", "sums in float32"), (ONE_PASS,)),
}
_USUAL = ("rounded", "sums in float32")


@dataclass(frozen=True)
class Profile:
    """A base precision and its options; made by `profile_of`.

    Args:
        base: what is stored.
        options: in the order and spelling of the table above.

    Example:
        >>> profile = profile_of("Float16, sums-in-float16")
        >>> str(profile), profile.base, profile.sums_in_storage
        ('float16, sums in float16', 'float16', True)
    """

    base: Precision
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join((self.base, *self.options))

    @property
    def format(self) -> Format:
        """Where the base rounds."""
        return FORMATS[self.base]

    @property
    def sums_in_storage(self) -> bool:
        """Whether gradients of parameters are added up image by image in the storage type."""
        return f"sums in {self.base}" in self.options

    @property
    def truncated(self) -> bool:
        """Whether factors are cut off instead of rounded."""
        return TRUNCATED in self.options

    @property
    def one_pass_variance(self) -> bool:
        """Whether a batch's variance is a difference of two means."""
        return ONE_PASS in self.options

    @property
    def winograd(self) -> int:
        """The side of the output tiles of Winograd's algorithm; 0 where convolutions are direct."""
        return max((WINOGRAD.get(option, 0) for option in self.options), default=0)

    def in_mode(self, mode: str) -> Profile:
        """What is left of it where there is no backward pass and statistics are stored ones.

        Example:
            >>> str(profile_of("float16, sums in float16").in_mode("eval"))
            'float16'
        """
        if mode == "train":
            return self
        kept = (option for option in self.options if option != ONE_PASS and not option.startswith("sums in "))
        return Profile(self.base, tuple(kept))

    def with_more(self) -> list[Profile]:
        """This profile with one more option, for each that its base has.

        Example:
            >>> [str(each) for each in profile_of("tf32, truncated").with_more()]
            ['tf32, truncated, one-pass variance']
        """
        found = []
        for group in _GROUPS[self.base]:
            if not set(group) & set(self.options):
                found += [_canonical(self.base, (*self.options, each)) for each in group if each not in _USUAL]
        return found


def is_option(text: str) -> bool:
    """Whether ``text`` alone is an option of some base precision, as where a list was split at its commas.

    Example:
        >>> is_option("Sums-in-float16"), is_option("float16")
        (True, False)
    """
    return any(_plain(text) == _plain(option) for base in PRECISIONS for option in options_of(base))


def hint(profiles: Sequence[Profile]) -> str:
    """What is said of a tensor that the declared profile flags and these do not.

    Example:
        >>> hint([profile_of("tf32, truncated")])
        "within what 'tf32, truncated' allows: declare it if that is what this runtime does (--precision)"
    """
    names = " or ".join(f"'{each}'" for each in profiles)
    return f"within what {names} allows: declare it if that is what this runtime does (--precision)"


def options_of(base: Precision) -> list[str]:
    """The options that may follow a base precision.

    Example:
        >>> options_of("float16")
        ['sums in float16', 'sums in float32', 'one-pass variance']
    """
    return [option for group in _GROUPS[base] for option in group]


@lru_cache(256)
def _parsed(text: str) -> Profile:
    names = [_plain(part) for part in text.split(",")]
    if names[0] not in PRECISIONS:
        raise UsageError(
            f"precision: got {text!r}; may be {', '.join(PRECISIONS)}, and options after a comma, such as "
            "'float16, sums in float16'"
        )
    base: Precision = names[0]
    spelled = {_plain(option): option for option in options_of(base)}
    for name in names[1:]:
        if name not in spelled:
            known = f"after {base} may come {', '.join(spelled.values())}" if spelled else f"{base} has no options"
            raise UsageError(f"precision: got {text!r}; {known}")
    chosen = [spelled[name] for name in names[1:]]
    for group in _GROUPS[base]:
        both = sorted(set(group) & set(chosen))
        if len(both) > 1:
            raise UsageError(f"precision: got {text!r}; {' and '.join(both)} exclude each other")
    return _canonical(base, chosen)


def _canonical(base: Precision, options: Iterable[str]) -> Profile:
    given = set(options)
    return Profile(base, tuple(each for each in options_of(base) if each in given and each not in _USUAL))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip().lower())


def profile_of(text: str | Profile) -> Profile:
    """The profile that ``text`` spells.

    Raises:
        UsageError: the base or an option is unknown, or two options exclude each other.

    Example:
        >>> profile_of("bfloat16, truncated")
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: precision: got 'bfloat16, truncated'; after bfloat16 may come sums in bfloat16,
        sums in float32, one-pass variance
    """
    return text if isinstance(text, Profile) else _parsed(text)


def take_profile(
    subject: str, options: tuple[str, ...], usual: Mapping[Precision, str] | None = None
) -> tuple[Profile, tuple[str, ...]]:
    """Take the precision and its options out of a subject's options; returns the profile, and the others.

    They may stand alone (``torch:float16:sums-in-float32``) or together (``torch:float16, sums in float32``).

    Args:
        subject: its name, for the message.
        options: the subject's.
        usual: by base, the option that the subject declares where it is told nothing of that kind.

    Raises:
        UsageError: two precisions are given, or an option does not go with the precision.

    Example:
        >>> profile, others = take_profile("torch", ("cpu", "float16", "sums-in-float16"))
        >>> str(profile), others
        ('float16, sums in float16', ('cpu',))
        >>> usual = {"float16": "sums in float16"}
        >>> [str(take_profile("torch", given, usual)[0]) for given in (("float16",), ("float16", "sums in float32"))]
        ['float16, sums in float16', 'float16']
    """
    known = {_plain(option) for base in PRECISIONS for option in options_of(base)}
    bases: list[str] = []
    named: list[str] = []
    others: list[str] = []
    for option in options:
        parts = [_plain(part) for part in option.split(",")]
        if all(part in known or part in PRECISIONS for part in parts):
            bases += [part for part in parts if part in PRECISIONS]
            named += [part for part in parts if part in known]
        else:
            others.append(option)
    if len(bases) > 1:
        raise UsageError(f"subject: {bases[1]!r} is a second precision for {subject}, which has {bases[0]} already")
    found = profile_of(", ".join([*(bases or ["float32"]), *named]))
    more = (usual or {}).get(found.base)
    said = {_plain(option) for group in _GROUPS[found.base] if more in group for option in group}
    if more is not None and not said & set(named):
        found = _canonical(found.base, (*found.options, more))
    return found, tuple(others)
