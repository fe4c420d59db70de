// classify <bundle> <picture>… : the five likeliest classes of each picture, a JSON object a line.
//
// The bundle is a folder that `make bundle` writes: model.pt (TorchScript), and bundle.json with the recipe's constants and
// labels. Nothing about a model is written down here.

#include <torch/script.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "picture.h"
#include "resample.h"

namespace {

using nlohmann::ordered_json;
constexpr int kTop = 5;
constexpr int kDecodeMargin = 2;  // a scaled JPEG keeps twice the pixels that the resize needs

std::vector<std::uint8_t> read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) throw Problem("not_found", path.string() + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

// uint8 [crop, crop, 3] to the model's float32 [1, 3, crop, crop].
torch::Tensor normalize(std::vector<std::uint8_t>& pixels, const ordered_json& input) {
  const int crop = input.at("crop");
  const auto mean = torch::tensor(input.at("mean").get<std::vector<float>>());
  const auto std = torch::tensor(input.at("std").get<std::vector<float>>());
  const auto levels = torch::from_blob(pixels.data(), {1, crop, crop, 3}, torch::kUInt8);
  return levels.to(torch::kFloat32).div_(255).sub_(mean).div_(std).permute({0, 3, 1, 2});
}

ordered_json classify(torch::jit::Module& model, const ordered_json& bundle, const std::filesystem::path& path, bool all) {
  const auto begin = std::chrono::steady_clock::now();
  const auto& input = bundle.at("input");
  const Picture picture = decode(read(path), input.at("max_pixels"), kDecodeMargin * input.at("resize").get<int>());
  auto pixels = resize_and_crop(picture, input.at("resize"), input.at("crop"), input.at("interpolation"));
  const torch::Tensor logits = model.forward({normalize(pixels, input)}).toTensor().to(torch::kFloat32)[0].contiguous();
  const auto& labels = bundle.at("labels");
  if (logits.size(0) != static_cast<std::int64_t>(labels.size())) throw std::runtime_error("logits and labels differ in number");
  const torch::Tensor probabilities = torch::softmax(logits, 0);
  const auto [best, indices] = probabilities.topk(std::min<std::int64_t>(kTop, logits.size(0)));
  ordered_json predictions = ordered_json::array();
  for (int i = 0; i < best.size(0); ++i) {
    const auto& label = labels.at(indices[i].item<std::int64_t>());
    predictions.push_back({{"class_id", label.at("class_id")}, {"class_name", label.at("class_name")}, {"probability", best[i].item<float>()}});
  }
  ordered_json answer{{"picture", path.string()}, {"predictions", predictions}, {"model", bundle.at("model")}};
  answer["milliseconds"] = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  if (all) answer["logits"] = std::vector<float>(logits.data_ptr<float>(), logits.data_ptr<float>() + logits.size(0));
  return answer;
}

int usage() {
  std::cerr << "usage: classify <bundle> <picture>... [--logits]\n"
               "  <bundle>   folder written by `make bundle`: model.pt and bundle.json\n"
               "  <picture>  JPEG or PNG\n"
               "  --logits   print the logits of all classes as well\n";
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::filesystem::path> paths;
  bool logits = false;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--logits") logits = true;
    else if (argument.starts_with("--")) return usage();
    else paths.emplace_back(argument);
  }
  if (paths.size() < 2) return usage();

  torch::InferenceMode inference;
  ordered_json bundle;
  torch::jit::Module model;
  try {
    const auto text = read(paths[0] / "bundle.json");
    bundle = ordered_json::parse(text.begin(), text.end());
    model = torch::jit::load((paths[0] / "model.pt").string());
    model.eval();
  } catch (const std::exception& error) {
    std::cerr << "error: " << paths[0].string() << " is not a bundle: " << error.what() << "\nWrite one with `make bundle`.\n";
    return 1;
  }
  int status = 0;
  for (std::size_t i = 1; i < paths.size(); ++i) {
    try {
      std::cout << classify(model, bundle, paths[i], logits).dump() << "\n";
    } catch (const Problem& problem) {  // this picture's trouble; the others get their answers
      std::cout << ordered_json{{"picture", paths[i].string()}, {"code", problem.code}, {"detail", problem.what()}}.dump() << "\n";
      status = 1;
    } catch (const std::exception& error) {
      std::cerr << "error: " << paths[i].string() << ": " << error.what() << "\n";
      return 1;
    }
  }
  return status;
}
