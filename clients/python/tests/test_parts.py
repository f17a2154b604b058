from __future__ import annotations

import inspect
import re
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path

from switchyard import AsyncClient, AsyncJobHandle, AsyncSchedules, Client, JobHandle, Schedules, SwitchyardError
from switchyard import _calls as calls
from switchyard import _operations as operations
from switchyard._sse import EventDecoder, ServerSentEvent


class Streams(unittest.TestCase):
    text = ': hello\nid: 5\n\nid: 6\nevent: log\ndata: {"a":"☃"}\r\n\r\ndata:one\rdata:  two\r\rdata: 3\nid: 7\n\nid: 8\ndata: cut off\n'.encode()
    events = [ServerSentEvent("log", '{"a":"☃"}'), ServerSentEvent("message", "one\n two"), ServerSentEvent("message", "3")]

    def test_are_read_wherever_they_are_cut(self) -> None:
        for at in range(len(self.text) + 1):
            for more in (at, at + 1, at + 3):
                decoder = EventDecoder()
                parts = self.text[:at], self.text[at:more], self.text[more:]
                found = [event for part in parts for event in decoder.feed(part)]
                self.assertEqual((found, decoder.last_event_id), (self.events, "7"), (at, more))

    def test_keep_the_id_of_what_was_read_whole(self) -> None:
        decoder = EventDecoder("4")
        list(decoder.feed(b"id: 5\ndata: x\n"))
        self.assertEqual(decoder.last_event_id, "4")
        list(decoder.feed(b"\n"))
        self.assertEqual(decoder.last_event_id, "5")


class Requests(unittest.TestCase):
    def test_escape_ids_and_keys(self) -> None:
        self.assertEqual(calls.get("a/b ?☃").target, "v1/jobs/a%2Fb%20%3F%E2%98%83")
        self.assertEqual(calls.cancel("j", None, 'a"\\').headers()["idempotency-key"], '"a\\"\\\\"')

    def test_have_a_key_of_their_own_where_they_change_something(self) -> None:
        one, other = calls.enqueue({"repository": "a/b", "steps": ["x"]}, None, None), calls.enqueue({"repository": "a/b", "steps": ["x"]}, None, None)
        self.assertTrue(one.idempotency_key and one.idempotency_key != other.idempotency_key)

    def test_take_times_with_a_zone_only(self) -> None:
        at = datetime(2026, 12, 1, 8, tzinfo=timezone(timedelta(hours=1)))
        self.assertIn(b'"2026-12-01T08:00:00+01:00"', calls.encoded({"runAt": at}))
        with self.assertRaisesRegex(SwitchyardError, "no time zone"):
            calls.encoded({"runAt": datetime(2026, 12, 1)})
        with self.assertRaisesRegex(SwitchyardError, "can't be written as JSON"):
            calls.encoded({"metadata": object()})

    def test_come_again_when_the_server_said_so(self) -> None:
        now = datetime(2026, 12, 1, tzinfo=timezone.utc)
        for header, seconds in {"7": 7.0, "Tue, 01 Dec 2026 00:00:09 GMT": 9.0, "Mon, 30 Nov 2026 00:00:00 GMT": 0.0, "soon": None, "-1": None}.items():
            self.assertEqual(calls.retry_after_of(header, lambda: now), seconds, header)
        self.assertIsNone(calls.retry_after_of(None))
        self.assertTrue(all(calls.pause(tries, 3) >= 3 and calls.pause(tries) <= 8 for tries in range(50)))
        self.assertEqual([calls.may_retry(status, 1) for status in (400, 404, 409, 422, 429, 500, 502, 503)], [False, False, True, False, True, False, True, True])
        self.assertFalse(calls.may_retry(503, 3600))
        self.assertFalse(calls.may_retry(409, None))


class Surface(unittest.TestCase):
    def test_is_the_same_with_and_without_await(self) -> None:
        for one, other in ((Client, AsyncClient), (JobHandle, AsyncJobHandle), (Schedules, AsyncSchedules)):
            methods = {name for name, value in vars(one).items() if inspect.isfunction(value) and not name.startswith("_")}
            self.assertEqual(methods, {name for name, value in vars(other).items() if inspect.isfunction(value) and not name.startswith("_")})
            for name in methods:
                first, second = ([(each.name, each.kind, each.default) for each in inspect.signature(getattr(kind, name)).parameters.values()] for kind in (one, other))
                self.assertEqual(first, second, name)

    def test_has_every_operation_of_the_api(self) -> None:
        text = Path(inspect.getfile(calls)).read_text()
        known = {name for name, value in vars(operations).items() if isinstance(value, operations.Operation)}
        self.assertEqual(known, set(re.findall(r"\bops\.([A-Z_]+)\b", text)))


if __name__ == "__main__":
    unittest.main()
