#include "learner/collective.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"
#include "torch/csrc/distributed/c10d/FileStore.hpp"
#include "torch/csrc/distributed/c10d/PrefixStore.hpp"
#include "torch/csrc/distributed/c10d/ProcessGroupGloo.hpp"
#include "torch/csrc/distributed/c10d/TCPStore.hpp"
#ifdef USE_C10D_NCCL
#include "torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp"
#endif

namespace qfleet {
namespace {

constexpr absl::string_view kFile = "file:";

absl::StatusOr<int> Number(const char* name, int min, int max) {
  const char* text = std::getenv(name);
  int value = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &value) || value < min ||
      value > max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "environment ", name, text == nullptr ? " is not set" : " = ",
        text == nullptr ? "" : text, ": allowed is ", min, " to ", max,
        " where WORLD_SIZE is set"));
  }
  return value;
}

struct HostAndPort {
  std::string host;
  int port = 0;
};

absl::StatusOr<HostAndPort> SplitAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  HostAndPort result;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &result.port) ||
      result.port < 1 || result.port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rendezvous = \"", address, "\": allowed is HOST:PORT or file:PATH"));
  }
  result.host = address.substr(0, colon);
  return result;
}

c10::intrusive_ptr<c10d::Store> MakeStore(const Rendezvous& rendezvous,
                                          const HostAndPort& at,
                                          std::chrono::milliseconds timeout) {
  if (absl::StartsWith(rendezvous.address, kFile)) {
    return c10::make_intrusive<c10d::FileStore>(
        rendezvous.address.substr(kFile.size()), rendezvous.size);
  }
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(at.port);
  options.isServer = rendezvous.rank == 0 && rendezvous.agent_prefix.empty();
  options.numWorkers = rendezvous.size;
  options.timeout = timeout;
  auto store = c10::make_intrusive<c10d::TCPStore>(at.host, options);
  if (rendezvous.agent_prefix.empty()) return store;
  return c10::make_intrusive<c10d::PrefixStore>(rendezvous.agent_prefix, store);
}

// The address that the ranks talk on: the loopback one where they meet there.
std::shared_ptr<::gloo::transport::Device> MakeDevice(
    const Rendezvous& rendezvous, const HostAndPort& at) {
  const bool local = absl::StartsWith(rendezvous.address, kFile) ||
                     at.host == "localhost" ||
                     absl::StartsWith(at.host, "127.");
  return local ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
               : c10d::ProcessGroupGloo::createDefaultDevice();
}

