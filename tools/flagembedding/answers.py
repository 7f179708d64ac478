#!/usr/bin/env python3
"""answers.py (trivec | FlagEmbedding | sentence-transformers) FOLDER: what each answers on the checkpoints of checkpoints.py and on the models that were
trained from them, as JSON with types."""

import json
import pathlib
import sys

from reference_cases import ALL, F32, M3, PAIRS, TEXTS, answers, described


def flag(module, folder):
    """The calls of reference_cases.py, those by the defaults, and a trained model whose dense vectors are the encoder's own."""
    found = answers(module, lambda model: str(folder / ("m3" if model == M3 else "reranker")))
    rounded = module.BGEM3FlagModel(str(folder / "m3"))
    found["as it comes"] = described(rounded.encode(TEXTS, **ALL))
    found["as it comes, scores"] = described(rounded.compute_score(PAIRS[0]))
    trained = module.BGEM3FlagModel(str(folder / "trained-heads"), **F32)
    found["trained"] = described(trained.encode(TEXTS, **ALL))
    return found


def main() -> None:
    who, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    if who == "FlagEmbedding":
        import FlagEmbedding

        found = flag(FlagEmbedding, folder)
    elif who == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        found = {"trained, dense": described(SentenceTransformer(str(folder / "trained"), device="cpu").encode(TEXTS))}
    else:
        import trivec
        import trivec.flag

        found = flag(trivec.flag, folder)
        found["trained, dense"] = described(trivec.Model(folder / "trained").encode(TEXTS).dense)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
