#!/usr/bin/env python3
"""Run tvmbuild from an uninstalled checkout: ``python cli.py build model.onnx -t rpi4``."""

from tvmbuild.commands import main

if __name__ == "__main__":
    main()
