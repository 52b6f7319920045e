"""`sevila demo`: the web page."""

import argparse
import os
import threading
from typing import Any

from lavis.cli.options import add_command, add_model_options
from lavis.cli.show import say

_EXAMPLES = """examples:
  sevila demo                                                    the embedded model on http://127.0.0.1:7860
  sevila demo --model flant5xl --device cuda
  SEVILA_DEMO_AUTH=ada:secret sevila demo --host 0.0.0.0         for others too, with a password

The page needs the extra "demo": pip install 'sevila[demo]'
"""
# Option of the command line -> what it is for; the defaults are those of `lavis.demo.settings.Settings`.
_LIMITS = {
    "max_upload_mb": "size of an uploaded video, in MB",
    "max_stored_mb": "size of all visitors' files together, in MB",
    "max_duration_s": "length of a video, in seconds",
    "max_frames": "frames to watch",
    "max_keyframes": "keyframes to read",
    "max_question_chars": "characters of a question",
    "max_job_s": "seconds for one question",
    "max_waiting": "questions that wait for the model",
    "max_jobs_per_address": "questions at once from one network address",
    "keep_s": "seconds that visitors' files are kept; at most 3600",
}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
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
    group = parser.add_argument_group("limits")
    for name, purpose in _LIMITS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=purpose)
    return parser


def run(args: argparse.Namespace) -> int:
    """Load the model and serve until interrupted.

    Raises:
        UserError: a wrong option, model or limit, a missing package, or a taken port.
    """
    from lavis.common.logging import start_logging
    from lavis.demo.serve import AUTH_VARIABLE, auth_from_environment, is_public, serving
    from lavis.demo.settings import Settings

    settings = Settings(**{name: value for name in _LIMITS if (value := getattr(args, name)) is not None})
    auth = auth_from_environment()
    start_logging()
    from lavis.models.loading import load_model  # takes seconds; what is wrong with the options is said before

    model = load_model(model_type=args.model, device=args.device, dtype=args.dtype)
    name = model.config.name
    with serving(
        model, model_name=name, host=args.host, port=args.port or None, auth=auth, settings=settings
    ) as served:
        say(f"{name} answers on {served.url} (stop with Ctrl+C)", flush=True)
        if is_public(args.host, auth):
            say(f"everybody who reaches this machine can use it; set {AUTH_VARIABLE}=user:password to ask for one")
        threading.Event().wait()
    return 0
