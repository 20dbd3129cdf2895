"""Self-Rewarding Language Models as a Ray job.

ray job submit --working-dir . -- \\
    python -m ray_jobs.self_rewarding ray_jobs/configs/self_rewarding_quickstart.yaml \\
    run_dir=/shared/runs/self_rewarding
"""

import sys

from selfreward.cli import main

if __name__ == "__main__":
    given = sys.argv[1:]
    sys.argv[1:] = ["run", *given, *(["loop.kind=self_rewarding"] if given else [])]
    main()
