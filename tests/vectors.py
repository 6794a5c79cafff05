# SPDX-License-Identifier: MIT
"""Recorded data of the predecessor, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def load_vectors(name: str) -> Any:
    """Read one of the files under tests/data/vectors."""
    return json.loads((DATA / "vectors" / name).read_text("utf-8"))
