"""Every Python block of the README and the docs runs as it stands, page by page, from top to bottom.

A block with ``>>>`` is a doctest: what it shows must be what it prints. All others are run in the page's namespace.
"""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def pages_with_code() -> list[Path]:
    return [page for page in PAGES if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", pages_with_code(), ids=lambda page: page.name)
def test_code_blocks_of_the_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    namespace = {"__name__": "__main__"}
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        source = match.group(1)
        if ">>>" not in source:
            exec(compile("\n" * line + source, str(page), "exec"), namespace)
            continue
        example = doctest.DocTestParser().get_doctest(source, namespace, page.name, str(page), line)
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        told: list[str] = []
        runner.run(example, out=told.append, clear_globs=False)
        assert runner.failures == 0, "".join(told)
        namespace = example.globs


def test_readme_tells_the_two_commands_first():
    shell = re.search(r"^```(?:sh|bash|console)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert shell is not None
    commands = [line.split("#")[0].strip() for line in shell.group(1).splitlines() if line.strip()]
    assert commands == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


EXAMPLES = sorted(path for path in ROOT.glob("examples/*.py") if path.stem not in ("__init__", "flights"))


LONG = ("movielens",)  # minutes; tests/tabular/test_demo.py goes the same way on fewer rows


@pytest.mark.parametrize(
    "example",
    [pytest.param(path, marks=pytest.mark.full if path.stem in LONG else (), id=path.stem) for path in EXAMPLES],
)
def test_example_runs(example, tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, "-m", f"examples.{example.stem}"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
