"""CLIP models of their true shapes with random weights, exported as people have them, and the implementations behind them.

Each maker writes an export to a folder and returns a `Reference`: the same weights in PyTorch (transformers, open_clip) and the
tokenizer and the preprocessing that belong to them. Needs torch, transformers and onnx; torchvision and open_clip_torch for the
models of open_clip and for CLIP's tokenizer; sentencepiece for SigLIP's; onnxruntime and onnx-ir for the other forms of a graph.
"""

import dataclasses
import gzip
import json
import pathlib
import re
import string
import tempfile
from collections.abc import Callable

import torch

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
N_MERGES = 49152 - 256 - 2
VIT = {  # vision width, layers, heads, patch, side; text width, layers, heads; embedding
    "vit-b-32": (768, 12, 12, 32, 224, 512, 12, 8, 512),
    "vit-b-16": (768, 12, 12, 16, 224, 512, 12, 8, 512),
    "vit-l-14": (1024, 24, 16, 14, 224, 768, 12, 12, 768),
    "tinyclip": (256, 10, 4, 16, 224, 256, 3, 4, 512),  # TinyCLIP-ViT-8M-16-Text-3M
    "tiny": (32, 2, 2, 8, 32, 32, 2, 2, 16),
}
OPEN_CLIP = {"open-clip-b-32": "ViT-B-32", "rn50": "RN50", "mobileclip-s1": "MobileCLIP-S1"}
SIGLIP = "siglip-b-16"
# The forms in which exports of transformers come, and what they add to a file's name.
FORMS = {"fp16": "_fp16", "quantized": "_quantized", "q4": "_q4"}


@dataclasses.dataclass
class Reference:
    image: Callable  # pixels (1, 3, side, side) -> features, features of each patch or None, share of each patch or None
    text: Callable  # ids (1, n) -> features
    tokenize: Callable  # text -> ids, those of begin and end included, before any cut
    longest: int
    pad: int  # what shorter rows are filled up with
    side: int
    mode: str  # shortest or squash
    mean: list
    std: list
    forms: list


class Wrapped(torch.nn.Module):
    """A method of a model as a module, as exporters want it."""

    def __init__(self, model, run):
        super().__init__()
        self.model, self.run = model, run

    def forward(self, x):
        return self.run(x)


def make(name: str, out: pathlib.Path, data: pathlib.Path) -> Reference:
    if name in VIT:
        return hugging_face(name, out, data)
    return siglip(out, data) if name == SIGLIP else open_clip_model(name, out, data)


def export(model, run, sample, file: pathlib.Path, given: str, outputs: list, free: bool = False) -> None:
    axes = {given: {0: "batch"}, **{name: {0: "batch"} for name in outputs}}
    if free:
        axes[given][1] = "sequence"
    file.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        # The exporter leaves a module in the mode that it found, and batch norms of a reference in training mode are others.
        torch.onnx.export(Wrapped(model, run).eval(), (sample,), str(file), input_names=[given], output_names=outputs, dynamic_axes=axes,
                          opset_version=14, dynamo=False)


def merges(data: pathlib.Path, n: int = N_MERGES) -> str:
    lines = gzip.open(data / "tokenizers/bpe_simple_vocab_16e6.txt.gz").read().decode().split("\n")
    return "\n".join(["#version: 0.2", *lines[1 : n + 1]]) + "\n"


def simple_tokenizer(data: pathlib.Path, n_merges: int = N_MERGES) -> Callable:
    """OpenAI's tokenizer, as open_clip carries it."""
    from open_clip.tokenizer import SimpleTokenizer

    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        file.write(gzip.compress(merges(data, n_merges).encode()))
        file.flush()
        return SimpleTokenizer(bpe_path=file.name).encode


