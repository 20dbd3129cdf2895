"""Measuring a judge as a Ray job.

ray job submit --working-dir . -- python -m ray_jobs.evaluate --judge runs/mine --data pairs.jsonl
"""

import sys

from selfreward.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
