"""Health, metrics, and which judge is served: who asks, and who changes it."""

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from selfreward.serving.access import require
from selfreward.serving.admin_wire import PromoteRequest, ShadowReport, VersionEntry, VersionHistory
from selfreward.serving.http_errors import api_error
from selfreward.serving.judge_routes import REFUSALS, Here, service_of
from selfreward.serving.telemetry import CONTENT_TYPE_LATEST
from selfreward.serving.wire import ErrorBody


class Health(BaseModel):
    status: str


health_router = APIRouter(tags=["health"])


@health_router.get("/healthz", operation_id="healthz")
async def healthz() -> Health:
    """Whether the process answers at all."""
    return Health(status="ok")


@health_router.get("/readyz", operation_id="readyz", responses={503: {"model": ErrorBody}})
async def readyz(request: Request) -> Health:
    """Whether judgments can be asked for: an engine has answered within the last minute."""
    service_of(request).check_ready()
    return Health(status="ready")


router = APIRouter(responses=REFUSALS)


@router.get(
    "/metrics",
    tags=["health"],
    operation_id="metrics",
    dependencies=[Depends(require("user"))],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(service: Here) -> Response:
    """Counters of this ingress, for Prometheus."""
    return Response(service.telemetry.text(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/v1/version",
    tags=["judge"],
    operation_id="get_version",
    dependencies=[Depends(require("user"))],
)
async def version(service: Here) -> VersionHistory:
    """The judge that is served, and those before it."""
    return await service.history()


admin_router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    responses=REFUSALS,
    dependencies=[Depends(require("admin"))],
)


@admin_router.post("/promote", operation_id="promote", responses={409: {"model": ErrorBody}})
async def promote(body: PromoteRequest, service: Here) -> VersionEntry:
    """Make an iteration of the run, or a model, the judge. Requests under way finish first."""
    return (await service.promote(body)).entry()


@admin_router.post("/rollback", operation_id="rollback", responses={409: {"model": ErrorBody}})
async def rollback(service: Here) -> VersionEntry:
    """Go back to the judge before this one, under a new version number."""
    return (await service.rollback()).entry()


@admin_router.get("/shadow", operation_id="shadow", responses={404: {"model": ErrorBody}})
async def shadow(service: Here) -> ShadowReport:
    """How the candidate agrees with the current judge so far."""
    if service.shadow is None:
        raise api_error(404, "no_shadow", "no shadow judge runs here: set serving.shadow.model")
    return service.shadow.report()
