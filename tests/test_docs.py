"""The Markdown pages: links lead somewhere, prose is no wider than the code."""

import json
import re
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

import pytest
from docs import make_formats_table
from docs.make_method_pictures import FIGURES, fill

from napari_unroll.methods.registry import METHODS
from napari_unroll.methods.table import methods_table

ROOT = Path(__file__).parents[1]
WIDEST = 120
"""Characters of a line of prose; tables and code may be wider."""
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md"), *ROOT.glob("benchmarks/results/*.md")}
    | {p for p in ROOT.glob("docs/**/*.md") if "_build" not in p.parts}
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
MENTIONED = re.compile(r"\bdocs/[\w/.-]+\.md\b")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> list[tuple[int, str]]:
    """Numbered lines outside code blocks."""
    lines, is_code = [], False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        is_fence = line.lstrip().startswith("```")
        is_code ^= is_fence
        if not (is_code or is_fence or line.startswith("    ")):
            lines.append((number, line))
    return lines


def anchors(path: Path) -> set[str]:
    """The anchors of the headings, as GitHub and the site's generator make them."""
    headings = [line.lstrip("#").strip() for _, line in prose(path) if line.startswith("#")]
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", h).lower() for h in headings]
    return {re.sub(r"[^\w\- ]", "", h).replace(" ", "-") for h in plain}


def broken(path: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for number, line in prose(path):
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            place, _, anchor = unquote(target).partition("#")
            page = (path.parent / place) if place else path
            if re.match(r"[a-z]+:", target):
                continue
            if not page.exists() or (anchor and anchor not in anchors(page)):
                found.append(f"line {number}: {target}")
    return found


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    assert not broken(path)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_prose_is_no_wider_than_the_code(path: Path) -> None:
    assert not [n for n, line in prose(path) if len(line) > WIDEST and not line.startswith(("|", "<!--"))]


def test_pages_that_the_code_mentions_exist() -> None:
    sources = chain(ROOT.glob("src/**/*.py"), ROOT.glob("benchmarks/*.py"), ROOT.glob("docs/*.py"))
    mentioned = {page for path in sources for page in MENTIONED.findall(path.read_text(encoding="utf-8"))}
    assert "docs/evaluation.md" in mentioned
    assert not [page for page in mentioned if not (ROOT / page).exists()]


def test_the_index_names_every_decision_by_its_title() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = dict(re.findall(r"^\* \[(.+)\]\((\w+\.md)\)$", (folder / "index.md").read_text(encoding="utf-8"), re.M))
    titles = {p.read_text(encoding="utf-8").splitlines()[0].lstrip("# "): p.name for p in folder.glob("*.md")}
    assert listed == {title: page for title, page in titles.items() if page != "index.md"}


def test_the_page_of_methods_has_the_registry_s_table_and_every_method_is_described() -> None:
    index, *pages = sorted((ROOT / "docs" / "methods").glob("*.md"), key=lambda page: page.name != "index.md")
    assert methods_table() in index.read_text(encoding="utf-8")
    described = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert not [method for method in METHODS if f"`{method}`" not in described]


def test_the_page_of_formats_has_the_registry_s_table() -> None:
    page = make_formats_table.PAGE.read_text(encoding="utf-8")
    assert make_formats_table.fill(page) == page, "run python docs/make_formats_table.py"


def test_the_figures_in_the_sections_of_methods_are_the_measured_ones() -> None:
    rows = json.loads(FIGURES.read_text(encoding="utf-8"))["rows"]
    for path in FIGURES.parent.glob("*.md"):
        page = path.read_text(encoding="utf-8")
        assert fill(page, rows) == page, f"{path.name}: run python docs/make_method_pictures.py"


def test_a_section_s_figures_are_one_sentence() -> None:
    rows = [{"sample": "multi-coil", "method": "cgls", "psnr": 29.06, "cpu_seconds": 0.62, "size": 64}]
    page = "# `cgls`\nMeasured: nothing.\n# `inr`\nMeasured:\n"
    measured = "Measured: 29.1 dB, 0.6 s (MRI)."
    assert fill(page, rows) == f"# `cgls`\n{measured}\n# `inr`\nMeasured: not yet.\n"


def test_broken_links_and_anchors_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `d` map\n[1](page.md#a-d-map) [2](#a-map) [3](none.md) [4](https://x.org)\n```\n[5](no.md)\n```\n"
    )
    assert broken(page) == ["line 2: #a-map", "line 2: none.md"]
