"""Generate the pages of the site that are not files of ``docs/``, and resolve their links.

The documents link each other as a code host reads them: ``../README.md``, ``adr/``, a source file.
On the site the first two are pages, made here. A link to a file that has no page there becomes
its text.

MkDocs calls the functions named ``on_...`` (``hooks`` in ``mkdocs.yml``).
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "volatility"
# Documents of the top level, by their page.
DOCUMENTS = {
    "overview.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
DECISIONS = "adr/index.md"
RECORDS = sorted((ROOT / "docs" / "adr").glob("*.md"))
# A fenced block, in which brackets are not links; or a link, perhaps of an image.
FENCE_OR_LINK = re.compile(
    r"^ *```.*?^ *```$|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<link>[^)\s]+)\)",
    re.DOTALL | re.MULTILINE,
)
# What a browser would load by itself from another host. A link that waits for a click is none.
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
# A page's canonical address does not load anything either.
CANONICAL = re.compile(r"rel=[\"']?canonical")


def public_names() -> dict[str, list[str]]:
    """List ``__all__`` of each sub-package that has one, read without an import."""
    found = {}
    for file in sorted(PACKAGE.glob("*/__init__.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found[f"volatility.{file.parent.name}"] = ast.literal_eval(node.value)
    return found


def title(path: Path) -> str:
    """Read the first heading of a document."""
    return path.read_text().partition("\n")[0].removeprefix("# ")


def decisions() -> str:
    """Write the list of decision records, which a code host shows as a folder."""
    lines = [f"- [{title(record)}]({record.name})" for record in RECORDS]
    return "\n".join(["# Decision records", "", *lines, ""])


def page_of_package(name: str) -> str:
    """Return the page of a sub-package."""
    return f"reference/{name.removeprefix('volatility.')}.md"


def reference(name: str, names: list[str]) -> str:
    """Write the page of a sub-package, which mkdocstrings fills from the docstrings."""
    options = "    options:\n      members: false\n      show_root_toc_entry: false\n"
    top = f"# {name}\n\n::: {name}\n{options}"
    option = "    options:\n      show_root_heading: true\n"
    return "\n".join([top, *(f"::: {origin(name, public)}\n{option}" for public in names)])


def origin(name: str, public: str) -> str:
    """Return where mkdocstrings finds a public name: a module of the same name hides a function."""
    hidden = (ROOT / name.replace(".", "/") / f"{public}.py").exists()
    return f"{name}.{public}.{public}" if hidden else f"{name}.{public}"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the decision records and the sub-packages to the navigation."""
    records = [f"adr/{record.name}" for record in RECORDS]
    sub_packages = [{name: page_of_package(name)} for name in public_names()]
    config.nav = [*(config.nav or []), {"Decisions": [DECISIONS, *records]}]
    config.nav.append({"API reference": sub_packages})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of ``docs/``."""
    for page, document in DOCUMENTS.items():
        files.append(File.generated(config, page, content=(ROOT / document).read_text()))
    files.append(File.generated(config, DECISIONS, content=decisions()))
    for name, names in public_names().items():
        content = reference(name, names)
        files.append(File.generated(config, page_of_package(name), content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to pages of the site."""
    here = page.file.src_uri
    document = DOCUMENTS.get(here, f"docs/{here}")

    def lead(match: re.Match[str]) -> str:
        link = match["link"]
        if not link or link.startswith(("http://", "https://", "#")):
            return match[0]
        address, mark, anchor = link.partition("#")
        target = page_of(posixpath.normpath(posixpath.join(posixpath.dirname(document), address)))
        if files.get_file_from_path(target) is None:
            if not (ROOT / target).exists():
                raise PluginError(f"{document}: {link} leads nowhere")
            return match["text"]
        way = posixpath.relpath(target, posixpath.dirname(here) or ".")
        return f"{match['image']}[{match['text']}]({way}{mark}{anchor})"

    return FENCE_OR_LINK.sub(lead, markdown)


def page_of(path: str) -> str:
    """Return the page that shows a file or folder of the repository, or else the path unchanged."""
    for page, document in DOCUMENTS.items():
        if path == document:
            return page
    if path == "docs/adr":
        return DECISIONS
    return path.removeprefix("docs/")


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that loads from another host, or a reference that misses a public name."""
    if loaded := [tag for tag in LOADED.findall(output) if not CANONICAL.search(tag)]:
        raise PluginError(f"{page.file.src_uri} loads from another host: {loaded}")
    name = page.file.src_uri.removesuffix(".md").replace("reference/", "volatility.")
    names = public_names().get(name, [])
    if missing := [n for n in names if f'id="{origin(name, n)}"' not in output]:
        raise PluginError(f"{page.file.src_uri} does not show {missing}")
    return output
