"""What `sevila find` writes for players and editors: clips, subtitles, a table, an edit decision list."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from lavis.cli.common import note, progress_bar
from lavis.cli.one_video import Result, Written, folder_name
from lavis.common.errors import UserError
from lavis.common.files import write_text
from lavis.common.types import Moments
from lavis.export.clips import cut_clip, has_sound
from lavis.export.editors import MOST_EVENTS, edl_rate, moments_csv, moments_edl, moments_srt, moments_vtt
from lavis.export.files import check_folder, folder_written_whole, moment_name
from lavis.export.records import Record

_COPY_EARLY_S = 1.0
_MOST_CLIPS, _LONGEST_CLIP_S = 100, 600.0
_WRITERS = {"vtt": moments_vtt, "srt": moments_srt, "csv": moments_csv}


def check_moment_files(args: argparse.Namespace) -> None:
    """Refuse places that cannot be written to before anything is watched.

    Raises:
        UserError: a file that is there without --force, or a folder that holds others.
    """
    if args.cut:
        check_folder(args.cut, force=args.force)
    paths = [path for path in (args.vtt, args.srt, args.csv, args.edl) if path is not None]
    for path in paths:
        if os.path.lexists(path) and not (args.force and path.is_file()):
            raise UserError(f"{path} is there already; name another file, or pass --force to replace it")
        if not path.absolute().parent.is_dir():
            raise UserError(f"cannot write {path}: there is no folder {path.absolute().parent}")
    if len({path.absolute() for path in paths}) < len(paths):
        raise UserError("two of --vtt, --srt, --csv and --edl name the same file; give each its own")


def write_moment_files(args: argparse.Namespace, results: Sequence[Result]) -> Written:
    """Write the files that the options name.

    Raises:
        UserError: one cannot be written, or the video cannot be read; each file is whole or absent.
    """
    found = [result for _, result in results if isinstance(result, Moments)]
    lines: list[str] = []
    fields: tuple[Record, ...] = ()
    if args.cut:
        told, fields = _cut(args, found)
        lines += ["", f"cut into {args.cut}:" if any(one.moments for one in found) else "no moment to cut out", *told]
    for kind, write in _WRITERS.items():
        if path := getattr(args, kind):
            write_text(path, write(*found))
            lines.append(f"written: {path}")
    if args.edl:
        fps = results[0][0].video.info.fps
        write_text(args.edl, moments_edl(*found, name=args.video.name, fps=fps, has_sound=has_sound(args.video)))
        if (number := sum(len(one.moments) for one in found)) > MOST_EVENTS:
            note(f"{args.edl} holds {MOST_EVENTS} of {number} moments, as many as an edit decision list numbers")
        lines.append(f"written: {args.edl} (timecode of {edl_rate(fps):.6g} frames a second, the video has {fps:.6g})")
    return Written(tuple(lines), fields)


def _cut(args: argparse.Namespace, found: Sequence[Moments]) -> tuple[list[str], tuple[Record, ...]]:
    """Cut the moments out; return what is said of each clip, and what the record of each query gets."""
    planned = [(number, one, one.moments[:_MOST_CLIPS]) for number, one in enumerate(found, start=1)]
    total, done = sum(len(moments) for _, _, moments in planned), 0
    if left := sum(len(one.moments) for one in found) - total:
        note(f"the best {_MOST_CLIPS} moments of each query are cut out; {left} are left")
    if not total:
        return [], ({"clips": []},) * len(found)
    lines: list[str] = []
    fields: list[Record] = []
    with folder_written_whole(args.cut, force=args.force) as built, progress_bar("cutting the moments") as progress:
        for number, one, moments in planned:
            folder = Path(folder_name(number, one) if len(found) > 1 else "")
            records: list[Record] = []
            for rank, moment in enumerate(moments, start=1):
                end_s = min(moment.end_s, moment.start_s + _LONGEST_CLIP_S)
                name = folder / moment_name(rank, start_s=moment.start_s, end_s=moment.end_s)
                clip = cut_clip(
                    args.video,
                    built / name,
                    start_s=moment.start_s,
                    end_s=end_s,
                    copy_early_s=_COPY_EARLY_S,
                    reader=args.reader,
                    fps=args.fps,
                )
                done += 1
                progress(done, total)
                short = f"; its first {_LONGEST_CLIP_S:g} s only" if end_s < moment.end_s else ""
                lines.append(f"  {name.as_posix()}: {clip}{short}")
                records.append(
                    {
                        "file": name.as_posix(),
                        **{"start_s": clip.start_s, "end_s": clip.end_s, "early_s": clip.early_s},
                        **{"copied": clip.copied, "sound": clip.sound or None, "note": clip.note},
                    }
                )
            fields.append({"clips": records})
    return lines, tuple(fields)
