"""Run the command: ``python -m volatility.cli``."""

from volatility.cli.main import main

main(prog_name="volatility")
