"""Alembic's environment: `env.py` runs the scripts in `versions/`, `regenerate.py` writes the initial one from the tables."""
