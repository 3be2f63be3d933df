"""What the Open Inference Protocol calls dtypes, and Triton's configuration files."""

from __future__ import annotations

from collections.abc import Mapping

PROTOCOL: Mapping[str, str] = {
    "float32": "FP32",
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign}INT{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""The protocol's names, by NumPy's."""


def configured(dtype: str) -> str:
    """Name of a NumPy dtype in a configuration of Triton: ``TYPE_FP32``."""
    return f"TYPE_{PROTOCOL[dtype]}"
