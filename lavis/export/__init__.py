"""Results as others read them: records for JSON, subtitles, files, and pictures of these.

Everything here takes plain results and returns records or bytes, so that the command line and the web page show the
same. `lavis.export.pictures` is imported where a picture is drawn, because matplotlib takes half a second.
"""

from lavis.export.files import as_text, check_folder, jpeg, keyframe_name, read_pictures, slug, thumbnail, write_folder
from lavis.export.records import answer_record, moments_record, moments_vtt, to_json

__all__ = [
    "answer_record",
    "as_text",
    "check_folder",
    "jpeg",
    "keyframe_name",
    "moments_record",
    "moments_vtt",
    "read_pictures",
    "slug",
    "thumbnail",
    "to_json",
    "write_folder",
]
