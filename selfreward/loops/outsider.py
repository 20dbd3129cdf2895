"""Who compares the answers of two models: never the model under test."""

from typing import Any

from selfreward.engines.endpoint import EndpointClient, first_model
from selfreward.engines.outside_judge import outside_holder, outside_model
from selfreward.loops.pools import PlacedModel
from selfreward.loops.session import place
from selfreward.loops.steps import Run


class Outsider:
    """The judge of the head-to-heads, and what tells it from another one."""

    def __init__(self, run: Run, seed: PlacedModel) -> None:
        self.run = run
        config = run.config
        self.endpoint: EndpointClient | None = None
        # Under the name of the model that is loaded already, where it is one of those.
        self.placed = seed
        self.holder = outside_holder(config)
        named = outside_model(config)
        if self.holder is None:
            url, _, model = (config.evaluation.head_to_head_judge or "").partition("#")
            self.endpoint = EndpointClient(
                url=url,
                model=model or first_model(url),
                request_timeout_s=config.engine.request_timeout_s,
                recovery_timeout_s=config.engine.recovery_timeout_s,
            )
        elif self.holder == "generator" and config.generator is not None:
            self.placed = place(config.generator.model)
        elif self.holder == "outsider" and named is not None:
            self.placed = place(named)

    @property
    def fingerprint(self) -> str:
        return self.endpoint.model.fingerprint if self.endpoint else self.placed.ref.fingerprint

    @property
    def name(self) -> str:
        return self.endpoint.model.name if self.endpoint else self.placed.ref.name

    def client(self) -> Any:
        if self.endpoint is not None:
            return self.endpoint
        pools = self.run.pools
        if self.holder == "generator":
            return pools.generator(self.placed)
        return pools.judge(self.placed) if self.holder == "judge" else pools.outsider(self.placed)
