"""classify_onnx.py MODEL.onnx IMAGE: print the best class and its probability."""

import sys

import numpy as np
import onnxruntime
from PIL import Image

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
(input_,) = session.get_inputs()

_, height, width, _ = input_.shape
image = Image.open(sys.argv[2]).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32)[np.newaxis]  # float32 [1, H, W, 3], 0 to 255
(scores,) = session.run(None, {input_.name: pixels})
print(f"class {scores[0].argmax()}, probability {scores[0].max():.3f}")
