"""Who compares the answers of two models: never the model under test."""

from typing import Any

from selfreward.engines.endpoint import EndpointClient, first_model
from selfreward.loops.pools import PlacedModel
from selfreward.loops.session import place
from selfreward.loops.steps import Run


class Outsider:
    """The judge of the head-to-heads, and what tells it from another one."""

    def __init__(self, run: Run, seed: PlacedModel) -> None:
        self.run = run
        name = run.config.evaluation.head_to_head_judge
        self.endpoint: EndpointClient | None = None
        self.placed = seed
        self.is_seed = name is None
        if name is not None and name.startswith(("http://", "https://")):
            url, _, model = name.partition("#")
            engine = run.config.engine
            self.endpoint = EndpointClient(
                url=url,
                model=model or first_model(url),
                request_timeout_s=engine.request_timeout_s,
                recovery_timeout_s=engine.recovery_timeout_s,
            )
        elif name is not None:
            self.placed = place(
                run.config.model.model_copy(update={"name": name, "revision": None})
            )

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
        return pools.judge(self.placed) if self.is_seed else pools.outsider(self.placed)
