"""An NDIF server, which runs programs: one request each.

A program's source, its arguments, and a key that names the model travel to the server; the
program's result travels back. A job is handed in, then polled until it is done. The connection may
break in between, and steps that fail because of the network are tried again, a few times. Errors at
the server or on the way become a `ServerError` in one sentence.

Source of the protocol: nnsight's ``RemoteBackend``, which does the sending; see
`rgb_circuit.programs` for what a program may contain.
"""

import io
import json
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import nnsight
import pydantic
import torch
import zstandard
from huggingface_hub.errors import HTTPError
from nnsight import TransformersModel

from ..bars import tqdm
from ..errors import InputError, ServerError, first_line
from ..module.nnsight_internals import (
    CONFIG,
    HUB_SPELLINGS,
    RemoteBackend,
    RemoteError,
    ResponseModel,
)
from .jobs import Jobs, Pending

# Tries of a step that the network interrupts, and seconds before the second; each further wait is
# twice as long.
TRIES = 5
FIRST_WAIT = 1.0

# Seconds between two polls of a job: at first, and at most.
POLLS = (0.02, 2.0)

# Seconds of silence after which a job counts as lost, for example because the server restarted.
LOST = 30.0

# Errors of the network, as opposed to answers of the server.
INTERRUPTIONS = (
    ConnectionError,
    httpx.TransportError,
    # Truncated answers and results.
    pydantic.ValidationError,
    zstandard.ZstdError,
)


@dataclass
class Server:
    """A remote model's server, and the traffic with it.

    Attributes:
        url: of the server.
        key: the server's name for the model.
        environment: the model's settings, sent with each request.
        requests, sent, received: jobs sent so far, and the bytes of jobs and of results.
    """

    url: str
    key: str
    environment: dict
    requests: int = 0
    sent: int = 0
    received: int = 0

    @classmethod
    def of(cls, wrapped: TransformersModel, served: str, remote: bool | str) -> "Server":
        """The server for a model without weights.

        Args:
            served: the repository or folder that the server loaded.
            remote: the server's URL, or True for the one of nnsight's configuration.

        Raises:
            InputError: a URL that is invalid or holds a password, or a model whose name the hub
                does not know.
        """
        said, url = (
            ("remote", remote) if isinstance(remote, str) else ("NDIF_HOST", CONFIG.API.HOST)
        )
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            parts = httpx.URL()
        # The URL appears in a run's manifest and report, and in messages.
        if "@" in url:
            raise InputError(
                f"{said} holds a user or a password; give the URL without, and a key in "
                "NDIF_API_KEY"
            )
        if not (parts.scheme in ("http", "https") and parts.host):
            raise InputError(f"{said} is {url!r}; give a URL such as https://api.ndif.us")
        url = url.rstrip("/")
        # This package is not installed there: its programs have to travel by value.
        nnsight.register("rgb_circuit.programs")
        if wrapped.repo_id != served or os.path.isdir(served):
            # nnsight asks the hub how a repository is spelled; a folder is no repository.
            HUB_SPELLINGS[wrapped.repo_id] = served
        try:
            key = wrapped.to_model_key()
        except (OSError, ValueError, HTTPError) as error:
            raise InputError(
                f"cannot look up {served!r} on the hub ({first_line(error)}); check the name and "
                "the network"
            ) from error
        return cls(url, key, wrapped._remoteable_get_env())

    def run(
        self,
        wrapped: TransformersModel,
        program: Callable,
        arguments: tuple,
        jobs: Jobs | None = None,
    ) -> Any:
        """Run ``program(wrapped, *arguments)`` on the server; returns its result. See
        `execute.execute`.

        Args:
            jobs: keeps the job's id; with it, the job is not waited for.

        Raises:
            InputError: a key that cannot be sent.
            ServerError, Pending: as `execute.execute`.
        """
        with wrapped.session(backend=_Backend(self, jobs)):
            found = program(wrapped, *arguments)
            found.save()
        return found


