"""The condition encoder's published chat templates (Qwen-Image-2.1) and where the images stand in them."""

SYSTEM = "<|im_start|>system\nComprehend and analyze the provided prompt.<|im_end|>\n"
USER = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
IMAGE_PAD = "<|image_pad|>"
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>",
    "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip


def user_content(prompt: str, images: int) -> str:
    """``<image1>[image] <image2>[image]`` and the prompt, without a separator; an empty prompt becomes one space."""
    return " ".join(f"<image{i + 1}>{IMAGE}" for i in range(images)) + (prompt or " ")


def conversation(prompt: str, images: int) -> str:
    """The whole text that the encoder reads, up to and including the assistant's header."""
    return SYSTEM + USER.format(user_content(prompt, images))