class GlooCollective : public Collective {
 public:
  GlooCollective(int rank, int size,
                 c10::intrusive_ptr<c10d::ProcessGroupGloo> group)
      : rank_(rank), size_(size), group_(std::move(group)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  using Collective::Sum;

  // Of a device without NCCL: by way of the host.
  absl::Status Sum(const at::Tensor& values) override {
    std::vector<at::Tensor> tensors = {values.to(at::kCPU)};
    QFLEET_RETURN_IF_ERROR(Run([&] { group_->allreduce(tensors)->wait(); }));
    if (!values.is_cpu()) values.copy_(tensors[0]);
    return absl::OkStatus();
  }

  absl::Status Broadcast(std::string& bytes) override {
    int64_t size = static_cast<int64_t>(bytes.size());
    std::vector<at::Tensor> sizes = {at::from_blob(&size, {1}, at::kLong)};
    QFLEET_RETURN_IF_ERROR(Run([&] { group_->broadcast(sizes)->wait(); }));
    bytes.resize(size);
    std::vector<at::Tensor> tensors = {
        at::from_blob(bytes.data(), {size}, at::kByte)};
    return Run([&] { group_->broadcast(tensors)->wait(); });
  }

 protected:
  template <typename Call>
  absl::Status Run(const Call& call) {
    try {
      call();
      return absl::OkStatus();
    } catch (const std::exception& error) {
      // The first line: what follows is a stack.
      const std::string what =
          std::vector<std::string>(absl::StrSplit(error.what(), '\n'))[0];
      return absl::UnavailableError(absl::StrCat(
          "learner ", rank_, " of ", size_,
          ": another learner of this job is gone, or did not answer in time (",
          what, "); the job can be resumed"));
    }
  }

 private:
  const int rank_;
  const int size_;
  const c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

#ifdef USE_C10D_NCCL
// Sums between devices; the rest is Gloo's.
class NcclCollective : public GlooCollective {
 public:
  NcclCollective(int rank, int size,
                 c10::intrusive_ptr<c10d::ProcessGroupGloo> group,
                 c10::intrusive_ptr<c10d::ProcessGroupNCCL> devices)
      : GlooCollective(rank, size, std::move(group)),
        devices_(std::move(devices)) {}

  using Collective::Sum;

  absl::Status Sum(const at::Tensor& values) override {
    std::vector<at::Tensor> tensors = {values};
    return Run([&] { devices_->allreduce(tensors)->wait(); });
  }

 private:
  const c10::intrusive_ptr<c10d::ProcessGroupNCCL> devices_;
};

c10::intrusive_ptr<c10d::ProcessGroupNCCL> MakeNccl(
    const c10::intrusive_ptr<c10d::Store>& store, const Rendezvous& rendezvous,
    std::chrono::milliseconds timeout) {
  // A wait ends with an exception when another rank is gone, instead of with
  // the process.
  setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(
      c10::make_intrusive<c10d::PrefixStore>("nccl", store), rendezvous.rank,
      rendezvous.size, options);
}
#endif  // USE_C10D_NCCL

}  // namespace

absl::StatusOr<std::optional<Rendezvous>> RendezvousFromEnvironment(
    const std::string& address) {
  if (std::getenv("WORLD_SIZE") == nullptr) return std::nullopt;
  Rendezvous result;
  QFLEET_ASSIGN_OR_RETURN(result.size, Number("WORLD_SIZE", 1, 4096));
  if (result.size == 1) return std::nullopt;
  QFLEET_ASSIGN_OR_RETURN(result.rank, Number("RANK", 0, result.size - 1));
  if (!address.empty()) {
    result.address = address;
    return result;
  }
  QFLEET_ASSIGN_OR_RETURN(const int port, Number("MASTER_PORT", 1, 65535));
  const char* host = std::getenv("MASTER_ADDR");
  if (host == nullptr || *host == '\0') {
    return absl::InvalidArgumentError(
        "environment MASTER_ADDR is not set: allowed is the host of rank 0 "
        "where WORLD_SIZE is set");
  }
  result.address = absl::StrCat(host, ":", port);
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  if (agent != nullptr && absl::string_view(agent) == "True") {
    const char* attempt = std::getenv("TORCHELASTIC_RESTART_COUNT");
    result.agent_prefix =
        absl::StrCat("/qfleet/attempt_", attempt == nullptr ? "0" : attempt);
  }
  return result;
}

absl::Status Collective::Sum(absl::Span<float> values) {
  return Sum(at::from_blob(values.data(), {static_cast<int64_t>(values.size())},
                           at::kFloat));
}

absl::StatusOr<std::unique_ptr<Collective>> Collective::Join(
    const Rendezvous& rendezvous, absl::Duration timeout,
    [[maybe_unused]] at::Device device) {
  HostAndPort at;
  if (!absl::StartsWith(rendezvous.address, kFile)) {
    QFLEET_ASSIGN_OR_RETURN(at, SplitAddress(rendezvous.address));
  }
  const auto wait =
      std::chrono::milliseconds(absl::ToInt64Milliseconds(timeout));
  try {
    auto options = c10d::ProcessGroupGloo::Options::create(wait);
    options->devices.push_back(MakeDevice(rendezvous, at));
    const c10::intrusive_ptr<c10d::Store> store =
        MakeStore(rendezvous, at, wait);
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(
        store, rendezvous.rank, rendezvous.size, options);
#ifdef USE_C10D_NCCL
    if (device.is_cuda()) {
      return std::make_unique<NcclCollective>(
          rendezvous.rank, rendezvous.size, std::move(group),
          MakeNccl(store, rendezvous, wait));
    }
#endif
    return std::make_unique<GlooCollective>(rendezvous.rank, rendezvous.size,
                                            std::move(group));
  } catch (const std::exception& error) {
    const std::string what =
        std::vector<std::string>(absl::StrSplit(error.what(), '\n'))[0];
    return absl::UnavailableError(absl::StrCat(
        "learner ", rendezvous.rank, " of ", rendezvous.size,
        ": the others did not meet at ", rendezvous.address, " within ",
        absl::FormatDuration(timeout), " (", what, ")"));
  }
}

}  // namespace qfleet
