"""The client that waits."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any, Iterable, Iterator, List, Literal, Mapping, Optional, TypeVar, Union, cast, overload

import httpx
from typing_extensions import Self, Unpack

from . import _calls as calls
from ._inputs import JobSpec, ScheduleInput
from ._models import ArtifactList, AuditEntry, Event, Job, JobList, JobResult, LinkedArtifact, LogLine, ProviderLoad, Schedule, Tenant, TenantCost
from ._transport import Answer, Download, StreamState, Tries, link_seconds, not_ended, one_with_link, settings, store_unreachable

T = TypeVar("T")


class Client:
    """A producer of jobs: enqueues, follows and cancels them. It may be shared by threads.

    with Client("https://switchyard.example.com/", key) as client:
        job = client.enqueue(repository="acme/web", steps=["npm test"])
        for line in job.logs():
            print(line.text, end="")
        print(job.wait().status)
    """

    def __init__(
        self,
        url: Optional[str] = None,
        key: Optional[str] = None,
        *,
        timeout: float = 30.0,
        max_retries: int = 4,
        http_client: Optional[httpx.Client] = None,
    ) -> None:
        """url, key: where the API is and what opens it; by default SWITCHYARD_URL and SWITCHYARD_API_KEY of the environment.
        timeout: seconds for a request. max_retries: how often one that failed is sent again; it does nothing twice.
        http_client: one of httpx's own, for certificates or proxies; it stays the caller's to close.
        """
        self._own = settings(url, key, timeout, max_retries)
        self._http = http_client or httpx.Client()
        self._closes = http_client is None
        self.schedules = Schedules(self)

    def __repr__(self) -> str:
        return f"Client({self._own.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        if self._closes:
            self._http.close()

    @overload
    def enqueue(
        self, spec: Union[JobSpec, Mapping[str, object]], *, on_failed: Optional[Literal["keep", "rerun"]] = None, request_key: Optional[str] = None
    ) -> JobHandle: ...

    @overload
    def enqueue(self, *, on_failed: Optional[Literal["keep", "rerun"]] = None, request_key: Optional[str] = None, **fields: Unpack[JobSpec]) -> JobHandle: ...

    def enqueue(
        self,
        spec: Optional[Union[JobSpec, Mapping[str, object]]] = None,
        *,
        on_failed: Optional[Literal["keep", "rerun"]] = None,
        request_key: Optional[str] = None,
        **fields: Any,
    ) -> JobHandle:
        """Enqueues a job, given as a dictionary or by its fields (schema/job.json).

        on_failed: what becomes of a failed job that has the same idempotencyKey.
        request_key: the Idempotency-Key of this request, by default a new one, with which a try that failed is sent again;
        give one of your own to be safe across restarts of this process.
        """
        whole = cast(JobSpec, {**(spec or {}), **fields})
        return self.job(self._send(calls.enqueue(whole, on_failed, request_key)).job_id)

    def enqueue_many(
        self, specs: Iterable[Union[JobSpec, Mapping[str, object]]], *, on_failed: Optional[Literal["keep", "rerun"]] = None, request_key: Optional[str] = None
    ) -> List[JobHandle]:
        """Enqueues up to 1,000 jobs: all of them, or none."""
        return [self.job(made.job_id) for made in self._send(calls.enqueue_many(specs, on_failed, request_key)).jobs]

    def job(self, job_id: str) -> JobHandle:
        """A job by its id; nothing is asked of the server."""
        return JobHandle(self, job_id)

    def get(self, job_id: str) -> Job:
        """Where a job stands, and its result when it has ended."""
        return self._send(calls.get(job_id))

    def list(
        self,
        *,
        state: Optional[str] = None,
        tenant: Optional[str] = None,
        repository: Optional[str] = None,
        since: Union[datetime, str, None] = None,
        page_size: Optional[int] = None,
    ) -> Iterator[Job]:
        """Jobs, the newest first; further pages are asked for as they are read."""
        cursor: Optional[str] = None
        while True:
            page = self.page(state=state, tenant=tenant, repository=repository, since=since, limit=page_size, cursor=cursor)
            yield from page.jobs
            cursor = page.cursor
            if cursor is None:
                return

    def page(
        self,
        *,
        state: Optional[str] = None,
        tenant: Optional[str] = None,
        repository: Optional[str] = None,
        since: Union[datetime, str, None] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
    ) -> JobList:
        """A page of the list, and the cursor of the next one."""
        return self._send(calls.list_jobs(state, tenant, repository, since, limit, cursor))

    def wait(self, job_id: str, timeout: Optional[float] = None) -> JobResult:
        """The result of a job, when it has ended, however it did. Raises WaitTimeoutError after so many seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        tries = 0
        while True:
            left = calls.longest_wait_ms if end is None else max(1, min(calls.longest_wait_ms, int((end - time.monotonic()) * 1000)))
            began = time.monotonic()
            job = self._send(calls.get(job_id, left))
            if job.result is not None:
                return job.result
            if end is not None and time.monotonic() >= end:
                raise not_ended(job, timeout)
            # A server that stops answers at once.
            early = time.monotonic() - began < left / 2000
            tries = tries + 1 if early else 0
            if early:
                time.sleep(calls.pause(tries))

    def logs(self, job_id: str, *, follow: bool = True, after: calls.After = None) -> Iterator[LogLine]:
        """A job's output as it comes, until the job has ended; goes on by itself where the connection broke off.

        follow: False for what there is. after: the seq of the last piece that was read.
        """
        return self._stream(calls.logs(job_id, follow, after), f"the log of job {job_id}")

    def events(self, *, after: Optional[str] = None) -> Iterator[Event]:
        """The deployment's events as they come, without end. after: an event's sequence; "0-0" for all that are kept; by default from now on."""
        return self._stream(calls.events(after), "the stream of events")

    def cancel(self, job_id: str, reason: Optional[str] = None) -> str:
        """Cancels a job: "cancelled", "requested" (its supervisor stops it) or "ended" (it had ended before)."""
        return self._send(calls.cancel(job_id, reason))

    def retry(self, job_id: str, start: Optional[Literal["start", "checkpoint"]] = None) -> str:
        """Runs an ended job again: "retried", or "pending" (it waits or runs already)."""
        return self._send(calls.retry(job_id, start))

    def artifacts(self, job_id: str, *, path: Optional[str] = None, link_seconds: Optional[int] = None) -> ArtifactList:
        """What an ended job left. link_seconds: make links that open each for so long."""
        return self._send(calls.artifacts(job_id, path, link_seconds))

    def download(self, job_id: str, path: str, to: Union[str, os.PathLike[str]]) -> LinkedArtifact:
        """Writes an artifact to a file. It is there whole and with the digest that the result says, or not at all."""
        artifact = one_with_link(self.artifacts(job_id, path=path, link_seconds=link_seconds), job_id, path)
        with Download(artifact, to) as download:
            try:
                # The link opens by itself; the API's key is not the store's to see.
                with self._http.stream("GET", artifact.link or "", timeout=self._own.timeout, follow_redirects=False) as response:
                    download.check(response)
                    for chunk in response.iter_bytes():
                        download.write(chunk)
            except httpx.RequestError as error:
                raise store_unreachable(error) from error
            download.finish()
        return artifact

    def providers(self) -> List[ProviderLoad]:
        """What each provider holds, and why it may take no more."""
        return self._send(calls.providers())

    def tenants(self) -> Iterator[Tenant]:
        """Tenants that have jobs, or had until lately; one may come twice."""
        cursor: Optional[str] = None
        while True:
            page = self._send(calls.tenants(cursor))
            yield from page.tenants
            cursor = page.cursor
            if cursor is None:
                return

    def costs(self, *, since: Optional[str] = None, tenant: Optional[str] = None) -> List[TenantCost]:
        """What sandboxes cost, by tenant and day. since: a day, such as "2026-12-01"."""
        return self._send(calls.costs(since, tenant))

    def audit(self, *, limit: Optional[int] = None, before: Optional[str] = None) -> List[AuditEntry]:
        """Who did what, the newest first; asks for a key of the scope admin."""
        return self._send(calls.audit(limit, before))

    def check(self) -> None:
        """Raises unless the server is there and ready."""
        self._send(calls.health())
        self._send(calls.readiness())

    def _send(self, call: calls.Call[T]) -> T:
        tries = Tries(self._own, call)
        while True:
            body = tries.body()
            try:
                with self._http.stream(**self._own.request(call)) as response:
                    for chunk in response.iter_bytes():
                        body.add(chunk)
            except httpx.RequestError as error:
                time.sleep(tries.failed(error))
                continue
            next_ = tries.answered(response, body.whole())
            if isinstance(next_, Answer):
                return next_.value
            time.sleep(next_)

    def _stream(self, call: calls.Call[T], what: str) -> Iterator[T]:
        state = StreamState(self._own, call, what)
        while True:
            try:
                with self._http.stream(**state.request()) as response:
                    decoder = state.opened(response)
                    if decoder is None:
                        response.read()
                        wait = state.refused(response)
                    else:
                        for chunk in response.iter_bytes():
                            items, ended = state.take(decoder, chunk)
                            for item in items:
                                yield item
                            if ended:
                                return
                        wait = state.broke(None)
            except httpx.RequestError as error:
                wait = state.broke(error)
            time.sleep(wait)


