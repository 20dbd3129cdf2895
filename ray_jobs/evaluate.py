"""Measuring a judge as a Ray job.

ray job submit --working-dir . -- python -m ray_jobs.evaluate \\
    --judge s3://BUCKET/run --data s3://BUCKET/pairs.jsonl --work s3://BUCKET/evaluations/first
"""

import sys

from selfreward.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
