// What one server takes at most: connections, calls, threads, bytes. Whoever
// asks for more is refused or waits; the others are served on.

#include <algorithm>
#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "replay_client/remote_sampler.h"
#include "tests/certificates.h"
#include "tests/fault/append_call.h"
#include "tests/fault/shard_process.h"
#include "tests/fault/silent_connection.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr uint64_t kMore = 4;
#else
constexpr uint64_t kMore = 1;
#endif

using Flood = std::vector<std::unique_ptr<SilentConnection>>;

Flood MakeFlood(const std::string& address, int count) {
  Flood flood;
  for (int i = 0; i < count; ++i) {
    flood.push_back(std::make_unique<SilentConnection>(address));
  }
  return flood;
}

int64_t OpenOnes(const Flood& flood) {
  return std::count_if(flood.begin(), flood.end(),
                       [](const auto& one) { return !one->IsClosed(); });
}

class LimitsTest : public testing::Test {
 protected:
  void Start(const std::vector<std::string>& limits,
             const std::vector<std::string>& prefix = {}) {
    std::vector<std::string> flags;
    for (const std::string& limit : limits) {
      flags.push_back(absl::StrCat("--set=cluster.limits.", limit));
    }
    shard_ = std::make_unique<ShardProcess>(
        folder_.path(), ShardProcess::Options{.table = record_.spec(),
                                              .flags = flags,
                                              .listen = "127.0.0.1:0",
                                              .prefix = prefix});
    shard_->Start();
  }

  std::unique_ptr<AppendCall> NewCall(
      const std::shared_ptr<grpc::Channel>& channel) {
    return std::make_unique<AppendCall>(v1::Replay::NewStub(channel), record_,
                                        ++writer_);
  }

  grpc::Status Describe(const std::shared_ptr<grpc::Channel>& channel,
                        absl::Duration patience = absl::Seconds(20)) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + patience));
    v1::DescribeResponse response;
    return v1::Replay::NewStub(channel)->Describe(&context, {}, &response);
  }

  const TempDirectory folder_;
  Record record_{FaultTable(20000)};
  std::unique_ptr<ShardProcess> shard_;
  uint64_t writer_ = 0;
};

TEST_F(LimitsTest, ConnectionsBeyondTheBoundAreClosedAndTheOthersServed) {
  Start({"max_connections=10"});
  const std::string& address = shard_->address();
  const std::unique_ptr<AppendCall> good = NewCall(PlainChannel(address));
  ASSERT_TRUE(good->Works());
  {
    const Flood flood = MakeFlood(address, 300);
    EXPECT_TRUE(Eventually([&] { return OpenOnes(flood) == 9; }))
        << OpenOnes(flood);
    EXPECT_TRUE(good->Send() && good->Acknowledged());
    const grpc::Status status = Describe(PlainChannel(address));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE)
        << status.error_message();
    EXPECT_THAT(shard_->Log(),
                testing::HasSubstr("10 are open (cluster.limits."));
  }
  EXPECT_TRUE(Eventually([&] { return Describe(PlainChannel(address)).ok(); }));
  EXPECT_TRUE(good->Send() && good->Acknowledged());
  EXPECT_EQ(shard_->Stop(), 0);
}

// gRPC's own listener was deaf for ever once the process had run out of files.
TEST_F(LimitsTest, AFloodBeyondTheProcesssFilesPassesBy) {
  Start({}, {"/bin/sh", "-c", "ulimit -n 200; exec \"$0\" \"$@\""});
  const std::string& address = shard_->address();
  const std::unique_ptr<AppendCall> good = NewCall(PlainChannel(address));
  ASSERT_TRUE(good->Works());
  const uint64_t rss_before = shard_->ProcStatus("VmRSS");
  {
    const Flood flood = MakeFlood(address, 600);
    EXPECT_TRUE(Eventually([&] { return OpenOnes(flood) < 200; }));
    EXPECT_TRUE(good->Send() && good->Acknowledged());
  }
  EXPECT_TRUE(Eventually([&] { return Describe(PlainChannel(address)).ok(); }));
  EXPECT_TRUE(good->Send() && good->Acknowledged());
  EXPECT_LT(shard_->ProcStatus("VmRSS"), rss_before + kMore * (64 << 10));
  EXPECT_EQ(shard_->Stop(), 0);
}

TEST_F(LimitsTest, ACallBeyondTheBoundOfItsConnectionWaits) {
  Start({"max_calls_per_connection=4"});
  const auto channel = PlainChannel(shard_->address());
  std::vector<std::unique_ptr<AppendCall>> calls;
  for (int i = 0; i < 4; ++i) {
    calls.push_back(NewCall(channel));
    ASSERT_TRUE(calls.back()->Works());
  }
  EXPECT_EQ(Describe(channel, absl::Milliseconds(300)).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Describe(PlainChannel(shard_->address())).ok());
  calls.pop_back();
  EXPECT_TRUE(Describe(channel).ok());
  EXPECT_TRUE(calls[0]->Send() && calls[0]->Acknowledged());
  EXPECT_EQ(shard_->Stop(), 0);
}

