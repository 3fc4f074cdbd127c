"""``python -m catembed``: the command line."""

from catembed.cli import main

if __name__ == "__main__":
    main()
