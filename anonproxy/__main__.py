"""Run the command line with `python -m anonproxy`."""

from anonproxy.cli import main

if __name__ == "__main__":
    main()
