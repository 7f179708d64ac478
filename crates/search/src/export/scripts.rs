//! Writes the Python scripts that belong to an export: one for every engine that reads its files, and a module that they share.

use super::files::Files;
use super::target::Target;
use crate::error::Result;

const SHARED: (&str, &str) = ("trivec_export.py", include_str!("load/trivec_export.py"));

pub(super) fn write(target: Target, files: &mut Files) -> Result<()> {
    let own: &[(&str, &str)] = match target {
        Target::Qdrant => &[("load.py", include_str!("load/qdrant.py"))],
        Target::Milvus => &[("load.py", include_str!("load/milvus.py"))],
        Target::Pgvector => &[("load.py", include_str!("load/pgvector.py"))],
        Target::Elasticsearch => &[("load.py", include_str!("load/elasticsearch.py"))],
        Target::Vespa => &[("load.py", include_str!("load/vespa.py"))],
        Target::Npy => &[
            ("load.py", include_str!("load/npy.py")),
            ("load_duckdb.py", include_str!("load/duckdb.py")),
            ("load_sqlite_vec.py", include_str!("load/sqlite_vec.py")),
        ],
        Target::Parquet => &[("load.py", include_str!("load/parquet.py"))],
        Target::Faiss => &[("load.py", include_str!("load/faiss.py"))],
        Target::Lancedb => &[("load.py", include_str!("load/lancedb.py"))],
    };
    for (name, text) in own.iter().chain([&SHARED]) {
        files.begin(*name)?;
        files.write(text.as_bytes())?;
    }
    Ok(())
}
