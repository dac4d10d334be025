"""Runs the `kyvo` command as `python -m kyvo`."""

from kyvo.cli import main

main()
