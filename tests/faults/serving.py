"""A server that answers wrongly, as a plugin of the command (``-p tests.faults.serving``): it lives as long as that.

How it is started is in the file that ``SERVED`` names.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.meta.servers import Server

SERVED = "SERVED"
"""The variable that names the file, which ``faults.served`` writes."""

TOLD = "served.json"
"""The name of that file, in the folder of the command."""


class Serving:
    """Ends the server with the command."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def pytest_unconfigure(self) -> None:
        """End the server and all that it started."""
        self._server.kill(signal.SIGTERM)


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start the server before the suite asks what it serves."""
    told = json.loads(Path(os.environ[SERVED]).read_text(encoding="utf-8"))
    server = Server(told["words"], told["ports"], Path(told["log"]), told["environment"])
    early_config.pluginmanager.register(Serving(server))
    server.start()
