"""Images: boxes that overlap less, and files of pixels; on the host."""

from __future__ import annotations

import io

import numpy as np

from lucid.onnx._importer import Call, imports
from lucid.onnx._need import need


@imports("NonMaxSuppression", host=None)
def _import_non_max_suppression(
    call: Call,
    boxes: np.ndarray,
    scores: np.ndarray,
    most: np.ndarray | None = None,
    overlap: np.ndarray | None = None,
    least: np.ndarray | None = None,
) -> np.ndarray:
    """The boxes of each class with the highest scores, none of which overlaps a better one by more than ``overlap``."""
    count = 0 if most is None else max(0, int(most.reshape(-1)[0]))
    threshold = np.float32(0.0 if overlap is None else overlap.reshape(-1)[0])
    found = []
    for batch in range(scores.shape[0]):
        corners = _corners(boxes[batch], bool(call["center_point_box"]))
        for kind in range(scores.shape[1]):
            order = np.argsort(-scores[batch, kind], kind="stable")
            if least is not None and least.size:
                order = order[scores[batch, kind, order] > least.reshape(-1)[0]]
            kept: list[int] = []
            for box in order:
                if len(kept) >= count:
                    break
                if not (kept and (_overlaps(corners[box], corners[kept]) > threshold).any()):
                    kept.append(int(box))
            found += [(batch, kind, box) for box in kept]
    return np.array(found, np.int64).reshape(-1, 3)


def _corners(boxes: np.ndarray, centred: bool) -> np.ndarray:
    """The least and the largest of both coordinates."""
    if centred:
        x, y, width, height = boxes.T
        return np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], -1)
    return np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1)


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of the intersection in the union; 0 for boxes without an area."""
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    area = np.where((shared > 0).all(1), shared.prod(1), 0)
    own, their = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(1)
    union = own + their - area
    return np.where((own > 0) & (their > 0) & (union > 0), area / np.where(union > 0, union, 1), 0)


@imports("ImageDecoder", host=None)
def _import_image_decoder(call: Call, encoded: np.ndarray) -> np.ndarray:
    """By Pillow, a package of its own."""
    image = need("PIL.Image", "ImageDecoder", "pillow")
    kind = call["pixel_format"]
    if kind not in ("RGB", "BGR", "Grayscale"):
        raise call.refuse(f"pixel_format is {kind!r}; it may be 'RGB', 'BGR' or 'Grayscale'")
    try:
        with image.open(io.BytesIO(encoded.tobytes())) as opened:
            pixels = np.asarray(opened.convert("L" if kind == "Grayscale" else "RGB"))
    except (OSError, ValueError, image.DecompressionBombError) as error:
        raise call.refuse(f"its bytes are no image that Pillow reads: {error}") from error
    if kind == "Grayscale":
        return pixels[:, :, None]
    return np.ascontiguousarray(pixels[:, :, ::-1]) if kind == "BGR" else pixels
