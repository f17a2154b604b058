"""Server-sent events, read as they come: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations

import codecs
import re
from typing import Iterator, NamedTuple, Optional


longest_event = 16 * 1024 * 1024
"""Characters; a piece of a log has far fewer."""


class ServerSentEvent(NamedTuple):
    event: str
    data: str


class EventDecoder:
    """Makes events of bytes, wherever these are cut. An event that is cut off is none."""

    def __init__(self, last_event_id: Optional[str] = None) -> None:
        self.last_event_id = last_event_id
        """What to come back with."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._open: "list[str]" = []
        self._size = 0
        self._event = ""
        self._data: "list[str]" = []
        self._id = last_event_id

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Raises ValueError when an event is too long."""
        text = self._held + self._decoder.decode(chunk)
        # A line end may be two characters, the second of which is still to come.
        self._held = "\r" if text.endswith("\r") else ""
        first, *more = re.split(r"\r\n|\n|\r", text[: len(text) - len(self._held)])
        self._add(first)
        for each in more:
            found = self._line("".join(self._open))
            self._open = []
            if found is not None:
                yield found
            self._add(each)

    def _add(self, part: str) -> None:
        self._open.append(part)
        self._size += len(part)
        if self._size > longest_event:
            raise ValueError("an event of the stream is too long")

    def _line(self, line: str) -> Optional[ServerSentEvent]:
        if line == "":
            event, data = self._event or "message", self._data
            self._event, self._data = "", []
            self.last_event_id = self._id
            self._size = 0
            return ServerSentEvent(event, "\n".join(data)) if data else None
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None
