"""What each role may do, written out once more: a change of the table has to be meant."""

from typing import get_args

import pytest

from gateway.auth.policy import ALLOWED, Action, allows, is_operator, may, may_revoke
from gateway.auth.tokens import Identity

ACTIONS: tuple[Action, ...] = get_args(Action)

READS = {"attach", "history", "mark", "presence", "list_members"}


def caller(user: str = "alice", tenant: str = "acme", *scopes: str) -> Identity:
    return Identity(tenant, user, frozenset(scopes), 0, 1)


def test_a_reader_reads_and_may_leave() -> None:
    assert ALLOWED["reader"] == READS | {"leave"}


def test_a_writer_also_speaks() -> None:
    assert ALLOWED["writer"] == READS | {"leave", "send", "signal", "update"}


def test_an_owner_may_do_everything_but_leave() -> None:
    assert ALLOWED["owner"] == set(ACTIONS) - {"leave"}


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_somebodys(action: Action) -> None:
    assert any(allows(role, action) for role in ALLOWED)


def test_an_operator_may_do_what_an_owner_may_and_needs_no_role_for_it() -> None:
    operator, other = caller("root", "acme", "operator"), caller()
    for action in ACTIONS:
        assert may(operator, None, action)
        assert may(operator, "reader", action)
        assert not may(other, None, action)
        assert all(may(other, role, action) == allows(role, action) for role in ALLOWED)


def test_one_revokes_oneself_and_an_operator_anybody_of_the_tenant() -> None:
    assert may_revoke(caller(), "acme", "alice")
    assert not may_revoke(caller(), "acme", "bob")
    assert not may_revoke(caller(), "other", "alice")
    operator = caller("root", "acme", "operator")
    assert is_operator(operator)
    assert may_revoke(operator, "acme", "bob")
    assert not may_revoke(operator, "other", "bob")
    assert not is_operator(caller("alice", "acme", "operators", "Operator"))
