"""What each call of the API is: pure, so that the two clients differ only in how they wait."""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Callable, Generic, Iterable, Mapping, Optional, TypeVar, Union
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel

from . import _operations as ops
from ._errors import ApiError, ProtocolError, SwitchyardError, api_error
from ._inputs import JobSpec, ScheduleInput
from ._models import (
    ArtifactList,
    AuditList,
    Cancelled,
    CostList,
    Enqueued,
    Event,
    Health,
    Job,
    JobList,
    LogLine,
    ManyEnqueued,
    ProviderList,
    Retried,
    Schedule,
    ScheduleList,
    TenantList,
)

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)
After = Union[str, int, None]

longest_wait_ms = 30_000
longest_retry_after = 60.0
"""Seconds; whoever is told to wait longer is told so by an exception."""


@dataclass(frozen=True)
class Call(Generic[T]):
    operation: ops.Operation
    read: Callable[[bytes], T]
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Union[str, int]] = field(default_factory=dict)
    body: Optional[bytes] = None
    idempotency_key: Optional[str] = None
    wait_ms: int = 0
    """For how long the server itself waits before it answers."""
    gone_is_done: bool = False
    """Whether a 404 at a second try means that the first one did it."""
    event: Optional[str] = None
    """Of a stream: the name of the events that are read; those of other names are of later releases."""

    @property
    def target(self) -> str:
        for value in self.path.values():
            # They would be taken for a way to elsewhere.
            if value in ("", ".", ".."):
                raise SwitchyardError(f"{value!r} is no id of a job or a schedule; give one that the API gave")
        return self.operation.path.format_map({name: quote(value, safe="") for name, value in self.path.items()}).lstrip("/")

    def headers(self) -> "dict[str, str]":
        headers = {} if self.body is None else {"content-type": "application/json"}
        if self.idempotency_key is not None:
            escaped = self.idempotency_key.replace("\\", "\\\\").replace('"', '\\"')
            headers["idempotency-key"] = f'"{escaped}"'
        return headers


def base_url(url: Optional[str]) -> str:
    """Checks an address, and lets it end in a slash."""
    if not url:
        raise SwitchyardError('url: is missing; give the address that "switchyard serve" prints, or set SWITCHYARD_URL')
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is none
        # The library that asks takes other characters for wrong than the one that splits.
        host = httpx.URL(url).host
        valid = parts.scheme in ("http", "https") and bool(host) and url.isprintable() and " " not in url and not parts.query and not parts.fragment
    except (ValueError, httpx.InvalidURL):
        valid = False
    if not valid:
        raise SwitchyardError(f'url: {url!r} is no address of an API; give one such as "https://switchyard.example.com/"')
    if parts.username or parts.password:
        raise SwitchyardError("url: holds a user or a password; give the API key by itself")
    return url.rstrip("/") + "/"


def bearer(key: Optional[str]) -> str:
    if not key:
        raise SwitchyardError('key: is missing; make one with "switchyard keys create", and give it or set SWITCHYARD_API_KEY')
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SwitchyardError("key: holds blanks or characters that no API key has; look at how it was copied")
    return f"Bearer {key}"


def answer(call: Call[T], url: str, *, status: int, content_type: str, content: bytes, retry_after: Optional[float], tries: int) -> T:
    """What an answer says. Raises ApiError or ProtocolError."""
    if 200 <= status < 300:
        try:
            return call.read(content)
        except ValueError as error:
            # pydantic's errors are such too.
            raise not_ours(url, status, content_type) from error
    refused = refusal(url, status=status, content_type=content_type, content=content, retry_after=retry_after)
    if status == 404 and call.gone_is_done and tries > 1 and isinstance(refused, ApiError):
        return call.read(b"")
    raise refused


def refusal(url: str, *, status: int, content_type: str, content: bytes, retry_after: Optional[float]) -> SwitchyardError:
    if content_type.split(";")[0].strip() == "application/problem+json":
        try:
            problem = json.loads(content)
        except ValueError:
            problem = None
        if isinstance(problem, dict):
            return api_error(problem, status, retry_after)
    return not_ours(url, status, content_type)


def not_ours(url: str, status: int, content_type: str) -> ProtocolError:
    what = content_type.split(";")[0].strip() or "nothing"
    return ProtocolError(f'{url} answered {status} with {what}, which is not Switchyard\'s API; give the address that "switchyard serve" prints')


