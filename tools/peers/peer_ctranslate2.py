"""CTranslate2 int8: the model directory written from the checkpoint with ctranslate2.specs, as its XLM-RoBERTa converter does."""

import os

import common

VARIANTS = ("int8",)


def prepare(checkpoint, directory):
    import numpy as np
    from ctranslate2.specs import common_spec, transformer_spec

    c = checkpoint
    encoder = transformer_spec.TransformerEncoderSpec(
        c.layers, c.heads, pre_norm=False, activation=common_spec.Activation.GELU, layernorm_embedding=True
    )
    spec = transformer_spec.TransformerEncoderModelSpec(encoder)
    encoder.scale_embeddings = False

    def norm(into, name):
        into.gamma, into.beta = np.array(c(f"{name}.weight")), np.array(c(f"{name}.bias"))

    def linear(into, *names):
        into.weight = np.concatenate([c(f"{name}.weight") for name in names])
        into.bias = np.concatenate([c(f"{name}.bias") for name in names])

    encoder.embeddings[0].weight = np.array(c("embeddings.word_embeddings.weight"))
    encoder.position_encodings.encodings = c.positions()
    norm(encoder.layernorm_embedding, "embeddings.LayerNorm")
    for i, layer in enumerate(encoder.layer):
        at = f"encoder.layer.{i}"
        linear(layer.self_attention.linear[0], *(f"{at}.attention.self.{part}" for part in ("query", "key", "value")))
        linear(layer.self_attention.linear[1], f"{at}.attention.output.dense")
        norm(layer.self_attention.layer_norm, f"{at}.attention.output.LayerNorm")
        linear(layer.ffn.linear_0, f"{at}.intermediate.dense")
        linear(layer.ffn.linear_1, f"{at}.output.dense")
        norm(layer.ffn.layer_norm, f"{at}.output.LayerNorm")
    spec.register_vocabulary([f"<{i}>" for i in range(c.vocabulary)])
    spec.config.unk_token = "<3>"
    spec.config.layer_norm_epsilon = c.eps
    spec.validate()
    spec.optimize(quantization="int8")
    directory.mkdir(parents=True)
    spec.save(str(directory))


def load(directory, threads):
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(directory), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )

    def forward(texts, want):
        output = encoder.forward_batch([text.tolist() for text in texts])
        if want:
            import numpy as np

            return np.array(output.last_hidden_state)[:, 0]

    return forward


if __name__ == "__main__":
    args = common.arguments(VARIANTS)
    if args.prepare:
        checkpoint = common.Checkpoint(args.prepare)
        prepare(checkpoint, args.model)
        common.note_vocabulary(args.model, checkpoint.vocabulary)
    if args.worker:
        out = common.private_stdout()
        if "avx512vl" in open("/proc/cpuinfo").read():
            os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")  # it takes AVX2 by itself on other makers' CPUs
        import ctranslate2

        common.serve(
            out, lambda: load(args.model, args.threads), common.vocabulary_of(args.model), ctranslate2.__version__
        )
