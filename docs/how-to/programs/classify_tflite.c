/* classify_tflite MODEL.tflite PIXELS.rgb: raw RGB of the model's size in, the best class out. */
#include <stdio.h>
#include <stdlib.h>

#include "tflite/c/c_api.h"

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  TfLiteModel *model = TfLiteModelCreateFromFile(argv[1]);
  if (!model) return fprintf(stderr, "%s: no model\n", argv[1]), 1;
  TfLiteInterpreterOptions *options = TfLiteInterpreterOptionsCreate();
  TfLiteInterpreterOptionsSetNumThreads(options, 2);
  TfLiteInterpreter *interpreter = TfLiteInterpreterCreate(model, options);
  if (!interpreter || TfLiteInterpreterAllocateTensors(interpreter) != kTfLiteOk) return 1;

  /* uint8 [1, H, W, 3]: the bytes of the image are the bytes of the tensor. */
  TfLiteTensor *input = TfLiteInterpreterGetInputTensor(interpreter, 0);
  size_t size = TfLiteTensorByteSize(input);
  unsigned char *pixels = malloc(size);
  FILE *file = fopen(argv[2], "rb");
  if (!pixels || !file || fread(pixels, 1, size, file) != size) return 1;
  fclose(file);
  if (TfLiteTensorCopyFromBuffer(input, pixels, size) != kTfLiteOk) return 1;
  if (TfLiteInterpreterInvoke(interpreter) != kTfLiteOk) return 1;

  /* uint8 [1, classes]: probability = (stored - zero_point) * scale. */
  const TfLiteTensor *output = TfLiteInterpreterGetOutputTensor(interpreter, 0);
  TfLiteQuantizationParams grid = TfLiteTensorQuantizationParams(output);
  const unsigned char *scores = TfLiteTensorData(output);
  size_t classes = TfLiteTensorByteSize(output), best = 0;
  for (size_t index = 1; index < classes; ++index)
    if (scores[index] > scores[best]) best = index;
  printf("class %zu, probability %.3f\n", best, (scores[best] - grid.zero_point) * grid.scale);

  free(pixels);
  TfLiteInterpreterDelete(interpreter);
  TfLiteInterpreterOptionsDelete(options);
  TfLiteModelDelete(model);
  return 0;
}
