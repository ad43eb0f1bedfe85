#include "common/security.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/certificates.h"
#include "common/listener.h"
#include "common/status_macros.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/tls_credentials_options.h"
#include "grpcpp/support/client_interceptor.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

constexpr absl::Duration kReloadPeriod = absl::Seconds(1);
constexpr char kAuthorization[] = "authorization";
constexpr char kBearer[] = "Bearer ";
// What a probe asks. (Watch is a stream, of which a stranger could have many.)
constexpr char kHealth[] = "/grpc.health.v1.Health/Check";

// What UseSecurity was told. Constant, but for the files' contents.
struct Settings {
  std::shared_ptr<Certificates> certificates;  // Null: no TLS.
  std::shared_ptr<Tokens> tokens;              // Null: no token.
  std::string server_name;
  bool require_client_certificate = true;
  bool insecure = false;
  v1::LimitsConfig limits;
};

// The process's settings, and the thread that looks at their files.
class Process {
 public:
  static Process& Get() {
    static Process process;
    return process;
  }

  ~Process() {
    {
      absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    if (thread_.joinable()) thread_.join();
  }

  std::shared_ptr<const Settings> settings() {
    absl::MutexLock lock(&mutex_);
    return settings_;
  }

  void Use(std::shared_ptr<const Settings> settings) {
    absl::MutexLock lock(&mutex_);
    settings_ = std::move(settings);
    const bool files =
        settings_->certificates != nullptr || settings_->tokens != nullptr;
    if (files && !thread_.joinable()) {
      thread_ = std::thread([this] { Watch(); });
    }
  }

 private:
  void Watch() {
    while (true) {
      std::shared_ptr<const Settings> settings;
      {
        absl::MutexLock lock(&mutex_);
        if (mutex_.AwaitWithTimeout(absl::Condition(&ending_), kReloadPeriod)) {
          return;
        }
        settings = settings_;
      }
      if (settings->certificates != nullptr) settings->certificates->Reload();
      if (settings->tokens != nullptr) settings->tokens->Reload();
    }
  }

  absl::Mutex mutex_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<const Settings> settings_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<Settings>();
  std::thread thread_;
};

bool IsUnix(absl::string_view address) {
  return absl::StartsWith(address, "unix:");
}

bool IsLoopback(absl::string_view address) {
  const absl::StatusOr<HostPort> where = ParseHostPort(address);
  if (!where.ok()) return false;
  in_addr v4 = {};
  in6_addr v6 = {};
  if (inet_pton(AF_INET, where->host.c_str(), &v4) == 1) {
    return ntohl(v4.s_addr) >> 24 == 127;
  }
  if (inet_pton(AF_INET6, where->host.c_str(), &v6) == 1) {
    return IN6_IS_ADDR_LOOPBACK(&v6);
  }
  return where->host == "localhost";
}

// Whether what is sent there is seen by nobody else on the way.
bool IsPrivate(const Settings& settings, absl::string_view address) {
  return IsUnix(address) || settings.certificates != nullptr ||
         IsLoopback(address);
}

absl::Status CheckDial(const Settings& settings, absl::string_view field,
                       absl::string_view address) {
  if (settings.tokens == nullptr || settings.insecure ||
      IsPrivate(settings, address)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      field, " = \"", address,
      "\": allowed with cluster.security.token_file is TLS (cluster.security."
      "ca), an address on loopback or unix:PATH; --insecure sends the token "
      "for all to see"));
}

// That the fields of cluster.security belong together.
absl::Status CheckFields(const v1::SecurityConfig& security) {
  if (security.certificate().empty() != security.key().empty()) {
    const bool key = security.key().empty();
    return absl::InvalidArgumentError(absl::StrCat(
        "cluster.security.", key ? "key" : "certificate",
        " is not set: allowed is the file that belongs to cluster.security.",
        key ? "certificate" : "key", " = \"",
        key ? security.certificate() : security.key(), "\""));
  }
  if (security.ca().empty() &&
      !(security.certificate().empty() && security.server_name().empty())) {
    return absl::InvalidArgumentError(
        "cluster.security.ca is not set: allowed is a file with the "
        "certificates of the authorities that peers are checked against");
  }
  return absl::OkStatus();
}

