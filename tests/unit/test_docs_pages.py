"""What the pages in docs/ show exists: options, links, make targets, messages, job file, Python."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

import hetero_tfdata
from hetero_tfdata import cli
from hetero_tfdata.sagemaker import job_file, read

ROOT = Path(__file__).parents[2]
PACKAGE = Path(hetero_tfdata.__file__).parent
PAGES = sorted(ROOT.glob("docs/*.md"))
WRITTEN = [page for page in PAGES if page.name != "api.md"]
AWS = {"--training-job-name", "--namespace", "--dimensions", "--logdir"}  # of other programs


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of the headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Subcommand -> its options."""
    parser = cli._Parser()
    subparsers = parser.add_subparsers()
    found = {}
    for name in cli._SUBCOMMANDS:
        module = importlib.import_module(f"hetero_tfdata.cli.{name}")
        one = subparsers.add_parser(name)
        module.add_arguments(one)
        found[name] = set(one._option_string_actions)
    return found


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_each_shown_option_exists(page, options):
    for name, known in options.items():
        for command in re.findall(rf"hetero-tfdata {name}\b((?:[^`\n]|\\\n)*)", page.read_text()):
            shown = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", command.partition("#")[0]))
            assert shown <= known, f"{page.name}: {name} has no {shown - known}"
    recipes = "".join(path.read_text() for path in ROOT.glob("recipes/*/*.py"))
    anywhere = set().union(*options.values(), AWS, re.findall(r"--[a-z][a-z-]+", recipes))
    shown = {option for span in spans(prose(page)) for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
    assert shown <= anywhere, f"{page.name}: nothing has {shown - anywhere}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_each_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(place), f"{page.name}: {target}"


def test_the_index_has_each_page_and_the_readme_the_index():
    index = (ROOT / "docs/README.md").read_text()
    for page in PAGES:
        assert page.name == "README.md" or index.count(f"]({page.name})") == 1
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()


def test_each_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"`make ([a-z_-]+)", page.read_text()):
            written = ROOT / "benchmarks" / f"{target.removeprefix('bench-')}.py"
            assert re.search(rf"^{target}:", makefile, re.MULTILINE) or written.exists(), f"{page.name}: make {target}"


def test_each_named_file_exists():
    for page in WRITTEN:
        for path in re.findall(r"`((?:recipes|tests|benchmarks)/[\w./-]+)", page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_each_piece_of_python_compiles():
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, str(page), "exec")


def test_lines_are_as_long_as_the_readmes():
    for page in PAGES:
        long = [line for line in page.read_text().splitlines() if len(line) > 140 and not line.startswith("|")]
        assert not long, f"{page.name}: {long[0]}"


def test_the_shown_job_file_is_one_and_has_every_key(tmp_path):
    (tmp_path / "launcher.py").touch()
    (shown,) = blocks(ROOT / "docs/submit.md", "toml")
    (tmp_path / "job.toml").write_text(shown)
    job = read(tmp_path)
    assert (job.distribution, job.processes_per_host, job.channels["train"].groups) == ("dnn_group", 8, ("data_group",))
    for key in job_file._PLAIN:
        assert re.search(rf"^(# )?{key} = |^\[{key}\]", shown, re.MULTILINE), f"{key} is not shown"


def test_each_code_of_the_preflight_is_explained():
    text = (ROOT / "docs/change-your-script.md").read_text()
    rules = "".join(path.read_text() for path in PACKAGE.glob("service/preflight/*.py"))
    known = set(re.findall(r'Finding\(\s*"([a-z-]+)"', rules))
    tables = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    shown = {span for cell in tables for span in spans(cell)} - {"repeat()", "steps_per_epoch=N", "distribute()"}
    assert {span for span in shown if re.fullmatch(r"[a-z-]+", span)} == known


def test_each_shown_message_is_one_of_the_code():
    """… stands for a value: what is between is written so in some string."""
    strings = []
    for path in PACKAGE.glob("**/*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        strings += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    said = "\n".join(strings)
    text = (ROOT / "docs/when-it-goes-wrong.md").read_text()
    messages = {span for span in spans(text) if "…" in span}
    for table in re.findall(r"^\| (?:message|finding) \|.*\n(?:\|.*\n)+", text, re.MULTILINE):
        messages |= {span for row in table.splitlines()[2:] for span in spans(row.split("|")[1])}
    assert len(messages) > 50
    for message in messages:
        for part in message.split("…"):
            assert len(part) < 3 or part in said, f"{message!r}: nothing says {part!r}"


def test_the_python_interface_is_as_make_docs_writes_it():
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs/make_api.py")
    make_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_api)
    assert make_api.page() == make_api.PAGE.read_text(), "make docs"
