"""Results as others read them: records for JSON, subtitles, files, and pictures of these.

Everything here takes plain results and returns records or bytes, so that the command line and the web page show the
same. `lavis.export.pictures` is imported where a picture is drawn, because matplotlib takes half a second.
"""
