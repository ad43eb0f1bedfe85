// Many streams on one shard, and streams whose client does not read.

#include <algorithm>
#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "common/grpc.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "tests/fault/append_call.h"
#include "tests/fault/experience.h"
#include "tests/fault/shard_process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

// What AddressSanitizer makes of memory: red zones, freed blocks that are kept.
#ifdef __SANITIZE_ADDRESS__
constexpr uint64_t kMore = 4;
#else
constexpr uint64_t kMore = 1;
#endif

class StreamsTest : public testing::Test {
 protected:
  StreamsTest() { shard_.Start(); }

  // Takes 64 kB that nobody reads, and no more. (gRPC's clients would take
  // megabytes, in their own memory, once they saw how quick the connection is.)
  std::unique_ptr<v1::Replay::Stub> NewDullStub() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return v1::Replay::NewStub(grpc::CreateCustomChannel(
        shard_.address(), grpc::InsecureChannelCredentials(), arguments));
  }

  const TempDirectory folder_;
  Record record_{FaultTable(20000, 256)};
  ShardProcess shard_{folder_.path(), {.table = record_.spec()}};
};

// As ten minutes of bench/replay.sh --soak_seconds=600 say, in small.
TEST_F(StreamsTest, MemoryIsFlatOnceTheTableIsFull) {
  AppendCall append(shard_.NewStub(), record_, 1);
  ASSERT_TRUE(append.Open() && append.Acknowledged());
  grpc::ClientContext context;
  const auto stub = shard_.NewStub();
  auto sample = stub->Sample(&context);
  v1::SampleResponse drawn;
  ASSERT_TRUE(sample->Write(SampleOpenOf(record_.spec())));
  ASSERT_TRUE(sample->Read(&drawn));
  std::vector<uint64_t> rss;
  for (int lap = 0; lap < 4; ++lap) {
    for (int i = 0; i < 3000; ++i) {  // Of which two make the table full.
      ASSERT_TRUE(append.Send() && append.Acknowledged());
      if (i % 10 != 9) continue;
      ASSERT_TRUE(sample->Write(DrawOf(256, 0)));
      ASSERT_TRUE(sample->Read(&drawn));
    }
    rss.push_back(shard_.ProcStatus("VmRSS"));
  }
  EXPECT_EQ(shard_.Describe().stats().size(), record_.spec().max_items());
  std::cout << "kB: " << testing::PrintToString(rss) << std::endl;
  EXPECT_LT(rss[3], rss[1] + rss[1] / 20 * kMore);
}

TEST_F(StreamsTest, ClientThatNeverReads) {
  constexpr uint64_t kEach = 4;
  AppendCall good(shard_.NewStub(), record_, 1000);
  ASSERT_TRUE(good.Open() && good.Acknowledged());
  for (int i = 0; i < 6000; ++i) {  // The table is full then.
    ASSERT_TRUE(good.Send() && good.Acknowledged());
  }
  const uint64_t rss_before = shard_.ProcStatus("VmRSS");

  // Writers: no acknowledgement is taken.
  std::atomic<uint64_t> written{0};
  std::vector<std::unique_ptr<AppendCall>> writers;
  std::vector<std::thread> threads;
  for (uint64_t w = 1; w <= kEach; ++w) {
    writers.push_back(std::make_unique<AppendCall>(NewDullStub(), record_, w));
    threads.emplace_back([&written, writer = writers.back().get()] {
      if (!writer->Open()) return;
      while (writer->Send()) ++written;
    });
  }
  // Samplers: no batch is taken.
  std::unique_ptr<v1::Replay::Stub> stub = NewDullStub();
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<
      grpc::ClientReaderWriter<v1::SampleRequest, v1::SampleResponse>>>
      samplers;
  for (uint64_t s = 0; s < kEach; ++s) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    samplers.push_back(stub->Sample(contexts.back().get()));
    threads.emplace_back([this, &written, sampler = samplers.back().get()] {
      if (!sampler->Write(SampleOpenOf(record_.spec()))) return;
      v1::SampleRequest draw = DrawOf(1000, 0);  // A megabyte.
      draw.mutable_draw()->set_others_inserted(~uint64_t{0} >> 2);
      draw.mutable_draw()->set_others_size(~uint64_t{0} >> 2);
      while (sampler->Write(draw)) ++written;
    });
  }

  // Until none of them gets anything through any more.
  uint64_t before = 0;
  absl::Time changed = absl::Now();
  uint64_t rss = 0;
  EXPECT_TRUE(Eventually([&] {
    rss = std::max(rss, shard_.ProcStatus("VmRSS"));
    if (written != before) changed = absl::Now();
    before = written;
    return absl::Now() - changed > absl::Seconds(1);
  }));
  std::cout << written << " requests were taken of " << 2 * kEach
            << " clients that do not read; RSS went from " << rss_before / 1024
            << " to " << rss / 1024 << " MB" << std::endl;
  // Of each an answer, and what gRPC reads ahead: 4 MB on the wire, of small
  // messages several times that in memory.
  EXPECT_LT(rss, rss_before + kMore * 2 * kEach * (24 << 10));

  // The others are served.
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(good.Send() && good.Acknowledged());
  }
  const absl::Time start = absl::Now();
  EXPECT_EQ(shard_.Stop(), 0) << "it does not wait for them";
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  for (const auto& writer : writers) writer->Cancel();
  for (const auto& context : contexts) context->TryCancel();
  for (std::thread& thread : threads) thread.join();
  for (const auto& sampler : samplers) sampler->Finish().IgnoreError();
}

