// A folder that is gone with the object.

#ifndef QFLEET_TESTS_TEMP_DIRECTORY_H_
#define QFLEET_TESTS_TEMP_DIRECTORY_H_

#include <cstdlib>
#include <filesystem>
#include <string>

namespace qfleet {

class TempDirectory {
 public:
  TempDirectory() {
    std::string path =
        (std::filesystem::temp_directory_path() / "qfleet_XXXXXX").string();
    path_ = mkdtemp(path.data());
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_TEMP_DIRECTORY_H_
