// The counts of calls and messages, with handlers of both kinds, whatever
// becomes of the calls.
#include "common/grpc_metrics.h"

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "qfleet/v1/weights.grpc.pb.h"

namespace qfleet {
namespace {

// Answers each message of a stream, refuses evaluations.
class SyncService final : public v1::Weights::Service {
 public:
  grpc::Status Describe(grpc::ServerContext*, const v1::DescribeRunRequest*,
                        v1::RunReport*) override {
    return grpc::Status::OK;
  }
  grpc::Status ReportEvaluation(grpc::ServerContext*,
                                const v1::EvaluationReport*,
                                v1::ReportEvaluationResponse*) override {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no");
  }
  grpc::Status Subscribe(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::Publication, v1::SubscribeRequest>* stream)
      override {
    v1::SubscribeRequest request;
    while (stream->Read(&request)) stream->Write(v1::Publication());
    return grpc::Status::OK;
  }
};

class EchoReactor final
    : public grpc::ServerBidiReactor<v1::SubscribeRequest, v1::Publication> {
 public:
  EchoReactor() { StartRead(&request_); }
  void OnReadDone(bool ok) override {
    if (ok) {
      StartWrite(&response_);
    } else {
      Finish(grpc::Status::OK);
    }
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      StartRead(&request_);
    } else {
      Finish(grpc::Status::OK);
    }
  }
  void OnDone() override { delete this; }

 private:
  v1::SubscribeRequest request_;
  v1::Publication response_;
};

class CallbackService final : public v1::Weights::CallbackService {
 public:
  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRunRequest*,
                                     v1::RunReport*) override {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerUnaryReactor* ReportEvaluation(
      grpc::CallbackServerContext* context, const v1::EvaluationReport*,
      v1::ReportEvaluationResponse*) override {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no"));
    return reactor;
  }
  grpc::ServerBidiReactor<v1::SubscribeRequest, v1::Publication>* Subscribe(
      grpc::CallbackServerContext*) override {
    return new EchoReactor();
  }
};

class GrpcMetricsTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      service_ = std::make_unique<SyncService>();
    } else {
      service_ = std::make_unique<CallbackService>();
    }
    server_.Intercept(CountCalls(std::make_shared<const GrpcServerMetrics>(
        metrics_, std::vector<std::string>{v1::Weights::service_full_name()})));
    ASSERT_TRUE(server_.Start("127.0.0.1:0", {service_.get()}).ok());
    channel_ = MakeChannel(server_.address());
    stub_ = v1::Weights::NewStub(channel_);
  }

  // The value behind `series` in the text; -1: it is not there.
  double Value(const std::string& series) const {
    const std::string text = metrics_.Text();
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos
               ? -1
               : std::stod(text.substr(at + series.size() + 2));
  }
  static std::string Labels(const std::string& method,
                            const std::string& type) {
    return absl::StrCat("grpc_method=\"", method,
                        "\",grpc_service=\"qfleet.v1.Weights\",grpc_type=\"",
                        type, "\"}");
  }
  double Handled(const std::string& code, const std::string& method,
                 const std::string& type) const {
    return Value(absl::StrCat("grpc_server_handled_total{grpc_code=\"", code,
                              "\",", Labels(method, type)));
  }
  double Count(const std::string& what, const std::string& method,
               const std::string& type) const {
    return Value(absl::StrCat("grpc_server_", what, "{", Labels(method, type)));
  }
  // A server may learn of it a little later than its client.
  template <typename Condition>
  static bool Becomes(const Condition& condition) {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while (!condition()) {
      if (absl::Now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }

  Metrics metrics_;
  std::unique_ptr<grpc::Service> service_;
  GrpcServer server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Weights::Stub> stub_;
};

INSTANTIATE_TEST_SUITE_P(Handlers, GrpcMetricsTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Synchronous" : "Callback";
                         });

TEST_P(GrpcMetricsTest, MethodsAreThereBeforeTheyAreCalled) {
  EXPECT_EQ(Count("started_total", "Subscribe", "bidi_stream"), 0);
  EXPECT_EQ(Handled("OK", "Describe", "unary"), 0);
  EXPECT_EQ(Value("grpc_server_started_total{grpc_method=\"Check\","
                  "grpc_service=\"grpc.health.v1.Health\",grpc_type="
                  "\"unary\"}"),
            0);
}

