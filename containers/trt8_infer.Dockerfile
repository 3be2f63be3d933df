# The image is Ubuntu 20.04, whose GCC 9 has no floating-point std::from_chars: engines/native needs GCC 11.
FROM nvcr.io/nvidia/tensorrt:23.03-py3
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends software-properties-common \
    && add-apt-repository --yes ppa:ubuntu-toolchain-r/test \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends g++-11 python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV CXX=g++-11
