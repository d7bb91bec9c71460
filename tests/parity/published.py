"""A tiny pipeline of diffusers with our tiny condition encoder inside, to compare with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SCHEDULER = {
    "base_image_seq_len": 256, "max_image_seq_len": 8192, "base_shift": 0.5, "max_shift": 0.9, "shift_terminal": 0.02,
    "time_shift_type": "exponential", "use_dynamic_shifting": True,
}  # fmt: skip
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{{ part.text }}{% endfor %}<|im_end|>\n{% endfor %}"


def encoder(folder: Path, texts: Sequence[str] = ()) -> Any:
    """Our encoder, untrained, of two layers, with a tokenizer of these texts; saved as transformers saves it."""
    from qi2.data.world.palette import ALPHABET
    from qi2.standins.config import VLMConfig
    from qi2.standins.vlm import build_vlm, save_vlm

    torch.manual_seed(0)
    made = build_vlm(
        VLMConfig(vocabulary=400, width=32, layers=2, heads=2, vision_layers=1), ["Comprehend and analyze the provided prompt.", *ALPHABET, *texts]
    )
    made.model.config.condition_tokens = 0  # a real encoder hands on all its text tokens
    save_vlm(made, folder)


def pipeline(text_encoder: Path, layers: int = 2) -> Any:
    """Their pipeline around the same weights; without torchvision their processor must be told that it has no video part."""
    import diffusers
    from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    class StillProcessor(Qwen3VLProcessor):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

    images = Qwen2VLImageProcessorPil.from_pretrained(text_encoder)
    images.size = {"shortest_edge": 32 * 32, "longest_edge": 4096 * 4096}
    processor = StillProcessor(images, AutoTokenizer.from_pretrained(text_encoder), chat_template=TEMPLATE)
    model = Qwen3VLForConditionalGeneration.from_pretrained(text_encoder).eval()
    torch.manual_seed(1)
    transformer = diffusers.QwenImage21Transformer2DModel(
        in_channels=64, out_channels=64, num_layers=layers, attention_head_dim=16, num_attention_heads=2, context_in_dim=32, axes_dims_rope=(4, 6, 6)
    )
    vae = diffusers.AutoencoderKLQwenImage21(base_dim=4, decoder_base_dim=4, num_res_blocks=1)
    for p in [*transformer.parameters(), *vae.parameters()]:
        torch.nn.init.normal_(p, std=0.1)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULER)
    return diffusers.QwenImage21Pipeline(scheduler, vae.eval(), model, processor, transformer.eval())
