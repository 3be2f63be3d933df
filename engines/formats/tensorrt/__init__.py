"""TensorRT: plans built from ONNX with Polygraphy, run with PyCUDA on an NVIDIA GPU; version-compatible ones too."""