// Server credentials that are given as such; grpc++ wraps its own only, and
// refuses a processor of metadata where there is no TLS.
class GivenCredentials final : public grpc::ServerCredentials {
 public:
  explicit GivenCredentials(grpc_server_credentials* credentials)
      : credentials_(credentials) {}
  ~GivenCredentials() override {
    grpc_server_credentials_release(credentials_);
  }
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

absl::string_view TextOf(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)),
          GRPC_SLICE_LENGTH(slice)};
}

// Before any handler sees the call: a token, or a probe's question.
// `state` is a std::shared_ptr<Tokens>*.
void CheckToken(void* state, grpc_auth_context*, const grpc_metadata* metadata,
                size_t count, grpc_process_auth_metadata_done_cb done,
                void* user_data) {
  const Tokens& tokens = **static_cast<std::shared_ptr<Tokens>*>(state);
  const grpc_metadata* authorization = nullptr;
  bool health = false;
  for (size_t i = 0; i < count; ++i) {
    const absl::string_view key = TextOf(metadata[i].key);
    if (key == ":path") {
      health = TextOf(metadata[i].value) == kHealth;
    } else if (key == kAuthorization) {
      authorization = &metadata[i];
    }
  }
  if (authorization != nullptr) {
    absl::string_view value = TextOf(authorization->value);
    if (absl::ConsumePrefix(&value, kBearer) && tokens.Accepts(value)) {
      done(user_data, authorization, 1, nullptr, 0, GRPC_STATUS_OK, nullptr);
      return;
    }
  }
  if (health) {
    done(user_data, nullptr, 0, nullptr, 0, GRPC_STATUS_OK, nullptr);
    return;
  }
  done(user_data, nullptr, 0, nullptr, 0, GRPC_STATUS_UNAUTHENTICATED,
       authorization == nullptr
           ? "no token: allowed is metadata \"authorization: Bearer TOKEN\" "
             "(cluster.security.token_file)"
           : "wrong token: allowed is one of the server's "
             "cluster.security.token_file");
}

void ForgetTokens(void* state) {
  delete static_cast<std::shared_ptr<Tokens>*>(state);
}

// Adds the token, as it is at the time, to each call.
class TokenInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit TokenInterceptor(std::string token) : token_(std::move(token)) {}
  void Intercept(grpc::experimental::InterceptorBatchMethods* call) override {
    if (call->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::
                PRE_SEND_INITIAL_METADATA)) {
      call->GetSendInitialMetadata()->insert(
          {kAuthorization, absl::StrCat(kBearer, token_)});
    }
    call->Proceed();
  }

 private:
  const std::string token_;
};

class TokenInterceptors final
    : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit TokenInterceptors(std::shared_ptr<Tokens> tokens)
      : tokens_(std::move(tokens)) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo*) override {
    return new TokenInterceptor(tokens_->first());
  }

 private:
  const std::shared_ptr<Tokens> tokens_;  // With the settings it is from.
};

}  // namespace

absl::Status UseSecurity(const v1::ClusterConfig& cluster, bool insecure) {
  const v1::SecurityConfig& security = cluster.security();
  QFLEET_RETURN_IF_ERROR(CheckFields(security));
  auto settings = std::make_shared<Settings>();
  if (!security.ca().empty()) {
    QFLEET_ASSIGN_OR_RETURN(settings->certificates,
                            Certificates::Load(security));
  }
  if (!security.token_file().empty()) {
    QFLEET_ASSIGN_OR_RETURN(settings->tokens,
                            Tokens::Load(security.token_file()));
  }
  settings->server_name = security.server_name();
  settings->require_client_certificate = security.require_client_certificate();
  settings->insecure = insecure;
  settings->limits = cluster.limits();
  for (int i = 0; i < cluster.replay_size(); ++i) {
    QFLEET_RETURN_IF_ERROR(CheckDial(
        *settings, absl::StrCat("cluster.replay[", i, "]"), cluster.replay(i)));
  }
  for (int i = 0; i < cluster.relays_size(); ++i) {
    QFLEET_RETURN_IF_ERROR(CheckDial(
        *settings, absl::StrCat("cluster.relays[", i, "]"), cluster.relays(i)));
  }
  if (!cluster.learner().empty()) {
    QFLEET_RETURN_IF_ERROR(
        CheckDial(*settings, "cluster.learner", cluster.learner()));
  }
  Process::Get().Use(std::move(settings));
  return absl::OkStatus();
}

