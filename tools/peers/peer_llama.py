"""llama.cpp through llama-cpp-python: a GGUF of architecture bert written from the checkpoint, quantised by llama.cpp itself."""

import ctypes
import os

import common

VARIANTS = ("q8_0", "q4_0")


def write_gguf(checkpoint, path):
    import gguf
    import numpy as np

    c = checkpoint
    writer = gguf.GGUFWriter(path, "bert")
    positions = c.positions() - c("embeddings.token_type_embeddings.weight")  # from the first text position on
    writer.add_context_length(len(positions))
    writer.add_embedding_length(c.hidden)
    writer.add_feed_forward_length(c.ffn)
    writer.add_block_count(c.layers)
    writer.add_head_count(c.heads)
    writer.add_layer_norm_eps(c.eps)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.CLS)
    writer.add_vocab_size(c.vocabulary)
    writer.add_tokenizer_model("none")  # token ids come from outside
    writer.add_token_type_count(1)

    def tensor(name, array):
        writer.add_tensor(name, np.ascontiguousarray(array))

    def both(name, source):
        tensor(f"{name}.weight", c(f"{source}.weight"))
        tensor(f"{name}.bias", c(f"{source}.bias"))

    tensor("token_embd.weight", c("embeddings.word_embeddings.weight"))
    tensor("position_embd.weight", positions)
    tensor("token_types.weight", c("embeddings.token_type_embeddings.weight"))
    both("token_embd_norm", "embeddings.LayerNorm")
    for i in range(c.layers):
        at = f"encoder.layer.{i}"
        for name, source in (("q", "self.query"), ("k", "self.key"), ("v", "self.value")):
            both(f"blk.{i}.attn_{name}", f"{at}.attention.{source}")
        both(f"blk.{i}.attn_output", f"{at}.attention.output.dense")
        both(f"blk.{i}.attn_output_norm", f"{at}.attention.output.LayerNorm")
        both(f"blk.{i}.ffn_up", f"{at}.intermediate.dense")
        both(f"blk.{i}.ffn_down", f"{at}.output.dense")
        both(f"blk.{i}.layer_output_norm", f"{at}.output.LayerNorm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def prepare(checkpoint, directory, variant):
    import llama_cpp

    directory.mkdir(parents=True)
    plain = directory / "f32.gguf"
    write_gguf(checkpoint, plain)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[variant]
    failed = llama_cpp.llama_model_quantize(
        str(plain).encode(), str(directory / "model.gguf").encode(), ctypes.byref(params)
    )
    if failed:
        raise RuntimeError(f"llama_model_quantize: {failed}")
    plain.unlink()


def load(directory, threads, token_limit):
    import llama_cpp
    import numpy as np

    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(
        str(directory / "model.gguf").encode(), llama_cpp.llama_model_default_params()
    )
    assert model, "the model was not loaded"
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = token_limit
    params.n_seq_max = 64
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = threads
    params.embeddings = True
    params.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_CLS
    params.flash_attn_type = int(os.environ.get("PEER_LLAMA_FLASH", 1))
    context = llama_cpp.llama_init_from_model(model, params)
    assert context, "no context"
    llama_cpp.llama_set_causal_attn(context, False)
    width = llama_cpp.llama_model_n_embd(model)
    batch = llama_cpp.llama_batch_init(token_limit, 0, 1)

    def forward(texts, want):
        at = 0
        for sequence, text in enumerate(texts):
            for position, token in enumerate(text.tolist()):
                batch.token[at], batch.pos[at] = token, position
                batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, sequence, 1
                at += 1
        batch.n_tokens = at
        failed = llama_cpp.llama_encode(context, batch)
        assert failed == 0, f"llama_encode: {failed}"
        llama_cpp.llama_synchronize(context)
        if want:
            rows = (llama_cpp.llama_get_embeddings_seq(context, i) for i in range(len(texts)))
            return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])

    return forward


if __name__ == "__main__":
    args = common.arguments(VARIANTS)
    if args.prepare:
        checkpoint = common.Checkpoint(args.prepare)
        prepare(checkpoint, args.model, args.variant)
        common.note_vocabulary(args.model, checkpoint.vocabulary)
    if args.worker:
        out = common.private_stdout()
        import llama_cpp

        # Attention runs over all tokens of a batch and masks the other texts' away: large batches cost, they do not pay.
        limit = max(args.max_length, 2048)
        version = llama_cpp.__version__
        vocabulary = common.vocabulary_of(args.model)
        common.serve(out, lambda: load(args.model, args.threads, limit), vocabulary, version, token_limit=limit)
