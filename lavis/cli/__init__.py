"""The `sevila` command."""
