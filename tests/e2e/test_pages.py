"""Every command and snippet of the documentation: run as it stands, or parsed where the page says why it is not run."""

import argparse
import ast
import glob
import importlib
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from benchmarks.__main__ import build_parser as benchmarks_parser
from lavis import registry
from lavis.cli.common import chosen_recipes
from lavis.cli.main import _with_clips_split, build_parser, main
from lavis.common.files import checkpoints_dir, configs_dir, paper_tables_path
from lavis.export.report import load_paper_tables
from lavis.runners.config import load_evaluation_config, load_train_config
from tests.architecture.source import ROOT
from tests.pages import PAGES, SHELL, SHOWN, Block, blocks_of, outside_blocks
from tests.unit.export.test_clips import with_tones
from tests.videos import write_video

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
NOT_RUN = [block for block in BLOCKS if block.not_run is not None]
RUN_HERE = sorted({block.page for block in BLOCKS if block.is_run_here})
EXTRAS = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
# Programs of others, of which nothing is checked here.
FOREIGN = ("cd", "curl", "docker", "export", "git", "lmms-eval", "rm", ".venv/bin/pre-commit")
SCRIPTS = {"train.py": "train", "evaluate.py": "evaluate", "app.py": "demo"}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in (*SHELL, *SHOWN, "csv", "json", "python", "toml", "yaml"), f"{block}: ```{block.language}"
    if block.language in SHOWN:
        assert not re.search(r"^\$? ?(sevila|python|sh|pip|torchrun) ", block.text, re.MULTILINE), f"{block}: a command"
    if block.is_run_here and block.language in ("csv", "json", "yaml", "toml"):
        assert block.title, f"{block}: which file is it? Otherwise say why it is not run"
    if block.is_run_here and block.language in SHELL:
        assert ["sevila", "demo"] not in [words[:2] for words in block.commands], f"{block}: it serves for ever; say so"
    if block.not_run is not None:
        assert len(block.not_run) > 10, f"{block}: why is it not run?"
    if block.run_by:
        test = ROOT / block.run_by
        assert block.run_by.parts[0] == "tests"
        assert block.page.name in test.read_text(encoding="utf-8"), f"{block}: {test} knows no {block.page.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_command_hides_outside_of_blocks(page: Path) -> None:
    text = outside_blocks(page.read_text(encoding="utf-8"))
    assert "```" not in text
    assert re.findall(r"^ {4,}(?:\$ )?(?:sevila|python|sh|pip|torchrun|import|from) .*$", text, re.MULTILINE) == []


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_what_is_not_run_can_be_read(block: Block) -> None:
    if block.language in SHELL:
        for words in block.commands:
            read(words)
    elif block.language == "python":
        ast.parse(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        OmegaConf.create(block.text.strip("-\n"))


@pytest.mark.parametrize("page", RUN_HERE, ids=str)
def test_what_is_run_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "silent.mp4", num_frames=100)
    with_tones(tmp_path / "silent.mp4", name="clip.mp4").with_name("silent.mp4").unlink()
    for name in ("my_videos/garden.mp4", "my_videos/day 1/kitchen.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / name, num_frames=40)
    (tmp_path / "sevila_checkpoints").symlink_to(checkpoints_dir())
    (tmp_path / "configs").symlink_to(configs_dir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path / "a page has to say it"))
    monkeypatch.setenv("SEVILA_CACHE", str(tmp_path / "cache"))
    names: dict[str, Any] = {}
    for block in blocks_of(ROOT / page):
        if block.is_run_here:
            run(block, names)


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a block in the current folder; `names` is what Python has defined on the page so far."""
    if block.title:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        exec(compile(block.text, str(block), "exec"), names)
    else:
        for words in block.commands:
            if words[0] == "export":  # of what the test puts back
                name, _, value = words[1].partition("=")
                assert name in ("SEVILA_DATA", "SEVILA_CACHE"), f"{block}: {words[1]}"
                os.environ[name] = value
                continue
            assert words[0] == "sevila" and words[1] != "demo", f"{block}: {shlex.join(words)} is not run; say why"  # noqa: PT018
            expanded = [found for word in words[1:] for found in (sorted(glob.glob(word)) or [word])]  # noqa: PTH207
            assert main(expanded) == 0, f"{block}: {shlex.join(words)}"


def read(words: list[str]) -> None:
    """Parse a command: options by our own parsers, recipes with the settings over them; files have to be there.

    Raises:
        ConfigError: or another error, where it would not be understood.
    """
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = [] if words[0].partition("=")[2].startswith("$(") else words[1:]
    if not words:
        return
    program, *rest = words
    if program == "torchrun":
        rest = rest[next(place for place, word in enumerate(rest) if word in SCRIPTS or word == "-m") :]
        program = "python"
    if program == "python" and rest[:1] == ["-m"]:
        read_module(rest[1], rest[2:])
    elif program == "python" and rest[0] in SCRIPTS:
        read_sevila([SCRIPTS[rest[0]], *rest[1:]])
    elif program == "python" and rest[0] == "-c":
        ast.parse(rest[1])
    elif program in ("python", "sh", ".venv/bin/python"):
        assert rest[0] == "-m" or (ROOT / rest[0]).is_file(), shlex.join(words)
    elif program == "sevila":
        read_sevila(rest)
    elif program == "pip":
        for extras in re.findall(r"(?:\.|sevila)\[([\w,]+)\]", " ".join(rest)):
            assert set(extras.split(",")) <= set(EXTRAS), shlex.join(words)
    else:
        assert program in FOREIGN, f"{shlex.join(words)}: is {program} a program of others?"


def read_module(module: str, rest: list[str]) -> None:
    if module == "lavis":
        read_sevila(rest)
    elif module == "benchmarks":
        benchmarks_parser().parse_args(rest)
    elif module == "pytest":
        assert [word for word in rest if word.startswith("tests/") and not (ROOT / word.split("::")[0]).exists()] == []
    else:
        assert importlib.util.find_spec(module) is not None, module


def read_sevila(words: list[str]) -> None:
    args = build_parser(words[0]).parse_args(_with_clips_split(words))
    if words[0] in ("train", "evaluate") and (args.cfg_path or args.recipe):
        load = load_train_config if words[0] == "train" else load_evaluation_config
        for recipe in chosen_recipes(args):
            if recipe.is_file() or configs_dir() in recipe.parents:
                load(recipe, options=args.options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```\nsevila answer x.mp4 What\n```\n", "```"),
        ("```text\n$ sevila answer x.mp4 What\n```\n", "a command"),
        ("```yaml\na: 1\n```\n", "which file is it"),
        ("```bash\nsevila demo --port 7861\n```\n", "it serves for ever"),
        ("<!-- not run: no -->\n```bash\nsevila cache info\n```\n", "why is it not run"),
        ("<!-- run by tests/e2e/test_find.py -->\n```bash\nsevila cache info\n```\n", "knows no limits.md"),
    ],
)
def test_a_block_that_is_neither_run_nor_explained_is_refused(text: str, message: str) -> None:
    (block,) = blocks_of(ROOT / "docs" / "limits.md", f"# Page\n\n{text}")
    with pytest.raises(AssertionError, match=re.escape(message)):
        test_a_block_says_what_it_is(block)


def test_a_marker_is_about_the_block_after_it_and_at_the_top_about_the_page() -> None:
    page = ROOT / "docs" / "limits.md"
    marked = "<!-- not run: it needs a GPU -->\n\n```bash\nnvidia-smi\n```\n"
    first, second = blocks_of(page, f"# Page\n\n{marked}\n```bash\nls\n```\n")
    assert (first.not_run, first.is_run_here, second.is_run_here) == ("it needs a GPU", False, True)
    (all_of_it,) = blocks_of(page, "<!-- not run: it needs a GPU -->\n\n# Page\n\n```bash\nnvidia-smi\n```\n")
    assert all_of_it.not_run == "it needs a GPU"


@pytest.mark.parametrize(
    "command",
    [
        "sevila answer clip.mp4 'What?' --keyframes 4",
        "sevila train --recipe nextqa/fintune",
        "sevila train --recipe nextqa/finetune --options run.init_rate=1",
        "python -m benchmarks inferense",
        "sh run_scripts/quick.sh",
        "pip install -e '.[demos]'",
        "rsync a b",
        "torchrun --nproc_per_node=4 train.py --cfg-path configs/sevila/none.yaml",
    ],
)
def test_a_command_that_would_not_be_understood_is_refused(command: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        read(shlex.split(command))


def test_a_command_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks_of(ROOT / "docs" / "limits.md", "# Page\n\n```bash\nsevila answer none.mp4 'What?'\n```\n")
    with pytest.raises(AssertionError, match="answer"):
        run(block, {})


PATH = re.compile(r"`((?:benchmarks|configs|docs|integrations|lavis|parity|run_scripts|sevila_data|tests)/[\w./-]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = {name for name in PATH.findall(page.read_text(encoding="utf-8")) if not re.search("[A-Z]{4}", name)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    """On the site mkdocs checks them, and their anchors; see `run_scripts/docs_hooks.py`."""
    links = LINK.findall(outside_blocks(page.read_text(encoding="utf-8")))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_row_of_the_papers_tables_is_on_its_page() -> None:
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    for table in load_paper_tables(paper_tables_path()).tables:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {table.title} |")]
        assert re.findall(r"`(\w+)`", row) == list(dict.fromkeys(one.recipe for one in table.rows))


def test_readme_counts_what_there_is() -> None:
    counts = f"{len(registry.policies.names())} policies, any of {len(registry.scorers.names())} scorers"
    assert counts in (ROOT / "README.md").read_text(encoding="utf-8")


def in_text(command: str) -> list[str]:
    """What stands behind a command wherever the text of a page names it, outside of blocks."""
    found = re.compile(f"`{command} ([a-z][^`]*)`")
    texts = [outside_blocks(page.read_text(encoding="utf-8")) for page in PAGES]
    return sorted({" ".join(words.split()) for text in texts for words in found.findall(text)})


@pytest.mark.parametrize("command", in_text("python -m benchmarks"))
def test_a_benchmark_in_the_text_is_one(command: str) -> None:
    for name in command.split()[0].split("|"):
        benchmarks_parser().parse_args([name, *shlex.split(command)[1:]])


@pytest.mark.parametrize("command", in_text("sevila"))
def test_a_command_in_the_text_has_the_options_that_it_is_given(command: str) -> None:
    """Words may be left out there, so that not all of them can be parsed."""
    words = [word.split("|") for word in shlex.split(command)]
    parser: argparse.ArgumentParser = build_parser()
    options: set[str] = set()
    for alternatives in words:
        choices = next((one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction)), {})
        if alternatives[0] in choices:
            assert set(alternatives) <= set(choices), command
            parser = choices[alternatives[0]]
            options |= set(parser._option_string_actions)
    assert options, f"sevila {command}: there is no such command"
    given = {word.partition("=")[0] for alternatives in words for word in alternatives if word.startswith("-")}
    assert given - options - {"-"} == set(), command
