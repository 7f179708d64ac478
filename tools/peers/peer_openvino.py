"""OpenVINO from the plain ONNX graph: static int8 by NNCF, int8 weights with dynamic quantisation, and bf16."""

import shutil

import common

VARIANTS = ("int8-static", "int8-weights", "bf16")


def prepare(checkpoint, directory, variant):
    import nncf
    import onnx_graph
    import openvino

    plain = directory / "plain"
    plain.mkdir(parents=True)
    onnx_graph.write(checkpoint, plain)
    model = openvino.Core().read_model(plain / "model.onnx")
    if variant == "int8-static":
        samples = []
        for seed in range(32):
            length = 16 + 8 * seed % 128
            ids, mask = common.pad([common.random_ids(1, length, checkpoint.vocabulary, seed=seed)[0]])
            samples.append({"input_ids": ids, "attention_mask": mask})
        model = nncf.quantize(
            model, nncf.Dataset(samples), subset_size=len(samples), model_type=nncf.ModelType.TRANSFORMER
        )
    elif variant == "int8-weights":
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(model, directory / "model.xml", compress_to_fp16=False)
    del model
    shutil.rmtree(plain)


def load(directory, variant, threads, extra=None):
    import openvino

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_HYPER_THREADING": True,  # two CPUs may be two threads of one core
        "INFERENCE_PRECISION_HINT": "bf16" if variant == "bf16" else "f32",
    }
    if variant == "int8-weights":
        config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 128
    compiled = openvino.Core().compile_model(directory / "model.xml", "CPU", {**config, **(extra or {})})
    request = compiled.create_infer_request()

    def forward(texts, want):
        ids, mask = common.pad(texts)
        request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True, share_outputs=True)
        if want:
            return request.get_output_tensor(0).data[:, 0].copy()

    return forward


if __name__ == "__main__":
    args = common.arguments(VARIANTS)
    if args.prepare:
        checkpoint = common.Checkpoint(args.prepare)
        prepare(checkpoint, args.model, args.variant)
        common.note_vocabulary(args.model, checkpoint.vocabulary)
    if args.worker:
        out = common.private_stdout()
        import json
        import os

        import openvino

        extra = json.loads(os.environ.get("PEER_OPENVINO", "{}"))
        common.serve(
            out,
            lambda: load(args.model, args.variant, args.threads, extra),
            common.vocabulary_of(args.model),
            openvino.__version__.split("-")[0],
        )
