"""Addresses of served models: ``grpc://HOST:PORT/MODEL[:VERSION]``, or ``http://…``."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from engines.formats.option import Option
from engines.model.table import SHOWN
from engines.store import ARTIFACT_NAME
from engines.tools import one_line

SCHEMES = ("grpc", "grpcs", "http", "https")
"""What a server is asked over; those that end in s are encrypted."""

PRECISIONS = ("fp32", "fp16", "int8")

ALLOWED = "grpc://HOST:PORT/MODEL[:VERSION][?precision=fp16], or grpcs://, http://, https://"

LONGEST_MODEL = 100
"""Characters of a model's name, as of one that is not served: with host and version it names what a test is about."""

HOST = re.compile(r"[A-Za-z0-9._:%-]{1,110}")
VERSION = re.compile(r"[0-9]{1,19}")

TOKEN = "CONFORMANCE_SERVED_TOKEN"
"""The environment variable of the token that servers ask for: a command line is no place for it."""


@dataclass(frozen=True)
class Address:
    """Where a model is served; ``version`` is empty where the server chooses.

    ``precision`` is what it is judged as: no server tells.
    """

    scheme: str
    host: str
    port: int
    model: str
    version: str = ""
    precision: str = "fp32"

    @property
    def server(self) -> str:
        """Host and port, as clients take them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def protocol(self) -> str:
        """Either ``grpc`` or ``http``."""
        return self.scheme.removesuffix("s")

    @property
    def encrypted(self) -> bool:
        """Whether it is asked over TLS."""
        return self.scheme.endswith("s")

    @property
    def local(self) -> bool:
        """Whether the server is on this machine, as far as its name tells."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def name(self) -> str:
        """Model and version, as ids have them: ``digits_vgg.2``."""
        return f"{self.model}.{self.version}" if self.version else self.model

    def __str__(self) -> str:
        """What the errors begin with: where, and which model."""
        version = f", version {self.version}" if self.version else ""
        return f"{self.scheme}://{self.server}: model {self.model!r}{version}"


def parse(text: str) -> Address:
    """Address of a text; raises ValueError, which says what was found and what is allowed."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{one_line(str(error))}; allowed: {ALLOWED}") from error
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"it has a user; allowed: a token in the environment variable {TOKEN}")
    if parts.scheme not in SCHEMES or not parts.hostname or port is None or parts.fragment:
        raise ValueError(f"it is no such address; allowed: {ALLOWED}")
    model, _, version = unquote(parts.path.removeprefix("/")).partition(":")
    if not HOST.fullmatch(parts.hostname):
        raise ValueError(
            f"its host is {SHOWN.repr(parts.hostname)}; allowed: a name or number of at most 110 characters"
        )
    if not ARTIFACT_NAME.fullmatch(model) or len(model) > LONGEST_MODEL:
        allowed = f"at most {LONGEST_MODEL} letters, digits and any of . _ + -, as in {ALLOWED}"
        raise ValueError(f"its model is {SHOWN.repr(model)}; allowed: {allowed}")
    if version and not VERSION.fullmatch(version):
        allowed = "a whole number of at most 19 digits, or none for the server's own choice"
        raise ValueError(f"its version is {SHOWN.repr(version)}; allowed: {allowed}")
    asked = parse_qs(parts.query, keep_blank_values=True)
    if set(asked) - {"precision"}:
        raise ValueError(f"it asks for {one_line(', '.join(sorted(asked)))}; allowed: precision")
    (precision,) = asked.get("precision", ["fp32"])[:1]
    if precision not in PRECISIONS or len(asked.get("precision", [])) > 1:
        raise ValueError(
            f"its precision is {one_line(', '.join(asked['precision']))}; allowed: one of {', '.join(PRECISIONS)}"
        )
    return Address(parts.scheme, parts.hostname, port, model, version, precision)


def refusal(text: str) -> str | None:
    """Why a text is no address; None where it is one."""
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None


OPTION = Option(
    name="served",
    metavar="URL",
    help="check a model that a server has, too: grpc://HOST:PORT/MODEL[:VERSION] or http://…; repeatable "
    "(docs/served.md)",
    default=(),
    refuse=refusal,
    repeatable=True,
    for_one_model=True,
)


def named(texts: Sequence[str]) -> dict[str, Address]:
    """Addresses by the names that tell their variants apart: the server is named where several have the same model."""
    addresses = list(dict.fromkeys(parse(text) for text in texts))
    counts = Counter((address.precision, address.name) for address in addresses)
    found: dict[str, Address] = {}
    for address in addresses:
        name = address.name
        if counts[address.precision, name] > 1:
            name += f"-{address.scheme}-{address.host.replace(':', '_')}-{address.port}"
        found[f"{address.precision}-{name}"] = address
    return found
