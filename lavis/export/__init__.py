"""Results as others read them: records for JSON, pictures, subtitles, and folders of these.

Everything here takes plain results and returns records or bytes, so that the command line and the
web page show the same.
"""

from lavis.export.folder import check_folder, write_folder
from lavis.export.names import keyframe_name, slug
from lavis.export.pictures import answer_picture, jpeg, moments_picture, thumbnail
from lavis.export.records import answer_record, moments_record, to_json
from lavis.export.subtitles import moments_vtt

__all__ = [
    "answer_picture",
    "answer_record",
    "check_folder",
    "jpeg",
    "keyframe_name",
    "moments_picture",
    "moments_record",
    "moments_vtt",
    "slug",
    "thumbnail",
    "to_json",
    "write_folder",
]
