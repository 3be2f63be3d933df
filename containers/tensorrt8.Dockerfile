# TensorRT 8.6 comes as wheels for Python 3.10, which is Ubuntu 22.04's; PyCUDA is compiled, which takes nvcc and Python's headers.
FROM nvidia/cuda:12.1.1-cudnn8-devel-ubuntu22.04
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# Where there is no driver, as while packages are installed, PyCUDA links with CUDA's stub of it.
ENV LIBRARY_PATH=/usr/local/cuda/lib64/stubs
