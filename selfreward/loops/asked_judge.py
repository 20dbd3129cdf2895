"""The judge of an evaluation: who it is, and how a client for it is made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selfreward.config import RunConfig
from selfreward.engines.client import EngineClient
from selfreward.engines.endpoint import EndpointClient, first_model
from selfreward.evaluation.judges import JudgeSpec, run_checkpoint
from selfreward.layout import Layout, absolute_path
from selfreward.loops.pools import PlacedModel
from selfreward.loops.session import place, run_model
from selfreward.loops.steps import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedJudge:
    """A judge ready to be asked: its identity, and how a client for it is made."""

    spec: JudgeSpec
    fingerprint: str
    name: str
    client: Callable[[Run], EngineClient] | None
    placed: PlacedModel | None = None
    """Of a judge that engines of the cluster hold."""
    names: tuple[str, ...] = ()
    """What files may call its model besides."""

    @classmethod
    def of(cls, spec: JudgeSpec, config: RunConfig) -> "AskedJudge":
        if spec.kind == "baseline":
            return cls(spec=spec, fingerprint=spec.text, name=spec.text, client=None)
        if spec.kind == "endpoint":
            endpoint: Any = EndpointClient(
                url=spec.name,
                model=spec.variant or first_model(spec.name),
                request_timeout_s=config.engine.request_timeout_s,
                recovery_timeout_s=config.engine.recovery_timeout_s,
            )
            return cls(
                spec=spec,
                fingerprint=endpoint.model.fingerprint,
                name=endpoint.model.name,
                client=lambda run: endpoint,
            )
        placed = _placed(spec, config)
        return cls(
            spec=spec,
            fingerprint=placed.ref.fingerprint,
            name=placed.ref.name,
            client=lambda run: run.pools.judge(placed),
            placed=placed,
            # What a run trained writes much as its seed does.
            names=(config.model.name,),
        )


def _placed(spec: JudgeSpec, config: RunConfig) -> PlacedModel:
    if spec.kind != "run":
        return place(config.model)
    iteration, _ = run_checkpoint(spec)
    return run_model(Layout(absolute_path(spec.name)), config.model, iteration)
