"""Models by their name on the Hugging Face hub, fetched into its usual cache."""

import re
from pathlib import Path

from promot_jax.errors import UserError

NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
FILES = ["*.json", "*.jinja", "*.model", "merges.txt", "*.safetensors"]


def download(name: str) -> str:
    """The directory of a model or adapter of the hub: settings, tokenizer and weights.

    Weights in PyTorch's format are fetched only where there are no safetensors.

    Raises:
      UserError: it cannot be had.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"{name!r} is no directory here; to look for it on the Hugging Face hub,"
            " pip install huggingface_hub"
        ) from error
    try:
        path = snapshot_download(name, allow_patterns=FILES)
        if not any(Path(path).glob("*.safetensors")):
            path = snapshot_download(name, allow_patterns=[*FILES, "*.bin"])
    except Exception as error:  # of many kinds: no network, no such model, no access
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(
            f"{name!r} is no directory here, and the Hugging Face hub gives no model of this name"
            f" ({type(error).__name__}: {reason}): check the path, or the name and the network"
        ) from error
    return path
