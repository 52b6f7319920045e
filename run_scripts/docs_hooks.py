"""What mkdocs does not do by itself: pages that lie outside of docs/, and links as they are written for the repository.

A page is written once, where readers of the repository look for it. Its links lead to files of the repository; on the
site they lead to the pages that these files have become. mkdocs then checks every one of them.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Pages of the site that are files outside of docs/.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "sevila_data/README.md": "annotations.md",
    "sevila_checkpoints/README.md": "weights.md",
    **{f"benchmarks/{path.name}": f"benchmarks/{path.name}" for path in sorted((ROOT / "benchmarks").glob("*.md"))},
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/."""
    for origin, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / origin)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (mkdocs)
    """Let the page's links lead to pages of the site."""
    return _LINK.sub(lambda found: _on_site(found[1], page.file.src_uri), markdown)


def _on_site(link: str, page: str) -> str:
    """Return a link of a page as it is on the site; one that leads to no file stays, and mkdocs says so."""
    written = {there: here for here, there in PAGES.items()}.get(page, f"docs/{page}")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(written), link))
    if not (ROOT / target).is_file():
        return link
    there = PAGES.get(target, posixpath.relpath(target, "docs"))
    return posixpath.relpath(there, posixpath.dirname(page))