class _Backend(RemoteBackend):
    """nnsight's backend, which also tries again, explains errors in one sentence, counts bytes, and
    never unpickles objects."""

    # Set by nnsight; None until a job is handed in.
    job_id: str | None

    def __init__(self, server: Server, jobs: Jobs | None = None) -> None:
        super().__init__(server.key, host=server.url, env=server.environment, blocking=False)
        # httpx would refuse such a header only when sending it, with the key in its message.
        if not (
            self.api_key.isascii()
            and self.api_key.isprintable()
            and self.api_key == self.api_key.strip()
        ):
            raise InputError(
                "the key begins or ends with a space, or holds what cannot be sent; set "
                "NDIF_API_KEY to the key alone"
            )
        self.server = server
        self.noted = None if jobs is None else (jobs, jobs.number())

    def __call__(self, tracer):
        with _StatusLine() as self.display:
            found = self.persist(
                lambda: self.fetched(tracer, *self.noted) if self.noted else self.awaited(tracer)
            )
        # With blocking=False, nnsight leaves this to the caller.
        self._push(found, tracer)

    def awaited(self, tracer):
        """The values that the job saved; hands the job in first, unless that was done."""
        if self.job_id is None:
            self.submit(tracer)
        wait, most = POLLS
        found = None
        while found is None:
            time.sleep(wait)
            wait = min(1.5 * wait, most)
            try:
                found = self.persist(self.poll)
                lost = time.monotonic() - self.display.heard > LOST
            except _Gone:
                lost = True
            except _Failed as failed:
                self.job_id = None
                raise failed.error from failed.error.__cause__
            if lost:
                self.job_id = None
                raise ConnectionError("it no longer has the job or its result")
        return found

    def fetched(self, tracer, jobs, number):
        """The values that a job saved, if it was handed in before and is done; else hands it in if
        necessary, and raises Pending."""
        if (result := jobs.result(number)) is not None:
            return self.unpacked(result)
        if known := jobs.handed_in(number):
            self.job_id, since = known
            # The silence counts from when the job was handed in.
            self.display.heard -= time.time() - since
            try:
                found = self.poll()
                if found is not None:
                    return found
                if time.monotonic() - self.display.heard < LOST:
                    raise Pending(1)
            except _Failed as failed:
                # The next call hands it in again.
                jobs.note(number, None)
                raise _explained(failed.error, self.server) from failed.error
            except _Gone as gone:
                if time.time() - since < LOST:
                    raise ServerError(
                        f"the NDIF server at {self.server.url} says that a job is done and does "
                        "not hand out its result "
                        f"({first_line(gone.__cause__ or gone)}); ask whoever runs it about its "
                        "object store"
                    ) from gone
        self.submit(tracer)
        jobs.note(number, (self.job_id, time.time()))
        raise Pending(1)

    def poll(self, tracer=None):
        try:
            return super().poll(tracer)
        except RemoteError as error:
            raise _Failed(error) from error

    def download_result(self, url):
        try:
            return super().download_result(url)
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (403, 404, 410):
                raise _Gone from error
            raise

    def persist(self, step):
        """The result of ``step()``, which is tried again if the network interrupts it."""
        wait = FIRST_WAIT
        for tries_left in reversed(range(TRIES)):
            try:
                return step()
            except (*INTERRUPTIONS, httpx.HTTPStatusError, RemoteError) as error:
                if not (_is_interruption(error) and tries_left):
                    # A server that refuses a key may repeat it in its answer, which a traceback
                    # would show.
                    raise _explained(error, self.server) from (
                        None if _is_refusal(error) else error
                    )
                self.display.say(f"lost the connection, trying again in {wait:.0f} s")
            time.sleep(wait)
            wait *= 2

    def _post(self, request, blob):
        self.server.requests += 1
        self.server.sent += len(blob)
        return super()._post(request, blob)

    def finalize(self, content):
        self.server.received += len(content)
        if self.compress:
            content = zstandard.ZstdDecompressor().decompress(content)
        found = self.unpacked(content)
        if self.noted:
            jobs, number = self.noted
            jobs.keep(number, content)
        return found

    def unpacked(self, content):
        """The values that a job saved."""
        try:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise ServerError(
                f"the NDIF server at {self.server.url} sent something else than tensors "
                f"({first_line(error)}); check the URL"
            ) from error


class _Failed(Exception):
    """A job failed, and polling again will not change that; ``error`` is nnsight's error."""

    def __init__(self, error: RemoteError) -> None:
        super().__init__(str(error))
        self.error = error


