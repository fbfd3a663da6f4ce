"""``python -m sync``: hands over to commands.py, or says what has to be installed for it."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line, or end with the name of the package that is missing."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401

        find_spec("azure.keyvault.secrets")  # looks for the packages around it; to import it takes 0.2 s
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is missing: pip install -r requirements.txt -r requirements-ops.txt")
    from sync.operate.commands import cli

    cli(prog_name="python -m sync")


if __name__ == "__main__":
    main()
