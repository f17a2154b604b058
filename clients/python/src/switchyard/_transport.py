"""What both clients share around httpx: where to send a call, and what becomes of a failure."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, Any, Callable, Generic, Mapping, Optional, TypeVar, Union

import httpx

from ._calls import Call, answer, base_url, bearer, may_retry, not_ours, pause, refusal, retry_after_of
from ._errors import ConnectionFailedError, IntegrityError, ProtocolError, StreamLostError, SwitchyardError, WaitTimeoutError
from ._models import ArtifactList, Job, LinkedArtifact
from ._sse import EventDecoder

T = TypeVar("T")

silence_seconds = 45.0
"""A stream says every 15 seconds that it lives."""
lives_seconds = 10.0
"""A stream that went on for so long before it broke off was none that fails."""
more_retries = 4
link_seconds = 600
most_answer_bytes = 64 * 1024 * 1024


@dataclass(frozen=True)
class Settings:
    url: str
    authorization: str = field(repr=False)
    timeout: float
    max_retries: int

    def request(self, call: "Call[Any]", more: Optional[Mapping[str, str]] = None) -> "dict[str, Any]":
        """What httpx is to be asked for."""
        return {
            "method": call.operation.method,
            "url": self.url + call.target,
            "params": dict(call.query),
            "content": call.body,
            "headers": {"authorization": self.authorization, "accept": "application/json, application/problem+json", "user-agent": "switchyard-python/0.1", **call.headers(), **(more or {})},
            "timeout": httpx.Timeout(self.timeout, read=self.timeout + call.wait_ms / 1000),
            "follow_redirects": False,
        }


def settings(url: Optional[str], key: Optional[str], timeout: float, max_retries: int) -> Settings:
    return Settings(base_url(url or os.environ.get("SWITCHYARD_URL")), bearer(key or os.environ.get("SWITCHYARD_API_KEY")), timeout, max_retries)


def unreachable(own: Settings, error: Exception) -> ConnectionFailedError:
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return ConnectionFailedError(f"{own.url} did not answer within {own.timeout:g} seconds; ask again, or give a longer timeout")
    return ConnectionFailedError(f'{own.url} can\'t be reached ({reason(error)}); is "switchyard serve" running there, and is the address right?')


def reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


class Body:
    """Reads an answer, so much of it and for so long."""

    def __init__(self, own: Settings, call: "Call[Any]", now: Callable[[], float] = time.monotonic) -> None:
        self._own, self._now = own, now
        self._until = now() + own.timeout + call.wait_ms / 1000
        self._parts: "list[bytes]" = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._now() > self._until:
            raise httpx.ReadTimeout("")
        if self._size > most_answer_bytes:
            raise ProtocolError(f'{self._own.url} answered more than {most_answer_bytes >> 20} MiB, as Switchyard\'s API never does; give the address that "switchyard serve" prints')

    def whole(self) -> bytes:
        return b"".join(self._parts)


def store_unreachable(error: Exception) -> ConnectionFailedError:
    return ConnectionFailedError(f"the artifact store can't be reached ({reason(error)}); ask again")


class Tries(Generic[T]):
    """How often a call was sent, and what is next: an answer, an exception, or another try after a while."""

    def __init__(self, own: Settings, call: Call[T]) -> None:
        self._own, self._call, self._tries = own, call, 0

    def failed(self, error: httpx.RequestError) -> float:
        self._tries += 1
        if self._tries > self._own.max_retries:
            raise unreachable(self._own, error) from error
        return pause(self._tries)

    def body(self) -> Body:
        return Body(self._own, self._call)

    def answered(self, response: httpx.Response, content: bytes) -> "Union[float, Answer[T]]":
        self._tries += 1
        retry_after = retry_after_of(response.headers.get("retry-after"))
        if may_retry(response.status_code, retry_after) and self._tries <= self._own.max_retries:
            return pause(self._tries, retry_after)
        content_type = response.headers.get("content-type", "")
        return Answer(answer(self._call, self._own.url, status=response.status_code, content_type=content_type, content=content, retry_after=retry_after, tries=self._tries))


@dataclass(frozen=True)
class Answer(Generic[T]):
    value: T


class StreamState(Generic[T]):
    """A stream that is taken up again behind the last event that was read."""

    def __init__(self, own: Settings, call: Call[T], what: str, now: Callable[[], float] = time.monotonic) -> None:
        self._own, self._call, self._what, self._now = own, call, what, now
        self._decoder = EventDecoder()
        self._failures = 0
        self._most = own.max_retries
        self._began = 0.0

    def request(self) -> "dict[str, Any]":
        last = self._decoder.last_event_id
        request = self._own.request(self._call, {"accept": "text/event-stream", **({} if last is None else {"last-event-id": last})})
        return {**request, "timeout": httpx.Timeout(self._own.timeout, read=silence_seconds)}

    def opened(self, response: httpx.Response) -> Optional[EventDecoder]:
        """What reads the stream; None when it is to be asked for again (and the response has been read)."""
        content_type = response.headers.get("content-type", "")
        if response.status_code == 200 and content_type.startswith("text/event-stream"):
            self._began = self._now()
            # Whoever follows a job for hours waits for a server that is started anew.
            self._most = self._own.max_retries and self._own.max_retries + more_retries
            # What was cut off comes again.
            self._decoder = EventDecoder(self._decoder.last_event_id)
            return self._decoder
        return None

    def refused(self, response: httpx.Response) -> float:
        retry_after = retry_after_of(response.headers.get("retry-after"))
        error = refusal(self._own.url, status=response.status_code, content_type=response.headers.get("content-type", ""), content=response.content, retry_after=retry_after)
        self._failures += 1
        if not may_retry(response.status_code, retry_after) or self._failures > self._most:
            raise error
        return pause(self._failures, retry_after)

    def take(self, decoder: EventDecoder, chunk: bytes) -> "tuple[list[T], bool]":
        """What came, and whether it was the end."""
        items: "list[T]" = []
        try:
            for event in decoder.feed(chunk):
                self._failures = 0
                if event.event == "end":
                    return items, True
                if self._call.event in (None, event.event):
                    items.append(self._call.read(event.data.encode()))
        except ValueError as error:
            raise not_ours(self._own.url, 200, "text/event-stream") from error
        return items, False

    def broke(self, error: Optional[httpx.RequestError]) -> float:
        """It ended before its end."""
        if self._began and self._now() - self._began >= lives_seconds:
            self._failures = 0
        self._failures += 1
        if self._failures > self._most:
            why = "the server ended it" if error is None else reason(error)
            last = self._decoder.last_event_id
            go_on = "" if last is None else f", and go on with after={last!r}"
            raise StreamLostError(f"{self._what} broke off and could not be taken up again at {self._own.url} ({why}); look whether the server runs{go_on}", last_event_id=last) from error
        return pause(self._failures)


def not_ended(job: Job, timeout: Optional[float]) -> WaitTimeoutError:
    why = f": {job.reason}" if job.reason else ""
    return WaitTimeoutError(f"job {job.job_id} had not ended after {timeout:g} seconds (it is {job.state}{why}); it goes on, wait again or cancel it")


def one_with_link(found: ArtifactList, job_id: str, path: str) -> LinkedArtifact:
    if not found.artifacts:
        raise SwitchyardError(f"job {job_id} left no artifact {path!r}; look at what it left with artifacts()")
    artifact = found.artifacts[0]
    if artifact.link is None:
        raise SwitchyardError(f"{path!r} is in a folder of the consumers' ({artifact.where}), which no link opens; store artifacts in S3 to download them")
    return artifact


class Download:
    """Writes an artifact beside its place, checks it and only then puts it there."""

    def __init__(self, artifact: LinkedArtifact, to: "Union[str, os.PathLike[str]]") -> None:
        self._artifact, self._to = artifact, os.fspath(to)
        self._digest = hashlib.sha256()
        self._size = 0
        self._file: Optional[IO[bytes]] = None

    def __enter__(self) -> "Download":
        self._file = tempfile.NamedTemporaryFile(dir=os.path.dirname(os.path.abspath(self._to)), prefix=".switchyard-", delete=False)
        return self

    def check(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            raise SwitchyardError(f"the artifact store answered {response.status_code} for {self._artifact.path!r}; ask for it again, and look at the store's settings if it stays so")

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._file is None or self._size > self._artifact.size_bytes:
            raise self._other()
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self) -> None:
        if self._file is None or self._size != self._artifact.size_bytes or self._digest.hexdigest() != self._artifact.sha256:
            raise self._other()
        self._file.close()
        os.replace(self._file.name, self._to)
        self._file = None

    def _other(self) -> IntegrityError:
        return IntegrityError(f"what the artifact store gave for {self._artifact.path!r} is not what the job left (its size or SHA-256 differs); nothing was written")

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            os.unlink(self._file.name)
