#!/usr/bin/env python3
"""Go on training the decoder of a run by its own captions, judged by CIDEr-D (SCST, Rennie et al. 2017), from text alone.

What an image embedding is like is imitated: the mean of one to three captions of a photo, moved toward where captions of a
photo differ from each other, or by Gaussian noise; by itself, through the text memory, or the sum of both. Captions are drawn
from the decoder and those that agree better with the photo's other captions than the rest of the draw become likelier. Beside
them, captions and questions are learned as before, so that neither words nor answers are lost.

    pip install torch onnx onnxruntime numpy tokenizers safetensors pillow
    captiond-train questions --data ../shared/data --split train --n-per-kind 6000 --out runs/questions-train.jsonl
    scripts/self_critical.py --data ../shared/data --text runs/text --init runs/answers --memory runs/memory \\
        --questions runs/questions-train.jsonl --out runs/critic

TEXT has text_encoder.onnx and tokenizer.json, INIT is a run of `captiond-train decoder` or a bundle, MEMORY has
memory.safetensors. Writes OUT as a run that `captiond-train bundle --decoder` takes; OUT/checkpoint.pt lets one that was cut go
on. The same as `captiond-train decoder --self-critical`, in bf16, which processors with AMX multiply many times as fast: about
an hour and a half on one core.
"""
import argparse
import collections
import gzip
import json
import math
import pathlib
import shutil
import time

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from cider_d import Frequencies, likeness, words
from encoder import embed_texts, tidy

WORDS = range(3, 26)
TOKENS_MAX, ANSWER_TOKENS_MAX, QUESTION_TOKENS_MAX = 20, 12, 24
# Tokens that the corpus has less often are not drawn, which halves the vocabulary.
TOKEN_USES_MIN = 20
# Stands behind a finished sentence where it is judged, so that it pays to finish it.
END = "endofsentence"
# Photos of Flickr8k and of Flickr30k are drawn equally often.
SHARE_OF_8K = 0.5
MASKED = -1e9


# The decoder's graphs as PyTorch.


def stored(folder, name):
    """Weights of a graph by their names, in f32; int8 ones expanded."""
    raw = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(folder / f"{name}.onnx").graph.initializer}
    weights = {}
    for key, value in raw.items():
        if key.endswith("_i8"):
            scale = raw[f"{key[:-3]}_scale"]
            weights[key[:-3]] = value * (scale[:, None] if key.startswith("token_") else scale[None])
        elif key.endswith("_f16"):
            weights[key[:-4]] = value
        elif not key.endswith("_scale") and not key.startswith(("ints_", "scalar_")):
            weights[key] = value
    return {key: torch.from_numpy(np.array(value, np.float32)) for key, value in weights.items()}


def store(weights, folder, name, out):
    """The graph of `folder` with these weights, each stored as it was."""
    model = onnx.load(folder / f"{name}.onnx")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    put = lambda key, value: tensors[key].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), key))
    for key in stored(folder, name):
        value = weights[key].detach().numpy()
        if f"{key}_i8" in tensors:
            across = 1 if key.startswith("token_") else 0
            peak = np.abs(value).max(across, keepdims=True)
            scale = np.where(peak > 0, peak / 127, 1).astype(np.float32)
            put(f"{key}_i8", np.clip(np.round(value / scale), -127, 127).astype(np.int8))
            put(f"{key}_scale", scale.reshape(-1))
        elif f"{key}_f16" in tensors:
            put(f"{key}_f16", value.astype(np.float16))
        else:
            put(key, value)
    onnx.save(model, out / f"{name}.onnx")


