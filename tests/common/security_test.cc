// What a process's security does to its channels and servers, within one
// process. Strangers are in tests/fault/security_test.cc.

#include "common/security.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/certificates.h"
#include "common/grpc.h"
#include "common/listener.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "qfleet/v1/weights.grpc.pb.h"
#include "tests/certificates.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

class Service : public v1::Weights::Service {
 public:
  grpc::Status Describe(grpc::ServerContext*, const v1::DescribeRunRequest*,
                        v1::RunReport* report) override {
    report->set_updates(7);
    return grpc::Status::OK;
  }
};

class ProcessSecurityTest : public testing::Test {
 protected:
  ~ProcessSecurityTest() override {
    EXPECT_TRUE(UseSecurity({}, /*insecure=*/false).ok());
  }

  static v1::ClusterConfig ClusterOf(const std::string& folder) {
    v1::ClusterConfig cluster;
    v1::SecurityConfig& security = *cluster.mutable_security();
    security.set_ca(folder + "/ca.crt");
    security.set_certificate(folder + "/server.crt");
    security.set_key(folder + "/server.key");
    return cluster;
  }

  // The certificate that the server showed; empty if there was no answer.
  static std::string Ask(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(5)));
    v1::RunReport report;
    const grpc::Status status =
        v1::Weights::NewStub(channel)->Describe(&context, {}, &report);
    if (!status.ok()) return "";
    EXPECT_EQ(report.updates(), 7);
    const auto shown =
        context.auth_context()->FindPropertyValues("x509_pem_cert");
    return shown.empty()
               ? "plaintext"
               : std::string(shown.front().data(), shown.front().size());
  }

  const TempDirectory folder_;
  Service service_;
};

