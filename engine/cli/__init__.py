"""The command line: `techniques`, `intake`, `run`, `compare`, `calibrate`, `fpga`, `serve`, `worker`.

Exit codes: 0 when all went well or was refused with a reason, 1 when something
failed, 2 for bad input, with one clear line on standard error. Each command's module
is imported only when it is called, and none of them loads torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from engine.domain.errors import InvalidInput, SpeedrailError
from engine.settings import Settings

RECIPE_HELP = (
    "technique(knob=value,…) joined by +, then @runtime, for example "
    "'pruning(sparsity=0.3)+quantization(format=int8)@openvino'; repeat for several. "
    "The empty recipe, the baseline, always runs"
)


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    try:
        options = parser().parse_args(arguments)
        return _call(options)
    except SpeedrailError as error:
        print(f"speedrail: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("speedrail: interrupted.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # whoever read our output had enough
        sys.stderr.close()
        return 1


def parser() -> argparse.ArgumentParser:
    root = _Parser(prog="python -m engine", description="Apply acceleration techniques to a model and measure them.")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    techniques = commands.add_parser("techniques", help="what can be applied, with every knob")
    form = techniques.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as documentation")

    intake = commands.add_parser("intake", help="take a model in and say what it is")
    intake.add_argument("path", metavar="PATH", help="a folder, an archive, or an ONNX or GGUF file")
    intake.add_argument("--name", default="", help="what to call it; the file's name by default")
    intake.add_argument("--json", action="store_true", help="as JSON")

    _add_run(commands.add_parser("run", help="measure recipes on a model, beside its baseline"))
    compare = commands.add_parser("compare", help="kept runs side by side; refused when their environments are unlike")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="ids of runs, as in OUT.json and in a run's address")
    compare.add_argument(
        "--json", nargs="?", const="-", metavar="OUT.json", help="write the result as JSON; - or nothing: to stdout"
    )
    calibrate = commands.add_parser("calibrate", help="measure this host: peaks, bandwidth, noise")
    calibrate.add_argument(
        "--json", nargs="?", const="-", metavar="OUT.json", help="write the result as JSON; - or nothing: to stdout"
    )
    _add_project(commands.add_parser("project", help="what a model would do on devices that are not here"))
    doctor = commands.add_parser("doctor", help="what this host has and what it lacks, with the mend")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    _add_fpga(commands.add_parser("fpga", help="the FPGA core"))
    commands.add_parser("serve", help="the dashboard (SPEEDRAIL_BIND, SPEEDRAIL_PORT)")
    _add_worker(commands.add_parser("worker", help="serve the queue until stopped; with a URL, the team's queue"))
    return root


def _add_worker(worker: argparse.ArgumentParser) -> None:
    worker.add_argument("--database-url", metavar="URL", help="the team's database, postgresql://… (SPEEDRAIL_DATABASE_URL)")
    worker.add_argument("--artifacts-url", metavar="URL", help="the team's file store (SPEEDRAIL_ARTIFACTS_URL)")
    worker.add_argument("--home", metavar="DIR", help="this worker's own folder (SPEEDRAIL_HOME)")


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("model", metavar="PATH_OR_ID", help="a model's files, or the id of an artifact taken in before")
    run.add_argument("--recipe", action="append", default=[], metavar="RECIPE", help=RECIPE_HELP)
    run.add_argument("--workload", default="", metavar="k=v,…", help="for example batch_size=1,sequence_length=128")
    run.add_argument("--dataset", metavar="PATH", help="texts, CSV, JSONL or NPZ that quality is scored on")
    run.add_argument("--calibration", metavar="PATH", help="the same formats, for calibration; never scored")
    run.add_argument("--target", default="", help="for example 'latency<=15' (ms), 'throughput>=100', 'size<=50MB'")
    run.add_argument("--guard-rail", type=float, default=0.99, metavar="SHARE", help="least quality retained (0.99)")
    run.add_argument("--name", default="", help="what to call the experiment")
    run.add_argument(
        "--verify-aa", action="store_true", help="measure a further process of the baseline and judge it as a candidate"
    )
    run.add_argument("--save", action="store_true", help="keep the experiment in the history, with its models")
    run.add_argument(
        "--json", nargs="?", const="-", metavar="OUT.json", help="write the result as JSON; - or nothing: to stdout"
    )


def _add_project(project: argparse.ArgumentParser) -> None:
    project.add_argument("model", metavar="PATH_OR_ID", help="a model's files, the id of an artifact taken in before, or a published network (gpt-20b, in bf16 unless a recipe says otherwise)")
    project.add_argument("--device", action="append", default=[], metavar="ID", help="of the catalogue; repeat for several (all)")
    project.add_argument("--recipe", action="append", default=[], metavar="RECIPE", help="of distillation, pruning, quantization and gpu; repeat for several")
    project.add_argument("--workload", default="", metavar="k=v,…", help="for example batch_size=1,sequence_length=128")
    for degree, what in (
        ("tensor", "devices over which each layer is cut"), ("pipeline", "devices over which the layers are shared out"),
        ("replicas", "copies of all that, each on devices of its own"),
    ):  # fmt: skip
        project.add_argument(f"--{degree}", default="1", metavar="N,…", help=f"{what}, 1 to 64 (1)")
    project.add_argument("--link", default="", metavar="ID", help="of the catalogue, between the devices (the device's own)")
    project.add_argument(
        "--measured-ms", type=float, default=0.0, metavar="MS",
        help="what a call really takes on one such device, to spread that instead of its projection",
    )  # fmt: skip
    project.add_argument(
        "--json", nargs="?", const="-", metavar="OUT.json", help="write the result as JSON; - or nothing: to stdout"
    )


def _add_fpga(fpga: argparse.ArgumentParser) -> None:
    actions = fpga.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="simulate the core on random shapes; 1 on any difference")
    verify.add_argument("--shapes", type=int, default=50, metavar="COUNT", help="random GEMMs in total (50)")
    verify.add_argument("--seed", type=int, default=0, metavar="S", help="of the random shapes and numbers (0)")
    verify.add_argument("--sizes", default="4,8", metavar="N,…", help="arrays to simulate, N x N (4,8)")
    verify.add_argument("--width", type=int, default=8, metavar="BITS", help="of operands and results (8)")
    verify.add_argument("--json", action="store_true", help="as JSON")
    synthesize = actions.add_parser("synthesize", help="resources and clock of the core; many minutes")
    synthesize.add_argument("--size", type=int, default=8, metavar="N", help="array of N x N (8)")
    synthesize.add_argument("--width", type=int, default=8, metavar="BITS", help="of operands and results (8)")
    synthesize.add_argument("--seeds", default="1,2,3", metavar="S,…", help="of place and route (1,2,3)")
    synthesize.add_argument("--json", action="store_true", help="as JSON")
    estimate = actions.add_parser("estimate", help="project a network's latency on a board, layer by layer")
    estimate.add_argument("model", metavar="PATH", help="a model's files, an artifact's id, or a published network (resnet-50)")
    estimate.add_argument("--device", default="zcu104", metavar="BOARD", help="a board of the catalogue (zcu104)")
    estimate.add_argument("--precision", default="int8", choices=("int8", "mixed", "int4"), help="mixed: int4 weights (int8)")
    estimate.add_argument(
        "--within", type=float, default=0.0, metavar="MS", help="the smallest array that does it in so many ms; the fastest without"
    )
    estimate.add_argument("--workload", default="", metavar="k=v,…", help="for example batch_size=1,sequence_length=128")
    estimate.add_argument(
        "--json", nargs="?", const="-", metavar="OUT.json", help="write the result as JSON; - or nothing: to stdout"
    )


def _call(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    match options.command:
        case "techniques":
            from engine.cli.techniques import techniques

            return techniques(as_json=options.json, as_markdown=options.markdown)
        case "intake":
            from engine.cli.intake import intake

            return intake(settings, options.path, name=options.name, as_json=options.json)
        case "run":
            from engine.cli.run import run

            return run(settings, options)
        case "compare":
            from engine.cli.compare import compare

            return compare(settings, options.runs, options.json)
        case "calibrate":
            from engine.cli.calibrate import calibrate

            return calibrate(settings, options.json)
        case "project":
            from engine.cli import project

            return project.run(settings, options)
        case "doctor":
            from engine.cli.doctor import doctor

            return doctor(settings, as_json=options.json)
        case "fpga":
            if options.action == "estimate":
                from engine.cli.fpga_estimate import fpga_estimate

                return fpga_estimate(settings, options)
            from engine.cli import fpga

            return fpga.run(settings, options)
        case "serve":
            from engine.cli.serve import serve

            return serve(settings)
        case _:
            from engine import worker

            return worker.serve(_given(options))


def _given(options: argparse.Namespace) -> Settings:
    """The environment's settings, with what the worker's command line says instead."""
    names = {"SPEEDRAIL_DATABASE_URL": options.database_url, "SPEEDRAIL_ARTIFACTS_URL": options.artifacts_url, "SPEEDRAIL_HOME": options.home}
    return Settings.from_environment({**os.environ, **{name: value for name, value in names.items() if value}})


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message}.", mend=f"See {self.prog} --help.")


def _one_line(error: SpeedrailError) -> str:
    return " ".join(str(error).split())
