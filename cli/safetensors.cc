#include "cli/safetensors.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace qfleet {

absl::StatusOr<absl::string_view> WeightsOf(const v1::Checkpoint& checkpoint,
                                            const std::string& weights) {
  if (weights == "policy") return checkpoint.policy().parameters();
  if (weights == "published") return checkpoint.published().parameters();
  std::string names = "policy, published";
  for (const v1::NamedTensor& tensor : checkpoint.algorithm()) {
    if (tensor.spec().dtype() != v1::FLOAT32) continue;
    if (tensor.spec().name() == weights) return tensor.data();
    absl::StrAppend(&names, ", ", tensor.spec().name());
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--weights = ", weights, ": allowed is ", names));
}

absl::StatusOr<std::string> ToSafetensors(const v1::Checkpoint& checkpoint,
                                          absl::string_view flat) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {
      {"algorithm", checkpoint.algorithm_name()},
      {"network", checkpoint.network()},
      {"updates", absl::StrCat(checkpoint.updates())},
      {"env_steps", absl::StrCat(checkpoint.env_steps())},
      {"policy_version", absl::StrCat(checkpoint.policy().version())}};
  uint64_t end = 0;
  for (const v1::ParameterLayout& parameter : checkpoint.parameters()) {
    uint64_t bytes = sizeof(float);
    for (const int64_t size : parameter.shape()) bytes *= size;
    const uint64_t begin = parameter.offset() * sizeof(float);
    end = begin + bytes;
    header[parameter.name()] = {
        {"dtype", "F32"},
        {"shape", std::vector<int64_t>(parameter.shape().begin(),
                                       parameter.shape().end())},
        {"data_offsets", {begin, end}}};
  }
  if (flat.size() != end) {
    return absl::FailedPreconditionError(absl::StrCat(
        "weights of ", flat.size(), " bytes: allowed is ", end,
        ", a vector of the network \"", checkpoint.network(), "\""));
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // The data is aligned.
  const uint64_t length = text.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof(length));
  return absl::StrCat(file, text, flat);
}

}  // namespace qfleet
