"""Loads the export's dense vectors into SQLite with sqlite-vec and asks it the manifest's queries.

    python load_sqlite_vec.py documents.sqlite    (pip install sqlite-vec numpy)
"""
import sqlite3
import sys

import trivec_export as export  # before the packages: it says in a line which of them is missing

import numpy
import sqlite_vec

if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()
connection = sqlite3.connect(sys.argv[1])
connection.enable_load_extension(True)
sqlite_vec.load(connection)
dense = numpy.load(export.HERE / "dense.npy", mmap_mode="r")
connection.execute("CREATE TABLE documents (number INTEGER PRIMARY KEY, key TEXT UNIQUE, text TEXT)")
connection.execute(f"CREATE VIRTUAL TABLE vectors USING vec0(dense float[{export.MANIFEST['dense_dim']}] distance_metric=cosine)")
place = {}
for number, document in enumerate(export.documents()):
    place[document["key"]] = number
    connection.execute("INSERT INTO documents VALUES (?, ?, ?)", (number, document["key"], document["text"]))
    connection.execute("INSERT INTO vectors (rowid, dense) VALUES (?, ?)", (number, dense[number].tobytes()))
connection.commit()
export.loaded(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])
ASK = """SELECT key, 1 - distance FROM vectors JOIN documents ON number = vectors.rowid WHERE dense MATCH ? AND k = ? ORDER BY distance"""
export.compare("dense", lambda query, limit: connection.execute(ASK, (dense[place[query["key"]]].tobytes(), limit)).fetchall())
