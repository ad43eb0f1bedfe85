// A shard's folder: one folder for each table, and a lock so that two shards
// never write the same files.
//
//   DATA_DIR/LOCK
//   DATA_DIR/TABLE/{header,state,writers,steps,payload,items}
//
// docs/formats.md says what is in them.

#ifndef QFLEET_REPLAY_SERVER_CORE_DATA_DIRECTORY_H_
#define QFLEET_REPLAY_SERVER_CORE_DATA_DIRECTORY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace qfleet {

class DataDirectory {
 public:
  // Makes it if need be and locks it for as long as the object lives.
  // FAILED_PRECONDITION if another process has it, or it is not writable.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Lock(
      const std::string& path);
  // Likewise, but changes nothing: OK where there is no lock, as in a
  // checkpoint, and several may read at a time. NOT_FOUND if it is not there.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> LockForReading(
      const std::string& path);
  ~DataDirectory();
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  std::string TablePath(const std::string& table) const {
    return path_ + "/" + table;
  }

 private:
  DataDirectory(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string path_;
  const int fd_;
};

// The tables of a shard's folder or of a checkpoint, by name, in order.
std::vector<std::string> ListTables(const std::string& path);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_DATA_DIRECTORY_H_
