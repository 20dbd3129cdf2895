"""The judge service: as a Ray job, or as what `serve deploy` starts.

ray job submit --working-dir . -- \\
    python -m ray_jobs.serve_judge /shared/runs/first serving.host=0.0.0.0
serve deploy ray_jobs/serve_judge.yaml
"""

import sys
from typing import Any

from pydantic import BaseModel, ConfigDict

from selfreward.cli import main
from selfreward.errors import ConfigError


class Arguments(BaseModel):
    """`args` of the Serve config file."""

    model_config = ConfigDict(extra="forbid")

    target: str | None = None
    """A run folder or URL that all nodes reach, or a model."""
    overrides: list[str] = []
    """`section.key=value`, as on the command line."""


def build(args: dict[str, Any]) -> Any:
    """Returns the application, for the `import_path` of a Serve config file."""
    from selfreward.serving.deployments import build_application
    from selfreward.serving.start import read_service, replica_spec

    arguments = Arguments.model_validate(args)
    served, service = read_service(arguments.target, None, arguments.overrides)
    if not service.serving.auth.enabled:
        raise ConfigError(
            "serve deploy listens where http_options.host says, so it needs API keys:"
            " serving.auth.enabled=false is for `selfreward serve`"
        )
    spec = replica_spec(service.engine, service.model.trust_remote_code)
    return build_application(served, spec, service.serving)


if __name__ == "__main__":
    sys.argv[1:] = ["serve", *sys.argv[1:]]
    main()
