"""The faults that no test tells of: what became of each, and why it is none that could be told.

An entry is no excuse for a hole. Its state is asserted as it is: within the noise of the model itself, or within the
factor that an engine may be beyond it, with no more changed classes than the sound file has.
"""

from __future__ import annotations

from faults.change import WITHIN_FACTOR, WITHIN_NOISE

BOTH_WAYS = (
    "kernels write and read by the scale and zero point that the file says: only the end of the range is cut off"
)

UNNOTICED: dict[str, tuple[str, str]] = {
    "digits-onnx-int8: scales of the weights in another order": (
        WITHIN_NOISE,
        "the scales of this layer's channels are nearly alike",
    ),
    "digits-onnx-int8: calibrated on noise": (
        WITHIN_FACTOR,
        "noise over the whole range of the inputs gives ranges that hold the samples, in coarser steps",
    ),
    "marks-tflite-int8: the zero point of an activation off by 20": (WITHIN_FACTOR, BOTH_WAYS),
    "marks-tflite-int8: the input's zero point off by 5": (WITHIN_NOISE, BOTH_WAYS),
    "price-tflite-int8: 3 bits in the last layer": (
        WITHIN_FACTOR,
        "its 64 weights err both ways, and the sum of them by just what INT8 may err in the whole model",
    ),
}
"""State and reason by a change's id."""
