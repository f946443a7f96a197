"""The command ``distill-serve``: answers over HTTP."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.core.errors import UserError

EPILOG = """\
POST /predict (a record, or a list; ?all=true), POST /jobs and GET /jobs/ID, /health, /ready, /info,
/metrics, a page to try a text at /, and the interface's description at /docs.
Codes: 400 no JSON, 413 body too large, 422 a record that cannot be answered, 503 too many waiting
(Retry-After), 504 no answer in time. SIGTERM and SIGINT: what is in flight is answered, exit
code 0.

  distill-serve runs/NAME
  curl localhost:8000/predict -d '{"text": "a lovely film"}'
  distill-serve graph.yaml --host 0.0.0.0 --port 80
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        return _serve(_parser().parse_args(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _serve(args: argparse.Namespace) -> int:
    path = args.model.expanduser()
    if not path.exists():
        raise UserError(f"{args.model}: there is no such folder or graph.yaml")
    try:
        from distill.serve.app import Limits
        from distill.serve.server import serve
    except ImportError as error:
        raise UserError(
            f"serving takes an extra: pip install 'distill[serve]' ({error.name})"
        ) from error

    limits = Limits(
        args.max_body, args.max_job_body, args.max_records, args.max_characters, args.max_queue,
        args.timeout,
    )  # fmt: skip
    serve(
        path, args.host, args.port, form=args.form, what=args.what, threads=args.threads,
        jobs=args.jobs, limits=limits,
    )  # fmt: skip
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-serve",
        description="Answer records over HTTP with a run's student, any saved model, or several.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="RUN|graph.yaml", help="a run, a model's folder, or a graph")
    add("--host", default="127.0.0.1", help="address (default: 127.0.0.1, this machine only)")
    add("--port", type=int, default=8000, help="port (default: 8000; 0: any that is free)")
    add(
        "--form", choices=("torch", "onnx", "int8", "numpy"),
        help="default: of the exported forms that passed the fastest, else torch",
    )  # fmt: skip
    add("--what", choices=("student", "control"), default="student", help="which model of a run")
    add("--threads", type=int, metavar="N", help="threads of one batch (default: the runtime's)")
    add("--jobs", type=Path, metavar="FOLDER", help="of the jobs (default: RUN/jobs)")
    add("--max-body", type=int, default=1_000_000, metavar="BYTES", help="of a request (413)")
    add("--max-job-body", type=int, default=100_000_000, metavar="BYTES", help="of a job (413)")
    add("--max-records", type=int, default=256, metavar="N", help="of a request (422)")
    add("--max-characters", type=int, default=100_000, metavar="N", help="of a record (422)")
    add("--max-queue", type=int, default=2048, metavar="N", help="records that wait (503)")
    add("--timeout", type=float, default=30.0, metavar="SECONDS", help="of a request (504)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
