"""One stage of training as a Ray job: pretrain, continue, finetune, instruct, prefer or reinforce.

ray job submit --working-dir . -- \\
    python -m ray_jobs.train instruct ray_jobs/configs/custom_llm_7b.yaml \\
    model.name=/models/base run_dir=s3://BUCKET/runs/instruct
"""

import sys

from selfreward.cli import main

if __name__ == "__main__":
    stage, *given = sys.argv[1:] or ["--help"]
    wanted = ["loop.kind=custom_llm", f"custom_llm.stages=[{stage}]"]
    sys.argv[1:] = ["run", *given, *wanted] if given else ["run", "--help"]
    main()