TEST_F(StreamsTest, TwoThousandIdleStreams) {
  constexpr uint64_t kIdle = 2000;
  constexpr uint64_t kBusy = 200;
  constexpr uint64_t kThreads = 4;  // Of the busy ones.
  constexpr uint64_t kBatches = 20;
  const uint64_t rss_before = shard_.ProcStatus("VmRSS");
  // Each over a connection of its own, as from 2000 actors.
  std::vector<std::unique_ptr<AppendCall>> idle;
  for (uint64_t w = 1; w <= kIdle; ++w) {
    idle.push_back(std::make_unique<AppendCall>(shard_.NewStub(), record_, w));
    ASSERT_TRUE(idle.back()->Open());
    ASSERT_TRUE(idle.back()->Acknowledged());
  }
  const uint64_t rss_idle = shard_.ProcStatus("VmRSS");
  const uint64_t threads_idle = shard_.ProcStatus("Threads");

  std::vector<std::unique_ptr<AppendCall>> busy;
  for (uint64_t w = 0; w < kBusy; ++w) {
    busy.push_back(
        std::make_unique<AppendCall>(shard_.NewStub(), record_, 10000 + w));
  }
  std::atomic<uint64_t> acknowledged{0};
  const absl::Time start = absl::Now();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t w = t; w < kBusy; w += kThreads) {
        EXPECT_TRUE(busy[w]->Open());
        EXPECT_TRUE(busy[w]->Acknowledged());
      }
      for (uint64_t i = 1; i <= kBatches; ++i) {
        for (uint64_t w = t; w < kBusy; w += kThreads) {
          EXPECT_TRUE(busy[w]->Send());
        }
        for (uint64_t w = t; w < kBusy; w += kThreads) {
          uint64_t sequence = 0;
          EXPECT_TRUE(busy[w]->Acknowledged(&sequence));
          EXPECT_EQ(sequence, i);
          ++acknowledged;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  EXPECT_EQ(acknowledged, kBusy * kBatches);
  const uint64_t threads_busy = shard_.ProcStatus("Threads");
  const uint64_t stored = shard_.Describe().stats().bytes() / 1024;
  const uint64_t rss_busy = shard_.ProcStatus("VmRSS");
  std::cout << kIdle << " idle streams: " << threads_idle << " threads, RSS "
            << rss_before / 1024 << " to " << rss_idle / 1024 << " MB, "
            << (rss_idle - rss_before) / kIdle
            << " kB for each and its connection" << std::endl;
  std::cout << kBusy << " busy ones beside them: " << threads_busy
            << " threads, RSS " << rss_busy / 1024 << " MB, of which "
            << stored / 1024 << " MB are the table's, "
            << static_cast<double>(acknowledged) / seconds << " batches/s"
            << std::endl;
  EXPECT_LT(threads_busy, 64u);
  EXPECT_LT(rss_idle, rss_before + kMore * kIdle * 128);
  EXPECT_LT(rss_busy, rss_idle + stored + kMore * (64 << 10));

  // The idle ones are still connected.
  for (uint64_t w = 0; w < kIdle; w += 100) {
    EXPECT_TRUE(idle[w]->Send() && idle[w]->Acknowledged());
  }
  EXPECT_EQ(shard_.Stop(), 0);
}

}  // namespace
}  // namespace qfleet