TEST_F(ProcessSecurityTest, WhereAProcessMayListen) {
  const std::vector<std::string> local = {
      "127.0.0.1:0", "127.200.0.1:7201", "localhost:7201", "[::1]:0",
      "unix:/tmp/a", "unix:///tmp/a",    "unix:a"};
  const std::vector<std::string> remote = {
      "0.0.0.0:7201",         "[::]:0",  "10.1.2.3:7201", "shard-0:7201",
      "[::ffff:127.0.0.1]:0", "127.1:80"};
  const std::vector<std::string> malformed = {
      "nowhere",           "",
      "127.0.0.1",         "::1:80",
      "127.0.0.1:70000",   ":7201",
      "host:port",         "unix-abstract:a",
      "ipv4:127.0.0.1:80", "dns:host:80",
      "vsock:2:80"};
  for (const bool insecure : {false, true}) {
    ASSERT_TRUE(UseSecurity({}, insecure).ok());
    for (const std::string& address : local) {
      EXPECT_TRUE(CheckListenAddress("--listen", address).ok()) << address;
    }
    for (const std::string& address : remote) {
      const absl::Status status = CheckListenAddress("--listen", address);
      EXPECT_EQ(status.ok(), insecure) << address;
      if (insecure) continue;
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr(absl::StrCat("--listen = \"", address, "\"")));
    }
    for (const std::string& address : malformed) {
      EXPECT_EQ(CheckListenAddress("--listen", address).code(),
                absl::StatusCode::kInvalidArgument)
          << address;
    }
  }
  // Also where nobody has asked before.
  ASSERT_TRUE(UseSecurity({}, false).ok());
  GrpcServer server;
  EXPECT_EQ(server.Start("0.0.0.0:0", {&service_}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ProcessSecurityTest, OneOfSeveralTokensIsAccepted) {
  const std::string path = folder_.path() + "/tokens";
  WriteSecret(path,
              "first-token-of-three\n\n  second-token-of-three \r\n"
              "third-token-of-three");
  const auto tokens = Tokens::Load(path);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ((*tokens)->first(), "first-token-of-three");
  EXPECT_TRUE((*tokens)->Accepts("second-token-of-three"));
  EXPECT_TRUE((*tokens)->Accepts("third-token-of-three"));
  for (const char* wrong : {"", "second-token-of-thre", "first-token-of-three ",
                            "second-token-of-threefirst"}) {
    EXPECT_FALSE((*tokens)->Accepts(wrong)) << wrong;
  }
  for (const char* bad :
       {"", "\n\n", "fifteen-letters", "with a space in between",
        "first-token-of-three\nx"}) {
    WriteSecret(path, bad);
    const absl::Status status = Tokens::Load(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(HasSubstr("cluster.security.token_file"),
                               HasSubstr(path),
                               testing::Not(HasSubstr("with a space"))));
  }
}

// A channel goes on over a change of everything: keys, certificates, authority.
TEST_F(ProcessSecurityTest, BothSidesTakeTheCertificatesOfANewAuthority) {
  const std::string used = folder_.path() + "/used";
  MakeTestCertificates(used);
  ASSERT_TRUE(UseSecurity(ClusterOf(used), false).ok());
  auto server = std::make_unique<GrpcServer>();
  ASSERT_TRUE(server->Start("127.0.0.1:0", {&service_}).ok());
  const std::string address = server->address();
  const auto channel = MakeChannel(address);
  const std::string before = Ask(channel);
  EXPECT_THAT(before, HasSubstr("BEGIN CERTIFICATE"));

  const std::string fresh = folder_.path() + "/fresh";
  MakeTestCertificates(fresh);
  for (const char* file : {"ca.crt", "server.key", "server.crt"}) {
    std::filesystem::copy(absl::StrCat(fresh, "/", file),
                          absl::StrCat(used, "/", file),
                          std::filesystem::copy_options::overwrite_existing);
  }
  // The old connection stays as it is.
  EXPECT_EQ(Ask(channel), before);
  // A new one, until it has the new certificates: within two seconds or so.
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  std::string after = before;
  while ((after == before || after.empty()) && absl::Now() < deadline) {
    server->Shutdown(absl::ZeroDuration());
    server = std::make_unique<GrpcServer>();
    ASSERT_TRUE(server->Start(address, {&service_}).ok());
    channel->WaitForConnected(
        absl::ToChronoTime(absl::Now() + absl::Milliseconds(500)));
    after = Ask(channel);
  }
  EXPECT_THAT(after, HasSubstr("BEGIN CERTIFICATE"));
  EXPECT_NE(after, before);
}

// A server whose clients need neither certificate nor token is open to all.
TEST_F(ProcessSecurityTest, WithoutClientCertificatesThereMustBeAToken) {
  MakeTestCertificates(folder_.path());
  v1::ClusterConfig cluster = ClusterOf(folder_.path());
  cluster.mutable_security()->set_require_client_certificate(false);
  ASSERT_TRUE(UseSecurity(cluster, false).ok());
  const absl::Status status = CheckListenAddress("--listen", "0.0.0.0:7201");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("cluster.security.require_client_certificate = false: "
                        "allowed for --listen = \"0.0.0.0:7201\" is true, or "
                        "a cluster.security.token_file"));
  EXPECT_TRUE(CheckListenAddress("--listen", "127.0.0.1:0").ok());
  ASSERT_TRUE(UseSecurity(cluster, true).ok());
  EXPECT_TRUE(CheckListenAddress("--listen", "0.0.0.0:7201").ok());
  WriteSecret(folder_.path() + "/tokens", "a-token-that-is-long");
  cluster.mutable_security()->set_token_file(folder_.path() + "/tokens");
  ASSERT_TRUE(UseSecurity(cluster, false).ok());
  EXPECT_TRUE(CheckListenAddress("--listen", "0.0.0.0:7201").ok());
}

// gRPC's own default is to tell a proxy everything, loopback included.
TEST_F(ProcessSecurityTest, AProxyOfTheEnvironmentIsNotUsed) {
  WriteSecret(folder_.path() + "/tokens", "a-token-that-is-long");
  v1::ClusterConfig cluster;
  cluster.mutable_security()->set_token_file(folder_.path() + "/tokens");
  ASSERT_TRUE(UseSecurity(cluster, false).ok());
  GrpcServer server;
  ASSERT_TRUE(server.Start("127.0.0.1:0", {&service_}).ok());
  for (const char* name : {"http_proxy", "https_proxy", "grpc_proxy"}) {
    setenv(name, "http://127.0.0.1:1", 1);
  }
  unsetenv("no_proxy");
  unsetenv("no_grpc_proxy");
  EXPECT_EQ(Ask(MakeChannel(server.address())), "plaintext");
  for (const char* name : {"http_proxy", "https_proxy", "grpc_proxy"}) {
    unsetenv(name);
  }
}

