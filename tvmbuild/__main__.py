"""Run tvmbuild as a module: ``python -m tvmbuild``."""

from tvmbuild.commands import main

if __name__ == "__main__":
    main()
