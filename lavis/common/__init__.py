"""What every other part builds on: types, errors, registry, configuration, files."""