class JobHandle:
    """A job by its id."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self.job_id = job_id

    def __repr__(self) -> str:
        return f"JobHandle({self.job_id!r})"

    def get(self) -> Job:
        """Where it stands."""
        return self._client.get(self.job_id)

    def wait(self, timeout: Optional[float] = None) -> JobResult:
        """Its result, when it has ended; `Client.wait`."""
        return self._client.wait(self.job_id, timeout)

    def logs(self, *, follow: bool = True, after: calls.After = None) -> Iterator[LogLine]:
        """Its output; `Client.logs`."""
        return self._client.logs(self.job_id, follow=follow, after=after)

    def cancel(self, reason: Optional[str] = None) -> str:
        """Cancels it; `Client.cancel`."""
        return self._client.cancel(self.job_id, reason)

    def retry(self, start: Optional[Literal["start", "checkpoint"]] = None) -> str:
        """Runs it again; `Client.retry`."""
        return self._client.retry(self.job_id, start)

    def artifacts(self, *, path: Optional[str] = None, link_seconds: Optional[int] = None) -> ArtifactList:
        """What it left; `Client.artifacts`."""
        return self._client.artifacts(self.job_id, path=path, link_seconds=link_seconds)

    def download(self, path: str, to: Union[str, os.PathLike[str]]) -> LinkedArtifact:
        """Writes one of its artifacts to a file; `Client.download`."""
        return self._client.download(self.job_id, path, to)


class Schedules:
    """Jobs by the clock: `client.schedules`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> List[Schedule]:
        """All of them, the next to run first."""
        return self._client._send(calls.schedules())

    def get(self, schedule_id: str) -> Schedule:
        """One of them."""
        return self._client._send(calls.get_schedule(schedule_id))

    def put(self, schedule_id: str, schedule: ScheduleInput) -> Schedule:
        """Makes it, or changes the one that has this id."""
        return self._client._send(calls.put_schedule(schedule_id, schedule))

    def pause(self, schedule_id: str) -> Schedule:
        """Begins no more runs until it is resumed."""
        return self._client._send(calls.pause_schedule(schedule_id))

    def resume(self, schedule_id: str) -> Schedule:
        """Goes on; what was missed is seen to as the schedule says."""
        return self._client._send(calls.resume_schedule(schedule_id))

    def remove(self, schedule_id: str) -> None:
        """Removes it; its runs under way go on."""
        self._client._send(calls.remove_schedule(schedule_id))
