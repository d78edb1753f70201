import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.manifests import objects
from toolchain.graph import Graph, build

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_readme_names_every_make_target_and_no_other() -> None:
    makefile = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    listed = re.findall(r"^\| `make ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text())}
    assert {page for page in PAGES if page.parent != ROOT} - {index} <= linked


def run(page: str) -> list[Graph]:
    """What each program of a page registers."""
    programs = PROGRAM.findall((ROOT / page).read_text())
    assert programs

    def started(text: str) -> Graph:
        return build(lambda: exec(compile(text, page, "exec"), {}))  # noqa: S102

    return [started(text) for text in programs]


@pytest.mark.parametrize(
    "page",
    [
        "README",
        "docs/hosting",
        "docs/images",
        "docs/platform",
        "docs/patterns/sharded-redis",
        "docs/patterns/singleton",
        "docs/patterns/smoke-test",
        "docs/workloads",
    ],
)
def test_the_programs_of_a_page_run(page: str) -> None:
    assert all(list(graph) for graph in run(f"{page}.md"))


def test_the_transforms_in_the_docs_change_what_they_say() -> None:
    names, services = run("docs/escape-hatches.md")
    pod: Any = objects(names, "Deployment")[0]["spec"]["template"]["spec"]
    assert pod["dnsConfig"] == {"options": [{"name": "ndots", "value": "1"}]}
    service: Any = objects(services, "Service")[0]
    assert service["spec"]["trafficDistribution"] == "PreferClose"
