"""What a client may say when, driven against a model that keeps a few plain facts."""

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.protocol.close import CloseCode
from gateway.protocol.frames import Heartbeat, Hello
from gateway.protocol.limits import Limits
from gateway.protocol.peer import (
    FLOOD_WINDOW_S,
    TABLE,
    Answer,
    Do,
    Greet,
    Hang,
    Input,
    Nothing,
    Outcome,
    Peer,
    State,
)
from tests.protocol.reading import read

HELLO = b'{"type":"hello","token":"a.b.c"}'
REQUEST = b'{"type":"heartbeat","id":"b1","ts":1}'
BROKEN = b'{"type":"heartbeat","id":"b1"}'
UNKNOWN = b'{"type":"shout","id":"b1"}'
NOT_JSON = b"hello"
LONG = b" " * 101

BURST = 5
LIMITS = Limits(frames_per_s=1, frames_burst=BURST, hello_bytes=100)


def opened(limits: Limits = LIMITS) -> Peer:
    """A peer after its welcome."""
    peer = Peer(limits, 0.0)
    assert isinstance(peer.receive(HELLO, 0.0), Greet)
    peer.welcomed()
    return peer


class Conversation(RuleBasedStateMachine):
    """The model counts tokens and refusals by itself, with whole seconds only, so that sums are exact."""

    @initialize()
    def connect(self) -> None:
        self.now = 0
        self.peer = Peer(LIMITS, 0.0)
        self.has_greeted = self.is_welcome = self.is_leaving = self.is_over = self.is_gone = False
        self.tokens = BURST
        self.refused_at = -1
        self.impatient = 0
        self.impatient_since = 0

    @rule(seconds=st.integers(1, 15))
    def time_goes_by(self, seconds: int) -> None:
        self.now += seconds
        self.tokens = min(BURST, self.tokens + seconds)

    @rule(text=st.sampled_from([HELLO, REQUEST, BROKEN, UNKNOWN, NOT_JSON, LONG]), times=st.integers(1, 9))
    def say(self, text: bytes, times: int) -> None:
        for _ in range(times):
            self.judge(self.peer.receive(text, float(self.now)), text)

    @rule(times=st.integers(1, 9))
    def send_bytes(self, times: int) -> None:
        for _ in range(times):
            self.judge(self.peer.binary(20, float(self.now)), None)

    def judge(self, outcome: Outcome, text: bytes | None) -> None:
        if self.is_over or self.is_gone:
            assert outcome == Nothing()
        elif not self.has_greeted:
            if text == HELLO:
                self.has_greeted = True
                assert isinstance(outcome, Greet)
            else:
                self.hung(outcome, CloseCode.PROTOCOL_VIOLATION)
        elif self.tokens == 0:
            self.refused(outcome, text)
        else:
            self.tokens -= 1
            self.served(outcome, text)

    def refused(self, outcome: Outcome, text: bytes | None) -> None:
        if self.now - self.impatient_since > FLOOD_WINDOW_S:
            self.impatient, self.impatient_since = 0, self.now
        # There is a token again every whole second: to wait is to come in a later one.
        if self.now == self.refused_at:
            self.impatient += 1
        self.refused_at = self.now
        if self.impatient > 2 * BURST:
            self.hung(outcome, CloseCode.FLOODING)
            return
        assert isinstance(outcome, Answer)
        error = read(outcome.frame)
        assert error["code"] == "rate_limited"
        assert error["retryable"] is True
        assert 0 < error["retry_after_ms"] <= 1000
        assert error.get("id") == ("b1" if text in (REQUEST, BROKEN, UNKNOWN) else None)

    def served(self, outcome: Outcome, text: bytes | None) -> None:
        if text == HELLO:
            self.hung(outcome, CloseCode.PROTOCOL_VIOLATION)
        elif text == REQUEST:
            assert outcome == Do(Heartbeat(id="b1", ts=1))
        else:
            assert isinstance(outcome, Answer)
            assert read(outcome.frame)["code"] == ("unknown_type" if text == UNKNOWN else "bad_request")

    def hung(self, outcome: Outcome, code: CloseCode) -> None:
        assert isinstance(outcome, Hang)
        assert outcome.code == code
        assert outcome.reason
        self.is_over = True

    @precondition(lambda self: self.has_greeted and not self.is_welcome and not self.is_leaving)
    @rule(is_good=st.booleans())
    def decide(self, is_good: bool) -> None:
        if is_good:
            self.is_welcome = True
            self.peer.welcomed()
        else:
            self.peer.refused()
            self.is_over = True

    @precondition(lambda self: self.is_welcome)
    @rule()
    def ask_to_move(self) -> None:
        self.is_leaving = True
        self.peer.draining()

    @rule()
    def close(self) -> None:
        self.peer.closing()
        self.is_over = True

    @precondition(lambda self: not self.is_gone)
    @rule()
    def lose_the_socket(self) -> None:
        self.peer.lost()
        self.is_gone = True

    @invariant()
    def the_state_follows_from_what_happened(self) -> None:
        if not hasattr(self, "peer"):
            return
        if self.is_gone:
            expected = State.CLOSED
        elif self.is_over:
            expected = State.CLOSING
        elif self.is_leaving:
            expected = State.DRAINING
        elif self.is_welcome:
            expected = State.OPEN
        elif self.has_greeted:
            expected = State.AUTHENTICATING
        else:
            expected = State.OPENING
        assert self.peer.state is expected


