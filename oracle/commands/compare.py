"""``lucid-oracle compare``: judge a file of tensors, from whatever runtime, by a golden."""

from __future__ import annotations

from pathlib import Path

import click

from lucid.console import visible
from oracle.case.names import Rules
from oracle.commands.options import OutputConsole, names_option, report_options, require_writable
from oracle.commands.progress import progress
from oracle.precision.difference import PRECISIONS
from oracle.precision.profile import profile_of
from oracle.report import write_reports
from oracle.report.json_report import exit_status
from oracle.report.terminal import print_verdict
from oracle.run import compare_trace
from oracle.subjects.file import FileSubject
from oracle.truth.goldens import Golden

_NOTED = 10  # names that are none of a trace's tensor


@click.command("compare")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--golden", required=True, metavar="NAME", help="The case that was run, such as resnet_50-train.")
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="NAME[, OPTION]...",
    help=f"What the runtime computes in: whose budget it is given. {', '.join(PRECISIONS)}, and options such as "
    "'float16, sums in float16' or 'float32, winograd 6x6'; a wrong one lists those that there are.",
)
@click.option(
    "--stored", is_flag=True, help="Judge by the golden's samples and projections; do not compute the truth again."
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the goldens are. [default: the project's]",
)
@names_option
@report_options
def command(
    trace: Path,
    golden: str,
    precision: str,
    stored: bool,
    directory: Path | None,
    names: Path | None,
    json_path: Path | None,
    junit_path: Path | None,
    html_path: Path | None,
    worst: int | None,
    every: bool,
    quiet: bool,
) -> int:
    """Judge every tensor in TRACE (.safetensors or .npz) within the budget of a healthy runtime of its precision.

    `lucid-oracle vectors MODEL` writes what to run, and says which tensors to dump under which names. What TRACE
    leaves out is reported as not observed. Names of torchvision's layout and wrappers' prefixes (`module.`) are read;
    --names says what others are.
    """
    profile_of(precision)  # an unknown one is said now
    require_writable(json=json_path, junit=junit_path, html=html_path)
    rules = None if names is None else Rules.read(names)
    subject = FileSubject(str(trace), rules=rules)
    found = Golden.load(golden, directory)
    read = subject.listing.read({key: found.shape(key) for key in found})
    with progress(quiet) as step:
        verdict = compare_trace(
            read.trace, found, precision, label=subject.label, stored=stored, rules=rules, progress=step
        )
    write_reports(verdict, json=json_path, junit=junit_path, html=html_path)
    console = OutputConsole()
    print_verdict(verdict, console, tables=not quiet, worst=worst, every=every)
    for stranger in read.strangers[:_NOTED]:
        text = f"note: {stranger!r} in {trace} is no name of a trace's tensor, and was not compared"
        console.print(visible(text), markup=False)
    if len(read.strangers) > _NOTED:
        console.print(f"note: nor were {len(read.strangers) - _NOTED} others", markup=False)
    return exit_status(verdict)
