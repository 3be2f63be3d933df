"""Certificates of an authority of the tests' own, and TLS in front of a server that speaks none."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = "DNS:localhost,IP:127.0.0.1"

LEAVES = {
    "good": ("ours", HERE, 1),
    "expired": ("ours", HERE, -1),
    "elsewhere": ("ours", "DNS:example.org", 1),
    "untrusted": ("others", HERE, 1),
}
"""Certificates by name: who signs it, what it is for, and for how many days from now it is in force."""

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, ``ours``, of another one, ``others``, and of what they signed, in one folder."""

    folder: Path

    def trusted(self, name="ours"):
        """The authority's own certificate, for clients."""
        return str(self.folder / f"{name}.pem")

    def context(self, name):
        """What a server needs that has a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        # gRPC ends a connection that was not told of HTTP/2.
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


def certificates(folder):
    """Certificates in a folder; skips where there is no OpenSSL."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl, which makes the certificates")

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], cwd=folder, check=True, capture_output=True)

    for name in ("ours", "others"):
        openssl(
            "req", "-x509", *CURVE, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", 2, "-subj", f"/CN={name}"
        )
    for name, (signer, host, days) in LEAVES.items():
        openssl("req", *CURVE, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.cnf").write_text(f"subjectAltName={host}\n")
        signed = ["-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-CAcreateserial", "-days", days]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-extfile", f"{name}.cnf", "-out", f"{name}.pem")
    return Certificates(folder)


@contextlib.contextmanager
def in_front(context, port=None):
    """Port where TLS is spoken, and what comes in is passed on to a port of this machine; hung up on for None."""

    async def serve(reader, writer):
        with contextlib.closing(writer):
            if port is None:
                return
            theirs, ours = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(ours):
                await asyncio.gather(copy(reader, ours), copy(theirs, writer), return_exceptions=True)

    async def copy(reader, writer):
        while content := await reader.read(1 << 16):
            writer.write(content)
            await writer.drain()
        # TLS has no half that could be closed: whoever has said all is done.
        writer.close()

    loop = asyncio.new_event_loop()
    # Failed handshakes are what these tests are about.
    loop.set_exception_handler(lambda *_: None)
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def end():
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
