"""PyTorch compiled by inductor: fp32, bf16, and int8 by torchao (activations quantised at run time, a token each)."""

import os

import common

VARIANTS = ("int8", "bf16", "fp32")
# What inductor's C++ compiler may use when the worker is held to a set.
MARCH = {"avx2": "x86-64-v3", "avx512": "x86-64-v4"}


def load(directory, variant, threads):
    import torch
    import torch._inductor.config as inductor

    import torch_model

    torch_model.check_capability()
    torch.set_num_threads(threads)
    held = os.environ.get("ATEN_CPU_CAPABILITY")
    if held in MARCH:
        inductor.cpp.march = MARCH[held]
    inductor.freezing = True  # weights are constants, so that they can be packed for the products
    if os.environ.get("PEER_PYTORCH_AUTOTUNE"):
        inductor.max_autotune = True
    torch._dynamo.config.recompile_limit = 64
    model = torch_model.read(common.Checkpoint(directory))
    dtype = torch.float32
    if variant == "bf16":
        torch_model.check_bf16()
        dtype = torch.bfloat16
        model = model.to(dtype)
    elif variant == "int8":
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(model, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False, reduce_range=reduced_range()))
        inductor.cpp.enable_concat_linear = True
    return torch_model.forward_of(torch.compile(model, dynamic=False), dtype)


def reduced_range():
    """Whether sums of products of bytes can overflow, which they can on processors without VNNI."""
    import torch
    from torchao.utils import should_reduce_range

    return should_reduce_range(torch.device("cpu"))


def version():
    import torch

    return torch.__version__.split("+")[0]


if __name__ == "__main__":
    args = common.arguments(VARIANTS)
    if args.prepare:
        import torch_model

        checkpoint = common.Checkpoint(args.prepare)
        torch_model.prepare(checkpoint, args.model)
        common.note_vocabulary(args.model, checkpoint.vocabulary)
    if args.worker:
        out = common.private_stdout()
        common.serve(
            out, lambda: load(args.model, args.variant, args.threads), common.vocabulary_of(args.model), version()
        )
