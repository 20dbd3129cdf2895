"""Training on packed text: our trainer, a bare PyTorch loop and transformers' Trainer in turns."""

from pathlib import Path
from typing import Any

from selfreward.config_custom_llm import ArchitectureConfig, DomainConfig, TokenizerConfig
from selfreward.stages.corpus import build_corpus
from selfreward.stages.pack import Pack
from selfreward.stages.runner import ShardJob
from selfreward.stages.tokenizer import train_tokenizer
from selfreward.storage.shards import sealed_shards
from selfreward.training.benchmark_text import compare_text
from selfreward.training.initialise import initialise_model

LENGTHS = (256, 512)


def training_on_text(scratch: Path) -> dict[str, Any]:
    """Tokens a second of the three, in fp32 and bf16, for packed sequences of two lengths.

    The model is the default architecture with random weights; the text is that of the Python
    documentation, so nothing has to be fetched.
    """
    corpus = DomainConfig(max_chars=4000, validation_share=0.2)
    folders = {split: str(scratch / "corpus" / split) for split in ("train", "validation")}
    build_corpus(corpus, 0, folders)
    urls = sealed_shards(folders["train"])
    tokenizer, model = str(scratch / "tokenizer"), str(scratch / "model")
    architecture = ArchitectureConfig()
    train_tokenizer(TokenizerConfig(), urls, architecture.context_length, tokenizer)
    size = initialise_model(architecture, tokenizer, model, 0)
    figures: dict[str, Any] = {"model": size}
    for length in LENGTHS:
        folder = str(scratch / f"tokens-{length}")
        pack = Pack(tokenizer=tokenizer, sequence_length=length)
        for index, url in enumerate(urls):
            pack.shard(ShardJob(folder=folder, index=index, inputs=(url,)))
        for precision in ("fp32", "bf16"):
            name = f"{length} tokens, {precision}"
            figures[name] = compare_text(model, sealed_shards(folder), precision=precision)
    return figures
