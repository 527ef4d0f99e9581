"""Run with `python -m unittest discover -s tests -t .` in runner/, with the installed environment's python."""
