# Made by script/write-clients.ts from schema/openapi.json; not to be edited.
from typing import NamedTuple


class Operation(NamedTuple):
    method: str
    path: str
    once: bool
    """Whether it takes an Idempotency-Key."""


CANCEL_JOB = Operation("POST", "/v1/jobs/{jobId}/cancel", once=True)
"""Cancel a job."""
CREATE_JOB = Operation("POST", "/v1/jobs", once=True)
"""Enqueue a job."""
CREATE_JOBS = Operation("POST", "/v1/jobs/bulk", once=True)
"""Enqueue up to 1,000 jobs: all of them, or none."""
GET_HEALTH = Operation("GET", "/healthz", once=False)
"""Whether this process answers."""
GET_JOB = Operation("GET", "/v1/jobs/{jobId}", once=False)
"""Where a job stands, and its result."""
GET_READINESS = Operation("GET", "/readyz", once=False)
"""Whether requests can be answered: Redis is there, and the server does not stop."""
GET_SCHEDULE = Operation("GET", "/v1/schedules/{scheduleId}", once=False)
"""A schedule."""
LIST_ARTIFACTS = Operation("GET", "/v1/jobs/{jobId}/artifacts", once=False)
"""The artifacts of a job that has ended, with links that open them for a while."""
LIST_AUDIT = Operation("GET", "/v1/audit", once=False)
"""Who did what, the newest first."""
LIST_COSTS = Operation("GET", "/v1/costs", once=False)
"""What sandboxes cost, by tenant and day."""
LIST_JOBS = Operation("GET", "/v1/jobs", once=False)
"""Jobs, the newest first, a page at a time."""
LIST_PROVIDERS = Operation("GET", "/v1/providers", once=False)
"""What each provider holds, and why it may take no more."""
LIST_SCHEDULES = Operation("GET", "/v1/schedules", once=False)
"""The schedules, the next to run first."""
LIST_TENANTS = Operation("GET", "/v1/tenants", once=False)
"""Tenants that have jobs, or had until lately: how many of them run, and how many may."""
PAUSE_SCHEDULE = Operation("POST", "/v1/schedules/{scheduleId}/pause", once=False)
"""Begin no more runs until it is resumed."""
PUT_SCHEDULE = Operation("PUT", "/v1/schedules/{scheduleId}", once=False)
"""Make a schedule, or change the one that has this id."""
REMOVE_SCHEDULE = Operation("DELETE", "/v1/schedules/{scheduleId}", once=False)
"""Remove a schedule; its runs under way go on."""
RESUME_SCHEDULE = Operation("POST", "/v1/schedules/{scheduleId}/resume", once=False)
"""Go on; what was missed is seen to as the schedule says."""
RETRY_JOB = Operation("POST", "/v1/jobs/{jobId}/retry", once=True)
"""Run an ended job again, from the start or from its last checkpoint."""
STREAM_EVENTS = Operation("GET", "/v1/events", once=False)
"""The deployment’s events as CloudEvents, each named by its type; those of the key’s tenants alone."""
STREAM_JOB_LOGS = Operation("GET", "/v1/jobs/{jobId}/logs", once=False)
"""A job’s output: events `log` with `LogLine` as data, and `end` when no more comes."""
