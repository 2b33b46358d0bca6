"""Pages of the site that are made from other files of the repository.

``index.md`` is the README, ``changelog.md`` and ``contributing.md`` are the files of that name, and
``reference/<package>.md`` lists the modules of one package of ``kgrec``. A link to a file that is
not part of the site becomes plain text, since the repository has no address yet.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages made from a file outside docs/.
COPIES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
# Sphinx roles of docstrings, such as :func:`place`.
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):(?=<code>)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    for page, source in COPIES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for package in sorted(path.parent.name for path in (ROOT / "kgrec").glob("*/__init__.py")):
        files.append(File.generated(config, f"reference/{package}.md", content=reference(package)))
    return files


def reference(package: str) -> str:
    """Markdown that documents every public module of one package."""
    modules = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in sorted((ROOT / "kgrec" / package).rglob("*.py"))
        if not path.name.startswith("_")
    ]
    return "\n\n".join([f"# kgrec.{package}", *(f"::: {module}" for module in modules)]) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links at pages of the site; other files of the repository become plain text."""
    source = COPIES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    pages = {text: name for name, text in COPIES.items()}

    def replace(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        if "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        name = pages.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(name) is None:
            return text if text.startswith("`") else f"`{text}`"
        link = posixpath.relpath(name, posixpath.dirname(page.file.src_uri) or ".")
        return f"{image}[{text}]({link}{anchor or ''})"

    markdown = markdown.replace("<details>", '<details markdown="1">')  # so that tables in it show
    blocks = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(b if b.startswith("```") else LINK.sub(replace, b) for b in blocks)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Removes Sphinx roles from docstrings."""
    return ROLE.sub("", html)
