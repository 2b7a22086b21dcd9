"""Models as people have them: tiny folders that transformers and sentence-transformers write, of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "cats",
    "dogs",
    "sat",
    "on",
    "mat",
    "in",
    "garden",
    "river",
    "boat",
    "red",
    "warm",
]
WIDTH, TOKENS = 64, 48

_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "initializer_range": 0.3,
}


def texts(count: int) -> list[str]:
    """Sentences of 0 to 40 words, some of characters that no vocabulary has."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number in range(count):
        length = int(torch.randint(0, 41, (1,), generator=generator))
        picks = torch.randint(0, len(WORDS), (length,), generator=generator)
        found.append(" ".join([WORDS[pick] for pick in picks] + ["Ünïcode 漢 🦊!"] * (number % 7 == 3)))
    return found


def tokenizer(kind: str) -> Tokenizer:
    """A small tokenizer: wordpiece, unigram or bpe, with the special tokens of BERT or of RoBERTa."""
    corpus = [" ".join(WORDS), *texts(50)]
    if kind == "wordpiece":
        first, last, pad, unknown, mask = "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"
        made = Tokenizer(models.WordPiece(unk_token=unknown))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = [pad, unknown, first, last, mask]
        trainer: Any = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    else:
        first, last, pad, unknown, mask = "<s>", "</s>", "<pad>", "<unk>", "<mask>"
        special = [first, pad, last, unknown, mask]
        if kind == "bpe":
            made = Tokenizer(models.BPE())
            made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            made.decoder = decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(
                vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
            )
        else:
            made = Tokenizer(models.Unigram())
            made.pre_tokenizer = pre_tokenizers.Metaspace()
            trainer = trainers.UnigramTrainer(
                vocab_size=120, special_tokens=special, unk_token=unknown, show_progress=False
            )
    made.train_from_iterator(corpus, trainer)
    ids = made.get_vocab()
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, ids[first]), (last, ids[last])]
    )
    return made


def configuration(kind: str, vocabulary: int, **more: Any) -> Any:
    """The settings of a tiny model of a kind of transformers."""
    sizes = _SIZES | {"vocab_size": vocabulary, "max_position_embeddings": TOKENS} | more
    if kind == "distilbert":
        named = {"dim": WIDTH, "n_layers": 3, "n_heads": 4, "hidden_dim": 96, "initializer_range": 0.3}
        return transformers.DistilBertConfig(
            vocab_size=vocabulary, max_position_embeddings=TOKENS, **named, **more
        )
    if kind in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        # Two rows of their tables stand for no position.
        sizes |= {"max_position_embeddings": TOKENS + 2, "pad_token_id": 1, "type_vocab_size": 1}
    if kind == "nomic_bert":
        # A product of two layers: of large weights few entries drown all others, which no trained model has.
        sizes |= {"initializer_range": 0.1}
    if kind == "albert":
        sizes |= {"embedding_size": 32, "num_hidden_groups": 1}
    if kind == "modernbert":
        sizes |= {"local_attention": 8, "global_attn_every_n_layers": 3, "pad_token_id": 0}
        sizes |= {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return transformers.AutoConfig.for_model(kind, **sizes)


def wrapped(words: str) -> Any:
    """A tokenizer as transformers has it."""
    names = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
    if words != "wordpiece":
        names = ("<s>", "</s>", "<pad>", "<unk>", "<mask>")
    keys = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(words), model_max_length=TOKENS, **dict(zip(keys, names, strict=True))
    )


def save_reranker(
    folder: Path, kind: str = "bert", words: str = "wordpiece", outputs: int = 1
) -> tuple[Any, Any]:
    """Save a tiny cross-encoder, and return it with its tokenizer as transformers has them."""
    torch.manual_seed(0)
    made = wrapped(words)
    ends = [made.cls_token, made.sep_token]
    # RoBERTa's have two tokens between the texts, and no types.
    between, kind_of_second = (ends[1:], 1) if words == "wordpiece" else (ends[1:] * 2, 0)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{ends[0]} $A {ends[1]}",
        pair=f"{ends[0]} $A {' '.join(between)} $B:{kind_of_second} {ends[1]}:{kind_of_second}",
        special_tokens=list(zip(ends, made.convert_tokens_to_ids(ends), strict=True)),
    )
    # A score is of one token: of large weights it drowns in what rounding does to few entries.
    settings = configuration(kind, len(made), num_labels=outputs)
    settings.initializer_range = 0.1
    model = transformers.AutoModelForSequenceClassification.from_config(settings).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor) * (0.1 if tensor.ndim == 1 else 0.02))
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return model, made


def save(
    folder: Path,
    kind: str = "bert",
    words: str = "wordpiece",
    pooling: str | tuple[str, ...] = "mean",
    dense: tuple[int, Any] | None = None,
    dtype: Any = torch.float32,
    prompts: dict[str, str] | None = None,
    **more: Any,
) -> SentenceTransformer:
    """Save a tiny model, and return it as sentence-transformers loads it again."""
    torch.manual_seed(0)
    made = wrapped(words)
    model = transformers.AutoModel.from_config(configuration(kind, len(made), **more))
    with torch.no_grad():
        for tensor in model.parameters():
            # Biases and norms start at one value, which would hide one that is dropped.
            tensor.add_(torch.randn_like(tensor) * (0.1 if tensor.ndim == 1 else 0.02))
    plain = folder.with_name(f"{folder.name}-plain")
    model.to(dtype).save_pretrained(plain)
    made.save_pretrained(plain)
    steps: list[Any] = [Transformer(str(plain), max_seq_length=TOKENS)]
    steps.append(Pooling(WIDTH, pooling_mode=pooling))
    if dense is not None:
        steps.append(Dense(steps[-1].get_embedding_dimension(), dense[0], activation_function=dense[1]))
    steps.append(Normalize())
    SentenceTransformer(modules=steps, device="cpu", prompts=prompts).save(str(folder))
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
