"""Chosen frames as other repositories store them, to and from rows of `sevila.frames/1`; see `docs/exchange.md`."""
