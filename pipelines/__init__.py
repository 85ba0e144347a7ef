"""Run the stages as Prefect flows: thin wraps of the functions that the command line calls."""
