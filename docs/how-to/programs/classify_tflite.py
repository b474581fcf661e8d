"""classify_tflite.py MODEL.tflite IMAGE: print the best class and its probability."""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

interpreter = Interpreter(model_path=sys.argv[1], num_threads=2)
interpreter.allocate_tensors()
(input_,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()

_, height, width, _ = input_["shape"]
image = Image.open(sys.argv[2]).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
pixels = np.asarray(image)[np.newaxis]  # uint8 [1, H, W, 3], 0 to 255
if input_["dtype"] == np.int8:
    pixels = pixels.astype(np.int16) - 128
interpreter.set_tensor(input_["index"], pixels.astype(input_["dtype"]))
interpreter.invoke()

scores = interpreter.get_tensor(output["index"])[0]
scale, zero_point = output["quantization"]
if scale:  # an integer output: probability = (stored - zero_point) * scale
    scores = (scores.astype(np.float32) - zero_point) * scale
print(f"class {scores.argmax()}, probability {scores.max():.3f}")
