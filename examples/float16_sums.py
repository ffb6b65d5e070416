"""What PyTorch adds in float16, seen by the oracle: one rounding an image, one a tap of the kernel.

    python examples/float16_sums.py

prints, for the convolutions of a small network, how many of the gradients are beyond what float32 sums leave, and how
far; then the same with the profile that grants such sums. What is printed depends on the processor: where oneDNN has
float16 convolutions (AVX512-FP16) nothing is beyond. ``docs/findings.md`` tells the story.
"""

from __future__ import annotations

from oracle import check
from oracle.judge.verdicts import LayerVerdict

MODEL = "small_bottleneck"


def gradients(layers: list[LayerVerdict]) -> dict[str, list[LayerVerdict]]:
    """The gradients of convolutions' weights, and those that convolutions hand back to their inputs."""
    found: dict[str, list[LayerVerdict]] = {"weight": [], "input": []}
    for layer in layers:
        if "conv" in layer.name and layer.kind == "parameter_gradient":
            found["weight"].append(layer)
        if "conv" in layer.name and layer.kind == "activation_gradient":
            found["input"].append(layer)
    return found


def main() -> None:
    """Judge PyTorch's float16 train step layer by layer, at both profiles."""
    for name in ("torch:float16:sums-in-float32", "torch:float16:sums-in-float16"):
        [case] = check(MODEL, [name], mode="train", views=["local"], size=64, batch=4).cases
        [verdict] = case.subjects
        print(f"declared: {verdict.precision}")
        for of, layers in gradients(list(verdict.layers)).items():
            over = sum(not layer.agrees for layer in layers)
            most = max(layer.used for layer in layers)
            print(f"  gradients of a convolution's {of}: {over} of {len(layers)} over, the worst {most:.2f} budgets")
        print(f"  {verdict.sentence()}")


if __name__ == "__main__":
    main()
