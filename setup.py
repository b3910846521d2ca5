"""Metadata of the package; the settings of its tools are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
README = ROOT / "README.md"


def _version() -> str:
    """The version that keras_quant/version.py states, read without importing it."""
    source = (ROOT / "keras_quant" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)[1]


setup(
    name="keras_quant",
    version=_version(),
    description="Quantization workbench for TensorFlow/Keras: train, lower, export, prove",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["keras_quant", "keras_quant.*"]),
    package_data={
        "keras_quant": [
            "schemes/presets/*.yaml",
            "report/templates/*.jinja",
            "targets/*.yaml",
            "bench/estimate/*.json",
        ]
    },
    python_requires=">=3.10,<3.14",
    entry_points={"console_scripts": ["kq = keras_quant.cli.main:main"]},
    install_requires=[
        "ai-edge-litert>=2.1",
        "click>=8.1",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "onnx>=1.16",
        "onnxruntime>=1.20",
        "pillow>=10.0",
        "portalocker>=3.0",  # locks that the system lets go of, on all systems alike
        # qkeras imports it but names another package in its metadata. It uses delimitedList, an old
        # name that pyparsing 3.3 warns of and that the next major version may drop.
        "pyparsing>=3.0,<4",
        "pyyaml>=6.0",
        "qkeras>=0.9.0",
        "rich>=13.0",
        "scikit-learn>=1.3",
        "scipy>=1.11",
        "tensorflow>=2.21",
        "tensorflow-model-optimization>=0.8.0",
        "tf2onnx>=1.17",
        "tf_keras>=2.21",
        "threadpoolctl>=3.1",
    ],
    extras_require={
        "dev": [
            "asyncssh>=2.14",
            "hypothesis>=6.100",
            "import-linter>=2.1",
            "ipykernel>=6.29",
            "mypy>=1.11",
            "nbclient>=0.10",
            "pytest>=8.0",
            "pytest-cov>=5.0",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.2",  # the first with --dist worksteal
            "ray>=2.40",
            "ruff>=0.6",
            "types-PyYAML>=6.0",
        ],
        "jetson": ["asyncssh>=2.14"],
        "notebooks": ["ipykernel>=6.29", "jupyter>=1.0", "nbclient>=0.10"],
        "ray": ["ray>=2.40"],
        "tensorboard": ["tensorboard>=2.16"],  # HParams; AutoQKeras imports it too
        "tensorrt": ["tensorrt-rtx-cu12>=1.7.1"],
        "view": ["netron>=9"],
    },
)