absl::Status CheckListenAddress(absl::string_view field,
                                absl::string_view address) {
  if (IsUnix(address)) return absl::OkStatus();
  const absl::StatusOr<HostPort> where = ParseHostPort(address);
  if (!where.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, " = \"", address, "\": ", where.status().message()));
  }
  const std::shared_ptr<const Settings> settings = Process::Get().settings();
  if (settings->certificates != nullptr) {
    if (!settings->certificates->has_own()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cluster.security.certificate is not set: allowed for ", field,
          " = \"", address, "\" is a server's certificate and its key"));
    }
    if (settings->require_client_certificate || settings->tokens != nullptr ||
        settings->insecure || IsLoopback(address)) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "cluster.security.require_client_certificate = false: allowed for ",
        field, " = \"", address,
        "\" is true, or a cluster.security.token_file; --insecure lets "
        "everybody in"));
  }
  if (settings->insecure || IsLoopback(address)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, " = \"", address,
      "\": allowed without TLS is an address on loopback or unix:PATH; set "
      "cluster.security.ca, certificate and key for TLS, or give --insecure"));
}

absl::Status CheckDialAddress(absl::string_view field,
                              absl::string_view address) {
  return CheckDial(*Process::Get().settings(), field, address);
}

v1::LimitsConfig ServerLimits() { return Process::Get().settings()->limits; }

std::shared_ptr<grpc::ServerCredentials> ServerCredentialsFor(
    absl::string_view address) {
  const std::shared_ptr<const Settings> settings = Process::Get().settings();
  grpc_server_credentials* credentials = nullptr;
  if (!IsUnix(address) && settings->certificates != nullptr) {
    grpc::experimental::TlsServerCredentialsOptions options(
        settings->certificates->provider());
    options.watch_identity_key_cert_pairs();
    options.watch_root_certs();
    options.set_cert_request_type(
        settings->require_client_certificate
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
    credentials =
        grpc_tls_server_credentials_create(options.c_credentials_options());
  } else {
    credentials = grpc_insecure_server_credentials_create();
  }
  if (settings->tokens != nullptr) {
    grpc_server_credentials_set_auth_metadata_processor(
        credentials, {.process = CheckToken,
                      .destroy = ForgetTokens,
                      .state = new std::shared_ptr<Tokens>(settings->tokens)});
  }
  return std::make_shared<GivenCredentials>(credentials);
}

namespace {

// gRPC reads a target as a URI; listeners take a path as it is.
std::string TargetOf(const std::string& address) {
  if (!IsUnix(address)) return address;
  return absl::StrCat(
      "unix:", absl::StrReplaceAll(UnixPathOf(address),
                                   {{"%", "%25"}, {"#", "%23"}, {"?", "%3F"}}));
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeSecureChannel(
    const std::string& address, grpc::ChannelArguments arguments) {
  const std::shared_ptr<const Settings> settings = Process::Get().settings();
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  if (!IsUnix(address) && settings->certificates != nullptr) {
    grpc::experimental::TlsChannelCredentialsOptions options;
    options.set_certificate_provider(settings->certificates->provider());
    options.watch_root_certs();
    if (settings->certificates->has_own()) {
      options.watch_identity_key_cert_pairs();
    }
    if (!settings->server_name.empty()) {
      arguments.SetSslTargetNameOverride(settings->server_name);
    }
    credentials = grpc::experimental::TlsCredentials(options);
  } else {
    credentials = grpc::InsecureChannelCredentials();
  }
  std::vector<
      std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>>
      interceptors;
  if (settings->tokens != nullptr) {
    const absl::Status status = CheckDial(*settings, "address", address);
    if (status.ok()) {
      interceptors.push_back(
          std::make_unique<TokenInterceptors>(settings->tokens));
    } else {  // UseSecurity did not know of it. It goes there without a token.
      spdlog::error("{}", std::string(status.message()));
    }
  }
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      TargetOf(address), credentials, arguments, std::move(interceptors));
}

}  // namespace qfleet
