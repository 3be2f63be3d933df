"""The C++ programs: each runs the plans of one of the TensorRT formats, in a process that keeps its plan loaded."""
