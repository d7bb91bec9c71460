"""The stand-in Qwen3-VL is loaded by the same code as a real one and answers alone as it does in a batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.corpus import Example
from qi2.models.condition import ConditionEncoder, fit_reference
from qi2.standins.config import VLMConfig
from qi2.standins.vlm import IGNORED, batch_of, build_vlm, save_vlm


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vlm")
    texts = ["a red circle at the top left on a white background", "make the red circle blue", "the word KO"] * 5
    save_vlm(build_vlm(VLMConfig(width=32, layers=2, heads=2, vision_layers=1), texts), folder)
    return ConditionEncoder.load(folder)


def picture(seed, size=64):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8))


def test_words_to_render_are_read_letter_by_letter(encoder):
    assert encoder.tokenizer.tokenize("the word KO")[-2:] == ["K", "O"]


def test_every_word_of_the_template_is_one_token(encoder):
    """Spelled out, the template would be longer than the captions of the world."""
    assert encoder.drop == 12
    assert [encoder.tokenizer.tokenize(word) for word in ("user", "assistant", "<image")] == [["user"], ["assistant"], ["<image"]]


def test_a_picture_teaches_its_fields_where_the_prompt_ends_and_its_caption_after_it(encoder):
    examples = [Example("describe", "white ; red circle , none , none , none", (picture(i),), caption) for i, caption in enumerate(("red", "a red circle"))]
    batch = batch_of(encoder, examples, 5)
    for ids, labels, end, example in zip(batch.inputs["input_ids"], batch.labels, batch.ends, examples, strict=True):
        assert encoder.tokenizer.decode(ids[:end]).endswith("<|im_start|>assistant\n")
        assert encoder.tokenizer.decode(labels[labels != IGNORED]) == f"{example.caption}<|im_end|>"
        assert (labels[:end] == IGNORED).all()
    assert encoder.tokenizer.decode(batch.truth[0, 1][batch.truth[0, 1] != IGNORED]) == " red circle"


def test_alone_and_in_a_batch_are_the_same(encoder):
    prompts, references = ["a red circle", "make the red circle blue", "the word KO"], [[], [picture(0)], [picture(1), picture(2, 32)]]
    together = encoder.encode(prompts, references)
    for prompt, images, sample in zip(prompts, references, together, strict=True):
        alone = encoder.encode([prompt], [images])[0]
        assert alone.layout == sample.layout
        torch.testing.assert_close(alone.text, sample.text, rtol=1e-4, atol=1e-5)


def test_every_image_slot_becomes_one_place(encoder):
    sample = encoder.encode(["make it blue"], [[picture(0), picture(1)]])[0]
    assert sample.layout.count(None) == 2
    assert sum(run for run in sample.layout if run) == len(sample.text)


def test_the_state_before_the_final_norm_is_used(encoder):
    sample = encoder.encode(["a red circle"], [[]])[0]
    last = encoder.model.model(**encoder.batch(["a red circle"], [[]]), use_cache=False).last_hidden_state[0, encoder.drop :]
    assert not torch.allclose(sample.text, last[-encoder.last :])
    torch.testing.assert_close(encoder.model.model.language_model.norm(sample.text), last[-encoder.last :], rtol=1e-4, atol=1e-5)


def test_a_stand_in_gives_its_last_tokens_and_a_model_that_says_nothing_gives_all(encoder):
    prompts, references = ["make the red circle blue"], [[picture(0), picture(1)]]
    short = encoder.encode(prompts, references)[0]
    assert short.layout == [None, None, 5]
    unstructured = build_vlm(VLMConfig(width=32, layers=1, heads=2, vision_layers=1), ["a cat"] * 5, structured=False)
    assert unstructured.last == 0
    encoder.last = 0
    whole = encoder.encode(prompts, references)[0]
    encoder.last = 5
    assert whole.layout.count(None) == 2
    assert len(whole.text) == sum(run for run in whole.layout if run) > 5
    torch.testing.assert_close(whole.text[-5:], short.text)


def test_vision_features_keep_the_place(encoder):
    """A change in one corner changes that corner's feature most."""
    image = torch.zeros(1, 3, 64, 64)
    changed = image.clone()
    changed[..., :16, 48:] = 1
    difference = (encoder.vision_features(changed) - encoder.vision_features(image)).norm(dim=1)[0]
    assert difference.shape == (4, 4)
    assert difference.argmax() == 3


def test_references_become_multiples_of_32():
    assert fit_reference(picture(0, 50), 64 * 64).size == (64, 64)
    assert fit_reference(Image.new("RGBA", (100, 50)), 64 * 64).size == (96, 32)


def test_a_missing_model_says_what_to_do(tmp_path):
    with pytest.raises(QI2Error, match="standins.vlm.path"):
        ConditionEncoder.load(tmp_path / "nothing")
