"""One's own LLM, from raw text to RLHF, as a Ray job: all stages of a recipe, one resumable run.

ray job submit --working-dir . -- \\
    python -m ray_jobs.custom_llm ray_jobs/configs/custom_llm_cpu.yaml run_dir=/shared/runs/own_llm
"""

import sys

from selfreward.cli import main

if __name__ == "__main__":
    given = sys.argv[1:]
    sys.argv[1:] = ["run", *given, *(["loop.kind=custom_llm"] if given else [])]
    main()