def hugging_face(name: str, out: pathlib.Path, data: pathlib.Path, n_merges: int = N_MERGES) -> Reference:
    """As optimum exports CLIP."""
    import transformers as tf

    eos = 2 * 256 + n_merges + 1
    width, layers, heads, patch, side, t_width, t_layers, t_heads, dim = VIT[name]
    vision = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, patch_size=patch, image_size=side,
                  intermediate_size=4 * width, projection_dim=dim)
    text = dict(hidden_size=t_width, num_hidden_layers=t_layers, num_attention_heads=t_heads, intermediate_size=4 * t_width,
                projection_dim=dim, vocab_size=eos + 1, bos_token_id=eos - 1, eos_token_id=eos)
    config = tf.CLIPConfig(vision_config=vision, text_config=text, projection_dim=dim)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = tf.CLIPModel(config).eval()
    # Trained weights are larger than those of an initialisation, under which all embeddings are one.
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 2.0
    vision_model, text_model = model.vision_model, model.text_model

    def image(pixels):
        last = vision_model(pixel_values=pixels)
        return model.visual_projection(last.pooler_output), last.last_hidden_state

    def texts(ids):
        last = text_model(input_ids=ids)
        return model.text_projection(last.pooler_output), last.last_hidden_state

    def reference_image(pixels):
        last = vision_model(pixel_values=pixels, output_attentions=True)
        rows = model.visual_projection(vision_model.post_layernorm(last.last_hidden_state[:, 1:]))
        shares = last.attentions[-1][:, :, 0, 1:].mean(1)
        return model.visual_projection(last.pooler_output), rows, shares / shares.sum(-1, keepdim=True)

    export(model, image, torch.randn(2, 3, side, side), out / "onnx/vision_model.onnx", "pixel_values",
           ["image_embeds", "last_hidden_state"])
    sample = torch.tensor([[eos - 1, 5, 6, eos], [eos - 1, 7, 8, eos]])
    export(model, texts, sample, out / "onnx/text_model.onnx", "input_ids", ["text_embeds", "last_hidden_state"], free=True)
    model.config.to_json_file(out / "config.json")
    processor = {"crop_size": {"height": side, "width": side}, "do_center_crop": True, "do_normalize": True, "do_resize": True,
                 "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "resample": 3, "size": {"shortest_edge": side}}
    (out / "preprocessor_config.json").write_text(json.dumps(processor))
    (out / "merges.txt").write_text(merges(data, n_merges))
    words = simple_tokenizer(data, n_merges)
    return Reference(reference_image, lambda ids: model.text_projection(text_model(input_ids=ids).pooler_output),
                     lambda text: [eos - 1, *words(text), eos], 77, eos, side, "shortest", CLIP_MEAN, CLIP_STD, list(FORMS))


def siglip(out: pathlib.Path, data: pathlib.Path) -> Reference:
    """SigLIP B/16 of 224 pixels as optimum exports it. Its tokenizer's model is not at hand: one of the same kind is trained on
    captions, with 8,000 of its 32,000 pieces."""
    import transformers as tf

    width = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    config = tf.SiglipConfig(vision_config=dict(image_size=224, patch_size=16, **width),
                             text_config=dict(vocab_size=32000, max_position_embeddings=64, **width))
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = tf.SiglipModel(config).eval()
    vision_model, text_model = model.vision_model, model.text_model
    both = ["pooler_output", "last_hidden_state"]
    run_image = lambda pixels: (lambda last: (last.pooler_output, last.last_hidden_state))(vision_model(pixel_values=pixels))
    run_text = lambda ids: (lambda last: (last.pooler_output, last.last_hidden_state))(text_model(input_ids=ids))
    export(model, run_image, torch.randn(2, 3, 224, 224), out / "onnx/vision_model.onnx", "pixel_values", both)
    export(model, run_text, torch.ones(2, 64, dtype=torch.int64), out / "onnx/text_model.onnx", "input_ids", both, free=True)
    model.config.to_json_file(out / "config.json")
    processor = {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
                 "resample": 3, "rescale_factor": 1 / 255, "size": {"height": 224, "width": 224}}
    (out / "preprocessor_config.json").write_text(json.dumps(processor))
    pieces = sentence_pieces(out, data)

    def tokenize(text: str) -> list:
        # SiglipTokenizer.canonicalize_text after lower case.
        plain = text.lower().translate(str.maketrans("", "", string.punctuation))
        return [*pieces.encode(re.sub(r"\s+", " ", plain).strip()), 1]

    def reference_text(ids):
        row = torch.ones(1, 64, dtype=torch.int64)
        row[0, : ids.shape[1]] = ids[0]
        return text_model(input_ids=row).pooler_output

    return Reference(lambda pixels: (vision_model(pixel_values=pixels).pooler_output, None, None), reference_text, tokenize, 64, 1, 224,
                     "squash", [0.5] * 3, [0.5] * 3, list(FORMS))


def sentence_pieces(out: pathlib.Path, data: pathlib.Path):
    """Trains a unigram model and writes it as `tokenizer.json`, as SigLIP's is converted."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as spm
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    with gzip.open(data / "text/corpus.jsonl.gz", "rt") as file:
        lines = [json.loads(line)["text"].lower() for _, line in zip(range(60_000), file)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(out / "spiece"), vocab_size=8000, model_type="unigram", pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, minloglevel=2, num_threads=1)
    proto = spm.ModelProto()
    proto.ParseFromString((out / "spiece.model").read_bytes())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=2))
    punctuation = "[" + re.escape(string.punctuation) + "]"
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Lowercase(), normalizers.Replace(Regex(punctuation), ""), normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(), normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(out / "tokenizer.json"))
    return sentencepiece.SentencePieceProcessor(model_file=str(out / "spiece.model"))


def open_clip_model(name: str, out: pathlib.Path, data: pathlib.Path) -> Reference:
    """One folder a tower, as exporters of open_clip have them."""
    import open_clip

    torch.manual_seed(0)
    # The fused attention has no form in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    model = open_clip.create_model(OPEN_CLIP[name], pretrained=None, load_weights=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_(0.0, 0.1)
    size = model.visual.image_size
    side = size if isinstance(size, int) else size[0]
    mean, std = ([0.0] * 3, [1.0] * 3) if name == "mobileclip-s1" else (CLIP_MEAN, CLIP_STD)
    context = model.context_length
    export(model, model.encode_image, torch.randn(1, 3, side, side), out / "visual/model.onnx", "image", ["embedding"])
    sample = torch.zeros(2, context, dtype=torch.int64)
    sample[:, :4] = torch.tensor([49406, 5, 6, 49407])
    export(model, model.encode_text, sample, out / "textual/model.onnx", "text", ["embedding"])
    config = {"model_cfg": {"vision_cfg": {"image_size": side}, "text_cfg": {"context_length": context}},
              "preprocess_cfg": {"size": side, "mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "shortest"}}
    (out / "open_clip_config.json").write_text(json.dumps(config))
    (out / "merges.txt").write_text(merges(data))
    words = simple_tokenizer(data)

    def reference_text(ids):
        row = torch.zeros(1, context, dtype=torch.int64)
        row[0, : ids.shape[1]] = ids[0]
        return model.encode_text(row)

    patches = {"open-clip-b-32": vit_patches, "mobileclip-s1": grid_patches}.get(name, lambda model, pixels: (None, None))
    return Reference(lambda pixels: (model.encode_image(pixels), *patches(model, pixels)), reference_text,
                     lambda text: [49406, *words(text), 49407], context, 0, side, "shortest", mean, std, [])


def vit_patches(model, pixels):
    """Each token through what follows the pooling, and the attention of the class token in the last layer."""
    visual, seen = model.visual, {}
    block = visual.transformer.resblocks[-1]
    hooks = [block.register_forward_hook(lambda _, given, out: seen.update(given=given[0], out=out))]
    visual(pixels)
    hooks[0].remove()
    rows = visual.ln_post(seen["out"][:, 1:]) @ visual.proj
    tokens = block.ln_1(seen["given"])
    (n, width), heads = tokens.shape[1:], block.attn.num_heads
    queries, keys, _ = torch.nn.functional.linear(tokens, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
    split = lambda rows: rows.reshape(1, n, heads, width // heads).transpose(1, 2)
    scores = split(queries) @ split(keys).transpose(-1, -2) / (width // heads) ** 0.5
    shares = scores.softmax(-1)[:, :, 0, 1:].mean(1)
    return rows, shares / shares.sum(-1, keepdim=True)


def grid_patches(model, pixels):
    """Each place of the grid through what follows its mean."""
    grid = model.visual.trunk.forward_features(pixels)
    rows = model.visual.head(model.visual.trunk.head.fc(grid.flatten(2).transpose(1, 2)))
    return rows, torch.full(rows.shape[:2], 1.0 / rows.shape[1])


def forms(out: pathlib.Path, which: list) -> None:
    """The other forms of the graphs, as exporters make them with ONNX Runtime's tools."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for stem in ["onnx/vision_model", "onnx/text_model"]:
        file = {form: out / f"{stem}{end}.onnx" for form, end in FORMS.items()}
        if "quantized" in which:
            quantize_dynamic(out / f"{stem}.onnx", file["quantized"], weight_type=QuantType.QUInt8)
        if "fp16" in which:
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(out / f"{stem}.onnx"), keep_io_types=False), file["fp16"])
        if "q4" in which:
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

            quantizer = MatMulNBitsQuantizer(onnx.load(out / f"{stem}.onnx"), block_size=32, is_symmetric=False)
            quantizer.process()
            quantizer.model.save_model_to_file(str(file["q4"]), False)
