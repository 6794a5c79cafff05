# SPDX-License-Identifier: MIT
"""Packaging: the package, the twistd plugin and the JSON schemas."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"$', (HERE / "smtpmailer/__init__.py").read_text("utf-8"), re.MULTILINE
)
assert VERSION is not None

setup(
    name="smtpmailer",
    version=VERSION.group(1),
    description="An internal service that sends, queues and schedules mail: JSON in, SMTP out",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # Without package_dir an editable install hides the plugin from twistd.
    package_dir={"": "."},
    packages=[*find_packages(include=["smtpmailer", "smtpmailer.*"]), "twisted.plugins"],
    package_data={"smtpmailer": ["py.typed"]},
    data_files=[
        (
            "share/smtpmailer/schema",
            sorted(str(p.relative_to(HERE)) for p in HERE.glob("schema/*.json")),
        )
    ],
    entry_points={"console_scripts": ["smtpmailer = smtpmailer.cli.main:main"]},
    install_requires=[
        "attrs>=23.2",
        "bcrypt>=4.0",
        "click>=8.1",
        "croniter>=7.0",
        "cryptography>=42",
        "hiredis>=3.0",
        "idna>=3.7",
        "jsonschema>=4.21",
        "jsonschema-rs>=0.26",
        "orjson>=3.9",
        "prometheus-client>=0.20",
        "pynacl>=1.5",
        "pyopenssl>=24.0",
        "service-identity>=24.1",
        "sortedcontainers>=2.4",
        "twisted[tls]>=24.11",
        "txredisapi>=1.6",
        "tzdata",
    ],
    extras_require={
        "dev": [
            "aiosmtpd>=1.4.6",
            "aiosmtplib>=3.0",
            "coverage>=7.4",
            "hypothesis>=6.100",
            "mypy>=1.14",
            "mypy-zope>=1.0.9",
            "ruff>=0.9",
            "types-jsonschema",
            "types-setuptools",
        ],
        "docs": [
            "furo>=2024.8",
            "myst-parser>=4.0",
            "sphinx>=8.0",
            "sphinxcontrib-mermaid>=1.0",
        ],
    },
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Communications :: Email :: Mail Transport Agents",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
