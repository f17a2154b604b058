"""What can go wrong, each with one sentence that says what to do about it."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence


class SwitchyardError(Exception):
    """Whatever this package raises of its own."""


class ApiError(SwitchyardError):
    """A refusal of the API, ``application/problem+json``."""

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str,
        title: str = "",
        problems: Sequence[str] = (),
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.detail = detail
        """One sentence: what is wrong, and the mend."""
        self.status = status
        """The status of HTTP."""
        self.code = code
        """Stable from release to release; docs/errors.md says of each what mends it."""
        self.title = title
        self.problems = list(problems)
        """Of wrong input: every problem, one sentence each."""
        self.retry_after = retry_after
        """In how many seconds to ask again, where the server said so."""


class InvalidInputError(ApiError):
    """400, 413, 415, 422: the request is wrong."""


class AuthenticationError(ApiError):
    """401: no key, or one that opens nothing."""


class PermissionDeniedError(ApiError):
    """403: the key may not do this."""


class NotFoundError(ApiError):
    """404: there is none, or it is another tenant's."""


class ConflictError(ApiError):
    """409: in conflict with what is there."""


class RateLimitedError(ApiError):
    """429, still after all tries."""


class UnavailableError(ApiError):
    """503, still after all tries."""


class ConnectionFailedError(SwitchyardError):
    """The server could not be reached, or the connection broke off, still after all tries."""


class StreamLostError(ConnectionFailedError):
    """A stream broke off and could not be taken up again."""

    def __init__(self, message: str, *, last_event_id: Optional[str]) -> None:
        super().__init__(message)
        self.last_event_id = last_event_id
        """Give this as ``after`` to go on."""


class ProtocolError(SwitchyardError):
    """What answered is not Switchyard's API, or one of another time."""


class WaitTimeoutError(SwitchyardError):
    """A job had not ended within the time given; it goes on."""


class IntegrityError(SwitchyardError):
    """A download is not the artifact that the job left."""


_by_status = {
    400: InvalidInputError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidInputError,
    415: InvalidInputError,
    422: InvalidInputError,
    429: RateLimitedError,
    503: UnavailableError,
}


def api_error(problem: Mapping[str, Any], status: int, retry_after: Optional[float]) -> ApiError:
    """The exception for a problem document."""
    problems = problem.get("problems")
    return _by_status.get(status, ApiError)(
        str(problem.get("detail", "the request was refused")),
        status=status,
        code=str(problem.get("code", "")),
        title=str(problem.get("title", "")),
        problems=[str(each) for each in problems] if isinstance(problems, list) else [],
        retry_after=retry_after,
    )
