#!/usr/bin/env python3
"""Fine-tune the image encoder's last stage, with a new head, toward the embeddings of a text encoder (locked-text
tuning, LiT, Zhai et al. 2022).

MobileNetEdgeTPU up to the input of its 7x7 stage stays frozen, and so do the depthwise filters; the 1x1 convolutions of
that stage and a head behind the average of the grid are trained on the captioned photos of the training split. Symmetric
InfoNCE over the batch with one random caption a photo, and the cosine to the mean of its captions.

    pip install torch onnx onnxruntime pillow numpy tokenizers
    scripts/encoder.py --data ../shared/data --text runs/text --base runs/encoder/image_encoder.onnx --out runs/tuned

TEXT is a folder with text_encoder.onnx and tokenizer.json. BASE is an image encoder that `captiond-train encoder` or this
script wrote: its graph is kept and its weights are replaced, int8 with a scale a channel where it has them so. Writes
OUT/image_encoder.onnx; OUT/features holds the inputs of the trained stage, and OUT/checkpoint.pt lets a run that was cut
go on. About an hour on two cores.
"""
import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import helper, numpy_helper

from tuning import Photos, Tuned, arguments, put, put_head, steps_of

SIDE, FEATURES, HIDDEN = 224, 1280, 2048
CUT = "t56"
# Number of the first convolution, side of the depthwise filter, whether the block adds its input.
BLOCKS = [(57, 5, True), (61, 5, True), (65, 5, True), (69, 3, False)]
EXPAND = 72


def frozen(args):
    """The graph of what stays as it is, which ends in the input of the trained stage."""
    model = onnx.load(args.data / "backbone/mobilenet_edgetpu_224_dequant_f32.onnx")
    graph = model.graph
    del graph.node[[node.output[0] for node in graph.node].index(CUT) + 1:], graph.output[:], graph.value_info[:]
    graph.output.append(helper.make_tensor_value_info(CUT, onnx.TensorProto.FLOAT, None))
    return model


# The network; rows are (n, height, width, channels).


class Pointwise(nn.Module):
    def __init__(self, weights, i):
        super().__init__()
        self.weight = nn.Parameter(weights[f"w{i}"].flatten(1).clone())
        self.bias = nn.Parameter(weights[f"b{i}"].clone())

    def forward(self, x):
        return F.linear(x, self.weight) + self.bias


class Depthwise(nn.Module):
    def __init__(self, weights, i, side):
        super().__init__()
        self.weight = nn.Parameter(weights[f"w{i}"].clone(), requires_grad=False)
        self.bias, self.side = nn.Parameter(weights[f"b{i}"].clone()), side

    def forward(self, x):
        # One channel at a time is faster in f32.
        with torch.autocast("cpu", enabled=False):
            x = x.float().permute(0, 3, 1, 2)
            return F.conv2d(x, self.weight, self.bias, 1, self.side // 2, groups=x.shape[1]).permute(0, 2, 3, 1)


class Block(nn.Module):
    def __init__(self, weights, i, side, adds):
        super().__init__()
        self.widen, self.filter = Pointwise(weights, i), Depthwise(weights, i + 1, side)
        self.narrow, self.adds = Pointwise(weights, i + 2), adds

    def forward(self, x, path_drop):
        y = self.narrow(F.relu(self.filter(F.relu(self.widen(x)))))
        if not self.adds:
            return y
        if self.training:
            y = y * (torch.rand(len(x), 1, 1, 1) > path_drop) / (1 - path_drop)
        return x + y


class Encoder(Tuned):
    """The trained stage, and the head behind the average of its grid."""

    def __init__(self, weights, args):
        super().__init__(FEATURES, HIDDEN, args)
        self.blocks = nn.ModuleList(Block(weights, *block) for block in BLOCKS)
        self.expand = Pointwise(weights, EXPAND)

    def pooled(self, x):
        for block in self.blocks:
            x = block(x, self.path_drop)
        y = F.relu(self.expand(x))
        if not self.training:
            return y.mean((1, 2))
        kept = (torch.rand(*x.shape[:3], 1) > self.cell_drop).float()
        return (y * kept).sum((1, 2)) / kept.sum((1, 2)).clamp(min=1)


# The graph.


def export(net, base, out):
    """The base's graph with the weights of `net`; its attention over the grid becomes an average."""
    model = onnx.load(base)
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for (i, _, _), block in zip(BLOCKS, net.blocks):
        for number, layer in ((i, block.widen), (i + 2, block.narrow)):
            put(known, f"w{number}", layer.weight[:, :, None, None], 0)
            put(known, f"b{number}", layer.bias, 0)
        put(known, f"b{i + 1}", block.filter.bias, 0)
    put(known, "expand_weight", net.expand.weight.T, 1)
    put(known, "expand_bias", net.expand.bias, 0)
    for name in ("score_weight", "score_bias"):
        n_heads = numpy_helper.to_array(known["score_bias"]).shape
        put(known, name, np.zeros(n_heads if name.endswith("bias") else (FEATURES, *n_heads), np.float32), -1)
    put_head(known, net)
    onnx.checker.check_model(model)
    onnx.save(model, out)


def main():
    args = arguments(__doc__)
    photos, out = Photos(args), args.out / "image_encoder.onnx"
    backbone = onnx.load(args.data / "backbone/mobilenet_edgetpu_224_dequant_f32.onnx").graph.initializer
    weights = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in backbone}
    export(photos.learn(frozen(args), SIDE, Encoder(weights, args)), args.base, out)
    (args.out / "provenance.txt").write_text(
        f"MobileNetEdgeTPU, its last stage tuned with a head over the average of the grid on Flickr8k, COCO and Flickr30k "
        f"photos toward the text encoder ({steps_of(args)})\n")
    photos.judge(out, SIDE)


if __name__ == "__main__":
    main()
