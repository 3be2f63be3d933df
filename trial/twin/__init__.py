"""The twin of a model: its own FP32 graph with every rounding replaced by a random one of a precision.

Several runs of it show by how much sound conversions of this very model differ from it, before any file is judged.
"""

from trial.twin.errors import TwinError
from trial.twin.precision import PRECISIONS, Precision
from trial.twin.twin import Twin

__all__ = ["PRECISIONS", "Precision", "Twin", "TwinError"]
