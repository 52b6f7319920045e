"""The plain way agrees with itself, and fewer calls are fewer."""

import json
from pathlib import Path

from benchmarks.__main__ import main
from benchmarks.agreement import COMPARED, PUBLISHED


def test_every_way_is_compared_with_the_plain_one_on_every_question(tmp_path: Path) -> None:
    file = tmp_path / "agreement.json"
    assert main(["agreement", "--videos", "1", "--threads", "1", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["questions"] == 8
    assert list(found["ways"]) == [*COMPARED, PUBLISHED]  # torchao is part of "dev"
    plain, few = found["ways"]["fp32"], found["ways"]["fp32+coarse_to_fine"]
    exact = {"same_answers": 1.0, "same_frames": 1.0, "scored": 1.0, "score_difference": 0.0}
    assert {name: plain[name] for name in exact} == exact
    assert few["scored"] < 1
    assert few["score_difference"] < 1e-5
    published = found["ways"][PUBLISHED]
    assert (published["same_answers"], published["same_frames"], published["scored"]) == (1.0, 1.0, 1.0)
    assert published["score_difference"] < 1e-4
