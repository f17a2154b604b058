# Made by script/write-clients.ts from schema/openapi.json; not to be edited.
# ruff: noqa

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Enqueued(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    job_id: str = Field(..., alias="jobId")


class ManyEnqueued(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    jobs: list[Enqueued] = Field([], validate_default=True)


class Cancelled(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    outcome: str
    """
    cancelled: it was waiting and has ended; requested: its supervisor stops it; ended: it had ended before. Such as `cancelled`, `requested`, `ended`; later releases may add others.
    """


class Retried(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    outcome: str
    """
    pending: it waits or runs already, and nothing was done. Such as `retried`, `pending`; later releases may add others.
    """


class LogLine(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    seq: int
    """
    Rises with each piece of a job; the event’s id.
    """
    step: str
    """
    The step’s name, or "switchyard" for what the system says itself.
    """
    stream: str
    """
    Such as `stdout`, `stderr`, `system`; later releases may add others.
    """
    attempt: int
    offset: int
    """
    Where in the step’s stream the first byte stands.
    """
    at_ms: int = Field(..., alias="atMs")
    """
    Milliseconds since 1970.
    """
    text: str
    """
    Invalid bytes are U+FFFD.
    """


class Health(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    status: str


class Problem(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    type: str
    title: str
    status: int
    detail: str
    code: str
    """
    Stable from release to release; docs/errors.md says of each what mends it.
    """
    problems: list[str] | None = []
    """
    Of wrong input: every problem, one sentence each.
    """


class JobError(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    kind: str
    """
    Such as `capacity`, `rate-limited`, `transient`, `sandbox-lost`, `provider-down`, `auth`, `invalid`, `timeout`, `step-failed`, `conflict`, `cancelled`, `internal`; later releases may add others.
    """
    message: str
    owner: str | None = None
    """
    Such as `job`, `sandbox`, `provider-create`, `provider-data-plane`, `git-repository`, `git-host`, `consumer-keys`, `consumer-configuration`, `deployment`; later releases may add others.
    """
    code: str | None = None


class Promotion(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    to: str
    sha: str
    result: str
    """
    Such as `created`, `fast_forward`, `merge_commit`, `no_op`; later releases may add others.
    """


class PullRequest(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    number: int
    url: str
    base: str
    action: str
    """
    Such as `opened`, `updated`, `found`; later releases may add others.
    """
    problems: list[str] = []


class StepResult(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    name: str
    exit_code: int | None = Field(None, alias="exitCode")
    duration_ms: int = Field(..., alias="durationMs")
    stdout_tail: str = Field(..., alias="stdoutTail")
    stderr_tail: str = Field(..., alias="stderrTail")


class Diff(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    files: int
    additions: int
    deletions: int
    paths: list[str] = []


class UnsavedPath(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    path: str
    reason: str


class KeptBranch(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    branch: str
    commit: str
    ref: str


class Artifact(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    path: str
    size_bytes: int = Field(..., alias="sizeBytes")
    media_type: str = Field(..., alias="mediaType")
    sha256: str
    where: str
    from_: str = Field(..., alias="from")
    """
    Such as `sandbox`, `checkpoint`; later releases may add others.
    """


class MissedArtifact(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    path: str
    reason: str
    owner: str
    """
    Such as `job`, `sandbox`, `provider-create`, `provider-data-plane`, `git-repository`, `git-host`, `consumer-keys`, `consumer-configuration`, `deployment`; later releases may add others.
    """


class FailingTest(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    of: str
    name: str
    message: str


class Cost(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    micros: int
    currency: str


class LinkedArtifact(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    path: str
    size_bytes: int = Field(..., alias="sizeBytes")
    media_type: str = Field(..., alias="mediaType")
    sha256: str
    where: str
    from_: str = Field(..., alias="from")
    """
    Such as `sandbox`, `checkpoint`; later releases may add others.
    """
    link: str | None = None
    """
    Opens it for as long as was asked; null when no links were asked for, and for what is in a folder of the consumers’.
    """


class ScheduledRun(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    scheduled_at: str = Field(..., alias="scheduledAt")
    job_id: str = Field(..., alias="jobId")
    status: str | None = None


class SkippedRuns(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    scheduled_at: str = Field(..., alias="scheduledAt")
    count: int
    why: str


class ProviderDrain(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    by: str
    reason: str | None = None
    at_ms: int = Field(..., alias="atMs")
    """
    Milliseconds since 1970.
    """
    until_ms: int | None = Field(None, alias="untilMs")
    """
    Null for until it is taken back.
    """
    move: bool
    """
    Whether jobs that run there are asked to move.
    """


class ProviderLimitSet(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    by: str
    reason: str | None = None
    at_ms: int = Field(..., alias="atMs")
    """
    Milliseconds since 1970.
    """
    until_ms: int | None = Field(None, alias="untilMs")
    """
    Null for until it is taken back.
    """
    limit: float


class OperatorWord(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    by: str
    reason: str | None = None
    at_ms: int = Field(..., alias="atMs")
    """
    Milliseconds since 1970.
    """
    until_ms: int | None = Field(None, alias="untilMs")
    """
    Null for until it is taken back.
    """


class TenantShareSet(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    by: str
    reason: str | None = None
    at_ms: int = Field(..., alias="atMs")
    """
    Milliseconds since 1970.
    """
    until_ms: int | None = Field(None, alias="untilMs")
    """
    Null for until it is taken back.
    """
    weight: float
    cap: int | None = None


class TenantCost(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    day: str
    """
    By the deployment’s time zone.
    """
    tenant: str | None = None
    """
    Null for jobs that name none; "*" for all beyond the 10,000 that are counted on a day.
    """
    micros: int
    """
    Millionths of the currency’s unit.
    """
    currency: str


class AuditEntry(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    id: str
    at_ms: int = Field(..., alias="atMs")
    """
    Milliseconds since 1970.
    """
    by: str
    """
    The id of an API key, or what the application says.
    """
    name: str
    action: str
    """
    The operation’s id in this document.
    """
    targets: list[str] = []
    count: int
    status: int
    before: Any
    """
    Of what an operator changed, how it was; null for nothing.
    """
    after: Any
    """
    How it is.
    """


class EventData(BaseModel):
    """
    Of the end of a job its `JobResult`.
    """

    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    job_id: str = Field(..., alias="jobId")
    tenant: str | None = None


class Schedule(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    id: str
    cron: str | None = None
    timezone: str | None = None
    every_ms: int | None = Field(None, alias="everyMs")
    missed: str
    """
    Such as `skip`, `once`, `all`; later releases may add others.
    """
    overlap: str
    """
    Such as `allow`, `skip`, `replace`; later releases may add others.
    """
    paused: bool
    next_run_at: str | None = Field(None, alias="nextRunAt")
    """
    Past when nobody has seen to it yet; null while it is paused.
    """
    last: ScheduledRun | None = None
    skipped: SkippedRuns | None = None
    """
    What was not begun last, and why.
    """
    repository: str
    tenant: str | None = None


class ScheduleList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    schedules: list[Schedule] = Field([], validate_default=True)


class CostList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    costs: list[TenantCost] = Field([], validate_default=True)


class AuditList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    entries: list[AuditEntry] = Field([], validate_default=True)


class Event(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    specversion: str
    id: str
    """
    The same however often it is delivered.
    """
    source: str
    type: str
    """
    Such as `dev.switchyard.job.started`; of the end of a job `…succeeded`, `…failed` or `…cancelled`.
    """
    subject: str
    """
    The job’s id.
    """
    time: AwareDatetime
    datacontenttype: str
    data: EventData
    sequence: str | None = None
    logend: int | None = None


class Attempt(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    provider: str
    sandbox_id: str | None = Field(None, alias="sandboxId")
    started_at: AwareDatetime = Field(..., alias="startedAt")
    ended_at: AwareDatetime | None = Field(None, alias="endedAt")
    outcome: str
    """
    Such as `running`, `succeeded`, `failed`, `cancelled`, `lost`, `unavailable`, `moved`, `parked`; later releases may add others.
    """
    error: JobError | None = None
    cost: Cost | None = None


class TestSummary(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    reports: int
    tests: int
    failures: int
    errors: int
    skipped: int
    time_seconds: float = Field(..., alias="timeSeconds")
    failing: list[FailingTest] = Field([], validate_default=True)


class Usage(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    sandbox_seconds: float = Field(..., alias="sandboxSeconds")
    cost: Cost | None = None


class ProviderLoad(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    provider: str
    limit: float
    """
    The configured one, or what an operator has set in its place.
    """
    configured_limit: float = Field(..., alias="configuredLimit")
    set: ProviderLimitSet | None = None
    drain: ProviderDrain | None = None
    """
    Who wants no new sandboxes there.
    """
    effective_limit: float = Field(..., alias="effectiveLimit")
    """
    The limit in force: less what others run in the account, and not more than the provider lets hope for.
    """
    foreign: float
    used: float
    waiting: float
    cpu: float
    cpu_limit: float | None = Field(None, alias="cpuLimit")
    memory_mi_b: float = Field(..., alias="memoryMiB")
    memory_mi_b_limit: float | None = Field(None, alias="memoryMiBLimit")
    breaker: str
    """
    Such as `closed`, `open`, `half-open`, `probing`; later releases may add others.
    """
    open_until_ms: float | None = Field(None, alias="openUntilMs")
    opened_by: str | None = Field(None, alias="openedBy")
    creates_per_second: float | None = Field(None, alias="createsPerSecond")
    blocked_until_ms: float | None = Field(None, alias="blockedUntilMs")
    start_p50_ms: float | None = Field(None, alias="startP50Ms")
    start_p95_ms: float | None = Field(None, alias="startP95Ms")
    start_max_ms: float | None = Field(None, alias="startMaxMs")


class Tenant(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    tenant: str
    running: int
    cap: int | None = None
    weight: float
    pause: OperatorWord | None = None
    set: TenantShareSet | None = None


class JobResult(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    job_id: str = Field(..., alias="jobId")
    status: str
    """
    Such as `succeeded`, `failed`, `cancelled`; later releases may add others.
    """
    error: JobError | None = None
    repository: str
    base_sha: str | None = Field(None, alias="baseSha")
    branch: str | None = None
    commit: str | None = None
    promoted: Promotion | None = None
    pull_request: PullRequest | None = Field(None, alias="pullRequest")
    steps: list[StepResult] = Field([], validate_default=True)
    attempts: list[Attempt] = Field([], validate_default=True)
    diff: Diff | None = None
    unsaved: list[UnsavedPath] = Field([], validate_default=True)
    unsaved_more: int = Field(..., alias="unsavedMore")
    kept: list[KeptBranch] = Field([], validate_default=True)
    artifacts: list[Artifact] = Field([], validate_default=True)
    artifacts_missed: list[MissedArtifact] = Field(
        [], alias="artifactsMissed", validate_default=True
    )
    artifacts_missed_more: int = Field(..., alias="artifactsMissedMore")
    tests: TestSummary | None = None
    usage: Usage
    metadata: dict[str, Any]
    tenant: str | None = None


class Job(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    job_id: str = Field(..., alias="jobId")
    repository: str
    tenant: str | None = None
    state: str
    """
    parked: it has no sandbox until a budget has more. The last three are final. Such as `waiting`, `running`, `parked`, `succeeded`, `failed`, `cancelled`; later releases may add others.
    """
    reason: str | None = None
    """
    Why a waiting or running job does not move; null when it does.
    """
    phase: str | None = None
    provider: str | None = None
    sandbox_id: str | None = Field(None, alias="sandboxId")
    step: str | None = None
    """
    The step under way, such as "2/3 agent".
    """
    cost: Cost | None = None
    """
    What its sandboxes have cost, about until now while it runs; null where no provider has a price.
    """
    attempts: int
    checkpoint_sha: str | None = Field(None, alias="checkpointSha")
    checkpoint_problem: str | None = Field(None, alias="checkpointProblem")
    unsaved: list[UnsavedPath] = Field([], validate_default=True)
    unsaved_more: int = Field(..., alias="unsavedMore")
    enqueued_at_ms: int = Field(..., alias="enqueuedAtMs")
    """
    Milliseconds since 1970.
    """
    started_at_ms: int | None = Field(None, alias="startedAtMs")
    """
    Milliseconds since 1970.
    """
    ended_at_ms: int | None = Field(None, alias="endedAtMs")
    """
    Milliseconds since 1970.
    """
    result: JobResult | None = None


class JobList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    jobs: list[Job] = Field([], validate_default=True)
    cursor: str | None = None
    """
    For the next page; null when there is none. A page may be short, even empty, and still have one.
    """


class ArtifactList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    artifacts: list[LinkedArtifact] = Field([], validate_default=True)
    artifacts_missed: list[MissedArtifact] = Field(
        [], alias="artifactsMissed", validate_default=True
    )
    artifacts_missed_more: int = Field(..., alias="artifactsMissedMore")
    tests: TestSummary | None = None


class ProviderList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    providers: list[ProviderLoad] = Field([], validate_default=True)


class TenantList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    tenants: list[Tenant] = Field([], validate_default=True)
    cursor: str | None = None
