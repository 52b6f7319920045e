"""An argument parser whose mistakes are user errors of one line, with the nearest name."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from lavis.common.errors import ConfigError
from lavis.common.naming import did_you_mean


class CommandParser(argparse.ArgumentParser):
    """Raises `ConfigError` instead of printing the usage and leaving; subparsers are of this class too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Abbreviations would turn a misspelt option into another one, and break when options are added.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        # Before Python 3.14, numbers such as -1e9 are taken for options.
        self._negative_number_matcher = re.compile(r"-\.?\d[\d.]*(e[+-]?\d+)?$", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise ConfigError(f"{message}; see: {self.prog} --help")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, and refuse what is left over here: only this parser knows which options it has."""
        parsed, rest = super().parse_known_args(args, namespace)
        for word in rest:
            if word.startswith("-"):
                option = word.partition("=")[0]
                known = [name for name in self._option_string_actions if name.startswith("--")]
                self.error(f"unknown option {option!r}; {did_you_mean(option, known)}")
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")
        return parsed, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Python suggests the nearest choice by itself only from 3.14 on.
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"unknown {value!r}; {did_you_mean(str(value), known)}")
