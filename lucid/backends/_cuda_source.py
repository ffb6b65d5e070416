"""What the CUDA sources say of themselves: parameters of kernels, fields of structures, values of enumerations.

A launch names its arguments; their order is looked up here, in the text that the compiler gets.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lucid.backends._cuda_compile import FOLDER, KERNELS
from lucid.kernels.declare import Structure

_KERNEL = re.compile(r"\bKERNEL\((\w+)(?:_##name)?, (?:\w+|LIMITS\([^)]*\)), ([^{]*)\) \{")
_STRUCT = re.compile(r"\bstruct (\w+) \{\s*((?:int64_t [\w, ]+;\s*)+)")
_ENUM = re.compile(r"\benum \w* ?\{([^}]*)\}")
_TILE = re.compile(r"\bstruct TileOf<(float|double), (\w+)> \{([^}]*)\}")
_CONSTANT = re.compile(r"\b([A-Z]+) = ([\d.]+)")
_NUMBERS = {"int32_t": np.int32, "int64_t": int, "uint64_t": np.uint64, "double": float, "bool": bool}


class Parameter(NamedTuple):
    """``number`` makes a scalar of what is given; of ``structure`` it may be the fields; a pointer has neither."""

    name: str
    structure: str | None = None
    number: Any = None
    written: bool = False
    optional: bool = False

    @property
    def pointer(self) -> bool:
        return self.structure is None and self.number is None


class Signature(NamedTuple):
    """The file of a kernel, its parameters, and the values that its enumerations name."""

    file: str
    parameters: tuple[Parameter, ...]
    values: dict[str, int]


def _text(path: Any) -> str:
    """A source without comments and continued lines."""
    text = re.sub(r"//[^\n]*", "", path.read_text()).replace("\\\n", " ")
    return re.sub(r"[ \t]+", " ", text)


@cache
def fields_of(structure: str) -> tuple[str, ...]:
    """The names of a structure's fields, which are all int64, in order."""
    for path in (*KERNELS.values(), *FOLDER.glob("*/*.cuh")):
        for name, body in _STRUCT.findall(_text(path)):
            if name == structure:
                return tuple(re.findall(r"\w+", body.replace("int64_t", "")))
    raise KeyError(structure)


@cache
def tiles() -> tuple[tuple[str, str, dict[str, float]], ...]:
    """Of every tile of tuning.cuh the type, the name (``NAME`` where one serves all) and the constants."""
    found = _TILE.findall(_text(FOLDER / "contraction" / "tuning.cuh"))
    return tuple(
        (kind, name, {key: float(value) for key, value in _CONSTANT.findall(body)}) for kind, name, body in found
    )


@cache
def signatures() -> dict[str, Signature]:
    """Every kernel by its name; ``contract`` stands for all instances of the contraction."""
    found: dict[str, Signature] = {}
    for path in KERNELS.values():
        text = _text(path)
        values = {
            name.lower(): code for names in _ENUM.findall(text) for code, name in enumerate(re.findall(r"\w+", names))
        }
        for name, parameters in _KERNEL.findall(text):
            parsed = tuple(_parameter(declared) for declared in parameters.split(","))
            assert name not in found, f"{path.name}: a second kernel {name!r}"
            found["contract" if name == "name" else name] = Signature(path.name, parsed, values)
    return found


def _parameter(declared: str) -> Parameter:
    kind, _, name = declared.strip().rpartition(" ")
    constant, kind = kind.startswith("const "), kind.removeprefix("const ")
    if kind.startswith("Maybe<") or kind.endswith("*"):
        return Parameter(name, written=not (constant or "const " in kind), optional=kind.startswith("Maybe<"))
    if kind in _NUMBERS:
        return Parameter(name, number=_NUMBERS[kind])
    return Parameter(kind.lower(), structure=kind)


def structure(name: str, numbers: dict[str, int]) -> Any:
    """Numbers by name as the structure of that name, whose fields are int64; what is not given is 0."""
    fields = fields_of(name)
    assert numbers.keys() <= set(fields), (name, numbers)
    values = [numbers.get(field, 0) for field in fields]
    return np.frombuffer(np.array(values, np.int64).tobytes(), f"V{8 * len(values)}").reshape(())


def in_order(kernel: str, named: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The file of ``kernel``, and its arguments in the order of its parameters.

    A structure is named as its type is, in small letters; a number may be the name of an enumeration's value.

    Raises:
        TypeError: an argument is missing, or there is no parameter of that name.
    """
    file, parameters, values = signatures()[kernel]
    arguments: list[Any] = []
    try:
        for name, struct, number, *_ in parameters:
            value = named[name]
            if struct is not None and isinstance(value, Structure):
                packed = value.packed.get("cuda")
                if packed is None:
                    packed = value.packed["cuda"] = structure(struct, value)
                value = packed
            elif number is not None:
                value = number(values[value] if isinstance(value, str) else value)
            arguments.append(value)
    except KeyError as error:
        raise TypeError(f"{file}: kernel {kernel!r}: {error} is missing") from None
    if len(named) != len(parameters):
        known = {parameter.name for parameter in parameters}
        raise TypeError(f"{file}: kernel {kernel!r} has no parameter {', '.join(sorted(set(named) - known))}")
    return file, tuple(arguments)
