"""One client of a served model: ``tritonclient`` over gRPC or HTTP, whose errors come out as two kinds."""

from __future__ import annotations

import importlib
import os
import re
import ssl
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.served.address import TOKEN, Address
from engines.formats.served.dtypes import PROTOCOL

if TYPE_CHECKING:
    from numpy.typing import NDArray

PATIENCE_S = 120.0
"""How long a server may take for one answer before it counts as hanging."""

REACH_S = 10.0
"""How long a server may take to be reached, and to answer what it is."""

DTYPES: Mapping[str, str] = {theirs: ours for ours, theirs in PROTOCOL.items()}

GONE = frozenset({"StatusCode.UNAVAILABLE", "502", "503", "504"})
"""The statuses of a server that is not there, or not yet."""

REFUSED_TOKEN = frozenset({"StatusCode.UNAUTHENTICATED", "StatusCode.PERMISSION_DENIED", "401", "403"})

LATE = frozenset({"StatusCode.DEADLINE_EXCEEDED", "499"})

UNSUPPORTED = frozenset({"StatusCode.UNIMPLEMENTED", "404", "405", "501"})
"""The statuses of a request that a server knows nothing of: extensions of the protocol are optional."""


AUTHORITIES = {"grpc": "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "http": "SSL_CERT_FILE"}
"""The environment variables that name a file of authorities that are trusted, in place of the system's."""

CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED: (?P<why>[^:]+)|(?P<host>Hostname Verification Check failed)")
"""What gRPC says of a certificate that it refuses."""


class GoneError(RunnerError):
    """A server cannot be reached, or ended while it was asked: the same request may be asked again."""


class UnsupportedError(RunnerError):
    """A server has no such extension of the protocol."""


@dataclass(frozen=True)
class Tensor:
    """An input or output as a server describes it; -1 in its shape is any size."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Metadata:
    """What a server says of a model. ``largest`` batch is None where it does not say, and where it takes any."""

    versions: tuple[str, ...]
    platform: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    largest: int | None = None


@dataclass(frozen=True)
class Server:
    """What a server says of itself."""

    name: str
    version: str
    extensions: frozenset[str]


@dataclass(frozen=True)
class Answer:
    """What a server answered to one request: outputs by its own names; those in shared memory are None."""

    outputs: Mapping[str, NDArray[Any] | None]
    shapes: Mapping[str, tuple[int, ...]]
    version: str
    request: str


@dataclass(frozen=True)
class Statistics:
    """What a server counted of a model so far: requests that it answered, and nanoseconds by where they went."""

    requests: int
    nanoseconds: Mapping[str, int]


BINARY = "binary_tensor_data"
"""What a server lists among its extensions that takes binary data over HTTP; gRPC has nothing else."""

SPENT = ("queue", "compute_input", "compute_infer", "compute_output")
"""Where a server's time goes, in the protocol's words."""


class Connection:
    """A client for one thread. Everything it cannot do is a RunnerError that names URL, model, and what was found.

    Over HTTP, tensors are JSON where they are not ``binary``, which is an extension of the protocol.
    """

    def __init__(self, address: Address, *, binary: bool = True) -> None:
        self.address, self.binary = address, binary
        self._module: Any = importlib.import_module(f"tritonclient.{address.protocol}")
        trusted = _authorities(address) if address.encrypted else None
        token = os.environ.get(TOKEN)
        self._headers = {"headers": {"authorization": f"Bearer {token}"}} if token else {}
        if address.protocol == "grpc":
            # A channel of its own, which comes back soon after a restart.
            often = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]
            often += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]
            size = self._module.MAX_GRPC_MESSAGE_SIZE
            often += [("grpc.max_send_message_length", size), ("grpc.max_receive_message_length", size)]
            self._client = self._module.InferenceServerClient(
                address.server, ssl=address.encrypted, root_certificates=trusted, channel_args=often
            )
            self._deadline = {"client_timeout": PATIENCE_S}
            self._soon: dict[str, Any] = {"client_timeout": REACH_S, **self._headers}
        else:
            self._client = self._module.InferenceServerClient(
                address.server,
                ssl=address.encrypted,
                ssl_options={"ca_certs": trusted} if trusted else None,
                connection_timeout=REACH_S,
                network_timeout=PATIENCE_S,
            )
            self._deadline, self._soon = {}, dict(self._headers)

    def call(self, what: str, *arguments: Any, **more: Any) -> Any:
        """Result of a method of tritonclient's client; raises RunnerError where it fails."""
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, what)(*arguments, **more)
        except InferenceServerException as error:
            raise self._error(str(error.status()), " ".join(str(error.message()).split())) from error
        except ssl.SSLCertVerificationError as error:
            raise self._refused(error.verify_message) from error
        except (OSError, EOFError) as error:  # over HTTP, with TLS and timeouts among them
            raise GoneError(f"{self.address}: cannot be reached: {type(error).__name__}: {error}") from error
        except Exception as error:
            # geventhttpclient has a family of its own for answers that break off.
            if type(error).__module__.split(".")[0] in {"geventhttpclient", "gevent"}:
                raise GoneError(f"{self.address}: broke off: {type(error).__name__}: {error}") from error
            raise

    def _error(self, status: str, message: str) -> RunnerError:
        if status in REFUSED_TOKEN:
            known = f"refuses the token of ${TOKEN}" if self._headers else f"asks for a token, and ${TOKEN} has none"
            return RunnerError(f"{self.address}: the server {known}: {message or status}")
        if status in GONE and (found := CERTIFICATE.search(message)):
            return self._refused(found["why"] or "it is not one of this host")
        if status in GONE:
            return GoneError(f"{self.address}: cannot be reached: {message or status}")
        if status in LATE:
            return RunnerError(f"{self.address}: gave no answer in time: {message}")
        if status in UNSUPPORTED:
            return UnsupportedError(f"{self.address}: {message or status}")
        return RunnerError(f"{self.address}: the server answers {status}: {message}")

    def _refused(self, why: str) -> RunnerError:
        return RunnerError(
            f"{self.address}: its certificate is refused: {why.strip(' .')}; expected one of {self.address.host}, in "
            f"force now, by an authority that is trusted: ${AUTHORITIES[self.address.protocol]} names a file of these"
        )

    # What the server says.

    def server(self) -> Server:
        """Name, version and extensions of the server."""
        found = self._plain(self.call("get_server_metadata", **self._soon))
        return Server(str(found["name"]), str(found["version"]), frozenset(map(str, found.get("extensions") or ())))

    def ready(self) -> bool:
        """Whether the model can be asked."""
        try:
            return bool(self.call("is_model_ready", self.address.model, self.address.version, **self._soon))
        except UnsupportedError:
            return False  # MLServer's answer for a model that it does not have

    def metadata(self) -> Metadata:
        """What the server says of the model."""
        found = self._plain(self.call("get_model_metadata", *self._asked, **self._soon))
        sides = [
            {
                str(t["name"]): Tensor(str(t["datatype"]), tuple(int(size) for size in t.get("shape") or ()))
                for t in found.get(side) or ()
            }
            for side in ("inputs", "outputs")
        ]
        # KServe says null of what it has none of.
        versions = tuple(map(str, found.get("versions") or ()))
        return Metadata(versions, str(found.get("platform") or ""), sides[0], sides[1], self._largest())

    def _largest(self) -> int | None:
        """Largest batch of the model: Triton's extension of the protocol."""
        try:
            found = self._plain(self.call("get_model_config", *self._asked, **self._soon))
        except UnsupportedError:
            return None
        return int(found.get("config", found).get("max_batch_size", 0)) or None

    def statistics(self) -> Statistics:
        """What the server counted so far; raises UnsupportedError where it counts nothing."""
        found = self._plain(self.call("get_inference_statistics", *self._asked, **self._soon))
        totals = dict.fromkeys(SPENT, 0)
        requests = 0
        for model in found["model_stats"]:
            counted = model["inference_stats"]
            requests += int(counted["success"].get("count", 0))
            for place in SPENT:
                totals[place] += int(counted[place].get("ns", 0))
        return Statistics(requests, totals)

    @property
    def _asked(self) -> tuple[str, str]:
        return self.address.model, self.address.version

    def _plain(self, found: Any) -> Any:
        """The protocol's JSON of an answer, whichever way it came."""
        if self.address.protocol == "http":
            return found
        from google.protobuf.json_format import MessageToDict

        return MessageToDict(found, preserving_proto_field_name=True)

    # What it is asked.

    def tensor(self, name: str, array: NDArray[Any]) -> Any:
        """An input with its data in the request."""
        given = self.described(name, array)
        given.set_data_from_numpy(array, **self._as)
        return given

    def described(self, name: str, array: NDArray[Any]) -> Any:
        """An input by name, shape and dtype, without its data."""
        return self._module.InferInput(name, list(array.shape), PROTOCOL[str(array.dtype)])

    def wanted(self, name: str) -> Any:
        """An output that is asked for."""
        return self._module.InferRequestedOutput(name, **self._as)

    @property
    def _as(self) -> dict[str, bool]:
        return {"binary_data": self.binary} if self.address.protocol == "http" else {}

    @property
    def _sent(self) -> dict[str, Any]:
        """Headers of a request: tritonclient does not say that JSON is JSON, and KServe then takes it for bytes."""
        if self.address.protocol == "grpc" or self.binary:
            return self._headers
        return {"headers": {**self._headers.get("headers", {}), "content-type": "application/json"}}

    def infer(
        self, inputs: Sequence[Any], outputs: Sequence[Any], request: str, placed: Collection[str] = ()
    ) -> Answer:
        """Answer to one request, which is sent once; the data of the outputs in ``placed`` are in shared memory."""
        found = self.call(
            "infer",
            self.address.model,
            inputs,
            self.address.version,
            outputs=outputs,
            request_id=request,
            **self._deadline,
            **self._sent,
        )
        response = found.get_response()
        if self.address.protocol == "grpc":
            shapes = {o.name: tuple(o.shape) for o in response.outputs}
            version, identity = response.model_version, response.id
        else:
            shapes = {o["name"]: tuple(o["shape"]) for o in response.get("outputs", ())}
            version, identity = response.get("model_version") or "", response.get("id") or ""
        return Answer(
            {name: None if name in placed else self._array(found, name) for name in shapes},
            shapes,
            str(version),
            str(identity),
        )

    def _array(self, found: Any, name: str) -> NDArray[Any] | None:
        try:
            array = found.as_numpy(name)
        except ValueError as error:
            raise RunnerError(f"{self.address}: output {name!r} is not what its shape says: {error}") from error
        return None if array is None else np.asarray(array)

    def close(self) -> None:
        """End the connection."""
        self._client.close()


def _authorities(address: Address) -> str | None:
    """File of the authorities that are trusted; None for the system's. RunnerError where there is no such file."""
    variable = AUTHORITIES[address.protocol]
    if not (path := os.environ.get(variable)):
        return None
    try:
        # Both clients would go on without any, or end in words of OpenSSL's.
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise RunnerError(
            f"{address}: ${variable} is {path}; expected a file of certificates in PEM ({error})"
        ) from error
    return path
