"""Logs: one line per event, for a person on a terminal, else JSON; what libraries log goes the same way.

No line holds a token, the body of a message or a control character, whatever was passed in (redaction.py).
"""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.telemetry.redaction import clean_event

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

# Of one event this many lines in this long, then one line with the number left out. A log storm must not
# become the outage: a few hundred different events make 1000 lines a second at worst.
REPEATS: Final = 20
REPEATS_S: Final = 10.0

# Events are named by literals in the code, some hundreds in all; libraries put anything into theirs.
_MOST_EVENTS: Final = 512

_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


def configure(form: Format = "auto", level: Level = "info", stream: TextIO | None = None) -> None:
    """Send everything logged from now on to the stream, by default standard error. Once per process."""
    stream = stream or sys.stderr
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(Repeats(time.monotonic).admit)
    is_console = is_for_a_person(form, stream)
    handler.setFormatter(_formatter(_console(stream.isatty()) if is_console else _json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = True
        # uvicorn tells of its own start and end in ten lines, and of each request; the gateway needs one.
        library.setLevel(max(logging.WARNING, root.level))


def is_for_a_person(form: Format, stream: TextIO) -> bool:
    """Whether what goes to the stream is read by a person, and not by a program."""
    return form == "console" or (form == "auto" and stream.isatty())


class Repeats:
    """Lets the first lines of an event through and counts the rest. Bounded: the oldest is forgotten."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: OrderedDict[tuple[str, int, str], _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, record: logging.LogRecord) -> bool:
        """Whether to write this record; the first after a silence tells how many were left out."""
        message: object = record.msg
        event = str(message.get("event") if isinstance(message, dict) else message)
        key = (record.name, record.levelno, event[:200])
        now = self._monotonic()
        seen = self._seen.get(key)
        if seen is None or now - seen.since >= REPEATS_S:
            self._seen[key] = _Seen(now)
            if seen is not None and seen.left_out:
                record.__dict__["left_out"] = seen.left_out
        elif seen.lines >= REPEATS:
            seen.left_out += 1
            return False
        else:
            seen.lines += 1
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_EVENTS:
            self._seen.popitem(last=False)
        return True


class _Seen(msgspec.Struct):
    since: float
    lines: int = 1
    left_out: int = 0


def _formatter(render: Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            _add_left_out,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            clean_event,
            render,
        ],
    )


def _add_left_out(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    left_out = event["_record"].__dict__.get("left_out")
    if left_out:
        event["left_out"] = left_out
    event.pop("color_message", None)  # uvicorn's second copy of a line, with escape sequences
    return event


def _console(is_terminal: bool) -> Processor:
    # Plain tracebacks: the coloured ones print local variables, and with them what was just kept out.
    return structlog.dev.ConsoleRenderer(
        colors=is_terminal, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )


def _json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return _ENCODER.encode(first | dict(event)).decode()
