"""Provide every stage as a sub-command of ``volatility``.

Exit codes: 0 success; 1 failure, with one line saying why and what to do; 2 usage error.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from volatility import settings as settings_module
from volatility.cli import fetching, streaming
from volatility.settings import Settings
from volatility.units import parse_iso


class Time(click.ParamType):
    """Convert ISO 8601 (UTC unless it says otherwise) or nanoseconds to nanoseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return nanoseconds since the epoch."""
        try:
            return int(value) if str(value).isdigit() else parse_iso(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time; use 2026-01-05T10:00 or nanoseconds", param, ctx)


class Pattern(click.Path):
    """Convert a path that exists, a pattern of paths, or ``-``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a missing one is wrong usage, a pattern that matches nothing is not."""
        self.exists = not set(str(value)) & set("*?[")
        return super().convert(value, param, ctx)


TIME = Time()
FOLDER = click.Path(file_okay=False, path_type=Path)
PATTERN = Pattern(path_type=Path, allow_dash=True)
ANY = click.Path(exists=True, path_type=Path)

LAKE = click.option("--lake", type=FOLDER, default="data/ticks", show_default=True)
FEATURES = click.option("--features", type=FOLDER, default="data/features", show_default=True)
MODEL_FOLDER = click.option(
    "--model-folder", type=FOLDER, default="data/model", show_default=True,
    help="Folder in which `train` stores the last model.",
)  # fmt: skip
REPORTS = click.option("--reports", type=FOLDER, default="reports", show_default=True)


class Cli(click.Group):
    """Turn the errors that a user can fix into one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the core commands and those that the applications add."""
        return sorted({*super().list_commands(ctx), *(point.name for point in _added())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command; one that an application adds is imported only when it is used."""
        for point in _added():
            if point.name == cmd_name:
                command: click.Command = point.load()
                return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the sub-command."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(1)
        except Exception as error:
            if os.environ.get("VOLATILITY_DEBUG"):
                raise
            text = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, ValueError | OSError) and not _ours(error):
                text = f"{type(error).__name__}: {text} (set VOLATILITY_DEBUG=1 for a traceback)"
            click.echo(f"Error: {text}", err=True)
            sys.exit(1)


def _added() -> tuple[EntryPoint, ...]:
    """Find the commands of the applications, which this package must not import."""
    return tuple(entry_points(group="volatility.commands"))


def _ours(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] == "volatility"


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--params", type=click.Path(path_type=Path), default="params.yaml", show_default=True)
@click.version_option(package_name="volatility-service")
@click.pass_context
def main(context: click.Context, params: Path) -> None:
    """Forecast the volatility of crypto pairs and the probability of spikes.

    Example: volatility simulate && volatility features && volatility train
    """
    settings_module.disable_telemetry()
    context.obj = settings_module.load(params)


def _paths(**given: Path | None) -> Any:
    from volatility.stages import Paths

    return Paths(**{name: path for name, path in given.items() if path is not None})


@main.command()
@LAKE
@click.option("--hours", type=float, help="Length of the market [default: from params.yaml]")
@click.option("--seed", type=int, help="Random seed [default: from params.yaml]")
@click.pass_obj
def simulate(settings: Settings, lake: Path, hours: float | None, seed: int | None) -> None:
    """Write a simulated market to a lake.

    Example: volatility simulate --lake data/ticks --hours 6
    """
    import msgspec

    from volatility import stages
    from volatility.lake import SIMULATED, check_market

    check_market(lake, SIMULATED)
    changes = {k: v for k, v in (("hours", hours), ("seed", seed)) if v is not None}
    options = msgspec.structs.replace(settings.simulate, **changes)
    rows = stages.simulate_ticks(
        msgspec.structs.replace(settings, simulate=options), _paths(ticks=lake)
    )
    click.echo(f"{rows:,} records in {lake}")


