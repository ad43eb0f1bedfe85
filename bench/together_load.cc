#include <algorithm>
#include <thread>
#include <utility>

#include "bench/load.h"
#include "common/status_macros.h"

namespace qfleet::bench {
namespace {

class TogetherLoad : public Load {
 public:
  explicit TogetherLoad(std::vector<std::unique_ptr<Load>> loads)
      : loads_(std::move(loads)) {}

  absl::StatusOr<Moved> Run(absl::Duration duration) override {
    std::vector<absl::StatusOr<Moved>> results(loads_.size(), Moved());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < loads_.size(); ++i) {
      threads.emplace_back([this, &results, i, duration] {
        results[i] = loads_[i]->Run(duration);
      });
    }
    for (std::thread& thread : threads) thread.join();
    Moved all;
    for (const absl::StatusOr<Moved>& result : results) {
      QFLEET_RETURN_IF_ERROR(result.status());
      all.items += result->items;
      all.seconds = std::max(all.seconds, result->seconds);
    }
    return all;
  }

 private:
  const std::vector<std::unique_ptr<Load>> loads_;
};

}  // namespace

std::unique_ptr<Load> MakeTogetherLoad(
    std::vector<std::unique_ptr<Load>> loads) {
  return std::make_unique<TogetherLoad>(std::move(loads));
}

}  // namespace qfleet::bench
