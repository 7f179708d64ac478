"""Writes an XLM-RoBERTa encoder as an ONNX graph with external weights, without PyTorch: the operators that an export of the
Hugging Face model has, so that ONNX Runtime's BERT fusions and OpenVINO's own find what they look for."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

OPSET = 17


class Graph:
    def __init__(self, data_path):
        self.nodes, self.initializers, self.count = [], [], 0
        self.data_path, self.data = data_path, open(data_path, "wb")

    def weight(self, name, array):
        """An initialiser whose bytes go to the external file."""
        array = np.ascontiguousarray(array, np.float32)
        offset = -(-self.data.tell() // 4096) * 4096
        self.data.seek(offset)
        array.tofile(self.data)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.data_path.name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name

    def constant(self, name, value):
        self.initializers.append(numpy_helper.from_array(np.array(value), name))
        return name

    def op(self, kind, *inputs, output=None, **attributes):
        self.count += 1
        output = output or f"{kind.lower()}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], f"{kind}_{self.count}", **attributes))
        return output


def write(checkpoint, directory):
    """`directory`/model.onnx and model.data; inputs input_ids and attention_mask (int64), output last_hidden_state."""
    graph = Graph(directory / "model.data")
    op, c = graph.op, checkpoint
    heads, size = c.heads, c.hidden // c.heads

    def linear(name, x):
        weight = graph.weight(f"{name}.weight", c(f"{name}.weight").T)
        return op("Add", op("MatMul", x, weight), graph.weight(f"{name}.bias", c(f"{name}.bias")))

    def norm(name, x, output=None):
        gain, bias = (graph.weight(f"{name}.{part}", c(f"{name}.{part}")) for part in ("weight", "bias"))
        return op("LayerNormalization", x, gain, bias, axis=-1, epsilon=c.eps, output=output)

    one_axis, two_axis = graph.constant("axis_1", np.array([1])), graph.constant("axis_2", np.array([2]))
    one = graph.constant("one", np.float32(1))
    half, root2 = graph.constant("half", np.float32(0.5)), graph.constant("root2", np.float32(np.sqrt(2)))
    scale, low = graph.constant("scale", np.float32(np.sqrt(size))), graph.constant("low", np.float32(-10000))
    split = graph.constant("split_shape", np.array([0, 0, heads, size]))
    join = graph.constant("join_shape", np.array([0, 0, c.hidden]))

    mask = op("Unsqueeze", op("Unsqueeze", "attention_mask", one_axis), two_axis)
    mask = op("Mul", op("Sub", one, op("Cast", mask, to=TensorProto.FLOAT)), low)

    words = graph.weight("embeddings.word_embeddings.weight", c("embeddings.word_embeddings.weight"))
    length = op("Gather", op("Shape", "input_ids"), graph.constant("index_1", np.array(1)), axis=0)
    length = op("Unsqueeze", length, graph.constant("axis_0", np.array([0])))
    positions = graph.weight("embeddings.positions", c.positions())
    positions = op("Slice", positions, graph.constant("begin", np.array([0])), length, "axis_0")
    x = norm("embeddings.LayerNorm", op("Add", op("Gather", words, "input_ids", axis=0), positions))

    for i in range(c.layers):
        at = f"encoder.layer.{i}"
        q, k, v = (op("Reshape", linear(f"{at}.attention.self.{part}", x), split) for part in ("query", "key", "value"))
        q, v = (op("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, v))
        scores = op("Div", op("MatMul", q, op("Transpose", k, perm=[0, 2, 3, 1])), scale)
        mixed = op("MatMul", op("Softmax", op("Add", scores, mask), axis=-1), v)
        mixed = op("Reshape", op("Transpose", mixed, perm=[0, 2, 1, 3]), join)
        x = norm(f"{at}.attention.output.LayerNorm", op("Add", linear(f"{at}.attention.output.dense", mixed), x))
        wide = linear(f"{at}.intermediate.dense", x)
        wide = op("Mul", op("Mul", wide, op("Add", op("Erf", op("Div", wide, root2)), one)), half)
        last = "last_hidden_state" if i + 1 == c.layers else None
        x = norm(f"{at}.output.LayerNorm", op("Add", linear(f"{at}.output.dense", wide), x), last)

    def info(name, kind, *shape):
        return helper.make_tensor_value_info(name, kind, shape)

    inputs = [info(name, TensorProto.INT64, "batch", "length") for name in ("input_ids", "attention_mask")]
    outputs = [info("last_hidden_state", TensorProto.FLOAT, "batch", "length", c.hidden)]
    body = helper.make_graph(graph.nodes, "encoder", inputs, outputs, graph.initializers)
    graph.data.close()
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 10
    save(model, directory / "model.onnx")
