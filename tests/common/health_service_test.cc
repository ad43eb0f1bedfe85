// The standard health service, over a server's socket.
#include "common/health_service.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/grpc.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// A watch and its context.
struct Watch {
  Watch(grpc::health::v1::Health::Stub& stub, const std::string& service) {
    HealthCheckRequest request;
    request.set_service(service);
    reader = stub.Watch(&context, request);
  }
  // UNKNOWN at the stream's end.
  HealthCheckResponse::ServingStatus Next() {
    HealthCheckResponse response;
    return reader->Read(&response) ? response.status()
                                   : HealthCheckResponse::UNKNOWN;
  }

  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> reader;
};

class HealthServiceTest : public testing::Test {
 protected:
  HealthServiceTest() {
    EXPECT_TRUE(server_.Start("unix:" + directory_.path() + "/s", {}).ok());
    stub_ = grpc::health::v1::Health::NewStub(MakeChannel(server_.address()));
  }
  grpc::Status Check(const std::string& service,
                     HealthCheckResponse& response) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    return stub_->Check(&context, request, &response);
  }

  TempDirectory directory_;
  GrpcServer server_;
  std::unique_ptr<grpc::health::v1::Health::Stub> stub_;
};

TEST_F(HealthServiceTest, CheckSaysWhetherTheServerServes) {
  HealthCheckResponse response;
  ASSERT_TRUE(Check("", response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  server_.SetServing(true);
  ASSERT_TRUE(Check("", response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  EXPECT_EQ(Check("no.such.Service", response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(HealthServiceTest, WatchSaysEachStatusThatFollows) {
  Watch watch(*stub_, "");
  EXPECT_EQ(watch.Next(), HealthCheckResponse::NOT_SERVING);
  for (int i = 0; i < 3; ++i) {
    server_.SetServing(true);
    EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVING);
    server_.SetServing(false);
    EXPECT_EQ(watch.Next(), HealthCheckResponse::NOT_SERVING);
  }
  Watch other(*stub_, "no.such.Service");
  EXPECT_EQ(other.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
  other.context.TryCancel();
  EXPECT_EQ(other.reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(HealthServiceTest, ShutdownDoesNotWaitForWatches) {
  server_.SetServing(true);
  Watch watch(*stub_, "");
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVING);
  const absl::Time start = absl::Now();
  server_.Shutdown(absl::Seconds(60));
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
  while (watch.Next() != HealthCheckResponse::UNKNOWN) {
  }
  EXPECT_EQ(watch.reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(HealthServiceTest, WatchesAreBounded) {
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < HealthService::kMaxWatches; ++i) {
    watches.push_back(std::make_unique<Watch>(*stub_, ""));
    ASSERT_EQ(watches.back()->Next(), HealthCheckResponse::NOT_SERVING);
  }
  Watch one_more(*stub_, "");
  EXPECT_EQ(one_more.Next(), HealthCheckResponse::UNKNOWN);
  const grpc::Status status = one_more.reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "watches: allowed are 64 at a time");
  // One that goes makes room.
  watches.front()->context.TryCancel();
  HealthCheckResponse::ServingStatus status_now = HealthCheckResponse::UNKNOWN;
  const absl::Time end = absl::Now() + absl::Seconds(60);
  while (status_now == HealthCheckResponse::UNKNOWN && absl::Now() < end) {
    Watch next(*stub_, "");
    status_now = next.Next();
    next.context.TryCancel();
    next.reader->Finish();
  }
  EXPECT_EQ(status_now, HealthCheckResponse::NOT_SERVING);
}

}  // namespace
}  // namespace qfleet
