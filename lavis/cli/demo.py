"""`sevila demo`: the web page."""

import argparse
import os
import threading
from dataclasses import fields
from typing import Any

from lavis.cli.common import add_command, add_model_options, model_options, say
from lavis.demo.settings import Settings

_EXAMPLES = """examples:
  sevila demo                                                    the embedded model on http://127.0.0.1:7860
  sevila demo --model flant5xl --device cuda
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
    add_model_options(parser)
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

    model = load_chain(**model_options(args))
    name = model.config.name
    with serving(
        model, model_name=name, host=args.host, port=args.port or None, auth=auth, settings=settings
    ) as served:
        say(f"{name} answers on {served.url} (stop with Ctrl+C)", flush=True)
        if is_public(args.host, auth):
            say(f"everybody who reaches this machine can use it; set {AUTH_VARIABLE}=user:password to ask for one")
        threading.Event().wait()
    return 0
