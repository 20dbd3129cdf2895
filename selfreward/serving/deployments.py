"""The service on Ray Serve: versions, engines that scale, and the ingress with the routes.

Three deployments of one application. The engine's replicas hold the model; Serve starts and ends
them as requests pile up or cease, and a new one asks the versions which weights to load. The
ingress counts and queues, and sends a request again when the replica that had it is lost.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from selfreward.config_serving import AutoscalingConfig, ServingConfig
from selfreward.engines.protocol import GenerationRequest
from selfreward.engines.replica import ReplicaSpec
from selfreward.engines.replica_env import replica_env, replica_resources
from selfreward.serving.access import Access
from selfreward.serving.admin_wire import PromoteRequest, VersionHistory
from selfreward.serving.app import build_app
from selfreward.serving.engine import (
    Answer,
    ChatPiece,
    JudgeEngine,
    Judgment,
)
from selfreward.serving.handles import EngineHandle, VersionsHandle
from selfreward.serving.judge_wire import StreamEvent, StreamRequest
from selfreward.serving.keeper import Served, VersionKeeper
from selfreward.serving.keys import keys_of_environment
from selfreward.serving.replicas import start_replica
from selfreward.serving.review_desk import open_desk
from selfreward.serving.rubric_choice import JudgeRequest
from selfreward.serving.service import Service
from selfreward.serving.shadow import Shadow
from selfreward.serving.version_store import place_model
from selfreward.serving.versions import ServedVersion
from selfreward.storage.manifest import now

APP_NAME = "selfreward"
PENDING_FACTOR = 2
"""Requests a replica may hold, as a multiple of what is let in: never the reason for a refusal."""

RETRY_AFTER_S = 5.0
"""Told with the 503 of Ray Serve's proxy, which has seen no request end."""
ASK_TIMEOUT_S = 60.0
"""For a replica that starts to be told its version; Serve then starts another one."""


class Versions:
    """The one keeper of the history, in a process of its own."""

    def __init__(self, served: Served, config: ServingConfig) -> None:
        _log_to_stderr(config.log_level)
        self._keeper = VersionKeeper(served, config)

    async def current(self) -> ServedVersion:
        self._keeper.follow()
        return await self._keeper.current()

    async def history(self) -> VersionHistory:
        return await self._keeper.history()

    async def promote(self, request: PromoteRequest) -> ServedVersion:
        return await self._keeper.promote(request)

    async def rollback(self) -> ServedVersion:
        return await self._keeper.rollback()

    async def note(self, problem: str) -> None:
        self._keeper.note(problem)


