"""Self-Taught Evaluators as a Ray job.

ray job submit --working-dir . -- \\
    python -m ray_jobs.self_taught ray_jobs/configs/quickstart.yaml run_dir=/shared/runs/quickstart
"""

import sys

from selfreward.cli import main

if __name__ == "__main__":
    given = sys.argv[1:]
    sys.argv[1:] = ["run", *given, *(["loop.kind=self_taught"] if given else [])]
    main()
