CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE documents (
    id uuid PRIMARY KEY,
    key text NOT NULL,
    document text,
    text text NOT NULL,
    title text,
    lang text,
    metadata jsonb NOT NULL,
    dense vector(DENSE_DIM) NOT NULL,
    sparse sparsevec(SPARSE_DIM)
);
-- Keys may be longer than a B-tree takes.
CREATE INDEX documents_key ON documents USING hash (key);
