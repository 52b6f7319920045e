"""What a check found, as JSON values and as a list to read."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("missing", "unreadable", "too short")
_EXPLAINED = {
    "missing": "missing videos",
    "unreadable": "unreadable videos",
    "too short": "videos too short for a question's clip",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A video that costs questions.

    Attributes:
        kind: one of `KINDS`.
        video: its name in the annotations.
        path: where it is; None where it is missing.
        lost: split and id of every question that cannot be asked.
    """

    kind: str
    video: str
    reason: str
    path: str | None
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
    splits: tuple[str, ...]


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
        return {
            "dataset": self.dataset,
            "questions": self.num_questions,
            "lost": self.num_lost,
            "splits": {
                name: {
                    "questions": split.questions,
                    "videos": split.videos,
                    "lost": split.lost,
                    "bad_rows": list(split.bad_rows),
                }
                for name, split in self.splits.items()
            },
            "problems": [
                {
                    "kind": problem.kind,
                    "video": problem.video,
                    "path": problem.path,
                    "reason": problem.reason,
                    "lost": [{"split": split, "question": question} for split, question in problem.lost],
                }
                for problem in self.problems
            ],
            "duplicates": [
                {
                    "kind": duplicate.kind,
                    "videos": list(duplicate.videos),
                    "paths": list(duplicate.paths),
                    "splits": list(duplicate.splits),
                }
                for duplicate in self.duplicates
            ],
            "cut": list(self.cut),
            "damaged": {video: list(warnings) for video, warnings in self.damaged.items()},
            "elsewhere": dict(self.elsewhere),
        }

    def as_text(self, *, most: int | None = None) -> str:
        """Return the report to read.

        Args:
            most: how many of each kind are listed; None lists all.
        """
        lines = [*self._summary()]
        for kind in KINDS:
            found = [f"{item.video} ({len(item.lost)}): {item.reason}" for item in self.problems if item.kind == kind]
            lines += _listed(_EXPLAINED[kind], found, most)
        lines += _listed("rows that are no questions", self._bad_rows(), most)
        lines += _listed("found in another place", [f"{name}: {path}" for name, path in self.elsewhere.items()], most)
        lines += _listed("duplicates", [_duplicate_line(item) for item in self.duplicates], most)
        lines += _listed("clips that go on after their video", list(self.cut), most)
        lines += _listed("damaged, but read", [f"{name}: {'; '.join(w)}" for name, w in self.damaged.items()], most)
        return "\n".join(lines) + "\n"

    def _summary(self) -> Iterator[str]:
        for name, split in self.splits.items():
            usable = split.questions - split.lost
            share = f"{100 * usable / split.questions:.1f} %"
            line = f"{self.dataset} {name}: {split.questions} questions about {split.videos} videos, usable: {usable}"
            yield f"{line} ({share})"
        lost = Counter({problem.kind: 0 for problem in self.problems})
        for problem in self.problems:
            lost[problem.kind] += len(problem.lost)
        for kind in KINDS:
            count = sum(problem.kind == kind for problem in self.problems)
            if count:
                yield f"  {_EXPLAINED[kind]}: {count}, questions lost: {lost[kind]}"

    def _bad_rows(self) -> list[str]:
        return [row for split in self.splits.values() for row in split.bad_rows]


def _duplicate_line(duplicate: Duplicate) -> str:
    where = f" (in {', '.join(duplicate.splits)})" if len(duplicate.splits) > 1 else ""
    return f"{duplicate.kind}{where}: {', '.join(duplicate.paths)}"


def _listed(title: str, entries: list[str], most: int | None) -> list[str]:
    if not entries:
        return []
    shown = entries if most is None else entries[:most]
    rest = [f"  and {len(entries) - len(shown)} more"] if len(entries) > len(shown) else []
    return ["", f"{title}: {len(entries)}", *(f"  {entry}" for entry in shown), *rest]
