"""Offer every stage as a sub-command of ``volatility``.

Exit codes: 0 done; 1 the work failed, one line says why and what to do; 2 wrong usage.
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
from volatility.settings import Settings

FOLDER = click.Path(file_okay=False, path_type=Path)
ANY = click.Path(exists=True, path_type=Path)

LAKE = click.option("--lake", type=FOLDER, default="data/ticks", show_default=True)
FEATURES = click.option("--features", type=FOLDER, default="data/features", show_default=True)
MODEL_FOLDER = click.option(
    "--model-folder", type=FOLDER, default="data/model", show_default=True,
    help="Where `train` keeps the last model.",
)  # fmt: skip
REPORTS = click.option("--reports", type=FOLDER, default="reports", show_default=True)


class Cli(click.Group):
    """Turn the errors that a user can mend into one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands of the domain and those that the other rooms add."""
        return sorted({*super().list_commands(ctx), *(point.name for point in _added())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command; one of another room is imported only now."""
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
                text = f"{type(error).__name__}: {text} (VOLATILITY_DEBUG=1 shows where)"
            click.echo(f"Error: {text}", err=True)
            sys.exit(1)


def _added() -> tuple[EntryPoint, ...]:
    """Find the commands of the rooms above the domain, which it must not import."""
    return tuple(entry_points(group="volatility.commands"))


