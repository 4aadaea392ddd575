"""All HTTP routes of the main port in one table."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.credentials import CredentialRoutes
from gateway.api.events import EventRoutes
from gateway.api.headers import DefaultHeaders
from gateway.api.members import MemberRoutes
from gateway.api.messages import MessageRoutes
from gateway.api.migrations import MigrationRoutes
from gateway.api.ops import HealthRoutes
from gateway.api.pages import PageRoutes
from gateway.api.problems import HANDLERS
from gateway.api.search import SearchRoutes
from gateway.api.segments import SegmentRoutes
from gateway.api.services import Services
from gateway.api.sessions import SessionRoutes
from gateway.api.whereabouts import WhereaboutsRoutes

Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(services: Services) -> Starlette:
    """Build the application that answers everything but the WebSocket."""
    app = Starlette(
        routes=[
            *PageRoutes().routes(),
            *HealthRoutes(services.ready).routes(),
            *_api(services),
        ],
        exception_handlers=HANDLERS,
        middleware=[Middleware(DefaultHeaders)],
    )
    # A path with a slash too many is another path, not a redirect to whatever Host the request named.
    app.router.redirect_slashes = False
    return app


def _api(services: Services) -> list[Route]:
    sessions = SessionRoutes(services)
    members = MemberRoutes(services)
    messages = MessageRoutes(services)
    credentials = CredentialRoutes(services)
    events = EventRoutes(services)
    moves = MigrationRoutes(services)
    searches = SearchRoutes(services)
    segments = SegmentRoutes(services)
    one_member = "/sessions/{session}/members/{user}"
    return [
        _at("/config", GET=credentials.config),
        _at("/demo/token", POST=credentials.demo_token),
        _at("/tickets", POST=credentials.ticket),
        _at("/users/{user}/revoke", POST=credentials.revoke),
        _at("/users/{user}/migrate", POST=moves.user),
        _at("/connections/{connection}/migrate", POST=moves.connection),
        _at("/sessions/{session}/migrate", POST=moves.session),
        _at("/migrations", GET=moves.list),
        _at("/migrations/{task}", GET=moves.one),
        _at("/events", GET=events.list),
        _at("/sessions", GET=sessions.list, POST=sessions.create),
        _at("/messages/search", GET=searches.search),
        _at("/sessions/{session}/messages/search", GET=searches.search),
        _at("/sessions/{session}", GET=sessions.get, PATCH=sessions.update, DELETE=sessions.delete),
        _at("/sessions/{session}/context", PUT=sessions.put_context),
        _at("/sessions/{session}/segment", POST=segments.segment),
        _at("/sessions/{session}/messages", GET=messages.list, POST=messages.post),
        _at("/sessions/{session}/members", GET=members.list),
        _at(one_member, PUT=members.put, DELETE=members.remove),
        *_whereabouts(WhereaboutsRoutes(services)),
    ]


def _whereabouts(routes: WhereaboutsRoutes) -> list[Route]:
    return [
        _at("/sessions/{session}/presence", GET=routes.presence),
        _at("/sessions/{session}/connections", GET=routes.connections),
        _at("/sessions/{session}/delivery", GET=routes.delivery),
        _at("/sessions/{session}/heartbeat", POST=routes.heartbeat),
        _at("/connections/{connection}", GET=routes.connection, DELETE=routes.disconnect),
        _at("/users/{user}/disconnect", POST=routes.disconnect_user),
        _at("/users/{user}/connections", GET=routes.of_user),
        _at("/users/{user}/sessions", GET=routes.sessions_of_user),
        _at("/users/{user}/signals", POST=routes.signal),
    ]


def _at(path: str, **methods: Endpoint) -> Route:
    """One route of the API for all methods of a path, so that a 405 names every one of them in Allow."""

    async def endpoint(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return Route(f"/api/v1{path}", endpoint, methods=list(methods))
