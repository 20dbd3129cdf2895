"""The HTTP application: routes, protection and the web page around a `Service`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version as installed_version

from fastapi import FastAPI

from selfreward.serving import admin_routes, judge_routes, openai_routes, review_routes
from selfreward.serving.access import Access, install_access
from selfreward.serving.docs_page import mount_docs
from selfreward.serving.http_errors import install_error_handlers
from selfreward.serving.middleware import install_middleware
from selfreward.serving.review_desk import ReviewDesk
from selfreward.serving.service import Service
from selfreward.serving.telemetry import Measured
from selfreward.serving.web_page import mount_page

_ABOUT = """\
A language model as a judge: compare, score and rank responses.

A judgment that failed is an answer with an `outcome` and a `detail`, never a number. Every answer
names the version of the judge that gave it.
"""


def build_app(service: Service, access: Access, review: ReviewDesk | None) -> FastAPI:
    """Returns the application; the service starts with it and stops with it.

    It belongs to one process and one event loop, since it counts and queues there.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        following = asyncio.ensure_future(review.follow()) if review is not None else None
        try:
            yield
        finally:
            await service.stop()
            if review is not None and following is not None:
                following.cancel()
                review.store.close()

    app = FastAPI(
        title="selfreward judge",
        description=_ABOUT,
        version=installed_version("selfreward"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.review = review
    install_access(app, access)
    install_error_handlers(app)
    install_middleware(app, service.config)
    # Outermost: refusals of the other layers count as well.
    app.add_middleware(Measured, telemetry=service.telemetry)
    for router in (
        judge_routes.router,
        judge_routes.reward_router,
        openai_routes.router,
        review_routes.router,
        admin_routes.router,
        admin_routes.admin_router,
        admin_routes.health_router,
    ):
        app.include_router(router)
    mount_docs(app)
    mount_page(app)
    return app