class Decoder(torch.nn.Module):
    """The adapter and the decoder of a run. Computes in bf16 with weights that are kept in f32."""

    def __init__(self, folder, pad):
        super().__init__()
        weights = stored(folder, "decoder") | stored(folder, "adapter")
        weights["token_embedding"][pad] = 0
        self.weights = torch.nn.ParameterDict({key: torch.nn.Parameter(value) for key, value in weights.items()})
        self.d = weights["token_embedding"].shape[1]
        self.prefix_length = weights["adapter_bias"].shape[0] // self.d
        self.n_layer = sum(key.endswith("_qkv_bias") for key in weights)
        self.n_head = self.d // 64

    def small(self):
        return {key: value.bfloat16() if value.dim() > 1 else value for key, value in self.weights.items()}

    def prefix(self, w, inputs):
        return linear(w, "adapter", inputs.bfloat16()).view(len(inputs), self.prefix_length, self.d)

    def block(self, w, idx, x, mask=None, past=None):
        b, s, d = x.shape
        qkv = linear(w, f"block{idx}_qkv", norm(w, f"block{idx}_norm_attention", x))
        q, k, v = (part.view(b, s, self.n_head, d // self.n_head).transpose(1, 2) for part in qkv.split(d, 2))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(b, s, d)
        x = x + linear(w, f"block{idx}_attention_out", attended)
        hidden = F.relu(linear(w, f"block{idx}_mlp_in", norm(w, f"block{idx}_norm_mlp", x))).square()
        return x + linear(w, f"block{idx}_mlp_out", hidden), (k, v)

    def hidden(self, w, inputs, ids, dropout=0.0):
        """(B, S, D) at the tokens `ids` (B, S)."""
        p = self.prefix_length
        x = torch.cat([self.prefix(w, inputs), w["token_embedding"][ids]], 1)
        n = x.shape[1]
        x = F.dropout(x + w["position_embedding"][:n], dropout, training=dropout > 0)
        mask = torch.full((n, n), MASKED).triu(1)
        mask[:p, :p] = 0
        for idx in range(self.n_layer):
            x, _ = self.block(w, idx, x, mask.to(x.dtype))
        return norm(w, "norm", x[:, p:])

    def begin(self, w, inputs, bos):
        """What follows `bos`: rows (B, D), and the cache."""
        p, caches = self.prefix_length, []
        x = self.prefix(w, inputs) + w["position_embedding"][:p]
        for idx in range(self.n_layer):
            x, cache = self.block(w, idx, x)
            caches.append(cache)
        return self.step(w, torch.full((len(inputs),), bos), caches, p)

    def step(self, w, ids, caches, n_fed):
        x, grown = (w["token_embedding"][ids] + w["position_embedding"][n_fed])[:, None], []
        for idx in range(self.n_layer):
            x, cache = self.block(w, idx, x, None, caches[idx])
            grown.append(cache)
        return norm(w, "norm", x[:, 0]), grown


def linear(w, name, x):
    return F.linear(x, w[f"{name}_weight"].T.to(x.dtype), w[f"{name}_bias"].to(x.dtype))


def norm(w, name, x):
    return F.layer_norm(x.float(), x.shape[-1:], w[f"{name}_gamma"].float(), w[f"{name}_beta"].float(), 1e-5).to(x.dtype)


# Sentences.


def wording(text):
    return tidy("".join(c.lower() if c.isalnum() else " " for c in text))


class Corpus:
    """Captions of Flickr photos, photo by photo, and their embeddings; none of a dev photo's."""

    def __init__(self, args):
        self.tokenizer = Tokenizer.from_file(str(args.text / "tokenizer.json"))
        self.bos, self.eos, self.pad = map(self.tokenizer.token_to_id, ("<bos>", "<eos>", "<pad>"))
        pairs = [json.loads(line) for line in open(args.data / "pairs.jsonl")]
        held = {wording(caption) for pair in pairs if pair["split"] == "dev" for caption in pair["captions"]}
        photos, self.photo_of = {}, {}
        for row in map(json.loads, gzip.open(args.data / "text/corpus.jsonl.gz", "rt")):
            text, key = tidy(row["text"]), wording(row["text"])
            if row["source"] not in ("flickr30k", "flickr8k") or not row["image_id"]:
                continue
            if len(text.split(" ")) in WORDS and key not in held:
                photo = photos.setdefault(row["image_id"], {"texts": {}, "in_8k": False})
                photo["texts"].setdefault(key, text)
                photo["in_8k"] |= row["source"] == "flickr8k"
        self.texts = [list(photo["texts"].values()) for photo in photos.values()]
        for idx, photo in enumerate(photos.values()):
            for key in photo["texts"]:
                self.photo_of.setdefault(key, idx)
        self.first = np.cumsum([0] + [len(texts) for texts in self.texts])
        self.ids = [self.sequence(text) for texts in self.texts for text in texts]
        several = [idx for idx, texts in enumerate(self.texts) if len(texts) > 2]
        in_8k = np.array([photo["in_8k"] for photo in photos.values()])
        self.of_8k = [idx for idx in several if in_8k[idx]]
        self.of_30k = [idx for idx in several if not in_8k[idx]]
        self.several = several
        self.embeddings = torch.from_numpy(self.embedded(args))
        self.questions = self.asked(args, {pair["image"]: pair for pair in pairs})
        self.sentences = [[[*words(text), END] for text in texts] for texts in self.texts]
        self.frequencies, self.vectors = Frequencies(self.sentences), {}

    def plain(self, text, most):
        return [token for token in self.tokenizer.encode(text).ids if token not in (self.bos, self.eos)][:most]

    def sequence(self, text):
        return [self.bos, *self.plain(text, 46), self.eos]

    def embedded(self, args):
        path = args.out / "embeddings.npy"
        if not path.exists():
            rows = embed_texts(args.text, [text for texts in self.texts for text in texts])
            np.save(path.with_suffix(".part.npy"), rows.astype(np.float16))
            path.with_suffix(".part.npy").rename(path)
        return np.load(path).astype(np.float32)

    def asked(self, args, pair_of):
        """Tokens of a question with its answer, how many of them are given, and the photo."""
        asked = []
        for row in map(json.loads, open(args.questions)) if args.questions else ():
            captions = map(wording, pair_of[row["image"]]["captions"])
            photo = next((self.photo_of[key] for key in captions if key in self.photo_of), None)
            if photo is not None:
                given = [self.bos, *self.plain(row["question"], QUESTION_TOKENS_MAX)]
                asked.append(([*given, *self.plain(row["answer"], ANSWER_TOKENS_MAX), self.eos], len(given), photo))
        return asked

    def rows(self, photo, chosen):
        return self.embeddings[[self.first[photo] + idx for idx in chosen]]

    def worth(self, photo, shown, tokens):
        """CIDEr-D of a caption beside the captions of the photo that were not shown."""
        if photo not in self.vectors:
            self.vectors[photo] = [self.frequencies.vectors(sentence) for sentence in self.sentences[photo]]
        text = " ".join(self.tokenizer.decode([token for token in tokens if token != self.eos]).split())
        found = self.frequencies.vectors(words(text) + ([END] if tokens[-1] == self.eos else []))
        others = [vectors for idx, vectors in enumerate(self.vectors[photo]) if idx not in shown]
        return sum(likeness(found, other) for other in others) / len(others)


def padded(sequences, pad):
    ids = torch.full((len(sequences), max(map(len, sequences))), pad)
    for row, sequence in zip(ids, sequences):
        row[: len(sequence)] = torch.tensor(sequence)
    return ids


# Training.


class Critic:
    def __init__(self, args, corpus):
        self.args, self.corpus, self.rng = args, corpus, np.random.default_rng(args.seed)
        memory = load_file(args.memory / "memory.safetensors")
        self.memory = torch.from_numpy(memory["embeddings"].astype(np.float32) * memory["scales"][:, None])
        uses = np.bincount(np.concatenate([np.array(ids) for ids in corpus.ids]), minlength=self.memory.shape[1])
        kept = set(np.flatnonzero(uses >= TOKEN_USES_MIN)) | {corpus.eos}
        self.kept = torch.tensor(sorted(kept - {corpus.bos, corpus.pad}))
        self.place_of = torch.full((int(uses.size) + 1,), -1)
        self.place_of[self.kept] = torch.arange(len(self.kept))

    def photos(self, n):
        rng, corpus = self.rng, self.corpus
        return [int(rng.choice(corpus.of_8k if rng.random() < SHARE_OF_8K else corpus.of_30k)) for _ in range(n)]

    def inputs(self, photos):
        """Rows that stand for images, and which captions of each photo went into them."""
        rng, corpus, rows, shown = self.rng, self.corpus, [], []
        for photo in photos:
            n = len(corpus.texts[photo])
            n_shown = min(int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2])), n - 2)
            chosen = rng.choice(n, n_shown, replace=False)
            row = F.normalize(corpus.rows(photo, chosen).mean(0), dim=0)
            if rng.random() < self.args.differences:
                other = corpus.several[int(rng.integers(len(corpus.several)))]
                a, b = corpus.rows(other, rng.choice(len(corpus.texts[other]), 2, replace=False))
                away, (low, high) = a - b, (0.55, 0.8) if n_shown == 1 else (0.5, 0.75)
            else:
                away, (low, high) = torch.randn(len(row)), (0.6, 0.85)
            cosine = float(rng.uniform(low, high))
            away = F.normalize(away - (away @ row) * row, dim=0)
            rows.append(cosine * row + math.sqrt(1 - cosine * cosine) * away)
            shown.append({int(idx) for idx in chosen})
        rows = torch.stack(rows)
        projected = F.normalize(torch.softmax(rows @ self.memory.T / 0.02, 1) @ self.memory, dim=1)
        way = torch.from_numpy(rng.integers(0, 3, len(rows)))[:, None]
        return torch.where(way == 0, rows, torch.where(way == 1, projected, F.normalize(rows + projected, dim=1))), shown

    @torch.no_grad()
    def drawn(self, model, w, inputs, n_each):
        """Token sequences, `n_each` for each row, with their end where they came to one."""
        corpus, table = self.corpus, w["token_embedding"][self.kept].T.contiguous()
        hidden, caches = model.begin(w, inputs, corpus.bos)
        rows = torch.arange(len(inputs)).repeat_interleave(n_each)
        hidden, caches = hidden[rows], [(k[rows], v[rows]) for k, v in caches]
        alive, tokens = torch.arange(len(rows)), torch.full((len(rows), TOKENS_MAX), corpus.pad)
        for place in range(TOKENS_MAX):
            logits = (hidden @ table).float()
            if place == 0:
                logits[:, self.place_of[corpus.eos]] = MASKED
            # The Gumbel trick: the largest of logits with such noise is a draw.
            ids = self.kept[(logits - torch.empty_like(logits).exponential_().log_()).argmax(1)]
            tokens[alive, place] = ids
            running = ids != corpus.eos
            if place + 1 == TOKENS_MAX or not running.any():
                break
            if running.float().mean() < 0.9:
                rows = running.nonzero()[:, 0]
                alive, ids, caches = alive[rows], ids[rows], [(k[rows], v[rows]) for k, v in caches]
            hidden, caches = model.step(w, ids, caches, model.prefix_length + 1 + place)
        ended = lambda row: row[: row.index(corpus.eos) + 1] if corpus.eos in row else [id for id in row if id != corpus.pad]
        return [ended(row) for row in tokens.tolist()]

    def own_captions(self, model, w):
        """The loss whose gradient is that of the expected CIDEr-D (REINFORCE, the baseline being the mean of the draw), and
        that CIDEr-D."""
        n, n_each, corpus = self.args.batch, self.args.draws, self.corpus
        photos = self.photos(n)
        inputs, shown = self.inputs(photos)
        drawn = self.drawn(model, {key: value.detach() for key, value in w.items()}, inputs, n_each)
        worth = np.array([corpus.worth(photos[at // n_each], shown[at // n_each], row) for at, row in enumerate(drawn)])
        worth = worth.reshape(n, n_each)
        better = (worth - worth.mean(1, keepdims=True)) * n_each / (n_each - 1) / max(1e-3, worth.std(1).mean())
        weights = collections.Counter()
        for at, row in enumerate(drawn):
            weights[at // n_each, tuple(row)] += better[at // n_each, at % n_each]
        weights = {key: weight for key, weight in weights.items() if abs(weight) > 0.05}
        ids = padded([[corpus.bos, *row] for _, row in weights], corpus.pad)
        targets, learned = ids[:, 1:], ids[:, 1:] != corpus.pad
        hidden = model.hidden(w, inputs[[at for at, _ in weights]], ids[:, :-1])[learned]
        logits = (hidden @ w["token_embedding"][self.kept].T).float()
        each = F.cross_entropy(logits, self.place_of[targets[learned]], reduction="none")
        weight = torch.tensor(list(weights.values()), dtype=torch.float32)[:, None].expand(targets.shape)[learned]
        return (each * weight).sum() / (n * n_each * 10), worth.mean()

    def sentences(self, model, w):
        """Cross-entropy of another caption of a photo than the one that is shown, and of answers."""
        rng, corpus, n = self.rng, self.corpus, self.args.sentences
        n_questions = n * 3 // 4 if corpus.questions else 0
        rows, sequences, n_given = [], [], []
        for photo in self.photos(n - n_questions):
            a, b = rng.choice(len(corpus.texts[photo]), 2, replace=False)
            rows.append(corpus.first[photo] + a)
            sequences.append(corpus.ids[corpus.first[photo] + b])
            n_given.append(1)
        for _ in range(n_questions):
            ids, given, photo = corpus.questions[int(rng.integers(len(corpus.questions)))]
            rows.append(corpus.first[photo] + int(rng.integers(len(corpus.texts[photo]))))
            sequences.append(ids)
            n_given.append(given)
        ids = padded(sequences, corpus.pad)
        targets, learned = ids[:, 1:], ids[:, 1:] != corpus.pad
        for row, given in zip(learned, n_given):
            row[: given - 1] = False
        clean = corpus.embeddings[rows]
        noise = torch.randn_like(clean) * math.sqrt((1 / 0.7**2 - 1) / clean.shape[1])
        hidden = model.hidden(w, F.normalize(clean + noise, dim=1), ids[:, :-1], dropout=0.1)[learned]
        logits = (hidden @ w["token_embedding"].T).float()
        return F.cross_entropy(logits, targets[learned], label_smoothing=0.1)


def rate(args, step):
    """Warms up, stays, and falls to a tenth over the last two fifths."""
    left = 1 - step / args.steps
    return args.lr * min(1, (step + 1) / 50) * max(0.1, min(1, left / 0.4))


def train(args, corpus):
    model, critic = Decoder(args.init, corpus.pad), Critic(args, corpus)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0)
    kept, first = args.out / "checkpoint.pt", 0
    if kept.exists():
        state = torch.load(kept, weights_only=False)
        first = state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch"])
        critic.rng.bit_generator.state = state["numpy"]
        print(f"goes on after step {first}", flush=True)
    since, history = time.time(), []
    for step in range(first, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(args, step)
        w = model.small()
        own, worth = critic.own_captions(model, w)
        known = critic.sentences(model, w)
        optimizer.zero_grad()
        (own + known).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append((worth, float(known.detach())))
        if (step + 1) % 20 == 0 or step < 3:
            mean = np.mean(history[-20:], axis=0)
            print(f"step {step + 1}/{args.steps}, CIDEr-D {mean[0]:.3f}, loss {mean[1]:.3f}, {(time.time() - since) / len(history):.1f} s each", flush=True)
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            state = {"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                     "torch": torch.get_rng_state(), "numpy": critic.rng.bit_generator.state}
            torch.save(state, kept.with_suffix(".part"))
            kept.with_suffix(".part").rename(kept)
    return model


def finish(args, model):
    """OUT as a run that goes on from INIT, without a state of `captiond-train`'s own."""
    for name in ("adapter", "decoder"):
        store(model.weights, args.init, name, args.out)
    state = args.init / "checkpoint/state.json"
    if not state.exists():
        return
    for name in ("config.json", "recipe.json"):
        shutil.copy(args.init / name, args.out / name)
    state = json.loads(state.read_text())
    state["step"] = args.steps
    state["run"]["args"].update(init=str(args.init), batch=args.batch, seed=args.seed, self_critical=args.draws)
    (args.out / "checkpoint").mkdir(exist_ok=True)
    (args.out / "checkpoint/state.json").write_text(json.dumps(state, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "text", "init", "memory", "out"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--questions", type=pathlib.Path, help="questions about training photos, learned beside the captions")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64, help="embeddings a step")
    parser.add_argument("--draws", type=int, default=6, help="captions of each embedding")
    parser.add_argument("--sentences", type=int, default=32, help="captions and questions that are learned in a step")
    parser.add_argument("--differences", type=float, default=0.7, help="share of embeddings that are moved toward where captions differ")
    parser.add_argument("--lr", type=float, default=2.5e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    finish(args, train(args, Corpus(args)))


if __name__ == "__main__":
    main()
