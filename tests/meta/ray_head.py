"""A real Ray head for the tests, on ports of its own, in a process group of its own that ends with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from servers import free_ports

START_S = 90.0
"""How long a head may take to open its door."""

STOP_S = 5.0
"""How long it may take to end before it is killed."""

OPEN = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
"""The environment of a head that asks for no token, and of those who join it."""


@contextlib.contextmanager
def ray_head(resources):
    """Address of a head with two CPUs and ``resources``, which are words of ``ray start``."""
    port, door = free_ports(2)
    # Sockets in it may have no long names.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    words = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
    words += [f"--port={port}", f"--ray-client-server-port={door}", "--include-dashboard=false", *resources]
    log = (folder / "head.log").open("wb")
    process = subprocess.Popen(
        [*words, f"--temp-dir={folder}"],
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **OPEN},
    )
    try:
        deadline = time.monotonic() + START_S
        while not _open(door):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no Ray head:\n{(folder / 'head.log').read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)
        yield f"ray://127.0.0.1:{door}"
    finally:
        log.close()
        _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _stop(process):
    import psutil  # Ray brings it along

    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGTERM)
    _, left = psutil.wait_procs([psutil.Process(process.pid), *below] if process.poll() is None else below, STOP_S)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
