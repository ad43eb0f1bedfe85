// Who may talk to this process, and as whom it talks to others: what
// cluster.security and --insecure say, for all channels and servers of the
// process (common/grpc.h).
//
//   QFLEET_RETURN_IF_ERROR(UseSecurity(config.cluster(), flags.insecure));
//   QFLEET_RETURN_IF_ERROR(CheckListenAddress("--listen", flags.listen));
//
// Once, at the start, before the first channel or server. A process that never
// says it has neither TLS nor token, and listens on loopback and unix sockets
// only. A thread looks at the files every second. What each layer is good for:
// docs/operations.md.

#ifndef QFLEET_COMMON_SECURITY_H_
#define QFLEET_COMMON_SECURITY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/support/channel_arguments.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// INVALID_ARGUMENT in words for files that cannot be used and for addresses of
// the cluster to which a token would travel in the clear. Thread-safe.
absl::Status UseSecurity(const v1::ClusterConfig& cluster, bool insecure);

// Whether the process may listen there: unix:PATH; host:port with TLS, on
// loopback, or with --insecure. `field` is where the address is from.
absl::Status CheckListenAddress(absl::string_view field,
                                absl::string_view address);

// Whether the process's token, if it has one, may go there: with TLS, within
// this machine, or with --insecure.
absl::Status CheckDialAddress(absl::string_view field,
                              absl::string_view address);

// The bounds of a server.
v1::LimitsConfig ServerLimits();

// For common/grpc.cc: what a server at this address takes connections with, and
// a channel to it.
std::shared_ptr<grpc::ServerCredentials> ServerCredentialsFor(
    absl::string_view address);
std::shared_ptr<grpc::Channel> MakeSecureChannel(
    const std::string& address, grpc::ChannelArguments arguments);

}  // namespace qfleet

#endif  // QFLEET_COMMON_SECURITY_H_
