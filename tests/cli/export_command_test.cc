// `qfleet export`, read by a Python that knows nothing of us.
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "common/checkpoint_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

const char kQfleet[] = QFLEET_BIN_DIR "/qfleet";
const char kReader[] = QFLEET_SOURCE_DIR "/tests/cli/read_safetensors.py";

std::string Floats(float first, int count) {
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i) values[i] = first + static_cast<float>(i);
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(float));
}

class ExportCommandTest : public testing::Test {
 protected:
  ExportCommandTest() {
    v1::Checkpoint checkpoint;
    checkpoint.set_updates(42);
    checkpoint.set_network("float32[3] mlp 2");
    Add("encoder.0.weight", {2, 3}, 0, checkpoint);
    Add("encoder.0.bias", {2}, 6, checkpoint);
    checkpoint.mutable_policy()->set_parameters(Floats(1, 8));
    checkpoint.mutable_published()->set_parameters(Floats(100, 8));
    v1::NamedTensor& online = *checkpoint.add_algorithm();
    online.mutable_spec()->set_name("online");
    online.mutable_spec()->set_dtype(v1::FLOAT32);
    online.set_data(Floats(0.5, 8));
    v1::NamedTensor& generator = *checkpoint.add_algorithm();
    generator.mutable_spec()->set_name("generator");
    generator.mutable_spec()->set_dtype(v1::UINT8);
    v1::NamedTensor& other = *checkpoint.add_algorithm();
    other.mutable_spec()->set_name("other");
    other.mutable_spec()->set_dtype(v1::FLOAT32);
    other.set_data(Floats(0, 3));
    path_ = *WriteCheckpoint(MakeCheckpoints(), checkpoint, 1);
  }

  std::string MakeCheckpoints() {
    const std::string path = directory_.path() + "/checkpoints";
    std::filesystem::create_directory(path);
    return path;
  }

  static void Add(const std::string& name, const std::vector<int64_t>& shape,
                  int64_t offset, v1::Checkpoint& checkpoint) {
    v1::ParameterLayout& layout = *checkpoint.add_parameters();
    layout.set_name(name);
    layout.mutable_shape()->Assign(shape.begin(), shape.end());
    layout.set_offset(offset);
  }

  int Export(const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {kQfleet, "export"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return RunToEnd(command, directory_.path() + "/log", 30, &output_);
  }

  // What Python says of the file.
  std::string Read() {
    std::string text;
    EXPECT_EQ(RunToEnd({"/usr/bin/env", "python3", kReader, file_},
                       directory_.path() + "/python", 30, &text),
              0)
        << text;
    return text;
  }

  TempDirectory directory_;
  const std::string file_ = directory_.path() + "/w.safetensors";
  std::string path_;
  std::string output_;
};

TEST_F(ExportCommandTest, APythonReadsNamesShapesAndValues) {
  ASSERT_EQ(Export({path_, "--output=" + file_}), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("2 tensors"));
  EXPECT_EQ(Read(),
            "network float32[3] mlp 2\n"
            "encoder.0.weight [2, 3] 1.0 6.0 21.0\n"
            "encoder.0.bias [2] 7.0 8.0 15.0\n");
}

TEST_F(ExportCommandTest, OtherWeightsOfARunsNewestCheckpoint) {
  const std::string run_dir = directory_.path();
  ASSERT_EQ(Export({run_dir, "--output=" + file_, "--weights=published"}), 0)
      << output_;
  EXPECT_THAT(Read(), HasSubstr("encoder.0.bias [2] 106.0 107.0"));
  ASSERT_EQ(Export({run_dir, "--output=" + file_, "--weights=online"}), 0);
  EXPECT_THAT(Read(), HasSubstr("encoder.0.weight [2, 3] 0.5 5.5"));
}

TEST_F(ExportCommandTest, SaysWhatIsWrong) {
  EXPECT_EQ(Export({path_, "--output=w.npz"}), 2);
  EXPECT_THAT(output_, HasSubstr("ends in .safetensors"));
  EXPECT_EQ(Export({path_, "--output=" + file_, "--weights=generator"}), 2);
  EXPECT_THAT(output_, HasSubstr("--weights = generator: allowed is policy, "
                                 "published, online, other"));
  EXPECT_EQ(Export({path_, "--output=" + file_, "--weights=other"}), 1);
  EXPECT_THAT(output_, HasSubstr("weights of 12 bytes: allowed is 32"));
  EXPECT_EQ(Export({directory_.path() + "/none", "--output=" + file_}), 1);
  EXPECT_THAT(output_, HasSubstr("No such file"));
  EXPECT_FALSE(std::filesystem::exists(file_));
}

}  // namespace
}  // namespace qfleet
