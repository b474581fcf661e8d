// classify_openvino MODEL.xml PIXELS.rgb: raw RGB of the model's size in, the best class out.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  ov::Core core;
  ov::CompiledModel model = core.compile_model(argv[1], "CPU", ov::inference_num_threads(2));
  ov::InferRequest request = model.create_infer_request();

  // float32 [1, H, W, 3] by default: pixels as numbers from 0 to 255, not divided by anything.
  ov::Tensor input = request.get_input_tensor();
  std::ifstream file(argv[2], std::ios::binary);
  std::vector<unsigned char> pixels(input.get_size());
  if (!file.read(reinterpret_cast<char *>(pixels.data()), pixels.size())) return 1;
  std::copy(pixels.begin(), pixels.end(), input.data<float>());
  request.infer();

  ov::Tensor output = request.get_output_tensor();
  const float *scores = output.data<float>();
  const float *best = std::max_element(scores, scores + output.get_size());
  std::cout << "class " << best - scores << ", probability " << *best << "\n";
}
