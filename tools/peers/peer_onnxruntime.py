"""ONNX Runtime: fp32 with the BERT fusions of onnxruntime.transformers, and the same graph in dynamic int8 per channel."""

import shutil

import common

VARIANTS = ("fp32", "int8")


def prepare(checkpoint, directory, variant):
    import onnx_graph
    from onnx import TensorProto
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    plain = directory / "plain"
    plain.mkdir(parents=True)
    onnx_graph.write(checkpoint, plain)
    options = FusionOptions("bert")
    options.enable_shape_inference = False  # it would serialise the model, which a 2 GB message cannot be
    model = optimizer.optimize_model(
        str(plain / "model.onnx"), "bert", checkpoint.heads, checkpoint.hidden, options, opt_level=0, use_gpu=False
    )
    print("fused:", {kind: n for kind, n in model.get_fused_operator_statistics().items() if n})
    if variant == "fp32":
        model.save_model_to_file(str(directory / "model.onnx"), use_external_data_format=True)
    else:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        fused = directory / "fused"
        fused.mkdir()
        model.save_model_to_file(str(fused / "model.onnx"), use_external_data_format=True)
        del model
        quantize_dynamic(
            fused / "model.onnx",
            directory / "model.onnx",
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        shutil.rmtree(fused)
    shutil.rmtree(plain)


def load(directory, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")  # as soon as a run is over
    session = onnxruntime.InferenceSession(str(directory / "model.onnx"), options, ["CPUExecutionProvider"])

    def forward(texts, want):
        ids, mask = common.pad(texts)
        return session.run(None, {"input_ids": ids, "attention_mask": mask})[0][:, 0]

    return forward


if __name__ == "__main__":
    args = common.arguments(VARIANTS)
    if args.prepare:
        checkpoint = common.Checkpoint(args.prepare)
        prepare(checkpoint, args.model, args.variant)
        common.note_vocabulary(args.model, checkpoint.vocabulary)
    if args.worker:
        out = common.private_stdout()
        import onnxruntime

        common.serve(
            out, lambda: load(args.model, args.threads), common.vocabulary_of(args.model), onnxruntime.__version__
        )
