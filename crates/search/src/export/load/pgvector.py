"""Loads the export into PostgreSQL with pgvector, as the table `documents`, and asks it the manifest's queries.

    python load.py postgresql://user@127.0.0.1/database    (pip install "psycopg[binary]")
"""
import sys

import trivec_export as export  # before the packages: it says in a line which of them is missing

import psycopg

if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    connection.execute((export.HERE / "schema.sql").read_text("utf-8"))
    with connection.cursor() as cursor:
        for part in export.parts():
            with cursor.copy("COPY documents FROM STDIN") as copy:
                copy.write(part.read_bytes())
    export.loaded(connection.execute("SELECT count(*) FROM documents").fetchone()[0])

    def find(arm):
        # `<#>` is the negative product.
        ask = f"""SELECT key, -({arm} <#> (SELECT {arm} FROM documents WHERE key = %(key)s)) AS score FROM documents
                  WHERE {arm} IS NOT NULL ORDER BY score DESC, key LIMIT %(limit)s"""
        return lambda query, limit: connection.execute(ask, {"key": query["key"], "limit": limit}).fetchall()

    export.compare("dense", find("dense"))
    export.compare("sparse", find("sparse"))
