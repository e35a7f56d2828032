"""Which system a path comes from, and its reader."""

from pathlib import Path

from promot_jax.convert import gguf, hub, huggingface, npy, peft, t5x, t5x_files
from promot_jax.convert.gguf_file import is_gguf
from promot_jax.convert.source import Source
from promot_jax.errors import UserError
from promot_jax.paths import as_path, is_url, resolve


def open_source(path: str, prompt_name: str = "prompt") -> Source:
    """Opens a checkpoint of any other system.

    Args:
      path: a file or a directory; T5X's may lie in a bucket (gs://); where there is none, a name on
        the Hugging Face hub.
      prompt_name: what a prompt in it is called here.

    Raises:
      UserError: it is none that is known, or damaged.
    """
    try:
        return _open(resolve(path), prompt_name)
    except OSError as error:
        raise UserError(f"{path!r} cannot be read ({error.strerror}): check it") from error


def _open(path: str, prompt_name: str) -> Source:
    if is_url(path) and (as_path(path) / "config.json").is_file():
        raise UserError(f"{path!r} is a directory of Transformers: copy it here, and give the copy")
    if not Path(path).exists() and hub.NAME.fullmatch(path):
        path = hub.download(path)
    if (Path(path) / peft.SETTINGS).exists():
        return peft.read(path, prompt_name)
    if (Path(path) / "config.json").exists():
        return huggingface.read(path)
    if is_gguf(path):
        return gguf.read(path)
    if npy.is_npy(path) or (path.endswith(".npy") and Path(path).is_file()):
        return npy.read(path, prompt_name)
    if t5x_files.find(path):
        return t5x.read(path, prompt_name)
    raise UserError(
        f"{path!r} is no checkpoint: there is no Hugging Face model (config.json), no PEFT adapter"
        f" (adapter_config.json), no GGUF file, no T5X checkpoint ('checkpoint' or"
        " 'state/', or checkpoint_<step>/ with one of them) and no prompt (.npy): check the path"
    )