class Engine:
    """A replica: an engine of its own, with the weights that are wanted when it starts."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it, mypy knows no such thing
        self,
        spec: ReplicaSpec,
        config: ServingConfig,
        versions: DeploymentHandle | ServedVersion,
    ) -> None:
        if isinstance(versions, ServedVersion):
            replica = await asyncio.to_thread(start_replica, spec, versions)
            self._engine = JudgeEngine(replica, versions, config)
            return
        async with asyncio.timeout(ASK_TIMEOUT_S):
            version: ServedVersion = await versions.current.remote()
        replica = await asyncio.to_thread(start_replica, spec, version)
        self._engine = JudgeEngine(replica, version, config, versions.note.remote)

    async def check_health(self) -> None:
        """Asked by Serve every few seconds; after three errors it starts this replica anew."""
        self._engine.check_health()

    async def judge(
        self, requests: Sequence[JudgeRequest], wanted: ServedVersion, request_id: str
    ) -> list[Judgment]:
        return await self._engine.judge(requests, wanted, request_id)

    async def judge_stream(
        self, request: StreamRequest, wanted: ServedVersion, request_id: str
    ) -> AsyncIterator[StreamEvent]:
        # Closed at once when the caller leaves, so that the weights are free to change.
        async with aclosing(self._engine.judge_stream(request, wanted, request_id)) as events:
            async for event in events:
                yield event

    async def chat(self, request: GenerationRequest, wanted: ServedVersion) -> Answer:
        return await self._engine.chat(request, wanted)

    async def chat_stream(
        self, request: GenerationRequest, wanted: ServedVersion
    ) -> AsyncIterator[ChatPiece]:
        async with aclosing(self._engine.chat_stream(request, wanted)) as pieces:
            async for piece in pieces:
                yield piece


def build_application(
    served: Served, spec: ReplicaSpec, config: ServingConfig
) -> serve.Application:
    """Returns the Serve application that `serve.run` or `serve deploy` starts."""
    versions = serve.deployment(Versions, name="versions").options(
        num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}
    )
    bound_versions = versions.bind(served, config)
    engine = engine_deployment("engine", spec, config).bind(spec, config, bound_versions)
    shadow: serve.Application | None = None
    candidate: ServedVersion | None = None
    if config.shadow.model is not None:
        model, folder = place_model(config.shadow.model)
        candidate = ServedVersion(number=0, model=model, folder=folder, since=now(), by="start")
        shadow = engine_deployment("shadow", spec, config).bind(spec, config, candidate)

    # Of the process that deploys: on a cluster that runs already no other one has its environment.
    fixed_keys = keys_of_environment() if config.auth.enabled else ()

    def ingress_app() -> Any:
        _log_to_stderr(config.log_level)
        handles = {
            name: serve.get_deployment_handle(name, app_name=APP_NAME)
            for name in ("versions", "engine", *(("shadow",) if candidate else ()))
        }
        limit_s = config.limits.request_timeout_s
        service = Service(
            config,
            EngineHandle(handles["engine"], limit_s),
            VersionsHandle(handles["versions"]),
        )
        if candidate is not None:
            service.shadow = Shadow(
                EngineHandle(handles["shadow"], 0.0),
                candidate,
                config.shadow.share,
                limit_s,
                service.telemetry,
            )
        return build_app(service, Access.of(config, fixed_keys), open_desk(served, config))

    ingress = serve.deployment(serve.ingress(ingress_app)(), name="ingress").options(
        num_replicas=config.num_ingress,
        max_ongoing_requests=PENDING_FACTOR * config.limits.max_queued,
        # Beyond what the ingress itself refuses, for those that only hold a connection.
        max_queued_requests=config.limits.max_queued,
        backpressure_config=BackpressureConfig(retry_after_s=RETRY_AFTER_S),
        ray_actor_options={"num_cpus": 0},
    )
    return ingress.bind(bound_versions, engine, *((shadow,) if shadow is not None else ()))


def _log_to_stderr(level: str) -> None:
    """Ray keeps what a replica writes there in the session's log folder."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("selfreward")
    logger.handlers[:] = [handler]
    logger.setLevel(level)


def _replicas(scaling: AutoscalingConfig) -> dict[str, Any]:
    if scaling.min_replicas == scaling.max_replicas:
        # Otherwise every request is reported to a controller that has nothing to decide.
        return {"num_replicas": scaling.min_replicas}
    wanted = {
        "min_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "target_ongoing_requests": scaling.target_ongoing_requests,
        "upscale_delay_s": scaling.upscale_delay_s,
        "downscale_delay_s": scaling.downscale_delay_s,
    }
    return {"autoscaling_config": wanted}


def engine_deployment(name: str, spec: ReplicaSpec, config: ServingConfig) -> serve.Deployment:
    resources = replica_resources(spec.engine, spec.device)
    options: dict[str, Any] = {
        "num_cpus": resources["CPU"],
        "num_gpus": resources.get("GPU", 0),
    }
    if spec.engine.kind != "scripted":
        options["runtime_env"] = {"env_vars": replica_env(spec.engine, spec.device)}
    return serve.deployment(Engine, name=name).options(
        max_ongoing_requests=PENDING_FACTOR * config.limits.max_queued,
        **_replicas(config.autoscaling),
        graceful_shutdown_timeout_s=config.limits.request_timeout_s,
        ray_actor_options=options,
    )
