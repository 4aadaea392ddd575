"""Reads what the quiet connections of a crowded node send, many at a time.

A heartbeat that wakes the process for itself costs twice what one of several does. Who speaks seldom is
therefore taken out of the event loop's watch and put into an epoll of our own, which one timer looks into.
"""

import asyncio
import logging
import os
import select
from typing import Final, Protocol

from gateway.edge.counters import Counters
from gateway.edge.parser import Reader

# Who lets so much pass between two messages speaks seldom; who speaks again sooner is talking to somebody.
# Heartbeats come every 25 s.
SELDOM_S: Final = 5.0

# A heartbeat is smaller, whatever it confirms; the rest of what is larger shall not come in steps.
_LARGE_BYTES: Final = 1024

# Read in one turn, so that the others need not wait for long: 3 ms at the worst. What is left is read in the
# next turn of the loop. The kernel hands out what is ready in turns, so nobody is forgotten.
_AT_ONCE: Final = 64

# Half the crowd is gone before the rest of it is given back: a node with about so many changes nothing.
_THIN: Final = 2

_log = logging.getLogger(__name__)


class Member(Protocol):
    """A connection that may be quiet. `quiet_fd` belongs to the gathering: -1 for who is not."""

    quiet_fd: int
    transport: asyncio.Transport

    @property
    def may_be_quiet(self) -> bool:
        """Whether nothing but reading is going on."""

    @property
    def reader(self) -> Reader | None:
        """What takes the bytes at the moment."""


class Gathering:
    """The quiet connections of one node. Nothing waits here: what is not read yet waits in the kernel.

    `every_s`: how long it waits there at most; 0 turns all of this off. `crowd`: on a node with fewer
    connections nobody is quiet.
    """

    def __init__(self, every_s: float, crowd: int, counters: Counters) -> None:
        self._every_s = every_s
        self._crowd = crowd
        self._counters = counters
        self._members: dict[int, Member] = {}  # by file descriptor
        self._epoll: select.epoll | None = None
        self._timer: asyncio.TimerHandle | None = None

    def sort(self, member: Member) -> None:
        """A quiet one has spoken soon again, or another one after a long time: let them change sides."""
        if member.quiet_fd >= 0:
            self.give_back(member)
        elif self._every_s and self._counters.connections >= self._crowd and member.may_be_quiet:
            self._take(member)

    def give_back(self, member: Member) -> None:
        """Let the event loop read for this one again."""
        if member.quiet_fd >= 0:
            self.forget(member)
            # Reads nothing yet, so what is being read at this moment stays before what follows.
            member.transport.resume_reading()

    def forget(self, member: Member) -> None:
        """Look no more after this one. Has to come before its descriptor is closed, and used again."""
        if member.quiet_fd >= 0 and self._epoll is not None:
            self._epoll.unregister(member.quiet_fd)
            del self._members[member.quiet_fd]
            member.quiet_fd = -1
            self._counters.quiet -= 1

    def stop(self) -> None:
        """Give everybody back, and let go of the descriptor."""
        for member in list(self._members.values()):
            self.give_back(member)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def _take(self, member: Member) -> None:
        if self._epoll is None:
            self._epoll = select.epoll()
        fd = member.transport.get_extra_info("socket").fileno()
        # uvloop's epoll keeps the descriptor until its next event, which wakes the loop once more.
        member.transport.pause_reading()
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)
        self._members[fd] = member
        member.quiet_fd = fd
        self._counters.quiet += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._turn)

    def _turn(self) -> None:
        """Read whatever has come, and have this called again."""
        pause_s = self._every_s
        try:
            if self._counters.connections * _THIN < self._crowd:
                for member in list(self._members.values()):
                    self.give_back(member)
            elif self._read():
                pause_s = 0.0
        except Exception:
            _log.exception("reading of quiet connections failed")
        self._timer = None
        if self._members:
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._turn)

    def _read(self) -> bool:
        """Read once from each that has something; whether there may be more of them."""
        if self._epoll is None:
            return False
        ready = self._epoll.poll(0, _AT_ONCE)
        for fd, events in ready:
            # One may be gone by what another has said.
            member = self._members.get(fd)
            if member is None:
                continue
            if events == select.EPOLLIN and member.reader is not None:
                self._read_one(fd, member, member.reader)
            else:
                # Its end, an error, or more to it than we know: the transport sees that for itself.
                self.give_back(member)
        return len(ready) == _AT_ONCE

    def _read_one(self, fd: int, member: Member, reader: Reader) -> None:
        room = reader.get_buffer(-1)
        try:
            size = os.readv(fd, (room,))
        except OSError:
            size = 0
        if size == 0 or size >= _LARGE_BYTES or size == len(room):
            self.give_back(member)
        if size:
            reader.buffer_updated(size)
