// classify_onnx MODEL.onnx PIXELS.rgb: raw RGB of the model's size in, the best class out.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <vector>
#include <onnxruntime_cxx_api.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  Ort::Env env;
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(2);
  Ort::Session session(env, argv[1], options);  // on Windows the path is a wchar_t *

  // float32 [1, H, W, 3] by default: pixels as numbers from 0 to 255, not divided by anything.
  std::vector<int64_t> shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  std::vector<unsigned char> pixels(shape[1] * shape[2] * shape[3]);
  std::ifstream file(argv[2], std::ios::binary);
  if (!file.read(reinterpret_cast<char *>(pixels.data()), pixels.size())) return 1;
  std::vector<float> values(pixels.begin(), pixels.end());
  Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::Value input =
      Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size());

  const char *inputs[] = {"image"};
  const char *outputs[] = {"probabilities"};  // "logits" where the model ends in logits
  std::vector<Ort::Value> answers = session.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 1);
  const float *scores = answers[0].GetTensorData<float>();
  const float *end = scores + answers[0].GetTensorTypeAndShapeInfo().GetElementCount();
  const float *best = std::max_element(scores, end);
  std::cout << "class " << best - scores << ", probability " << *best << "\n";
}
