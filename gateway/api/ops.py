"""What keeps the gateway running asks here: liveness and readiness on both ports, metrics on one."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.api.answers import answer
from gateway.api.headers import DefaultHeaders
from gateway.api.problems import HANDLERS, problem
from gateway.runtime.health import Readiness

Ready = Callable[[], Readiness]


class HealthRoutes:
    """Alive: the event loop turns. Ready: send traffic here."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready

    async def livez(self, request: Request) -> Response:
        """GET /livez — answers as long as anything does."""
        return answer({"alive": True}, message="alive")

    async def readyz(self, request: Request) -> Response:
        """GET /readyz — 503 with the reason while this node should get no new traffic.

        A node that can serve says in which degraded modes it does so.
        """
        readiness = self._ready()
        if readiness.reason is not None:
            return problem(503, "unavailable", readiness.reason, {"Retry-After": "1"})
        return answer({"ready": True, "degraded": list(readiness.degraded)}, message="ready")

    def routes(self) -> list[Route]:
        """Both, for the main port and the operations port alike."""
        return [Route("/livez", self.livez), Route("/readyz", self.readyz)]


def build_ops_app(
    ready: Ready, metrics: Callable[[], tuple[bytes, str]], more: Sequence[BaseRoute] = ()
) -> Starlette:
    """Build the application of the operations port; `metrics` answers the exposition and its content type."""

    async def expose(request: Request) -> Response:
        body, content_type = metrics()
        return Response(body, headers={"Content-Type": content_type})

    routes = [*HealthRoutes(ready).routes(), Route("/metrics", expose), *more]
    app = Starlette(routes=routes, exception_handlers=HANDLERS, middleware=[Middleware(DefaultHeaders)])
    app.router.redirect_slashes = False
    return app
