#!/usr/bin/env python3
"""on_cpu.py SCRIPT: runs a script that asks FlagEmbedding for GPUs on the CPU, with as many processes as it asks for."""

import runpy
import sys

if __name__ == "__main__":
    from FlagEmbedding.abc.inference import AbsEmbedder, AbsReranker

    for kind in (AbsEmbedder, AbsReranker):
        kind.get_target_devices = staticmethod(lambda devices: ["cpu"] * (len(devices) if isinstance(devices, list) else 1))
    runpy.run_path(sys.argv[1], run_name="__main__")
