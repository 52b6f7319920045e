import runpy
import threading
from collections.abc import Callable
from pathlib import Path

import lavis
from benchmarks.ways import Segments, question_way
from lavis.common.files import parse_json
from lavis.processors.prompts import option_list


def count(run: Callable[[], object], *, cut: Callable[..., object] | None = None) -> list[set[str]]:
    segments = Segments(cut=cut)
    with segments.counting():
        run()
    return segments.files


def test_a_file_counts_where_one_of_its_functions_runs_in_any_thread() -> None:
    def run() -> None:
        thread = threading.Thread(target=lambda: parse_json(b"1"))
        thread.start()
        thread.join()
        option_list(["a", "b"])

    assert count(run) == [{"common/files.py", "processors/prompts.py"}]


def test_each_call_of_the_cut_begins_a_segment() -> None:
    def run() -> None:
        option_list(["a"])
        parse_json(b"1")
        parse_json(b"1")
        option_list(["a"])

    both = {"common/files.py", "processors/prompts.py"}
    assert count(run, cut=parse_json) == [{"processors/prompts.py"}, {"common/files.py"}, both]


def test_what_an_import_runs_does_not_count() -> None:
    file = Path(lavis.__file__).parent / "tasks" / "__init__.py"  # declares parts, by functions of the registry
    assert count(lambda: runpy.run_path(str(file), run_name="lavis.tasks")) == [set()]


def test_one_question_passes_fewer_than_half_of_the_45_files_that_it_once_did(tmp_path: Path) -> None:
    (way,) = question_way(tmp_path)
    assert {"models/pipeline.py", "models/chain.py", "models/sevila/model.py", "video/pyav.py"} < set(way.files)
    assert len(way.files) < 45 / 2