@main.command("import")
@click.argument("files", nargs=-1, required=True, type=PATTERN)
@LAKE
@click.option("--map", "columns", default="", help="Columns, such as time=ts:ms,bid=bb,ask=ba.")
@click.option("--dry-run", is_flag=True, help="Show what is recognised, and write nothing.")
def import_(files: tuple[Path, ...], lake: Path, columns: str, dry_run: bool) -> None:
    """Import recordings of any venue into a lake.

    Accepts files, folders, patterns, archives and - for standard input; what they contain is
    recognised. docs/recordings.md lists it.

    Example: volatility import recordings/ --lake data/ticks
    """
    from volatility import stages
    from volatility.lake import REAL, ImportingError, check_market
    from volatility.reports import import_lines, preview_lines
    from volatility.sources import parse_mapping

    check_market(lake, REAL)
    failure = None
    try:
        report = stages.import_ticks(
            list(files), _paths(ticks=lake), mapping=parse_mapping(columns), dry_run=dry_run
        )
    except ImportingError as error:
        failure, report = error, error.report
    if failure is None or report.imported or report.previews:
        lines = preview_lines(report) if dry_run else import_lines(report, lake)
        click.echo("\n".join(lines))
    if failure is not None:
        raise failure


@main.command(hidden=True)
@LAKE
@click.pass_obj
def ticks(settings: Settings, lake: Path) -> None:
    """Fill a lake from `ticks.source` in params.yaml; used by the DVC stage `ticks`.

    Example: volatility ticks --lake data/snapshot
    """
    from volatility import stages

    click.echo(f"{stages.make_ticks(settings, _paths(ticks=lake)):,} records in {lake}")


@main.command()
@click.argument("symbol")
@click.option("--from", "start", type=TIME, required=True, help="First time: ISO 8601 or ns.")
@click.option("--to", "stop", type=TIME, required=True, help="Time after the last one.")
@click.option("--why", required=True, help="Reason, for the ledger.")
@LAKE
def void(symbol: str, start: int, stop: int, why: str, lake: Path) -> None:
    """Declare a period of a symbol invalid, so that nothing reads its ticks any more.

    The ticks stay in the lake; the ledger gaps.jsonl beside them names the period and the reason.

    Example: volatility void BTC-USD --from 2026-01-05T10:00 --to 2026-01-05T10:05 --why "bad feed"
    """
    from volatility.lake import Lake

    rows = Lake(lake).void(symbol, start, stop, why)
    click.echo(f"{rows:,} records of {symbol} are void; run `volatility features` again")


@main.command()
@LAKE
@FEATURES
@click.pass_obj
def features(settings: Settings, lake: Path, features: Path) -> None:
    """Build the feature rows of a lake. Only ticks added since the last run are processed.

    Example: volatility features --lake data/ticks --features data/features
    """
    from volatility import stages

    built = stages.make_features(settings, _paths(ticks=lake, features=features))
    click.echo(
        f"{built['rows']:,} rows in {features} ({built['new']:,} new); "
        f"dropped {built['late']} late ticks, {built['duplicates']} duplicates"
    )


@main.command()
@FEATURES
@MODEL_FOLDER
@click.pass_obj
def train(settings: Settings, features: Path, model_folder: Path) -> None:
    """Train walk-forward and register the model as challenger.

    A model is registered only if the placebo test passes.

    Example: volatility train --features data/features
    """
    from volatility import registry, stages

    registry.latest()  # a registry that cannot be used is an error now, not after the work
    found = stages.train(settings, _paths(features=features, model=model_folder)).version
    known = "registered" if found.created else "was already registered"
    click.echo(f"{found.name} version {found.version} {known}; digest {found.digest[:12]}")


