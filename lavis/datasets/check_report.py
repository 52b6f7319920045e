"""What a check found, as JSON values and as a list to read."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

_KINDS = {
    "missing": "missing videos",
    "unreadable": "unreadable videos",
    "too short": "videos too short for a question's clip",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A video that costs questions.

    Attributes:
        kind: "missing", "unreadable" or "too short".
        video: its name in the annotations.
        path: where it is; None where it is missing.
        lost: split and id of every question that cannot be asked.
    """

    kind: str
    video: str
    path: str | None
    reason: str
    lost: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Several files where one is expected; this costs no question.

    Attributes:
        kind: "two files for one name" (the first is used) or "same content".
        splits: the splits that ask about them, for files of the same content.
    """

    kind: str
    videos: tuple[str, ...]
    paths: tuple[str, ...]
    splits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitCount:
    """Questions of a split; `lost` of them cannot be asked, and rows in `bad_rows` are not even questions."""

    questions: int
    videos: int
    lost: int
    bad_rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        cut: ids of questions whose clip goes on for a second or more after their video; what is left is used.
        damaged: warnings about videos that can be read.
        elsewhere: for missing videos, a file of that name in another place of the video folders.
    """

    dataset: str
    splits: Mapping[str, SplitCount]
    problems: tuple[Problem, ...]
    duplicates: tuple[Duplicate, ...]
    cut: tuple[str, ...]
    damaged: Mapping[str, tuple[str, ...]]
    elsewhere: Mapping[str, str]

    @property
    def num_questions(self) -> int:
        """All questions of all splits."""
        return sum(split.questions for split in self.splits.values())

    @property
    def num_lost(self) -> int:
        """Questions that cannot be asked, and rows that could not be read."""
        return sum(split.lost + len(split.bad_rows) for split in self.splits.values())

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        report = {"dataset": self.dataset, "questions": self.num_questions, "lost": self.num_lost, **asdict(self)}
        for problem in report["problems"]:
            problem["lost"] = [{"split": split, "question": question} for split, question in problem["lost"]]
        return report

    def as_text(self, *, most: int | None = None) -> str:
        """Return the report to read.

        Args:
            most: how many of each kind are listed; None lists all.
        """
        sections = {
            title: [f"{item.video} ({len(item.lost)}): {item.reason}" for item in self.problems if item.kind == kind]
            for kind, title in _KINDS.items()
        }
        sections |= {
            "rows that are no questions": [row for split in self.splits.values() for row in split.bad_rows],
            "found in another place": [f"{name}: {path}" for name, path in self.elsewhere.items()],
            "duplicates": [_duplicate_line(item) for item in self.duplicates],
            "clips that go on after their video": list(self.cut),
            "damaged, but read": [f"{name}: {'; '.join(warnings)}" for name, warnings in self.damaged.items()],
        }
        lines = list(self._summary())
        for title, entries in sections.items():
            if entries:
                lines += ["", f"{title}: {len(entries)}", *(f"  {entry}" for entry in entries[:most])]
            if most is not None and len(entries) > most:
                lines.append(f"  and {len(entries) - most} more")
        return "\n".join(lines) + "\n"

    def _summary(self) -> Iterator[str]:
        for name, split in self.splits.items():
            usable = split.questions - split.lost
            line = f"{self.dataset} {name}: {split.questions} questions about {split.videos} videos, usable: {usable}"
            yield f"{line} ({100 * usable / split.questions:.1f} %)"
        for kind, title in _KINDS.items():
            lost = [len(problem.lost) for problem in self.problems if problem.kind == kind]
            if lost:
                yield f"  {title}: {len(lost)}, questions lost: {sum(lost)}"


def _duplicate_line(duplicate: Duplicate) -> str:
    where = f" (in {', '.join(duplicate.splits)})" if len(duplicate.splits) > 1 else ""
    return f"{duplicate.kind}{where}: {', '.join(duplicate.paths)}"