// gRPC reads a target as a URI, where these characters mean something.
TEST_F(ProcessSecurityTest, ASocketsPathIsTakenAsItIs) {
  for (const std::string name : {"a#b", "a?b", "a%41b", "a b", "a"}) {
    for (const std::string prefix : {"unix:", "unix://"}) {
      GrpcServer server;
      const std::string address =
          absl::StrCat(prefix, folder_.path(), "/", name);
      ASSERT_TRUE(server.Start(address, {&service_}).ok()) << address;
      EXPECT_EQ(Ask(MakeChannel(server.address())), "plaintext") << address;
    }
  }
}

TEST_F(ProcessSecurityTest, AFileThatIsNoSocketIsNotReplacedByOne) {
  const std::string path = folder_.path() + "/config.txtpb";
  WriteSecret(path, "somebody needs this");
  const auto listener = Listener::Open("unix:" + path);
  EXPECT_EQ(listener.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(listener.status().message()),
              HasSubstr("there is a file that is no socket"));
  EXPECT_EQ(std::filesystem::file_size(path), 19u);
}

// As that of a process that is stopped: it accepts nothing, but may again.
TEST_F(ProcessSecurityTest, ASocketWhoseServerDoesNotAcceptIsTaken) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = folder_.path() + "/s";
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const auto* at = reinterpret_cast<const sockaddr*>(&address);
  std::vector<int> sockets = {socket(AF_UNIX, SOCK_STREAM, 0)};
  ASSERT_EQ(bind(sockets[0], at, sizeof(address)), 0);
  ASSERT_EQ(listen(sockets[0], 0), 0);
  int connected = 0;
  while (connected == 0) {  // Until no more may wait.
    ASSERT_LT(sockets.size(), 100u);
    sockets.push_back(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    connected = connect(sockets.back(), at, sizeof(address));
  }
  EXPECT_THAT(std::string(Listener::Open("unix:" + path).status().message()),
              HasSubstr("another process listens there"));
  EXPECT_TRUE(std::filesystem::exists(path));
  for (int fd : sockets) close(fd);
  EXPECT_TRUE(Listener::Open("unix:" + path).ok());
}

TEST_F(ProcessSecurityTest, AServerThatEndsLeavesItsSuccessorsSocket) {
  const std::string path = folder_.path() + "/s";
  auto first = Listener::Open("unix:" + path);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(Listener::Open("unix:" + path).status().code(),
            absl::StatusCode::kUnavailable);
  (*first)->Stop();
  EXPECT_FALSE(std::filesystem::exists(path));
  auto second = Listener::Open("unix:" + path);
  ASSERT_TRUE(second.ok()) << second.status();
  first->reset();
  EXPECT_TRUE(std::filesystem::exists(path));
  second->reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(ProcessSecurityTest, TlsIsForTcpAndATokenForAll) {
  MakeTestCertificates(folder_.path());
  v1::ClusterConfig cluster = ClusterOf(folder_.path());
  WriteSecret(folder_.path() + "/tokens", "a-token-that-is-long");
  cluster.mutable_security()->set_token_file(folder_.path() + "/tokens");
  ASSERT_TRUE(UseSecurity(cluster, false).ok());
  Service other;
  GrpcServer tcp, local;
  ASSERT_TRUE(tcp.Start("localhost:0", {&service_}).ok());
  ASSERT_TRUE(
      local.Start(absl::StrCat("unix:", folder_.path(), "/s"), {&other}).ok());
  EXPECT_THAT(Ask(MakeChannel(tcp.address())), HasSubstr("BEGIN CERTIFICATE"));
  EXPECT_EQ(Ask(MakeChannel(local.address())), "plaintext");
  EXPECT_EQ(Ask(PlainChannel(local.address())), "") << "without the token";
}

}  // namespace
}  // namespace qfleet