Conversation.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestConversation = Conversation.TestCase


def test_every_state_is_reached_and_every_input_is_used() -> None:
    reached = {State.OPENING}
    while more := {after for (before, _), after in TABLE.items() if before in reached} - reached:
        reached |= more
    assert reached == set(State)
    assert {happening for _, happening in TABLE} == set(Input)


def test_nothing_leads_back() -> None:
    order = list(State)
    for (before, _), after in TABLE.items():
        assert order.index(after) >= order.index(before)


def test_a_socket_can_be_lost_in_every_state_but_only_once() -> None:
    for state in State:
        assert TABLE.get((state, Input.LOST)) == (None if state is State.CLOSED else State.CLOSED)


def test_what_cannot_happen_is_an_error() -> None:
    with pytest.raises(KeyError):
        Peer(LIMITS, 0.0).welcomed()
    with pytest.raises(KeyError):
        Peer(LIMITS, 0.0).draining()
    with pytest.raises(KeyError):
        opened().refused()


def test_a_decision_that_comes_too_late_changes_nothing() -> None:
    peer = Peer(LIMITS, 0.0)
    peer.receive(HELLO, 0.0)
    seen: list[State] = []
    for happening in (peer.closing, peer.lost):
        happening()
        for late in (peer.welcomed, peer.refused, peer.draining, peer.closing):
            late()
            seen.append(peer.state)
    assert seen == [State.CLOSING] * 4 + [State.CLOSED] * 4


def test_the_hello_is_handed_on() -> None:
    outcome = Peer(LIMITS, 0.0).receive(HELLO, 0.0)
    assert outcome == Greet(Hello(token="a.b.c"))


def test_a_hello_of_exactly_the_limit_is_read() -> None:
    fits = b'{"type":"hello","token":"' + b"t" * 73 + b'"}'
    assert len(fits) == LIMITS.hello_bytes
    assert isinstance(Peer(LIMITS, 0.0).receive(fits, 0.0), Greet)
    assert isinstance(Peer(LIMITS, 0.0).receive(b" " + fits, 0.0), Hang)


def test_the_reason_of_a_bad_hello_fits_into_a_close_frame() -> None:
    hello = json.dumps({"type": "hello", "attach": [{"session": "x", "since": "é" * 500}]}).encode()
    outcome = Peer(Limits(), 0.0).receive(hello, 0.0)
    assert isinstance(outcome, Hang)
    assert 0 < len(outcome.reason.encode()) <= 123


def test_requests_sent_before_the_welcome_are_handed_on() -> None:
    peer = Peer(LIMITS, 0.0)
    peer.receive(HELLO, 0.0)
    assert isinstance(peer.receive(REQUEST, 0.0), Do)


def test_a_client_that_waits_as_told_is_served_and_never_closed() -> None:
    peer, now = opened(Limits()), 0.0
    served = 0
    for _ in range(5_000):
        match peer.receive(REQUEST, now):
            case Do():
                served += 1
            case Answer(frame):
                now += read(frame)["retry_after_ms"] / 1000
            case outcome:
                pytest.fail(str(outcome))
    assert 2_500 <= served < 3_000


def test_a_client_that_does_not_wait_is_closed_after_twice_its_burst() -> None:
    peer = opened(Limits())
    outcomes = [type(peer.receive(REQUEST, 0.0)) for _ in range(400)]
    # 100 served; one refusal that could not be foreseen; 200 that could.
    assert outcomes == [Do] * 100 + [Answer] * 201 + [Hang] + [Nothing] * 98


def test_impatience_is_forgotten_after_a_while() -> None:
    peer, now = opened(Limits()), 0.0
    for _ in range(5):
        for _ in range(250):
            assert not isinstance(peer.receive(REQUEST, now), Hang)
        now += FLOOD_WINDOW_S + 1


def test_what_a_closed_connection_still_brings_is_dropped() -> None:
    peer = opened()
    peer.closing()
    assert peer.receive(REQUEST, 0.0) == Nothing()
    assert peer.binary(20, 0.0) == Nothing()


def test_binary_messages_count_as_frames() -> None:
    peer = opened()
    codes = []
    for _ in range(BURST + 1):
        outcome = peer.binary(20, 0.0)
        assert isinstance(outcome, Answer)
        codes.append(read(outcome.frame)["code"])
    assert codes == ["bad_request"] * BURST + ["rate_limited"]


def test_a_client_slightly_above_the_rate_is_refused_now_and_then_and_not_closed() -> None:
    peer = opened(Limits())
    refused = 0
    for n in range(6_000):
        outcome = peer.receive(REQUEST, n / 60)
        refused += isinstance(outcome, Answer)
        assert not isinstance(outcome, Hang)
    assert refused > 500