// A stream of samples, which has a thread of the shard's.
class SampleCall {
 public:
  SampleCall(const std::shared_ptr<grpc::Channel>& channel,
             const v1::TableSpec& spec)
      : stub_(v1::Replay::NewStub(channel)) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    call_ = stub_->Sample(&context_);
    v1::SampleResponse response;
    open_ = call_->Write(SampleOpenOf(spec)) && call_->Read(&response);
    if (!open_) status_ = call_->Finish();
  }
  ~SampleCall() {
    context_.TryCancel();
    if (open_) call_->Finish().IgnoreError();
  }
  bool open() const { return open_; }
  const grpc::Status& status() const { return status_; }

 private:
  std::unique_ptr<v1::Replay::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::SampleRequest, v1::SampleResponse>>
      call_;
  bool open_ = false;
  grpc::Status status_;
};

TEST_F(LimitsTest, ThreadsOfCallsAreBounded) {
  Start({"max_call_threads=16"});
  const std::unique_ptr<AppendCall> good =
      NewCall(PlainChannel(shard_->address()));
  ASSERT_TRUE(good->Works());
  const uint64_t threads_before = shard_->ProcStatus("Threads");
  {
    std::vector<std::unique_ptr<SampleCall>> samplers;
    int refused = 0;
    for (int i = 0; i < 40; ++i) {
      samplers.push_back(std::make_unique<SampleCall>(
          PlainChannel(shard_->address()), record_.spec()));
      if (samplers.back()->open()) continue;
      ++refused;
      EXPECT_EQ(samplers.back()->status().error_code(),
                grpc::StatusCode::RESOURCE_EXHAUSTED)
          << samplers.back()->status().error_message();
    }
    std::cout << refused << " of 40 were refused" << std::endl;
    EXPECT_GE(refused, 40 - 16);
    EXPECT_LT(refused, 40);
    EXPECT_LE(shard_->ProcStatus("Threads"), threads_before + 16);
    EXPECT_TRUE(good->Send() && good->Acknowledged());
  }
  EXPECT_TRUE(Eventually([&] {
    return SampleCall(PlainChannel(shard_->address()), record_.spec()).open();
  }));
  EXPECT_EQ(shard_->Stop(), 0);
}

// It ended the learner, with words about a quota.
TEST_F(LimitsTest, ASamplerForWhichThereIsNoThreadComesAgain) {
  Start({"max_call_threads=16"});
  const std::unique_ptr<AppendCall> good =
      NewCall(PlainChannel(shard_->address()));
  ASSERT_TRUE(good->Works());
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(good->Send() && good->Acknowledged());
  }
  std::vector<std::unique_ptr<SampleCall>> others;
  do {
    ASSERT_LT(others.size(), 40u);
    others.push_back(std::make_unique<SampleCall>(
        PlainChannel(shard_->address()), record_.spec()));
  } while (others.back()->open());
  SamplerOptions options;
  options.table = record_.spec().name();
  options.signature = record_.spec().signature();
  options.shards = {shard_->address()};
  options.batch_size = 1;
  options.patience = absl::Milliseconds(300);
  Metrics metrics;
  const auto sampler = MakeRemoteSampler(options, metrics);
  EXPECT_TRUE(absl::IsDeadlineExceeded(sampler->Next().status()))
      << sampler->Next().status();
  others.clear();
  EXPECT_TRUE(Eventually([&] { return sampler->Next().ok(); }));
  EXPECT_EQ(shard_->Stop(), 0);
}

// Messages just below the bound of one, on many connections at once.
TEST_F(LimitsTest, BytesThatAreReceivedAreBounded) {
  constexpr size_t kMessage = 200 << 20;
  constexpr int kAttackers = 8;
  Start({"max_receive_bytes=67108864"});
  const std::unique_ptr<AppendCall> good =
      NewCall(PlainChannel(shard_->address()));
  ASSERT_TRUE(good->Works());
  const uint64_t rss_before = shard_->ProcStatus("VmRSS");
  const grpc::Slice bytes(std::string(kMessage, 'x'));
  std::atomic<int> running{kAttackers};
  std::vector<std::thread> attackers;
  std::vector<int> codes(kAttackers);
  for (int a = 0; a < kAttackers; ++a) {
    attackers.emplace_back([&, a] {
      grpc::GenericStub stub(MakeChannel(shard_->address()));
      grpc::CompletionQueue queue;
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
      auto call =
          stub.PrepareUnaryCall(&context, "/qfleet.v1.Replay/Checkpoint",
                                grpc::ByteBuffer(&bytes, 1), &queue);
      call->StartCall();
      grpc::ByteBuffer response;
      grpc::Status status;
      call->Finish(&response, &status, nullptr);
      void* tag = nullptr;
      bool ok = false;
      queue.Next(&tag, &ok);
      codes[a] = status.error_code();
      --running;
    });
  }
  uint64_t rss = 0;
  EXPECT_TRUE(Eventually(
      [&] {
        rss = std::max(rss, shard_->ProcStatus("VmRSS"));
        return running == 0;
      },
      absl::Seconds(90)));
  for (std::thread& thread : attackers) thread.join();
  std::cout << "RSS went from " << rss_before / 1024 << " to " << rss / 1024
            << " MB; codes " << testing::PrintToString(codes) << std::endl;
  for (int code : codes) EXPECT_NE(code, 0);
  EXPECT_LT(rss, rss_before + kMore * (kAttackers * (kMessage >> 10) / 4));
  // They who came before are there, or come again.
  if (!(good->Send() && good->Acknowledged())) good->Finish().IgnoreError();
  EXPECT_TRUE(Eventually(
      [&] { return NewCall(PlainChannel(shard_->address()))->Works(); }));
  EXPECT_EQ(shard_->Stop(), 0);
}

}  // namespace
}  // namespace qfleet
