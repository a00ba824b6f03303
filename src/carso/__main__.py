"""`python -m carso` is the command `carso`."""

from carso.commands.cli import main

if __name__ == "__main__":
    main()
