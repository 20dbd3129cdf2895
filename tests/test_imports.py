"""What a small command costs: the light parts load without the heavy libraries."""

import subprocess
import sys

HEAVY = ("torch", "vllm", "transformers", "ray", "datasets")
LIGHT = (
    "selfreward.cli",
    "selfreward.cli_inspect",
    "selfreward.config",
    "selfreward.cli_keys",
    "selfreward.cli_model",
    "selfreward.cli_serve",
    "selfreward.client",
    "selfreward.config_loading",
    "selfreward.config_serving",
    "selfreward.layout",
    "selfreward.serving.keys",
    "selfreward.serving.pairwise",
    "selfreward.serving.review.queue",
    "selfreward.serving.review.store",
    "selfreward.serving.version_store",
    "selfreward.judging.injection_targets",
    "selfreward.metrics.injection",
    "selfreward.judging.prompts",
    "selfreward.judging.selection",
    "selfreward.judging.verdicts",
    "selfreward.judging.answers",
    "selfreward.judging.filters",
    "selfreward.judging.pointwise",
    "selfreward.judging.voting",
    "selfreward.judging.baselines",
    "selfreward.judging.best_of",
    "selfreward.judging.likelihood",
    "selfreward.judging.parse_study",
    "selfreward.judging.perturbations.perturb",
    "selfreward.judging.perturbations.lengths",
    "selfreward.judging.checks",
    "selfreward.judging.rewards",
    "selfreward.metrics.perplexity",
    "selfreward.metrics.task_metrics",
    "selfreward.text.packing",
    "selfreward.text.quality",
    "selfreward.metrics.pairwise",
    "selfreward.metrics.promotion",
    "selfreward.metrics.bias",
    "selfreward.metrics.calibration",
    "selfreward.metrics.comparison",
    "selfreward.metrics.alpaca_eval",
    "selfreward.metrics.head_to_head",
    "selfreward.metrics.reward_modelling",
    "selfreward.metrics.protocols.rewardbench",
    "selfreward.metrics.protocols.rewardbench2",
    "selfreward.storage.shards",
    "selfreward.storage.manifest",
    "selfreward.storage.checkpoints",
    "selfreward.storage.find",
    "selfreward.reports.stages",
    "selfreward.reports.summary",
    "selfreward.reports.progress",
    "selfreward.reports.evaluation",
    "selfreward.reports.lineage_text",
    "selfreward.loops.explain",
    "selfreward.loops.export",
    "selfreward.loops.export_model",
)
# What each command on Ray and small processes of its own load.
ON_RAY = ("selfreward.engines.pool", "selfreward.stages.progress")
TOO_MUCH = ("torch", "vllm", "transformers", "datasets", "ray.data")


def test_the_light_parts_load_none_of_the_heavy_libraries() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    print(name, [h for h in {HEAVY!r} if h in sys.modules])\n"
        f"for name in {ON_RAY!r}:\n"
        "    importlib.import_module(name)\n"
        f"    print(name, [h for h in {TOO_MUCH!r} if h in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name} []" for name in (*LIGHT, *ON_RAY)]


def test_help_and_a_user_error_need_none_of_them_either() -> None:
    code = (
        "import sys\n"
        "from selfreward import cli\n"
        "def main(*arguments):\n"
        "    sys.argv = ['selfreward', *arguments]\n"
        "    try:\n"
        "        cli.main()\n"
        "    except SystemExit as stop:\n"
        "        print('exit', stop.code)\n"
        "main('--help')\n"
        "main('status', '/nonexistent/run')\n"
        f"print([h for h in {HEAVY!r} if h in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert "exit 2" in done.stdout, done.stdout + done.stderr
    assert done.stderr == "selfreward: no run at /nonexistent/run: it has no run.json\n"
    assert done.stdout.splitlines()[-1] == "[]"
