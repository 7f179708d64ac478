#!/usr/bin/env python3
"""The table of docs/search.md: `trivec eval` on every set that tools/search_sets.py has built.

    python3 tools/search_table.py TRIVEC INDEX SETS [SET.LANGUAGE …]

nDCG@10 of each arm and fusion in Markdown; then the goals: the fusion no worse than the best arm by more than 0.3 anywhere and better by 1
where question and text are in one language, the rerank better than the fusion by 8 where they are not.
"""
import json
import pathlib
import subprocess
import sys

WAYS = ["dense", "bm25", "sparse", "share", "rrf", "rrf-textbook", "weighted", "share+colbert"]


def evaluate(trivec, index, queries):
    judgements = str(queries).replace(".queries.jsonl", ".qrels.tsv")
    command = [trivec, "eval", index, "--queries", queries, "--qrels", judgements, "--json", "--quiet"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    trivec, index, folder, *only = sys.argv[1:]
    print(f"| set | questions | {' | '.join(WAYS)} | R@100 share | fused − best arm | rerank − fused |")
    print("|---|---:|" + "---:|" * (len(WAYS) + 3))
    missed = []
    for queries in sorted(pathlib.Path(folder).glob("*.queries.jsonl")):
        name = queries.name.removesuffix(".queries.jsonl")
        if only and name not in only:
            continue
        report = evaluate(trivec, index, queries)
        ranked = {ranking["name"]: ranking for ranking in report["rankings"]}
        ndcg = {way: 100 * ranked[way]["ndcg10"]["mean"] for way in WAYS}
        best = max(ndcg[way] for way in ["dense", "bm25", "sparse"])
        fused, reranked = ndcg["share"] - best, ndcg["share+colbert"] - ndcg["share"]
        same = name.endswith(".en") or name.startswith("leads")
        if fused < (1 if same else -0.3):
            missed.append(f"{name}: fused {fused:+.1f} beside the best arm, goal {'+1' if same else '-0.3'}")
        if not same and reranked < 8:
            missed.append(f"{name}: rerank {reranked:+.1f} beside the fusion, goal +8")
        recall = 100 * ranked["share"]["recall100"]["mean"]
        cells = [f"{ndcg[way]:.1f}" for way in WAYS] + [f"{recall:.1f}", f"{fused:+.1f}", f"{reranked:+.1f}"]
        print(f"| {name} | {len(report['queries'])} | {' | '.join(cells)} |", flush=True)
    print("\n".join(["", *missed]))


if __name__ == "__main__":
    main()
