"""The web page: ask a video, and see which frames the answer comes from."""
