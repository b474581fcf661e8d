"""classify_openvino.py MODEL.xml IMAGE: print the best class and its probability."""

import sys

import numpy as np
import openvino
from PIL import Image

model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_NUM_THREADS": 2})

_, height, width, _ = model.input(0).shape
image = Image.open(sys.argv[2]).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32)[np.newaxis]  # float32 [1, H, W, 3], 0 to 255
scores = model(pixels)[0][0]
print(f"class {scores.argmax()}, probability {scores.max():.3f}")
