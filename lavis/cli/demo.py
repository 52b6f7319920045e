"""`sevila demo`: the web page."""

import argparse
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from lavis.cli.common import add_command, add_model_options, model_options, say
from lavis.common import defaults
from lavis.common.errors import ConfigError
from lavis.demo.settings import Settings

_EXAMPLES = """examples:
  sevila demo                                                    the embedded model on http://127.0.0.1:7860
  sevila demo --model flant5xl --device cuda
  sevila demo --model tiny --model Salesforce/blip2-opt-2.7b     visitors choose between two
  SEVILA_DEMO_AUTH=ada:secret sevila demo --host 0.0.0.0         for others too, with a password

The page needs the extra "demo": pip install 'sevila[demo]'
"""
_OPTIONS = [limit for limit in fields(Settings) if limit.metadata]


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the main parser's."""
    parser = add_command(
        subparsers,
        "demo",
        run,
        help="serve a web page that answers questions and shows where the answers come from",
        description="Serve a web page that answers questions about videos and shows where the answers come from.",
        examples=_EXAMPLES,
    )
    # Hosting services say by these variables where they look for the page.
    host, port = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), os.environ.get("GRADIO_SERVER_PORT", "7860")
    parser.add_argument("--host", default=host, help="address to listen on (default: %(default)s, this machine only)")
    parser.add_argument(
        "--port", type=int, default=port, help="port to listen on; 0 takes any free one (default: %(default)s)"
    )
    add_model_options(parser, several=True)
    add = parser.add_argument_group("limits").add_argument
    for limit in _OPTIONS:
        add(f"--{limit.name.replace('_', '-')}", type=int, metavar="N", help=limit.metadata["purpose"])


def run(args: argparse.Namespace) -> int:
    """Load the model and serve until interrupted."""
    from lavis.common.logging import start_logging
    from lavis.demo.serve import AUTH_VARIABLE, auth_from_environment, is_public, serving

    settings = Settings(**{limit.name: value for limit in _OPTIONS if (value := getattr(args, limit.name)) is not None})
    auth = auth_from_environment()
    start_logging()
    from lavis.models.mixed import load_chain  # takes seconds; what is wrong with the options is said before

    first, *others = args.model or [defaults.MODEL]
    options = model_options(args)
    model = load_chain(**{**options, "model": first})
    name = model.config.name
    with serving(
        model,
        model_name=name,
        host=args.host,
        port=args.port or None,
        auth=auth,
        settings=settings,
        other_models=_loaders(others, options, taken=name),
    ) as served:
        say(f"{name} answers on {served.url} (stop with Ctrl+C)", flush=True)
        if is_public(args.host, auth):
            say(f"everybody who reaches this machine can use it; set {AUTH_VARIABLE}=user:password to ask for one")
        threading.Event().wait()
    return 0


def _loaders(models: Sequence[str], options: dict[str, Any], *, taken: str) -> dict[str, Callable[[], Any]]:
    """Return what loads each further model, by the name that visitors see.

    Raises:
        ConfigError: two models have the same name.
    """
    from lavis.models.mixed import load_chain

    alone = {**options, "localizer": None, "answerer": None}
    loaders: dict[str, Callable[[], Any]] = {}
    for model in models:
        name = _shown_name(model)
        if name == taken or name in loaders:
            raise ConfigError(f"--model {model}: another model is called {name} too; name each model once")
        loaders[name] = partial(load_chain, **{**alone, "model": model})
    return loaders


def _shown_name(model: str) -> str:
    """Return a model's name without where it lies, which is no visitor's business."""
    server, mark, name = model.partition("#")
    if mark and server.startswith("openai:"):
        return name
    return Path(model).resolve().name if Path(model).exists() else model
