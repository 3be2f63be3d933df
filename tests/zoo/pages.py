"""Where the page of a file of results is written."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def folder_of_page(results: Path) -> Path:
    """Folder of the page: ``docs`` for results in ``docs/runs``, and that of the results for any others."""
    folder = results.resolve().parent
    return folder.parent if folder == ROOT / "docs" / "runs" else folder
