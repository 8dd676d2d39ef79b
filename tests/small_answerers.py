"""Small image-text-to-text models with random weights, saved to disk as the hub's are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from tests.small_models import IMAGE, PATCH, WIDTH, WORDS, randomise

AnswererKind = Literal["llava", "llava-plain", "idefics"]

SIZES = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SPOKEN = [*WORDS, "what", "is", "this", "picture", "frame", "of", "video", "at", "answer", "with", "one", "these", "in", "few", "user"]
NUM_WORDS = 4 + len(set(SPOKEN))
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def save_answerer(folder: Path, kind: AnswererKind = "llava", *, context: int = 512) -> Path:
    """A small model of the kind in ``folder``, as ``hf:`` reads it; gives ``folder``. ``llava-plain`` has no chat template."""
    if kind == "idefics":
        return _save_idefics(folder, context)
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = _tokenizer("<image>")
    config = LlavaConfig(
        vision_config=SIZES | {"model_type": "clip_vision_model", "image_size": IMAGE, "patch_size": PATCH},
        text_config=_text(tokenizer, context),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=(IMAGE // PATCH) ** 2,
    )
    model = LlavaForConditionalGeneration(config)
    _save(folder, model)
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE}),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=None if kind == "llava-plain" else TEMPLATE,
    ).save_pretrained(folder)
    return folder


def _save_idefics(folder: Path, context: int) -> Path:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    tokenizer = _tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
    config = Idefics3Config(
        vision_config=SIZES | {"image_size": IMAGE, "patch_size": PATCH},
        text_config=_text(tokenizer, context),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    _save(folder, Idefics3ForConditionalGeneration(config))
    pictures = Idefics3ImageProcessor(size={"longest_edge": 2 * IMAGE}, max_image_size={"longest_edge": IMAGE})
    Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=TEMPLATE).save_pretrained(folder)
    return folder


def _save(folder: Path, model: Any) -> None:
    torch.manual_seed(0)
    randomise(model)
    with torch.no_grad():  # a trained model never says the mark of a picture
        model.get_output_embeddings().weight[NUM_WORDS:] = 0
    model.generation_config.eos_token_id = 3
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)


def _text(tokenizer: Any, context: int) -> dict[str, Any]:
    return {
        **SIZES,
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }


def _tokenizer(*marks: str) -> Any:
    """A word tokenizer: <pad> 0, <unk> 1, <s> 2, </s> 3, then the words, then ``marks``; it begins a text with <s> and never ends one."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = dict.fromkeys(["<pad>", "<unk>", "<s>", "</s>", *SPOKEN])
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=list(marks),
    )
