"""How many engines a service asks Ray Serve for."""

from ray.serve import Deployment

from selfreward.config_serving import ServiceConfig
from selfreward.serving.deployments import build_application, engine_deployment
from selfreward.serving.keeper import Served
from selfreward.serving.start import replica_spec


def engine(low: int, high: int) -> Deployment:
    service = ServiceConfig.model_validate(
        {
            "engine": {"kind": "scripted", "device": "cpu"},
            "serving": {"autoscaling": {"min_replicas": low, "max_replicas": high}},
        }
    )
    return engine_deployment("engine", replica_spec(service.engine, False), service.serving)


def test_a_fixed_number_is_no_autoscaling() -> None:
    # Ray Serve reports every request to its controller where there is something to decide.
    fixed = engine(2, 2)
    assert fixed.num_replicas == 2
    assert fixed._deployment_config.autoscaling_config is None


def test_bounds_are_handed_to_ray_serve() -> None:
    scaling = engine(1, 4)._deployment_config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 4)
    assert scaling.target_ongoing_requests == 16.0


def test_what_waits_outside_the_ingress_is_bounded() -> None:
    service = ServiceConfig.model_validate(
        {"engine": {"kind": "scripted"}, "serving": {"limits": {"max_queued": 7}}}
    )
    served = Served(layout=None, model="tiny", state_dir="state")
    spec = replica_spec(service.engine, False)
    ingress = build_application(served, spec, service.serving)._bound_deployment
    assert (ingress.max_ongoing_requests, ingress.max_queued_requests) == (14, 7)
    assert ingress.backpressure_config.retry_after_s == 5
