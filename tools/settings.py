#!/usr/bin/env python3
"""The files around a model's weights, and what sentence-transformers makes of them.

    tools/settings.py make-model   # tests/data/settings/model: one tiny checkpoint
    tools/settings.py golden       # tests/data/golden/settings.json: what the reference gives for tests/data/settings/cases.jsonl

A case is a line: a name, the changes to the files of a base (`model`, or `reranker`, which is rerankers/reranker-h48), the prompt of the
call, and either nothing more (the reference's vectors or scores count) or `refused`, a part of trivec's message. Changes to a file are
`{"set": {pointer: value}, "unset": [pointer]}` with JSON pointers, `{"whole": value}`, or null to remove it.
tests/engine/settings.rs applies the same changes and compares.

Needs torch, transformers, sentence-transformers.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch

import tiny_models

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
CASES = DATA / "settings" / "cases.jsonl"
BASES = {"model": DATA / "settings" / "model", "reranker": DATA / "rerankers" / "reranker-h48"}
TEXTS = ["hello world", "Ab c: QUERY 12", " ".join(str(i) for i in range(40)), "a<ent>b <mask> c"]
PAIRS = [["what is a panda?", "The giant panda is a bear."], ["hi", ""], ["is it", "yes, it is a cat"]]
SPEC = tiny_models.Spec(41, 16, 2, 1, 32, 170, positions=130, head_files=None, modules=("cls", ("dense", 8), "normalize"))
MORE = "ABCQUERYXZ0123456789:.,!?<>-"


def make_model(args):
    out = args.out
    tiny_models.write(out, SPEC)
    tokenizer = tiny_models.tokenizer(SPEC.vocab, "".join(dict.fromkeys(MORE)))
    # What transformers 5 builds of the vocabulary, whatever the file says: so both readings of it are the same.
    words = [{"type": "WhitespaceSplit"}, tokenizer["pre_tokenizer"]]
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": words}
    tiny_models.write_json(out / "tokenizer.json", tokenizer)
    package = "sentence_transformers."
    tiny_models.write_json(out / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": package + "base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": package + "sentence_transformer.modules.pooling.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": package + "base.modules.normalize.Normalize"},
    ], indent=1)
    tiny_models.write_json(out / "1_Pooling/config.json",
                           {"embedding_dimension": 16, "pooling_mode": "cls", "include_prompt": True})
    tiny_models.write_json(out / "sentence_bert_config.json", {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
    })
    tokens = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    tiny_models.write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 128,
        **{f"{name}_token": token for name, token in tokens.items()},
    })
    tiny_models.write_json(out / "config_sentence_transformers.json", {
        "model_type": "SentenceTransformer", "prompts": {"query": "", "document": ""}, "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    })
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)
    print(f"{out.name}: {sum(file.stat().st_size for file in out.rglob('*') if file.is_file())} bytes")


def at(value, pointer):
    """The container of what a pointer points to, and its key there."""
    *path, last = pointer.split("/")[1:]
    for key in path:
        value = value[int(key) if isinstance(value, list) else key]
    return value, (int(last) if isinstance(value, list) else last)


def change(directory, files):
    for name, changes in files.items():
        path = directory / name
        if changes is None:
            path.unlink()
            continue
        if "whole" in changes:
            value = changes["whole"]
        else:
            value = json.loads(path.read_text("utf-8")) if path.exists() else {}
            for pointer, new in changes.get("set", {}).items():
                node, key = at(value, pointer)
                if isinstance(node, list) and key == len(node):
                    node.append(new)
                else:
                    node[key] = new
            for pointer in changes.get("unset", []):
                node, key = at(value, pointer)
                del node[key]
        tiny_models.write_json(path, value)


def rounded(values):
    return [float(f"{value:.9g}") for value in values]


def reference(case, directory):
    """What sentence-transformers gives: texts one by one, so that nothing is padded."""
    import sentence_transformers

    prompt = {f"prompt{'_name' if key == 'name' else ''}": value for key, value in case.get("prompt", {}).items()}
    options = {"device": "cpu", "model_kwargs": {"dtype": torch.float32}, "local_files_only": True}
    if case.get("base") == "reranker":
        model = sentence_transformers.CrossEncoder(str(directory), **options)
        return rounded(float(model.predict([tuple(pair)], **prompt)[0]) for pair in PAIRS)
    model = sentence_transformers.SentenceTransformer(str(directory), **options)
    return [rounded(model.encode([text], **prompt)[0].tolist()) for text in TEXTS]


def golden(args):
    import sentence_transformers
    import tokenizers
    import transformers

    cases = [json.loads(line) for line in CASES.read_text("utf-8").splitlines()]
    found, wrong = {}, []
    for case in cases:
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary) / "m"
            shutil.copytree(BASES[case.get("base", "model")], directory)
            change(directory, case.get("files", {}))
            try:
                result, error = reference(case, directory), None
            except Exception as e:  # noqa: BLE001 - whatever the reference says
                result, error = None, f"{type(e).__name__}: {e}"
        said = error.splitlines()[0][:120] if error else "answers"
        print(f"{case['name']}: {said}", file=sys.stderr)
        if "refused" in case:
            continue
        if error:
            wrong.append(f"{case['name']}: the reference refuses it: {error}")
            continue
        found[case["name"]] = result
    base = torch.tensor(found["as it is"])
    for case in cases:
        result = found.get(case["name"])
        if result is None or case.get("base", "model") != "model":
            continue
        result = torch.tensor(result)
        same = result.shape == base.shape and bool((result - base).abs().max() < 1e-6)
        if same != case.get("harmless", False):
            wrong.append(f"{case['name']}: {'changes nothing' if same else 'changes the vectors'}")
    if wrong:
        sys.exit("\n".join(wrong))
    versions = {"sentence_transformers": sentence_transformers.__version__, "transformers": transformers.__version__,
                "tokenizers": tokenizers.__version__, "torch": torch.__version__}
    origin = {"origin": "tools/settings.py golden (fp32, CPU)", **versions}
    out = {"origin": origin, "texts": TEXTS, "pairs": PAIRS, **{name: value for name, value in found.items()}}
    # A harmless case has the vectors of the base, and is not written again.
    harmless = {case["name"] for case in cases if case.get("harmless")}
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in out.items() if k not in harmless or k == "as it is")
    args.out.write_text("{\n" + lines + "\n}\n", "utf-8")
    print(f"{args.out.name}: {len(found)} of {len(cases)} cases, {args.out.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make-model", help="write the tiny checkpoint")
    command.add_argument("--out", type=Path, default=BASES["model"])
    command.set_defaults(run=make_model)
    command = commands.add_parser("golden", help="write what the reference gives for every case")
    command.add_argument("--out", type=Path, default=DATA / "golden" / "settings.json")
    command.set_defaults(run=golden)
    args = parser.parse_args()
    torch.manual_seed(1)
    args.run(args)


if __name__ == "__main__":
    main()
