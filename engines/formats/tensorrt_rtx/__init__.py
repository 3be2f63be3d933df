"""TensorRT for RTX: plans that are built on any machine, for GPUs of the RTX generations, and run there."""