def _ours(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in {"volatility", "streaming"}


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--params", type=click.Path(path_type=Path), default="params.yaml", show_default=True)
@click.version_option(package_name="volatility-service")
@click.pass_context
def main(context: click.Context, params: Path) -> None:
    """Predict volatility spikes of crypto pairs, and do not be fooled.

    Example: volatility simulate && volatility features && volatility train
    """
    context.obj = settings_module.load(params)


def _paths(**given: Path | None) -> Any:
    from volatility.stages import Paths

    return Paths(**{name: path for name, path in given.items() if path is not None})


@main.command()
@LAKE
@click.option("--hours", type=float, help="Length of the market; params.yaml by default.")
@click.option("--seed", type=int, help="Random seed; params.yaml by default.")
@click.pass_obj
def simulate(settings: Settings, lake: Path, hours: float | None, seed: int | None) -> None:
    """Fill a lake with a simulated market.

    Example: volatility simulate --lake data/ticks --hours 6
    """
    import msgspec

    from volatility import stages

    changes = {k: v for k, v in (("hours", hours), ("seed", seed)) if v is not None}
    options = msgspec.structs.replace(settings.simulate, **changes)
    rows = stages.simulate_ticks(
        msgspec.structs.replace(settings, simulate=options), _paths(ticks=lake)
    )
    click.echo(f"{rows:,} records in {lake}")


@main.command("import")
@click.argument("files", nargs=-1, required=True, type=ANY)
@LAKE
def import_(files: tuple[Path, ...], lake: Path) -> None:
    """Import recordings: Parquet, or raw wire messages of both Coinbase protocols.

    Example: volatility import recordings/ --lake data/ticks
    """
    from volatility import stages

    report = stages.import_ticks(list(files), _paths(ticks=lake))
    click.echo(
        f"{report.rows:,} records in {lake} from {len(report.imported)} files, "
        f"{len(report.skipped)} files already there, {sum(report.rejected.values())} rejected, "
        f"{report.duplicates} duplicates, {report.out_of_order} out of order, {report.gaps} gaps"
    )
    for reason, count in sorted(report.rejected.items()):
        click.echo(f"  rejected {count}: {reason}")


@main.command(hidden=True)
@LAKE
@click.pass_obj
def ticks(settings: Settings, lake: Path) -> None:
    """Fill a lake from `ticks.source` of params.yaml: the DVC stage of that name.

    Example: volatility ticks --lake data/snapshot
    """
    from volatility import stages

    click.echo(f"{stages.make_ticks(settings, _paths(ticks=lake)):,} records in {lake}")


@main.command()
@LAKE
@FEATURES
@click.pass_obj
def features(settings: Settings, lake: Path, features: Path) -> None:
    """Build the feature rows of a lake: only those of ticks that are new since the last time.

    Example: volatility features --lake data/ticks --features data/features
    """
    from volatility import stages

    built = stages.make_features(settings, _paths(ticks=lake, features=features))
    click.echo(
        f"{built['rows']:,} rows in {features}, {built['new']:,} of them new; "
        f"dropped {built['late']} late ticks, {built['duplicates']} duplicates"
    )


@main.command()
@FEATURES
@MODEL_FOLDER
@click.pass_obj
def train(settings: Settings, features: Path, model_folder: Path) -> None:
    """Train walk-forward, run the placebo, register the model as challenger.

    Example: volatility train --features data/features
    """
    from volatility import stages

    found = stages.train(settings, _paths(features=features, model=model_folder))
    known = "registered" if found.created else "was registered already"
    click.echo(f"{found.name} version {found.version} {known}; digest {found.digest[:12]}")


@main.command()
@click.option("--ticks", type=ANY, help="A lake or recordings to evaluate on.")
@click.option("--model", help="models:/NAME@ALIAS, a version, an alias, or a bundle folder.")
@click.option("--json", "as_json", is_flag=True, help="Print evaluation.json.")
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
    """Evaluate the last training, or any model on any ticks; write the report.

    Example: volatility evaluate --ticks recordings/ --model models:/crypto-vol-ml@challenger
    """
    from volatility import stages

    paths = _paths(features=features, model=model_folder, reports=reports)
    result = stages.evaluate(settings, paths, model=model, ticks=ticks)
    click.echo(json.dumps(result, indent=1) if as_json else stages.leaderboard(result))
    if not as_json:
        click.echo(f"report: {reports / 'evaluation.html'}")


@main.command()
@FEATURES
@MODEL_FOLDER
@click.pass_obj
def promote(settings: Settings, features: Path, model_folder: Path) -> None:
    """Make the last trained model champion, if it has earned it.

    Example: volatility promote
    """
    from volatility import stages

    version, verdict = stages.promote(settings, _paths(features=features, model=model_folder))
    if not verdict["earned"]:
        raise click.ClickException(
            f"version {version} has not earned promotion: {'; '.join(verdict['reasons'])}"
        )
    click.echo(f"version {version} is champion")


@main.command()
def rollback() -> None:
    """Give the champion alias back to the version that had it before.

    Example: volatility rollback
    """
    from volatility import registry

    now, left = registry.rollback()
    click.echo(f"champion: version {left} -> version {now}")


@main.command()
@FEATURES
@MODEL_FOLDER
@REPORTS
@click.option("--model", help="A registered model; the last trained one by default.")
@click.pass_obj
def drift(
    settings: Settings, features: Path, model_folder: Path, reports: Path, model: str | None
) -> None:
    """Compare the newest rows with the training rows, by effect size.

    Example: volatility drift --reports reports
    """
    from volatility import stages

    paths = _paths(features=features, model=model_folder, reports=reports)
    result = stages.drift(settings, paths, model=model)
    click.echo(f"{stages.drift_line(result)}; report: {reports / 'drift.html'}")


@main.command()
@FEATURES
@click.option(
    "--predictions", type=FOLDER, default="data/predictions", show_default=True,
    help="What `capture --topic predictions` has written.",
)  # fmt: skip
@REPORTS
@click.pass_obj
def performance(settings: Settings, features: Path, predictions: Path, reports: Path) -> None:
    """Hold live predictions against what then happened, on the newest feature rows.

    Example: volatility performance --predictions data/predictions
    """
    from volatility import stages
    from volatility.performance_report import lines

    paths = _paths(features=features, reports=reports)
    click.echo(lines(stages.performance(settings, paths, predictions)))
    click.echo(f"report: {reports / 'performance.html'}")


@main.command()
def package() -> None:
    """Pack the serving model with the service into a Bento.

    Example: volatility package
    """
    from volatility.packaging import package as build

    click.echo(f"built {build()}")


@main.command()
@click.option("--ticks", type=ANY, help="Recordings to use instead of the simulator.")
@click.option("--serve/--no-serve", default=True, help="Serve on port 3000 at the end.")
@click.pass_obj
def demo(settings: Settings, ticks: Path | None, serve: bool) -> None:
    """Run the whole chain on embedded defaults: no broker, no server.

    Example: volatility demo --no-serve --ticks recordings/
    """
    from volatility.demo import run

    run(settings, ticks=ticks, serve=serve)


@main.command()
def doctor() -> None:
    """Say what is missing on this machine, and how to get it.

    Example: volatility doctor
    """
    from volatility import doctor as doctoring

    findings = doctoring.checks()
    click.echo(doctoring.report(findings))
    if doctoring.failed(findings):
        sys.exit(1)


if __name__ == "__main__":
    main()