class _Gone(Exception):
    """A job is done, and its result is no longer there: servers keep results for about an hour."""


class _StatusLine:
    """The state of a job, below the progress bars if it takes longer than two seconds; a "display"
    in nnsight's terms."""

    # Turns off nnsight's own bar for downloads.
    enabled = False

    def __init__(self) -> None:
        self.heard = time.monotonic()

    def __enter__(self):
        self.line = tqdm(
            desc="NDIF: sending", bar_format="{desc} ({elapsed})", leave=False, delay=2
        )
        return self

    def __exit__(self, *_):
        self.line.close()

    def say(self, text: str) -> None:
        self.line.set_description_str(f"NDIF: {text}", refresh=False)
        # Unlike a refresh, this waits for the delay.
        self.line.update(0)

    def update(self, response: ResponseModel) -> None:
        self.heard = time.monotonic()
        description = response.description.splitlines()[0] if response.description else ""
        self.say(f"{response.status.value.lower()} {description}")


def _is_interruption(error):
    """Whether trying again may help."""
    cause = error.__cause__ if isinstance(error, RemoteError) else error
    if isinstance(cause, httpx.HTTPStatusError):
        return cause.response.status_code >= 500 or cause.response.status_code == 429
    return isinstance(cause, INTERRUPTIONS) or "Please try again later" in str(error)


def _is_refusal(error):
    """Whether the server did not accept the key."""
    status = _status(error)
    return status in (401, 403) or (status == 400 and "API key" in str(error))


def _answer(error):
    """The HTTP answer behind an error; None if there was none."""
    return getattr(
        error if isinstance(error, httpx.HTTPStatusError) else error.__cause__, "response", None
    )


def _status(error):
    """The status of the HTTP answer behind an error; None if there was none."""
    return getattr(_answer(error), "status_code", None)


def _words(error):
    """An error in one line."""
    answer = _answer(error)
    if answer is not None and (
        isinstance(error, httpx.HTTPStatusError)
        or "json" not in answer.headers.get("content-type", "")
    ):
        # A page for browsers, or httpx's words, which name the link of a result.
        return f"HTTP {answer.status_code} {answer.reason_phrase}"
    if isinstance(error, pydantic.ValidationError):
        return "what it answers is not what an NDIF server says"
    return _last_line(str(error).removeprefix("Failed to send request: ")) or type(error).__name__


def _explained(error, server):
    """The `ServerError` that says what went wrong and what to do; without the server's own words if
    they may contain the key."""
    where = f"the NDIF server at {server.url}"
    text, words, status = str(error).strip(), _words(error), _status(error)
    if _is_refusal(error):
        return ServerError(f"{where} refused the key; set NDIF_API_KEY to one that it knows")
    if status == 400 and "version" in words:
        return ServerError(
            f"{where} does not work with the versions here ({words}); install what it asks for"
        )
    if _is_interruption(error):
        return ServerError(
            f"cannot reach {where} ({words}), after {TRIES} tries; check NDIF_HOST and the network "
            "and run again"
        )
    if status:
        return ServerError(f"{where} does not take jobs ({words}); check the URL")
    if "Could not deploy" in text:
        return ServerError(
            f"{where} does not serve {_asked_for(server)} ({words}); nnsight.status() lists what "
            "the server in NDIF_HOST serves"
        )
    if "architecture" in text or "payload could not be read" in text:
        return ServerError(
            f"{where} cannot read what was sent ({first_line(error)}); align the packages that "
            "nnsight.ndif.compare() marks as critical"
        )
    if "OutOfMemory" in text:
        return ServerError(
            f"{where} ran out of memory; patch at fewer positions, or give patch_heads a smaller "
            "batch_size"
        )
    return ServerError(
        f"the job failed on {where}: {words}; if it fails again, show this to whoever runs the "
        "server"
    )


def _asked_for(server):
    """The model, in a user's words."""
    about = json.loads(server.key.split(":", 1)[1])
    return about["repo_id"] + (f" at revision {about['revision']}" if about["revision"] else "")


def _last_line(text):
    return text.splitlines()[-1].strip() if text.strip() else ""
