"""What a model is shown of a picture."""

import numpy as np
from PIL import Image

from .llava import Llava


def as_seen(model: Llava, image: Image.Image) -> Image.Image:
    """The picture after the model's own resizing and cropping: what its image tokens tile.

    LLaVA-1.5 crops to the central square, so that tokens laid over the whole of a wide picture would lie in the wrong places.
    """
    pixels = model.processor.image_processor(image, return_tensors="pt", do_rescale=False, do_normalize=False)["pixel_values"][0]
    return Image.fromarray(pixels.permute(1, 2, 0).numpy().round().clip(0, 255).astype(np.uint8))
