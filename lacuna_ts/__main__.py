"""`python -m lacuna_ts` is the `lacuna-ts` command."""

from lacuna_ts.cli.main import main

if __name__ == "__main__":
    main()
