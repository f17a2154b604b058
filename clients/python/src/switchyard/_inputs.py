# Made by script/write-clients.ts from schema/openapi.json; not to be edited.
# ruff: noqa

from __future__ import annotations

from typing import Any, Literal, TypedDict

from typing_extensions import NotRequired


class Budget(TypedDict):
    """
    What the job’s sandboxes may cost together, in the deployment’s currency; then it is parked until that is raised. See docs/budgets.md.
    """

    amount: float


class Cancel(TypedDict):
    reason: NotRequired[str]


Retry = TypedDict(
    "Retry",
    {
        "from": NotRequired[Literal["start", "checkpoint"]]
    },
)


class Step(TypedDict):
    name: NotRequired[str]
    run: str
    """
    Shell commands, run by sh (by bash where the sandbox has it).
    """
    timeout: NotRequired[str]
    """
    How long the step may take, such as 40m. Past it the job fails.
    """
    cwd: NotRequired[str]
    """
    The folder to run in, relative to the repository.
    """
    env: NotRequired[dict[str, str]]
    resume: NotRequired[str]
    """
    Run instead of "run" when the step goes on in another sandbox, with what it had under checkpoint.paths: such as claude --resume "$ID" -p "Go on".
    """


class Injection(TypedDict):
    host: str
    """
    The host whose requests get the header.
    """
    header: str
    """
    The header that holds the value, such as "x-api-key" or "Authorization".
    """
    prefix: NotRequired[str]
    """
    What stands before the value, such as "Bearer ".
    """
    fallback: NotRequired[Literal["environment"]]
    """
    What to do at a provider that adds no headers: give the value to the commands, as other secrets. Left out: the job is not run there.
    """


class LfsPatterns(TypedDict):
    include: NotRequired[list[str]]
    exclude: NotRequired[list[str]]


class Author(TypedDict):
    name: str
    email: str


class PullRequestInput(TypedDict):
    """
    Open a pull request (a merge request at GitLab) from `to` to `base`, or update the one that is open.
    """

    base: NotRequired[str]
    """
    The branch that the work is to go to; the default branch if left out.
    """
    title: NotRequired[str]
    """
    Default: the first line of push.message, or the job’s id.
    """
    body: NotRequired[str]
    """
    Markdown. A summary of the result is put below it.
    """
    draft: NotRequired[bool]
    labels: NotRequired[list[str]]
    reviewers: NotRequired[list[str]]
    """
    GitHub and GitLab: user names, and teams as ORGANISATION/TEAM at GitHub. Bitbucket: uuids or account ids.
    """


class CheckpointOptions(TypedDict):
    everySeconds: NotRequired[float]
    paths: NotRequired[list[str]]
    """
    What else is saved with the checkpoints and moves along: paths in the repository, ignored ones too, or in the home as ~/…
    """
    maxPathsMiB: NotRequired[int]
    """
    How much they may hold together. Default 256.
    """


class ProviderChoice(TypedDict):
    allow: NotRequired[list[str]]
    prefer: NotRequired[list[str]]
    deny: NotRequired[list[str]]


class Resources(TypedDict):
    cpu: NotRequired[float]
    memoryMiB: NotRequired[int]
    diskMiB: NotRequired[int]


class Concurrency(TypedDict):
    """
    Jobs of all queues of the deployment that share this key do not run at once.
    """

    key: str
    limit: NotRequired[int]
    """
    How many jobs with this key may run at once. Default 1.
    """
    then: NotRequired[Literal["wait", "cancel-running", "cancel-waiting", "drop"]]
    """
    What becomes of this job and of others with the key when it comes and they are too many: it waits; it takes the place of those that run and wait; of those that wait; or it is cancelled itself. Default "wait".
    """


class JobWebhook(TypedDict):
    url: str
    """
    Where events are posted to.
    """
    events: NotRequired[list[Literal["enqueued", "started", "step.finished", "checkpointed", "moved", "parked", "promoted", "completed"]]]
    """
    Which events. Default ["completed"].
    """
    secretName: str
    """
    The name of the signing secret; its value lives where webhooks are delivered, and never enters the queue.
    """


class InjectedSecret(TypedDict):
    name: str
    inject: Injection


