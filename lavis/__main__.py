"""Run the `sevila` command as `python -m lavis`."""

from lavis.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
