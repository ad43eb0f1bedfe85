#include "tests/learner/golden.h"

#include <cstring>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

void Flatten(const nlohmann::json& values, std::vector<float>& flat) {
  if (values.is_array()) {
    for (const nlohmann::json& value : values) Flatten(value, flat);
  } else {
    flat.push_back(values.get<float>());
  }
}

std::vector<float> Flat(const nlohmann::json& values) {
  std::vector<float> flat;
  Flatten(values, flat);
  return flat;
}

void Add(google::protobuf::RepeatedPtrField<v1::TensorSpec>* columns,
         const char* name, v1::DType dtype, int size = 0) {
  v1::TensorSpec* spec = columns->Add();
  spec->set_name(name);
  spec->set_dtype(dtype);
  if (size > 0) spec->add_shape(size);
}

void AddView(const char* name, const char* column, v1::View::Anchor anchor,
             v1::TableSignature& signature) {
  v1::View* view = signature.add_views();
  view->set_name(name);
  view->set_column(column);
  view->set_anchor(anchor);
}

}  // namespace

nlohmann::json ReadGolden(const std::string& name) {
  std::ifstream file(QFLEET_SOURCE_DIR "/tests/golden/" + name);
  return nlohmann::json::parse(file);
}

at::Tensor GoldenTensor(const nlohmann::json& values) {
  std::vector<int64_t> shape;
  for (const nlohmann::json* level = &values; level->is_array();
       level = &(*level)[0]) {
    shape.push_back(level->size());
  }
  return at::tensor(Flat(values)).view(shape);
}

std::vector<float> FloatsOf(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

v1::TableSignature GoldenSignature(bool masked) {
  v1::TableSignature signature;
  Add(signature.mutable_step_columns(), "observation", v1::FLOAT32, 4);
  Add(signature.mutable_item_columns(), "action", v1::INT32);
  Add(signature.mutable_item_columns(), "return", v1::FLOAT32);
  Add(signature.mutable_item_columns(), "discount", v1::FLOAT32);
  AddView("observation", "observation", v1::View::FIRST, signature);
  AddView("next_observation", "observation", v1::View::LAST, signature);
  if (masked) {
    Add(signature.mutable_step_columns(), "action_mask", v1::UINT8, 3);
    AddView("next_action_mask", "action_mask", v1::View::LAST, signature);
  }
  return signature;
}

EnvironmentSpec GoldenEnvironment() {
  EnvironmentSpec environment;
  environment.observation = GoldenSignature(false).step_columns(0);
  environment.num_actions = 3;
  return environment;
}

SampleBatch GoldenSample(const nlohmann::json& update) {
  SampleBatch sample;
  sample.columns = {BytesOf(update["action"].get<std::vector<int32_t>>()),
                    BytesOf(Flat(update["return"])),
                    BytesOf(Flat(update["discount"])),
                    BytesOf(Flat(update["observation"])),
                    BytesOf(Flat(update["next_observation"]))};
  if (update.contains("next_action_mask")) {
    std::string mask;
    for (float legal : Flat(update["next_action_mask"])) {
      mask.push_back(legal != 0 ? 1 : 0);
    }
    sample.columns.push_back(mask);
  }
  for (double weight : update["weights"]) {
    sample.keys.emplace_back();
    sample.scaled_probability.push_back(1 / weight);
  }
  return sample;
}

void StartFrom(const std::vector<float>& weights, Algorithm& algorithm) {
  std::vector<v1::NamedTensor> state = algorithm.Save();
  for (v1::NamedTensor& tensor : state) {
    if (tensor.spec().name() == "online" || tensor.spec().name() == "target") {
      tensor.set_data(BytesOf(weights));
    }
  }
  ASSERT_EQ(algorithm.Load(0, state), absl::OkStatus());
}

void ExpectGoldenUpdates(const nlohmann::json& golden, Algorithm& algorithm) {
  const std::vector<float> start = golden["start"], end = golden["end"];
  StartFrom(start, algorithm);
  for (const nlohmann::json& update : golden["updates"]) {
    const SampleBatch sample = GoldenSample(update);
    const v1::TableSignature signature =
        GoldenSignature(update.contains("next_action_mask"));
    const Batch batch(signature, sample, /*beta=*/1);
    const UpdateResult result = algorithm.Update(batch);
    const std::string where = "update " + std::to_string(algorithm.updates());
    EXPECT_NEAR(result.loss, update["loss"], 5e-5) << where;
    const std::vector<float> priorities = update["priorities"];
    EXPECT_THAT(result.priorities,
                testing::Pointwise(testing::FloatNear(2e-4), priorities))
        << where;
  }
  EXPECT_THAT(FloatsOf(algorithm.Publish()),
              testing::Pointwise(testing::FloatNear(1e-4), end));
  EXPECT_NE(start, end);
}

}  // namespace qfleet