def retry_after_of(header: Optional[str], now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> Optional[float]:
    """Seconds, of a number or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    return max(0.0, (at - now()).total_seconds()) if at.tzinfo is not None else None


def pause(tries: int, retry_after: Optional[float] = None) -> float:
    """Seconds to wait before the next try; a little by chance, so that many don't come back at once."""
    backoff: float = min(8.0, 0.25 * 2 ** max(0, tries - 1)) * (0.5 + random.random() / 2)
    return max(backoff, retry_after or 0.0)


def may_retry(status: int, retry_after: Optional[float]) -> bool:
    """Every call may be sent again: it reads, or bears a key, or does the same twice."""
    if status in (429, 503):
        return (retry_after or 0.0) <= longest_retry_after
    return status in (502, 504) or (status == 409 and retry_after is not None and retry_after <= longest_retry_after)


def model(kind: "type[Model]") -> "Callable[[bytes], Model]":
    return kind.model_validate_json


def nothing(_content: bytes) -> None:
    return None


def given(**values: Union[str, int, None]) -> "dict[str, Union[str, int]]":
    return {name: value for name, value in values.items() if value is not None}


def encoded(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_json).encode()
    except (TypeError, ValueError) as error:
        raise SwitchyardError(f"the job can't be written as JSON: {error}") from error


def _json(value: object) -> object:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def moment(at: Union[datetime, str]) -> str:
    if isinstance(at, str):
        return at
    if at.tzinfo is None:
        raise SwitchyardError(f'{at.isoformat()}: has no time zone; give one, such as datetime.now(timezone.utc)')
    return at.isoformat()


def new_key(key: Optional[str]) -> str:
    if key is None:
        return str(uuid.uuid4())
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise SwitchyardError("request_key: must be 1 to 255 printable ASCII characters")
    return key


def enqueue(spec: JobSpec, on_failed: Optional[str], key: Optional[str]) -> Call[Enqueued]:
    return Call(ops.CREATE_JOB, model(Enqueued), query=given(onFailed=on_failed), body=encoded(spec), idempotency_key=new_key(key))


def enqueue_many(specs: Iterable[object], on_failed: Optional[str], key: Optional[str]) -> Call[ManyEnqueued]:
    return Call(ops.CREATE_JOBS, model(ManyEnqueued), query=given(onFailed=on_failed), body=encoded({"jobs": list(specs)}), idempotency_key=new_key(key))


def get(job_id: str, wait_ms: int = 0) -> Call[Job]:
    return Call(ops.GET_JOB, model(Job), {"jobId": job_id}, given(waitMs=wait_ms or None), wait_ms=wait_ms)


def list_jobs(state: Optional[str], tenant: Optional[str], repository: Optional[str], since: Union[datetime, str, None], limit: Optional[int], cursor: Optional[str]) -> Call[JobList]:
    query = given(state=state, tenant=tenant, repository=repository, since=None if since is None else moment(since), limit=limit, cursor=cursor)
    return Call(ops.LIST_JOBS, model(JobList), query=query)


def cancel(job_id: str, reason: Optional[str], key: Optional[str] = None) -> Call[str]:
    body = {} if reason is None else {"reason": reason}
    return Call(ops.CANCEL_JOB, lambda content: Cancelled.model_validate_json(content).outcome, {"jobId": job_id}, body=encoded(body), idempotency_key=new_key(key))


def retry(job_id: str, start: Optional[str], key: Optional[str] = None) -> Call[str]:
    body = {} if start is None else {"from": start}
    return Call(ops.RETRY_JOB, lambda content: Retried.model_validate_json(content).outcome, {"jobId": job_id}, body=encoded(body), idempotency_key=new_key(key))


def artifacts(job_id: str, path: Optional[str], link_seconds: Optional[int]) -> Call[ArtifactList]:
    return Call(ops.LIST_ARTIFACTS, model(ArtifactList), {"jobId": job_id}, given(path=path, linkSeconds=link_seconds))


def logs(job_id: str, follow: bool, after: After) -> Call[LogLine]:
    return Call(ops.STREAM_JOB_LOGS, model(LogLine), {"jobId": job_id}, given(follow="true" if follow else "false", after=None if after is None else str(after)), event="log")


def events(after: After) -> Call[Event]:
    return Call(ops.STREAM_EVENTS, model(Event), query=given(after=after))


def schedules() -> "Call[list[Schedule]]":
    return Call(ops.LIST_SCHEDULES, lambda content: ScheduleList.model_validate_json(content).schedules)


def get_schedule(schedule_id: str) -> Call[Schedule]:
    return Call(ops.GET_SCHEDULE, model(Schedule), {"scheduleId": schedule_id})


def put_schedule(schedule_id: str, schedule: ScheduleInput) -> Call[Schedule]:
    return Call(ops.PUT_SCHEDULE, model(Schedule), {"scheduleId": schedule_id}, body=encoded(schedule))


def pause_schedule(schedule_id: str) -> Call[Schedule]:
    return Call(ops.PAUSE_SCHEDULE, model(Schedule), {"scheduleId": schedule_id})


def resume_schedule(schedule_id: str) -> Call[Schedule]:
    return Call(ops.RESUME_SCHEDULE, model(Schedule), {"scheduleId": schedule_id})


def remove_schedule(schedule_id: str) -> Call[None]:
    return Call(ops.REMOVE_SCHEDULE, nothing, {"scheduleId": schedule_id}, gone_is_done=True)


def providers() -> "Call[list[Any]]":
    return Call(ops.LIST_PROVIDERS, lambda content: ProviderList.model_validate_json(content).providers)


def tenants(cursor: Optional[str]) -> Call[TenantList]:
    return Call(ops.LIST_TENANTS, model(TenantList), query=given(cursor=cursor))


def costs(since: Optional[str], tenant: Optional[str]) -> "Call[list[Any]]":
    return Call(ops.LIST_COSTS, lambda content: CostList.model_validate_json(content).costs, query=given(since=since, tenant=tenant))


def audit(limit: Optional[int], before: Optional[str]) -> "Call[list[Any]]":
    return Call(ops.LIST_AUDIT, lambda content: AuditList.model_validate_json(content).entries, query=given(limit=limit, before=before))


def health() -> Call[Health]:
    return Call(ops.GET_HEALTH, model(Health))


def readiness() -> Call[Health]:
    return Call(ops.GET_READINESS, model(Health))
