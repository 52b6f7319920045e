"""The web page, for `python app.py` and for hosting services; options are those of `sevila demo`."""

import sys

from lavis.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["demo", *sys.argv[1:]]))