class Push(TypedDict):
    message: NotRequired[str]
    author: NotRequired[Author]
    keep: NotRequired[bool]
    """
    Keep the ephemeral branch past its retention.
    """
    nestedRepositories: NotRequired[Literal["files", "gitlink"]]
    """
    What becomes of repositories within the repository that are no submodules: their files are saved as files (the default), or as git does, a link to a commit that stays in the sandbox.
    """


class Promote(TypedDict):
    to: str
    strategy: NotRequired[Literal["ff_only", "ff_prefer", "merge"]]
    pullRequest: NotRequired[PullRequestInput]


class JobSpec(TypedDict):
    repository: str
    """
    The repository at the git host, such as acme/web.
    """
    ref: NotRequired[str]
    """
    A branch, a tag or a sha; the default branch if left out.
    """
    setup: NotRequired[list[str | Step]]
    """
    Run at the start of every sandbox the job gets, so again after a failover.
    """
    steps: list[str | Step]
    env: NotRequired[dict[str, str]]
    secrets: NotRequired[list[str | InjectedSecret]]
    """
    Names of environment variables of the consumer. Their values never enter the queue. With inject the provider adds the value to requests outside of the sandbox, which never holds it.
    """
    lfs: NotRequired[Literal["auto", "off"] | LfsPatterns]
    """
    Files of Git LFS: "auto" (the default) fetches what the checkout needs where the sandbox has git-lfs, "off" leaves the pointers, { include, exclude } fetches what these patterns say. New ones are uploaded with the work.
    """
    push: NotRequired[Literal[False] | Push]
    """
    false: the job gets read-only tokens and nothing is pushed.
    """
    promote: NotRequired[Promote]
    checkpoint: NotRequired[CheckpointOptions]
    artifacts: NotRequired[list[str]]
    """
    Files of the repository that are stored when the job ends, however it does, ignored ones too: paths, folders and patterns such as "coverage/**". The result lists them.
    """
    providers: NotRequired[ProviderChoice]
    resources: NotRequired[Resources]
    image: NotRequired[str]
    """
    The image or template to start from; the provider’s default if left out.
    """
    network: NotRequired[Literal["open", "git-only", "none"] | list[str]]
    timeout: NotRequired[str]
    """
    How long the job may run, from its first sandbox on; with attempts, each of them. Default 1h.
    """
    waitTimeout: NotRequired[str]
    """
    How long the job may wait for its first sandbox, such as 30m. Default: without limit.
    """
    delay: NotRequired[str]
    """
    How long the job is not to be run yet, from when it is enqueued, such as 10m.
    """
    runAt: NotRequired[str]
    """
    When the job is to be run at the earliest, such as 2026-12-01T08:00:00Z. A time that is past is now.
    """
    attempts: NotRequired[int]
    """
    How often the whole job is run, from the start and on a branch of its own each time, until it succeeds. Default 1.
    """
    priority: NotRequired[int]
    """
    Lower runs first, as in BullMQ. Default 100.
    """
    idempotencyKey: NotRequired[str]
    tenant: NotRequired[str]
    budget: NotRequired[Budget]
    """
    What the job’s sandboxes may cost together, in the deployment’s currency; then it is parked until that is raised. See docs/budgets.md.
    """
    concurrency: NotRequired[Concurrency]
    events: NotRequired[list[Literal["enqueued", "started", "step.finished", "checkpointed", "moved", "parked", "promoted", "completed"]]]
    """
    What is told of the job besides its end, to whoever subscribes to it: "enqueued", "started", "step.finished", "checkpointed", "moved", "parked", "promoted".
    """
    webhooks: NotRequired[list[JobWebhook]]
    """
    Where the job’s events are posted to, signed; see docs/webhooks.md.
    """
    metadata: NotRequired[dict[str, Any]]


class ScheduleInput(TypedDict):
    cron: NotRequired[str]
    every: NotRequired[str]
    timezone: NotRequired[str]
    job: JobSpec
    missed: NotRequired[Literal["skip", "once", "all"]]
    overlap: NotRequired[Literal["allow", "skip", "replace"]]


class ManyJobs(TypedDict):
    jobs: list[JobSpec]
