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
    jobs: list[Enqueued]


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
    problems: list[str] | None = None
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
    problems: list[str]


class StepResult(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    name: str
    exit_code: int | None = Field(..., alias="exitCode")
    duration_ms: int = Field(..., alias="durationMs")
    stdout_tail: str = Field(..., alias="stdoutTail")
    stderr_tail: str = Field(..., alias="stderrTail")


class Attempt(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    provider: str
    sandbox_id: str | None = Field(..., alias="sandboxId")
    started_at: AwareDatetime = Field(..., alias="startedAt")
    ended_at: AwareDatetime | None = Field(..., alias="endedAt")
    outcome: str
    """
    Such as `running`, `succeeded`, `failed`, `cancelled`, `lost`, `unavailable`, `moved`; later releases may add others.
    """
    error: JobError | None


class Diff(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    files: int
    additions: int
    deletions: int
    paths: list[str]


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


class Usage(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    sandbox_seconds: float = Field(..., alias="sandboxSeconds")


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
    link: str | None
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
    status: str | None


class SkippedRuns(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    scheduled_at: str = Field(..., alias="scheduledAt")
    count: int
    why: str


class ProviderLoad(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    provider: str
    limit: float
    effective_limit: float = Field(..., alias="effectiveLimit")
    """
    The limit in force: less what others run in the account, and not more than the provider lets hope for.
    """
    foreign: float
    used: float
    waiting: float
    cpu: float
    cpu_limit: float | None = Field(..., alias="cpuLimit")
    memory_mi_b: float = Field(..., alias="memoryMiB")
    memory_mi_b_limit: float | None = Field(..., alias="memoryMiBLimit")
    breaker: str
    """
    Such as `closed`, `open`, `half-open`, `probing`; later releases may add others.
    """
    open_until_ms: float | None = Field(..., alias="openUntilMs")
    opened_by: str | None = Field(..., alias="openedBy")
    creates_per_second: float | None = Field(..., alias="createsPerSecond")
    blocked_until_ms: float | None = Field(..., alias="blockedUntilMs")
    start_p50_ms: float | None = Field(..., alias="startP50Ms")
    start_p95_ms: float | None = Field(..., alias="startP95Ms")
    start_max_ms: float | None = Field(..., alias="startMaxMs")


class Tenant(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    tenant: str
    running: int
    cap: int | None
    weight: float


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
    targets: list[str]
    count: int
    status: int


class EventData(BaseModel):
    """
    Of the end of a job its `JobResult`.
    """

    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    job_id: str = Field(..., alias="jobId")
    tenant: str | None


class Schedule(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    id: str
    cron: str | None
    timezone: str | None
    every_ms: int | None = Field(..., alias="everyMs")
    missed: str
    """
    Such as `skip`, `once`, `all`; later releases may add others.
    """
    overlap: str
    """
    Such as `allow`, `skip`, `replace`; later releases may add others.
    """
    paused: bool
    next_run_at: str | None = Field(..., alias="nextRunAt")
    """
    Past when nobody has seen to it yet; null while it is paused.
    """
    last: ScheduledRun | None
    skipped: SkippedRuns | None
    """
    What was not begun last, and why.
    """
    repository: str
    tenant: str | None


class ScheduleList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    schedules: list[Schedule]


class ProviderList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    providers: list[ProviderLoad]


class TenantList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    tenants: list[Tenant]
    cursor: str | None


class AuditList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    entries: list[AuditEntry]


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
    failing: list[FailingTest]


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
    error: JobError | None
    repository: str
    base_sha: str | None = Field(..., alias="baseSha")
    branch: str | None
    commit: str | None
    promoted: Promotion | None
    pull_request: PullRequest | None = Field(..., alias="pullRequest")
    steps: list[StepResult]
    attempts: list[Attempt]
    diff: Diff | None
    unsaved: list[UnsavedPath]
    unsaved_more: int = Field(..., alias="unsavedMore")
    kept: list[KeptBranch]
    artifacts: list[Artifact]
    artifacts_missed: list[MissedArtifact] = Field(..., alias="artifactsMissed")
    artifacts_missed_more: int = Field(..., alias="artifactsMissedMore")
    tests: TestSummary | None
    usage: Usage
    metadata: dict[str, Any]
    tenant: str | None


class Job(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    job_id: str = Field(..., alias="jobId")
    repository: str
    tenant: str | None
    state: str
    """
    The last three are final. Such as `waiting`, `running`, `succeeded`, `failed`, `cancelled`; later releases may add others.
    """
    reason: str | None
    """
    Why a waiting or running job does not move; null when it does.
    """
    phase: str | None
    provider: str | None
    sandbox_id: str | None = Field(..., alias="sandboxId")
    step: str | None
    """
    The step under way, such as "2/3 agent".
    """
    attempts: int
    checkpoint_sha: str | None = Field(..., alias="checkpointSha")
    checkpoint_problem: str | None = Field(..., alias="checkpointProblem")
    unsaved: list[UnsavedPath]
    unsaved_more: int = Field(..., alias="unsavedMore")
    enqueued_at_ms: int = Field(..., alias="enqueuedAtMs")
    """
    Milliseconds since 1970.
    """
    started_at_ms: int | None = Field(..., alias="startedAtMs")
    """
    Milliseconds since 1970.
    """
    ended_at_ms: int | None = Field(..., alias="endedAtMs")
    """
    Milliseconds since 1970.
    """
    result: JobResult | None


class JobList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    jobs: list[Job]
    cursor: str | None
    """
    For the next page; null when there is none. A page may be short, even empty, and still have one.
    """


class ArtifactList(BaseModel):
    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
    )
    artifacts: list[LinkedArtifact]
    artifacts_missed: list[MissedArtifact] = Field(..., alias="artifactsMissed")
    artifacts_missed_more: int = Field(..., alias="artifactsMissedMore")
    tests: TestSummary | None
