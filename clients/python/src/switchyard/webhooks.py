"""Checks that a webhook is Switchyard's: Standard Webhooks, https://www.standardwebhooks.com.

    webhook = Webhook(os.environ["BILLING_WEBHOOK_SECRET"])
    event = webhook.verify(request.body, request.headers)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from typing import Callable, Iterable, Mapping, Union

from pydantic import ValidationError

from ._errors import SwitchyardError
from ._models import Event

__all__ = ["Webhook", "WebhookVerificationError", "Event"]

_fewest_bytes = 24


class WebhookVerificationError(SwitchyardError):
    """A request is not a webhook of Switchyard's, or not one of now; answer 401."""


class Webhook:
    """Holds the signing secrets: ``whsec_`` and base64, several (in a list, or with blanks between them) while one takes the place of another."""

    def __init__(self, secrets: Union[str, Iterable[str]], *, tolerance: float = 300, now: Callable[[], float] = time.time) -> None:
        """tolerance: how many seconds the sender's clock may be off, either way."""
        parts = secrets.split() if isinstance(secrets, str) else [part for secret in secrets for part in secret.split()]
        if not parts:
            raise SwitchyardError("the webhook's signing secret is empty; set the variable that holds it")
        self._keys = [_key(part) for part in parts]
        self._tolerance = tolerance
        self._now = now

    def verify(self, body: Union[bytes, str], headers: Mapping[str, str]) -> Event:
        """The event in a request's body, which must be exactly what came. Raises WebhookVerificationError."""
        content = body.encode(errors="replace") if isinstance(body, str) else bytes(body)
        found = {str(name).lower(): str(value) for name, value in headers.items() if value is not None}
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
            if not found.get(name):
                raise WebhookVerificationError(f"{name}: is missing; the request is no webhook")
        stamp = found["webhook-timestamp"]
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
            raise WebhookVerificationError("webhook-timestamp: is no time in seconds")
        if abs(self._now() - int(stamp)) > self._tolerance:
            raise WebhookVerificationError("webhook-timestamp: is too far from this machine's time; the request was held back or sent again, or a clock is wrong")
        signed = f"{found['webhook-id']}.{stamp}.".encode(errors="replace") + content
        given = [signature for version, _, signature in (part.partition(",") for part in found["webhook-signature"].split()) if version == "v1"]
        expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in self._keys]
        # Every pair is compared, in constant time.
        matches = [hmac.compare_digest(one, other.encode(errors="replace")) for one in expected for other in given]
        if not any(matches):
            raise WebhookVerificationError("webhook-signature: is by none of the secrets here; the request is somebody else's, or its body was changed")
        try:
            return Event.model_validate_json(content)
        except ValidationError as error:
            raise WebhookVerificationError("the body is signed, but is no event that this release knows; update the switchyard package") from error


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret[6:] if secret.startswith("whsec_") else secret, validate=True)
    except binascii.Error:
        key = b""
    if len(key) < _fewest_bytes:
        # What was given is in no message.
        raise SwitchyardError(f'the webhook\'s signing secret must be "whsec_" and at least {_fewest_bytes} bytes in base64; give the one that Switchyard signs with')
    return key
