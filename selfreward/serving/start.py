"""From a target and a config to a running service: what is served, where its state lies."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfreward.config import EngineConfig
from selfreward.config_loading import parse_as, read_yaml
from selfreward.config_serving import ServiceConfig, ServingConfig
from selfreward.engines.deaths import last_line
from selfreward.engines.replica import ReplicaSpec
from selfreward.errors import EngineError, ResourceError
from selfreward.interrupts import LimitReachedError, run_in_thread
from selfreward.layout import Layout, absolute_path, join
from selfreward.serving.judge_wire import Options
from selfreward.serving.keeper import Served, VersionKeeper
from selfreward.serving.keys import KeyRing
from selfreward.serving.rubric_choice import choose_pairwise_rubric, choose_pointwise_rubric
from selfreward.storage import files

_OF_A_RUN = ("model", "engine", "ray")


def read_service(
    target: str | None, config: str | None, overrides: Sequence[str]
) -> tuple[Served, ServiceConfig]:
    """Returns what is to be served and how.

    `target` is a run folder or URL, or a model by name, folder or URL; None is the config's model.
    `config` is a YAML file of the sections model, engine, serving and ray.

    Raises:
        UserError: a file or key is wrong.
    """
    raw = read_yaml(Path(config)) if config else {}
    layout = _run_at(target)
    if layout is not None:
        import yaml

        of_run = yaml.safe_load(files.read_bytes(layout.config))
        raw = {name: of_run[name] for name in _OF_A_RUN if name in of_run} | raw
        # A service scales by its own bounds; what a run shares with trainers it has to itself.
        raw["engine"] = {**raw.get("engine", {}), "replicas": 1, "placement": "dedicated"}
    elif target is not None:
        raw["model"] = {**raw.get("model", {}), "name": target}
    service = parse_as(ServiceConfig, raw, overrides, config or target or "serve")
    keys_file = service.serving.auth.keys_file
    if keys_file is not None:
        # Replicas have working directories of their own.
        overrides = [*overrides, f"serving.auth.keys_file={absolute_path(keys_file)}"]
        service = parse_as(ServiceConfig, raw, overrides, config or target or "serve")
    check(service.serving)
    state = service.serving.state_dir or (
        join(layout.root, "serving") if layout else "selfreward-serving"
    )
    model = service.model
    name = f"{model.name}@{model.revision}" if model.revision else model.name
    return Served(layout=layout, model=name, state_dir=absolute_path(state)), service


def _run_at(target: str | None) -> Layout | None:
    if target is None:
        return None
    layout = Layout(absolute_path(target))
    is_path = "://" in target or os.path.isdir(target)
    return layout if is_path and files.exists(layout.run_json) else None


def check(config: ServingConfig) -> None:
    """Finds what would make every request fail, before anything is started.

    Raises:
        ConfigError: a rubric that is none, keys that are not there or not readable.
    """
    choose_pairwise_rubric(Options(), config)
    choose_pairwise_rubric(Options(rationale=True), config)
    choose_pointwise_rubric(Options(), config)
    if config.auth.enabled:
        KeyRing.load(config.auth)


def replica_spec(engine: EngineConfig, trust_remote_code: bool) -> ReplicaSpec:
    """What every replica of the service starts with."""
    from selfreward.engines.replica_env import resolve_device

    return ReplicaSpec(
        name="judge",
        device=resolve_device(engine),
        engine=engine,
        trust_remote_code=trust_remote_code,
    )


@contextmanager
def running(served: Served, config: ServiceConfig) -> Iterator[str]:
    """Starts the service on Ray Serve and yields its address; ends it afterwards.

    Raises:
        UserError: the weights or the history cannot be used, or the port is taken.
        EngineError: the engine could not be started, or not in time.
    """
    from ray import serve

    from selfreward.preflight import ray_session
    from selfreward.serving.access import Access
    from selfreward.serving.deployments import APP_NAME, build_application
    from selfreward.serving.review_desk import open_desk

    # Here first, so that a mistake is one line on the terminal and not a replica that restarts.
    serving = config.serving
    if not (config.ray.address or os.environ.get("RAY_ADDRESS")):
        # On a cluster that runs already Ray Serve may be the one that listens.
        check_port(serving.host, serving.port)
    VersionKeeper(served, serving)
    Access.of(serving)
    desk = open_desk(served, serving)
    if desk is not None:
        desk.store.close()
    _leave_the_cores_to_the_engine()
    with ray_session(config.ray):
        spec = replica_spec(config.engine, config.model.trust_remote_code)
        shared = _joined_serve(serving)
        serve.start(http_options=_http_options(serving))
        application = build_application(served, spec, serving)
        try:
            _deploy(application, serving)
            yield f"http://{serving.host}:{serving.port}{serving.route_prefix.rstrip('/')}"
        finally:
            # Of a Serve that others use only this application goes.
            if shared:
                serve.delete(APP_NAME)
            else:
                serve.shutdown()


_LIGHT_SERVE = {
    # Serve's controller looks around ten times a second otherwise, and all count as often.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",
    # Between proxy, ingress and engine: a sixth less work a request than by calls of actors.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Nothing here blocks an event loop, so none needs one of its own.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # Nobody reads it; Serve's own log files have the same.
    "RAY_SERVE_LOG_TO_STDERR": "0",
}


def _leave_the_cores_to_the_engine() -> None:
    """Settings of a local Ray, read when it starts; one that runs already keeps its own.

    On a few cores every process that wakes takes one from the engine, whose other threads then
    wait for it.
    """
    # Ray gives its workers what its own processes leave over.
    os.environ.setdefault("RAY_worker_niceness", "0")
    for name, value in _LIGHT_SERVE.items():
        os.environ.setdefault(name, value)


def _joined_serve(serving: ServingConfig) -> bool:
    """Whether Ray Serve runs on this cluster already.

    Raises:
        ResourceError: it listens elsewhere, or serves an application of this name.
    """
    from ray import serve
    from ray.serve.context import _get_global_client

    from selfreward.serving.deployments import APP_NAME

    status = serve.status()
    if not status.proxies:
        return False
    if APP_NAME in status.applications:
        raise ResourceError(
            f"this cluster's Ray Serve runs an application {APP_NAME!r} already; end it first,"
            " or promote its judge over HTTP"
        )
    # Ray has no public way to ask: it only warns, once it has ignored what one wanted.
    listens = _get_global_client().http_config
    found = (listens.host, listens.port)
    if found != (serving.host, serving.port):
        raise ResourceError(
            f"this cluster's Ray Serve listens on {found[0]}:{found[1]} and cannot be moved; set"
            f" serving.host={found[0]} serving.port={found[1]}"
        )
    return True


def _deploy(application: Any, serving: ServingConfig) -> None:
    """Waits until the service is up; Ray Serve by itself would wait for ever for resources."""
    from ray import serve

    from selfreward.serving.deployments import APP_NAME

    def deploy() -> None:
        serve.run(application, name=APP_NAME, route_prefix=serving.route_prefix)

    try:
        run_in_thread(deploy, "serve", serving.start_timeout_s)
    except LimitReachedError:
        raise EngineError(
            f"the service was not up within serving.start_timeout_s={serving.start_timeout_s:g}"
            " seconds; `ray status` tells whether the cluster has room for it"
        ) from None
    except (RuntimeError, TimeoutError) as error:
        # Serve's text holds the remote traceback; the cause is its last line.
        raise EngineError(f"the service could not be started: {last_line(error)}") from error


def check_running() -> None:
    """Raises EngineError where Serve has given the application up."""
    from ray import serve

    from selfreward.serving.deployments import APP_NAME

    application = serve.status().applications.get(APP_NAME)
    # UNHEALTHY is not the end: it lasts until a lost replica is replaced.
    if application is None or application.status in ("DEPLOY_FAILED", "DELETING"):
        told = application.message if application else "it is gone"
        raise EngineError(f"the service is no longer running: {last_line(told)}")


def _http_options(serving: ServingConfig) -> dict[str, Any]:
    return {
        "host": serving.host,
        "port": serving.port,
        "request_timeout_s": 2 * serving.limits.request_timeout_s,
        "keep_alive_timeout_s": 75,
    }


def check_port(host: str, port: int) -> None:
    """Raises ResourceError where something else listens already."""
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(
                f"serving.port={port} on {host}: {error.strerror}; choose another with"
                " serving.port=…"
            ) from None