@main.command()
@click.option("--ticks", type=ANY, help="Lake or recordings to evaluate on.")
@click.option("--model", help="models:/NAME@ALIAS, a version, an alias, or a bundle folder.")
@click.option("--json", "as_json", is_flag=True, help="Print evaluation.json instead of a table.")
@FEATURES
@MODEL_FOLDER
@REPORTS
@click.pass_obj
def evaluate(
    settings: Settings,
    ticks: Path | None,
    model: str | None,
    as_json: bool,
    features: Path,
    model_folder: Path,
    reports: Path,
) -> None:
    """Evaluate a model and write the report.

    By default, evaluate the last training run; with --ticks, its recipe on other ticks; with
    --model, any model.

    Example: volatility evaluate --ticks recordings/ --model models:/crypto-vol-ml@challenger
    """
    from volatility import stages
    from volatility.files import plain
    from volatility.reports import leaderboard

    paths = _paths(features=features, model=model_folder, reports=reports)
    result = stages.evaluate(settings, paths, model=model, ticks=ticks)
    click.echo(json.dumps(plain(result), indent=1) if as_json else leaderboard(result))
    if not as_json:
        click.echo(f"report: {reports / 'evaluation.html'}")


@main.command()
@FEATURES
@MODEL_FOLDER
@click.pass_obj
def promote(settings: Settings, features: Path, model_folder: Path) -> None:
    """Promote the last trained model if it passes the gate.

    Example: volatility promote
    """
    from volatility import stages

    version, verdict = stages.promote(settings, _paths(features=features, model=model_folder))
    if not verdict.earned:
        raise click.ClickException(
            f"version {version} did not pass the gate: {'; '.join(verdict.reasons)}"
        )
    click.echo(f"version {version} is champion")


@main.command()
def rollback() -> None:
    """Restore the previous champion.

    Example: volatility rollback
    """
    from volatility import registry

    now, left = registry.rollback()
    click.echo(f"champion: version {left} -> version {now}")


@main.command()
@FEATURES
@MODEL_FOLDER
@REPORTS
@click.option("--model", help="Registered model to use [default: the last one trained]")
@click.pass_obj
def drift(
    settings: Settings, features: Path, model_folder: Path, reports: Path, model: str | None
) -> None:
    """Compare the newest feature rows with the training rows.

    Drift is measured by effect sizes, not by significance.

    Example: volatility drift --reports reports
    """
    from volatility import stages
    from volatility.reports import drift_line

    paths = _paths(features=features, model=model_folder, reports=reports)
    result = stages.drift(settings, paths, model=model)
    click.echo(f"{drift_line(result)}; report: {reports / 'drift.html'}")


@main.command()
@FEATURES
@click.option(
    "--predictions", type=FOLDER, default="data/predictions", show_default=True,
    help="Lake written by `capture --topic predictions`.",
)  # fmt: skip
@REPORTS
@click.pass_obj
def performance(settings: Settings, features: Path, predictions: Path, reports: Path) -> None:
    """Compare captured predictions with actual outcomes.

    Example: volatility performance --predictions data/predictions
    """
    from volatility import stages
    from volatility.reports import lines

    paths = _paths(features=features, reports=reports)
    click.echo(lines(stages.performance(settings, paths, predictions)))
    click.echo(f"report: {reports / 'performance.html'}")


@main.command()
def package() -> None:
    """Package the serving model and the service as a Bento.

    Example: volatility package
    """
    from volatility.registry import package as build

    click.echo(f"built {build()}")


@main.command()
@click.option("--ticks", type=ANY, help="Recordings to use instead of simulated ticks.")
@click.option("--serve/--no-serve", default=True, help="Forecast live and serve on port 3000.")
@click.pass_obj
def demo(settings: Settings, ticks: Path | None, serve: bool) -> None:
    """Run the full pipeline with built-in defaults. Needs no broker and no server.

    Example: volatility demo --no-serve --ticks recordings/
    """
    from volatility.cli.demo import run

    run(settings, ticks=ticks, serve=serve)


@main.command()
def doctor() -> None:
    """Check what is missing on this machine, and how to get it.

    Example: volatility doctor
    """
    from volatility.cli import doctor as doctoring

    findings = doctoring.checks()
    click.echo(doctoring.report(findings))
    if doctoring.failed(findings):
        sys.exit(1)


for _command in (fetching.fetch, streaming.ingest, streaming.capture, streaming.score):
    main.add_command(_command)
