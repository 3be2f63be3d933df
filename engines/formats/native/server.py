"""A process of a C++ program that keeps a plan loaded, and runs one request after the other (``--serve``)."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from engines.errors import RunnerError
from engines.formats.native.program import BUILD_COMMAND
from engines.formats.tensorrt.versions import refusal_hint

PATIENCE_S = 600
"""How long loading a plan or a request may take before the program counts as hanging."""

GRACE_S = 10
"""How long a program may take to end when there is nothing more to do, before it is killed."""

EXITS = {
    1: "it ran out of memory, or is at fault itself",
    2: "it refused what it was given",
    3: "CUDA or TensorRT failed",
}
"""What the programs' exit codes mean."""

OLDER = 'found the option "--serve"'
"""What a program that was built before there was ``--serve`` says of it."""

_ANSWER = re.compile(r"(?P<number>\d+) (?:0|(?P<code>[123]) (?P<why>.+))")
_LONGEST = 1 << 20
_QUOTED = 200
_SAID = 4000


class Server:
    """A program with a plan loaded, which it serves until it is closed, or until a request goes wrong beyond refusal.

    ``what`` names it in messages. A request that the program refuses (exit code 2) leaves it running. Any other error
    ends it: a device that failed may give wrong answers afterwards, and a late answer would be taken for the next one.
    Raises RunnerError where the program cannot be started, does not serve, or cannot load the plan.
    """

    def __init__(self, what: str, program: Path, plan: Path, *, allow_host_code: bool) -> None:
        self._what, self._requests, self._heard = what, 0, 0
        try:
            # A file, which takes whatever is written: a pipe that nobody empties would stop the program.
            self._stderr = tempfile.TemporaryFile(prefix="native-")  # noqa: SIM115 - open as long as the program is
        except OSError as error:
            raise RunnerError(
                f"{what}: there is no place for what it says: {error}; TMPDIR names a folder to write to"
            ) from error
        command = [str(program), "--serve", "--plan", str(plan), *(["--allow-host-code"] if allow_host_code else [])]
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
            )
        except OSError as error:
            self._stderr.close()
            raise RunnerError(f"{what} cannot be started: {error}; expected a program ({program})") from error
        # Called too where nobody closes it, and as this process ends. Where this process is killed, the end of its
        # standard input ends the program.
        self._end = weakref.finalize(self, _end, self._process, self._stderr)
        self._ask("while it loaded the plan", b"")

    @property
    def ended(self) -> bool:
        """Whether it takes no more requests: it was closed, or ended by an error that was told."""
        return not self._end.alive

    def close(self) -> None:
        """Have the program end; one that does not is killed."""
        self._end()

    def run(self, words: Sequence[str], told: str) -> None:
        """Have the program run a request, given its words; ``told`` says in messages what it is.

        Raises RunnerError that names the request, where the program refuses it, fails, ends, or gives no answer.
        """
        if self._process.poll() is not None:
            died = self._died(f"between requests {self._requests} and {self._requests + 1}")
            self.close()
            raise died
        self._requests += 1
        self._heard = self._written()
        during = f"in request {self._requests} ({told})"
        self._ask(during, b"".join(os.fsencode(word) + b"\0" for word in words) + b"\0")

    def _ask(self, during: str, request: bytes) -> None:
        try:
            code, why = self._answer(during, request)
        except BaseException:  # an interrupt's, too: its answer would come when nobody waits for it
            self._process.kill()
            self.close()
            raise
        if code == 0:
            return
        what = f"{self._what}, {during}, answered with exit code {code}"
        if code != 2:
            what += " and ended"
            self.close()
        raise RunnerError(f"{what}, {EXITS[code]}: {why}{refusal_hint(why)}")

    def _answer(self, during: str, request: bytes) -> tuple[int, str]:
        """Exit code and message that a request is answered with; for none, the first line, which says it is ready."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request)
        except BrokenPipeError:
            raise self._died(during) from None
        line = self._line(during)
        found = _ANSWER.fullmatch(line.decode("utf-8", "backslashreplace"))
        if found is None or int(found["number"]) != self._requests:
            said = line[:_QUOTED].decode("utf-8", "backslashreplace")
            raise RunnerError(
                f"{self._what}, {during}, wrote {said!r} to standard output; "
                f'expected "{self._requests} 0", or {self._requests}, an exit code and why'
            )
        return int(found["code"] or 0), found["why"] or ""

    def _line(self, during: str) -> bytes:
        """The line that it writes, without its end; whatever it is where more follows, or it is too long."""
        assert self._process.stdout is not None
        deadline, line = time.monotonic() + PATIENCE_S, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in line and len(line) < _LONGEST:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise RunnerError(f"{self._what}, {during}, gave no answer within {PATIENCE_S} s, and was ended")
                if not (part := self._process.stdout.read(1 << 16)):
                    raise self._died(during)
                line += part
        return line.removesuffix(b"\n")

    def _died(self, during: str) -> RunnerError:
        """What to tell of a program that answers no more."""
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return RunnerError(f"{self._what}, {during}, closed its standard input or output, and was ended")
        self._stderr.seek(max(self._heard, self._written() - _SAID))
        text = self._stderr.read().decode("utf-8", "backslashreplace").strip()
        said = text or "(it wrote nothing to standard error)"
        if code == 2 and not self._requests and OLDER in said:
            return RunnerError(
                f"{self._what} is of an older build, which has no --serve; build it anew: {BUILD_COMMAND}"
            )
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = "unknown"
            return RunnerError(f"{self._what}, {during}, was killed by signal {-code} ({name}): {said}")
        if code == 0:
            return RunnerError(f"{self._what}, {during}, ended with exit code 0 and without an answer: {said}")
        meaning = EXITS.get(code, "no code that it should end with")
        return RunnerError(
            f"{self._what}, {during}, ended with exit code {code}, {meaning}: {said}{refusal_hint(said)}"
        )

    def _written(self) -> int:
        """How many bytes it has written to standard error."""
        return os.fstat(self._stderr.fileno()).st_size


def _end(process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
    """End a program: it ends with its standard input, or is killed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    stderr.close()
