"""What a run does to its machine, read while it lasts: processor, memory and GPUs, and what throttles them."""
