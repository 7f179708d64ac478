"""PyTorch compiled by AMD's zentorch, fp32 and bf16."""

import common

VARIANTS = ("bf16", "fp32")


def load(directory, variant, threads):
    import torch
    import zentorch  # noqa: F401  (its backend's name is known once it is imported)

    import torch_model

    torch_model.check_capability()
    torch.set_num_threads(threads)
    torch._dynamo.config.recompile_limit = 64
    torch._inductor.config.freezing = True
    model = torch_model.read(common.Checkpoint(directory))
    dtype = torch.float32
    if variant == "bf16":
        torch_model.check_bf16()
        dtype = torch.bfloat16
        model = model.to(dtype)
    return torch_model.forward_of(torch.compile(model, backend="zentorch", dynamic=False), dtype)


def version():
    from importlib.metadata import version

    return version("zentorch")


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