TEST_P(GrpcMetricsTest, UnaryCallsByTheirCode) {
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext context;
    v1::RunReport report;
    ASSERT_TRUE(stub_->Describe(&context, {}, &report).ok());
  }
  grpc::ClientContext context;
  v1::ReportEvaluationResponse response;
  EXPECT_EQ(stub_->ReportEvaluation(&context, {}, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Count("started_total", "Describe", "unary"), 3);
  EXPECT_EQ(Handled("OK", "Describe", "unary"), 3);
  EXPECT_EQ(Count("msg_received_total", "Describe", "unary"), 3);
  EXPECT_EQ(Count("msg_sent_total", "Describe", "unary"), 3);
  EXPECT_EQ(Count("handling_seconds_count", "Describe", "unary"), 3);
  EXPECT_EQ(Handled("INVALID_ARGUMENT", "ReportEvaluation", "unary"), 1);
  EXPECT_EQ(Handled("OK", "ReportEvaluation", "unary"), 0);
  EXPECT_EQ(Count("msg_sent_total", "ReportEvaluation", "unary"), 0);
}

TEST_P(GrpcMetricsTest, MessagesOfAStreamCountWhileItLasts) {
  grpc::ClientContext context;
  auto stream = stub_->Subscribe(&context);
  v1::Publication publication;
  for (int i = 1; i <= 5; ++i) {
    ASSERT_TRUE(stream->Write({}));
    ASSERT_TRUE(stream->Read(&publication));
    EXPECT_EQ(Count("msg_received_total", "Subscribe", "bidi_stream"), i);
    EXPECT_EQ(Count("msg_sent_total", "Subscribe", "bidi_stream"), i);
  }
  EXPECT_EQ(Count("started_total", "Subscribe", "bidi_stream"), 1);
  EXPECT_EQ(Handled("OK", "Subscribe", "bidi_stream"), 0);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(Handled("OK", "Subscribe", "bidi_stream"), 1);
  // The end of a stream is no message.
  EXPECT_EQ(Count("msg_received_total", "Subscribe", "bidi_stream"), 5);
}

TEST_P(GrpcMetricsTest, AStreamThatItsClientCancelsIsCancelled) {
  grpc::ClientContext context;
  auto stream = stub_->Subscribe(&context);
  v1::Publication publication;
  ASSERT_TRUE(stream->Write({}));
  ASSERT_TRUE(stream->Read(&publication));
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Becomes(
      [&] { return Handled("CANCELLED", "Subscribe", "bidi_stream") == 1; }));
  EXPECT_EQ(Handled("OK", "Subscribe", "bidi_stream"), 0);
}

TEST_P(GrpcMetricsTest, AServerThatStopsLeavesNoCallUncounted) {
  grpc::ClientContext context;
  auto stream = stub_->Subscribe(&context);
  v1::Publication publication;
  ASSERT_TRUE(stream->Write({}));
  ASSERT_TRUE(stream->Read(&publication));
  server_.Shutdown(absl::ZeroDuration());
  EXPECT_EQ(Count("started_total", "Subscribe", "bidi_stream"), 1);
  EXPECT_EQ(Handled("CANCELLED", "Subscribe", "bidi_stream"), 1);
  stream->Finish();
}

// A client chooses the names of what it calls: they must not become labels.
TEST_P(GrpcMetricsTest, MethodsThatThereAreNotAreOne) {
  const auto replay = v1::Replay::NewStub(channel_);
  for (int i = 0; i < 2; ++i) {
    grpc::ClientContext context;
    v1::DescribeResponse response;
    EXPECT_EQ(replay->Describe(&context, {}, &response).error_code(),
              grpc::StatusCode::UNIMPLEMENTED);
  }
  {
    grpc::ClientContext context;
    v1::CheckpointResponse response;
    EXPECT_FALSE(replay->Checkpoint(&context, {}, &response).ok());
  }
  EXPECT_THAT(metrics_.Text(), testing::Not(testing::HasSubstr("Replay")));
  EXPECT_THAT(metrics_.Text(), testing::Not(testing::HasSubstr("Checkpoint")));
}

}  // namespace
}  // namespace qfleet
