"""Links of the pages have targets, and the things that pages name exist."""

from __future__ import annotations

import collections
import re

import pytest

from tests.docs.pages import ROOT, Page, read_pages, to_anchor

PAGES = read_pages()
FOLDERS = "pipelines|transforms|models|lake|demo|tests|benchmarks|deploy|docs|scoreline"
# A file by its suffix, or a folder by its slash: models/churn/7 is not a path of this repository.
_PATH = re.compile(
    rf"(?<![\w./-])((?:{FOLDERS})/[\w./-]*?(?:\.(?:py|md|txt|toml|yaml|service)|/))(?![\w<.-])"
)
_MODULE = re.compile(r"python -m ([a-z_][\w.]*)")
_TEST_FILE = re.compile(r"(?<![\w/])(test_\w+\.py)")
_TEST = re.compile(r"(?<!\w)(test_\w+)(?![\w.])")
_TEST_IN_FILE = re.compile(r"(test_\w+\.py)::(test_\w+)")
# Programs of others.
FOREIGN_MODULES = {"build", "venv", "pip", "pytest", "scoreline"}
HISTORY = {"CHANGELOG.md"}  # names things that no longer exist


@pytest.fixture(scope="module")
def tests():
    """The texts of all test files by name; files with the same name are joined."""
    texts = collections.defaultdict(str)
    for path in (ROOT / "tests").rglob("test_*.py"):
        texts[path.name] += path.read_text()
    return texts


def leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (page.file.parent / path).resolve() if path else page.file
    if not target.exists() or ROOT not in target.parents:
        return False
    return not anchor or anchor in Page(page.path, target.read_text()).anchors()


def each_page(pages=PAGES):
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.path)


def test_readme_has_at_most_120_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_there_are_pages_with_links_and_code():
    assert len(PAGES) > 30
    assert sum(len(page.links()) for page in PAGES) > 80
    assert sum(len(_PATH.findall("\n".join(page.code()))) for page in PAGES) > 30
    assert sum(len(_TEST.findall("\n".join(page.code()))) for page in PAGES) > 30


@each_page()
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(page):
    dead = [link for link in page.links() if "://" not in link and not leads_somewhere(page, link)]
    assert not dead


def test_anchors_are_made_as_code_hosts_make_them():
    assert to_anchor("Streams: what happened, and what now") == "streams-what-happened-and-what-now"
    assert to_anchor("What `--batch_timeout_s` costs") == "what---batch_timeout_s-costs"


@each_page()
def test_every_make_target_that_is_named_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
    asked = set()
    for code in page.code():
        for words in re.findall(r"(?:^|[=;&] ?)make ((?:[\w./=~$-]+ ?)+)", code):
            asked |= {word for word in words.split() if re.fullmatch(r"[a-z][a-z-]*", word)}
    assert asked <= targets


@each_page([page for page in PAGES if page.path not in HISTORY])
def test_every_path_of_the_project_that_is_named_exists(page):
    named = {path for code in page.code() for path in _PATH.findall(code)}
    gone = {path for path in named if not (ROOT / path).exists()}
    assert not gone


@each_page([page for page in PAGES if page.path not in HISTORY])
def test_every_module_that_is_run_exists(page):
    named = {module for code in page.code() for module in _MODULE.findall(code)}
    paths = {module: ROOT / module.replace(".", "/") for module in named - FOREIGN_MODULES}
    gone = {m for m, p in paths.items() if not (p.with_suffix(".py").exists() or p.is_dir())}
    assert not gone


@each_page()
def test_every_test_that_is_named_exists(page, tests):
    """Names may be cut off: `test_poison_…` is any test with that prefix."""
    code = "\n".join(page.code())
    gone = {name for name in _TEST_FILE.findall(code) if name not in tests}
    gone |= {
        test
        for test in _TEST.findall(code)
        if not any(f"def {test}" in text for text in tests.values())
    }
    gone |= {
        f"{name}::{test}"
        for name, test in _TEST_IN_FILE.findall(code)
        if f"def {test}" not in tests.get(name, "")
    }
    assert not gone


@each_page([page for page in PAGES if page.path not in HISTORY])
def test_no_page_names_a_command_of_before(page):
    old = re.compile(r"python -m pipelines\.|score-batch|scores-table|transforms/io|score_batch")
    assert not old.findall(page.text)


@each_page()
def test_lists_and_tables_are_such_on_the_site_too(page):
    """Python-Markdown, unlike code hosts, needs an empty line before a list or a table.

    A paragraph of a list item after code needs four spaces; otherwise it ends the list.
    """
    wrong = []
    before = ""
    for number, line in enumerate(page.text.split("\n"), 1):
        begins = re.match(r"(- |\d+\. |\|)", line)
        goes_on = before.startswith(("- ", "|", " ")) or re.match(r"\d+\. ", before)
        if (begins and before.strip() and not goes_on) or (
            re.match(r" {1,3}\S", line) and not before.strip()
        ):
            wrong.append(number)
        before = line
    assert not wrong
