"""What the VAE is measured on where the images are a user's."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from qi2.data.shards import Row, ShardWriter
from qi2.vae.config import ImageBatch
from qi2.vae.evaluate import heldout_sets


def test_held_out_files_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(buffer, "JPEG")
    with ShardWriter(tmp_path) as writer:
        for name, data in (("whole", buffer.getvalue()), ("cut", buffer.getvalue()[:-9000]), ("empty", b"")):
            writer.add(Row(name, data, "jpg", ("a picture",), "user", split="heldout"))
    (found,) = heldout_sets(tmp_path, None, [ImageBatch("photo", 64), ImageBatch("scene", 64)], 10, 0)
    assert (found.name, [image.size for image in found.images]) == ("photo", [(64, 64)])
